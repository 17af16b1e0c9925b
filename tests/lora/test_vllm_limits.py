"""What vLLM does not take is refused before anything is written, with the keys that mend it."""

import pytest
import torch
from lora_world import QV, adapt, tiny_llama
from transformers import LlamaConfig, LlamaForCausalLM

from lifelora.errors import ConfigError
from lifelora.lora.coupling import Coupling, Experts, Full, Hydra, Identity, Meta
from lifelora.lora.export import peft_adapter
from lifelora.lora.vllm import MAX_VOCABULARY, RANKS, check, max_lora_rank


def test_the_next_allowed_rank_takes_it():
    """Of the values that vLLM's configuration lists, by a loop over all ranks."""
    for rank in range(1, 513):
        assert max_lora_rank(rank) == min(allowed for allowed in (1, 8, 16, 32, 64, 128, 256, 320, 512) if allowed >= rank)
    with pytest.raises(ConfigError, match="rank 513 is too large for vLLM, whose --max-lora-rank is at most 512"):
        max_lora_rank(513)
    assert RANKS[-1] == 512


@pytest.mark.parametrize(
    ("config", "most"),
    [
        (Identity.Config(rank=8), 8),
        (Full.Config(rank=4), 8),
        (Experts.Config(rank=12, experts=4), 16),
        (Meta.Config(rank=8, loras=8), 8),
        (Meta.Config(rank=4, loras=3, merge="outputs"), 16),
        (Hydra.Config(rank=2, heads=40), 8),
    ],
)
def test_the_rank_that_counts_is_that_of_the_exported_update(config: Coupling.Config, most: int):
    adapters = adapt(tiny_llama(), QV, config)
    assert check(adapters, "x") == most
    exported, _ = peft_adapter(adapters, torch.zeros(1, 6) if config.needs_user else None)
    assert max_lora_rank(exported["r"]) == most


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            Meta.Config(rank=13, loras=40, merge="outputs"),
            r"rank 520 .* at most 512\. It is that of systems\.x\.coupling: lower systems\.x\.coupling\.rank \(13\) or "
            r"systems\.x\.coupling\.loras \(40\), or set systems\.x\.coupling\.merge = \"weights\", which gives rank r, and tr",
        ),
        (
            Identity.Config(rank=513),
            r"rank 513 .* that of systems\.x\.coupling: lower systems\.x\.coupling\.rank \(513\), and train",
        ),
    ],
)
def test_what_is_too_large_is_said_with_its_mend(config: Coupling.Config, message: str):
    shape = {"hidden_size": 520, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    with pytest.raises(ConfigError, match=message):
        check(adapt(LlamaForCausalLM(LlamaConfig(vocab_size=50, **shape)), QV, config), "x")


@pytest.mark.parametrize("more", [0, 1])
def test_an_adapter_on_the_head_counts_its_tokens(more: int):
    shape = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=MAX_VOCABULARY + more, **shape))
    adapters = adapt(model, ("lm_head",), Identity.Config(rank=2))
    if more:
        with pytest.raises(
            ConfigError, match="the head, 'lm_head', which knows 257,025 tokens, and vLLM takes one there of at most"
        ):
            check(adapters, "x")
    else:
        assert check(adapters, "x") == 8
    adapters.unload()
    assert check(adapt(model, QV, Identity.Config(rank=2)), "x") == 8  # elsewhere the vocabulary does not matter
