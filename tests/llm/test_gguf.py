"""A .gguf file is what its model was: the reference is the tiny model that was written, and never what reads the file."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from gguf import GGMLQuantizationType
from gguf_world import CHAT, as_kept, tiny, write_gguf
from llm_world import tiny_tokenizer
from transformers import modeling_gguf_pytorch_utils as theirs

from lifelora.cache import cache_folder
from lifelora.errors import ConfigError, MissingExtraError
from lifelora.llm import files, gguf
from lifelora.llm.backbone import Pretrained, load
from lifelora.types import KEY

CPU = torch.device("cpu")
KINDS = ("F32", "F16", "Q8_0", "Q4_1")
LONG = torch.arange(1, 200)[None]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIFELORA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", tiny())


@torch.inference_mode()
def same(one: torch.nn.Module, other: torch.nn.Module, apart: float = 1e-4) -> None:
    torch.testing.assert_close(one(LONG).logits, other(LONG).logits, rtol=apart, atol=apart)


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_the_logits_of_the_model_that_was_written(kind: str, tmp_path: Path):
    model, rounded = tiny(), GGMLQuantizationType[kind]
    loaded = load(Pretrained(path=str(write_gguf(tmp_path / f"{kind}.gguf", model, kind=rounded))), CPU)
    same(loaded.model, as_kept(model, rounded))
    assert loaded.label.startswith(f"{kind}.gguf (0.0")
    assert loaded.context == 512
    assert loaded.trees == ""
    assert not any(p.requires_grad for p in loaded.model.parameters())


@pytest.mark.parametrize(("architecture", "tied"), [("llama", True), ("qwen2", False), ("qwen3", True)])
def test_other_architectures_and_tied_heads(architecture: str, tied: bool, tmp_path: Path):
    model = tiny(architecture, tied=tied)
    same(load(Pretrained(path=str(write_gguf(tmp_path / "x.gguf", model))), CPU).model, model)


def test_its_tokenizer_and_chat_template_come_along(written: Path):
    tokenizer, context = Pretrained(path=str(written)).spelling(Path())
    assert context == 512
    for text in ("Would they like Heat (Crime)?\nAnswer: Yes", "schöne Grüße 1995", "a<s>b"):
        assert tokenizer(text)["input_ids"] == tiny_tokenizer()(text)["input_ids"]
    assert tokenizer.chat_template == CHAT


def test_it_is_converted_once_whatever_it_is_called(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    folder = gguf.converted(written, "backbone.path")
    assert json.loads((folder / gguf.ABOUT).read_text())["sha256"] == files.content_hash(written)
    monkeypatch.setattr(gguf, "_convert", None)
    copy = Path(shutil.copy(written, tmp_path / "other.GGUF"))
    assert gguf.converted(copy, "backbone.path") == folder
    assert Pretrained(path=str(copy)).place == str(folder)


def test_the_fingerprint_is_of_the_content(written: Path, tmp_path: Path):
    copy = Path(shutil.copy(written, tmp_path / "other.gguf"))
    mine, other = Pretrained(path=str(written)), Pretrained(path=str(copy))
    assert mine.fingerprint() == other.fingerprint() == files.content_hash(written)
    content = bytearray(copy.read_bytes())
    content[-1] ^= 1
    copy.write_bytes(content)
    assert other.fingerprint() != mine.fingerprint()
    assert mine.model_dump(context={KEY: True})["path"] == "tiny.gguf"
    assert mine.model_dump()["path"] == str(written)


def test_a_loader_that_takes_q_and_k_in_the_wrong_order_is_refused(written: Path, cache: Path, monkeypatch: pytest.MonkeyPatch):
    """As transformers once did for k where its heads are fewer: the model has good shape, and other logits."""
    monkeypatch.setattr(theirs.LlamaTensorProcessor, "_reverse_permute_weights", lambda self, weights, *heads: weights)
    with pytest.raises(ConfigError, match=r"not what the file says: its logits are .* of their spread away .* another version"):
        load(Pretrained(path=str(written)), CPU)
    assert list((cache / "models").glob("[!.]*/gguf.json")) == []


def learnt() -> torch.nn.Module:
    """A tiny Llama that knows the text of the check by heart, so that the order of q and k matters for its likelihood."""
    model = tiny()
    tokens_1L = torch.tensor([tiny_tokenizer()(gguf.TEXT)["input_ids"][: gguf.TOKENS]])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.cross_entropy(model(tokens_1L).logits[0, :-1], tokens_1L[0, 1:])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.5
    return model.eval().requires_grad_(False)


def test_a_file_whose_q_and_k_lie_in_the_wrong_order_is_refused(tmp_path: Path, cache: Path):
    """The loader and the reference agree about such a file; that it is wrong, a text tells."""
    model = learnt()
    right = gguf.converted(write_gguf(tmp_path / "right.gguf", model), "backbone.path")
    found = json.loads((right / gguf.ABOUT).read_text())
    assert found["nats"] < 0.5
    assert found["nats_other_order"] > found["nats"] + gguf.CLEARLY
    with pytest.raises(
        ConfigError, match=r"backbone\.path = '.*wrong\.gguf': the rows of q and k lie in the wrong order: .* nats"
    ):
        gguf.converted(write_gguf(tmp_path / "wrong.gguf", model, reorder=False), "backbone.path")
    assert gguf.all_kept() == [(right, found)]


def test_frequencies_that_the_loader_leaves_out_are_seen(tmp_path: Path):
    """Llama 3.1 and later divide the frequencies of rotary embeddings by factors that stand in a tensor."""
    path = write_gguf(tmp_path / "x.gguf", tiny(), more={"rope_freqs.weight": np.array([1, 1, 4, 8], np.float32)})
    with pytest.raises(ConfigError, match="not what the file says"):
        load(Pretrained(path=str(path)), CPU)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"says": "mamba"}, r"the architecture 'mamba', .* it has llama, qwen2, qwen3\. Give the model in Hugging Face's layout"),
        (
            {"more": {"blk.0.ffn_gate_exps.weight": np.ones((2, 4, 32), np.float32)}},
            r"tensors as 'blk\.0\.ffn_gate_exps\.weight'",
        ),
        ({"scaling": "yarn"}, r"positions scaled by 'yarn', which are not read here"),
        ({"silent": "block_count"}, r"does not say or hold what its architecture needs \(KeyError 'llama\.block_count'\)"),
        ({"without": "model.layers.1.self_attn.v_proj.weight"}, r"does not hold what its architecture needs"),
    ],
)
def test_files_of_another_kind(changes: dict[str, object], message: str, tmp_path: Path):
    path = write_gguf(tmp_path / "x.gguf", tiny(), **changes)
    with pytest.raises(ConfigError, match=message):
        load(Pretrained(path=str(path)), CPU)


@pytest.mark.parametrize("share", [0.0, 0.0001, 0.01, 0.1, 0.5, 0.99])
def test_a_cut_file(share: float, written: Path, tmp_path: Path, cache: Path):
    whole = written.read_bytes()
    path = tmp_path / "cut.gguf"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(
        ConfigError, match=r"backbone\.path = '.*cut\.gguf' is damaged, cut, or no GGUF file .*Fetch the file again"
    ):
        load(Pretrained(path=str(path)), CPU)
    assert gguf.all_kept() == []


def test_files_that_are_none(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere\.gguf': no such file"):
        load(Pretrained(path=str(tmp_path / "nowhere.gguf")), CPU)
    (tmp_path / "text.gguf").write_text("words " * 1000)
    with pytest.raises(ConfigError, match="no GGUF file"):
        load(Pretrained(path=str(tmp_path / "text.gguf")), CPU)
    with pytest.raises(ConfigError, match=r"no config\.json; give the file itself: backbone\.path = '.*text\.gguf'"):
        load(Pretrained(path=str(tmp_path)), CPU)


def test_altered_headers_are_refused_or_read_and_never_a_traceback(written: Path, tmp_path: Path):
    """Bytes of the names, types and shapes that stand before the weights, changed a place at a time."""
    whole, path, refused = written.read_bytes(), tmp_path / "altered.gguf", list[str]()
    for place in range(4, 600, 31):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x5A]) + whole[place + 1 :])
        try:
            gguf.converted(path, "backbone.path")
        except ConfigError as error:
            refused.append(str(error))
    assert len(refused) > 10
    assert all(message.startswith("backbone.path = '") for message in refused)


def test_without_the_package(written: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(gguf, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"needs 'gguf', which is not installed: pip install 'lifelora\[gguf\]'"):
        load(Pretrained(path=str(written)), CPU)


def test_a_killed_conversion_leaves_nothing_half_made(written: Path, monkeypatch: pytest.MonkeyPatch):
    convert = gguf._convert

    def killed(*given: object) -> None:
        convert(*given)
        raise KeyboardInterrupt

    monkeypatch.setattr(gguf, "_convert", killed)
    with pytest.raises(KeyboardInterrupt):
        gguf.converted(written, "backbone.path")
    assert gguf.all_kept() == []
    assert Pretrained(path=str(written)).place == str(written)
    monkeypatch.setattr(gguf, "_convert", convert)
    same(load(Pretrained(path=str(written)), CPU).model, tiny())
    assert [path.name for path in (cache_folder() / "models").iterdir() if path.is_dir()] == [files.content_hash(written)[:16]]


def test_a_damaged_conversion_is_made_again(written: Path):
    folder = gguf.converted(written, "backbone.path")
    (folder / "config.json").write_text("{}")
    assert gguf.kept(files.content_hash(written)) is None
    same(load(Pretrained(path=str(written)), CPU).model, tiny())


def test_large_files_are_hashed_by_blocks(written: Path, monkeypatch: pytest.MonkeyPatch):
    whole = files.content_hash(written)
    monkeypatch.setattr(files, "WHOLE_FILE", 100)
    assert files.content_hash(written) != whole
