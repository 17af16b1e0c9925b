"""A tokenizer with tokens that its model does not know: no text of data asks for them, and a template that does is refused."""

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast
from transformers.utils import logging

from control_world import KINDS
from lifelora.errors import ConfigError
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from run_world import VALUES
from tiny_bert import saved_bert

WRAPPED = {"kind": "plain", "opening": ["<extra>"]}
UNKNOWN = r"the tokenizer's token '<extra>' has the number \d+, and the model knows [\d,]+ tokens"


def run_of(folder: Path, **changes: Any) -> Run:
    values = VALUES | {"conventional": {"popular": VALUES["conventional"]["popular"]}} | changes
    return Run(parse(values, "the tests' recipe"), folder, Options(device="cpu", progress=False))


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """With [PAD] and <extra> beyond its table of embeddings."""
    logging.disable_progress_bar()
    folder = tmp_path_factory.mktemp("llama")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=KINDS["byte-level"]())
    LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=4096,
        )
    ).save_pretrained(folder)
    tokenizer.add_special_tokens({"pad_token": "[PAD]"})
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(folder)
    return {"kind": "pretrained", "path": str(folder)}


def test_a_backbone(llama: dict[str, str], tmp_path: Path):
    lora = VALUES["systems"]["lora"] | {"train_samples": 0}
    run_of(tmp_path / "asked", backbone=llama, systems={"asked": lora}).all()  # a token that nothing asks for does no harm
    run = run_of(tmp_path / "run", backbone=llama, systems={"asked": lora, "wrapped": lora | {"template": WRAPPED}})
    with pytest.raises(ConfigError, match=UNKNOWN):
        run.all()
    assert not run.stages.system("asked").folder.exists()  # it is said before anything is trained


def test_a_backbone_that_names_what_comes_next(llama: dict[str, str], tmp_path: Path):
    phrasing = {
        "opening": ["<extra>"],
        "history": "They {did}:",
        "nothing": "Nothing.",
        "announcement": "Of these:",
        "question": ["Which?"],
    }
    rules = {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 8}}
    system = {
        "behaviours": {"kind": "most-recent", "k": 4},
        "train_samples": 0,
        "validation_samples": 16,
        "phrasings": [phrasing],
    }
    run = run_of(
        tmp_path / "run", task="next-item", backbone=llama, data=VALUES["data"] | {"rules": rules}, systems={"wrapped": system}
    )
    with pytest.raises(ConfigError, match=UNKNOWN):
        run.all()


def test_an_encoder(tmp_path: Path):
    folder = saved_bert(tmp_path / "bert")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens(["<extra>"])
    tokenizer.save_pretrained(folder)
    encoder = {
        "path": str(folder),
        "hidden": [8],
        "behaviours": {"kind": "most-recent", "k": 3},
        "train_samples": 32,
        "validation_samples": 20,
        "training": VALUES["systems"]["lora"]["training"],
        "template": WRAPPED,
    }
    run = run_of(tmp_path / "run", systems={}, two_towers={"towers": encoder})
    with pytest.raises(ConfigError, match=UNKNOWN):
        run.all()
