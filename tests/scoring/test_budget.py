"""How many tokens at a time: by width, layers, dtype and free memory."""

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from lifelora.scoring.budget import CPU_TOKENS, free_memory, token_budget, token_bytes

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def llama(width: int, layers: int, dtype: torch.dtype) -> LlamaForCausalLM:
    """Its shapes alone."""
    with torch.device("meta"):
        config = LlamaConfig(
            hidden_size=width,
            intermediate_size=width * 27 // 10,
            num_hidden_layers=layers,
            num_attention_heads=width // 64,
            vocab_size=32_000,
        )
        return LlamaForCausalLM(config).to(dtype)


def test_64_prompts_of_2000_tokens_do_not_fit_a_model_of_13_billion_parameters():
    model = llama(5120, 40, torch.bfloat16)
    assert token_bytes(model) == pytest.approx(1e6, rel=0.05)
    budget = token_budget(model, GPU, free=(80 << 30) - (26 << 30))  # a GPU of 80 GiB that holds the weights
    assert 8 * 2000 <= budget < 64 * 2000
    assert token_budget(llama(5120, 40, torch.float32), GPU, free=54 << 30) == budget // 2
    assert token_budget(llama(5120, 80, torch.bfloat16), GPU, free=54 << 30) == budget // 2
    assert token_budget(model, GPU, free=27 << 30) == budget // 2
    assert token_budget(model, GPU, free=1000) == 1


def test_a_little_less_memory_cuts_the_same_batches():
    model = llama(5120, 40, torch.bfloat16)
    assert {token_budget(model, GPU, free=(54 << 30) - (n << 20)) for n in range(0, 500, 50)} == {16_384}


def test_a_small_model_on_a_cpu_is_asked_as_much_as_its_caches_bear():
    assert token_budget(llama(64, 2, torch.float32), CPU, free=8 << 30) == CPU_TOKENS == 64 * 512
    free = free_memory(CPU)
    assert free is None or free > 1 << 20


def test_processes_on_one_machine_share_its_memory(monkeypatch):
    monkeypatch.setattr("lifelora.scoring.budget.Path.read_text", lambda path: "MemTotal: 9 kB\nMemAvailable:   1000 kB\n")
    assert free_memory(CPU) == 1000 << 10
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert free_memory(CPU) == 250 << 10
