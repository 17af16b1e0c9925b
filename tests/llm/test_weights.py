"""Weights are counted by their files' headers, and those that do not fit are not read."""

from pathlib import Path

import pytest
import torch
from llm_world import saved, tiny_llama, tiny_tokenizer

from lifelora.errors import ConfigError
from lifelora.llm import files, weights
from lifelora.llm.backbone import Pretrained, load

CPU = torch.device("cpu")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return saved(tmp_path / "tiny")


def test_they_are_counted_without_being_read(folder: Path, tmp_path: Path):
    assert weights.parameters(folder) == sum(p.numel() for p in tiny_llama(len(tiny_tokenizer())).parameters())
    assert weights.parameters(tmp_path / "nowhere") == 0


@pytest.mark.parametrize(("dtype", "bytes_each"), [("fp32", 4), ("bf16", 2)])
def test_what_does_not_fit_is_refused_before_it_is_read(
    folder: Path, dtype: str, bytes_each: int, monkeypatch: pytest.MonkeyPatch
):
    needed = weights.parameters(folder) * bytes_each
    config = Pretrained.model_validate({"path": str(folder), "dtype": dtype})
    monkeypatch.setattr(weights, "free_memory", lambda device: needed)
    load(config, CPU)
    monkeypatch.setattr(weights, "free_memory", lambda device: needed - 1)
    monkeypatch.setattr(files, "described", lambda *words: pytest.fail("it was read"))
    with pytest.raises(
        ConfigError, match=rf"M parameters, which take .* GiB in {dtype}, and .* are free on cpu.*4-bit"
    ) as refused:
        load(config, CPU)
    assert ("backbone.dtype = 'bf16'" in str(refused.value)) == (dtype == "fp32")


def test_damaged_weights_are_their_readers_business(folder: Path):
    (folder / "model.safetensors").write_bytes(b"no header")
    assert weights.parameters(folder) == 0
    weights.check_fits("tiny", folder, "fp32", CPU)
