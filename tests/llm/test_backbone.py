"""Backbones: what is loaded is frozen and plain; what cannot be loaded is refused with the mend, and nothing is fetched."""

import json
import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
from llm_world import plain_prompts, saved

from lifelora.errors import ArtefactError, ConfigError, MissingExtraError
from lifelora.llm import backbone, files
from lifelora.llm.backbone import Pretrained, load
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.yes_no import YesNoLM
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Full
from lifelora.lora.inject import personalise
from lifelora.prompts.wording.yes_no import Plain
from lifelora.prompts.yes_no import find_answers
from lifelora.seeds import torch_generator
from lifelora.training.checkpoint import Learnt

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "tiny"))


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_a_loaded_model_is_frozen_in_eval_and_named(original: Path):
    loaded = load(Pretrained(path=str(original)), CPU)
    assert not any(p.requires_grad for p in loaded.model.parameters())
    assert not any(module.training for module in loaded.model.modules())
    parameters = sum(p.numel() for p in loaded.model.parameters())
    assert loaded.label == f"tiny ({parameters / 1e6:.2f} M parameters, pretrained)"
    assert load(Pretrained(path=str(original)), CPU, label="mine").label == "mine"
    assert loaded.context == 64
    assert loaded.tokenizer("Answer: Yes")["input_ids"]


def test_wishes_for_sampling_do_not_reach_us(original: Path):
    assert json.loads((original / "generation_config.json").read_text())["temperature"] == 0.3
    config = load(Pretrained(path=str(original)), CPU).model.generation_config
    assert config.to_diff_dict() == type(config)().to_diff_dict()


def test_dtype_and_attention_are_as_asked(original: Path):
    loaded = load(Pretrained(path=str(original), dtype="bf16", attention="eager"), CPU)
    assert {p.dtype for p in loaded.model.parameters()} == {torch.bfloat16}
    assert loaded.model.config._attn_implementation == "eager"


def test_a_pickle_is_never_read(folder: Path):
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ArtefactError, match=r"only pytorch_model\.bin, a pickle, which is never read.*safe_serialization=True"):
        load(Pretrained(path=str(folder)), CPU)


def test_a_folder_that_holds_no_model(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"nowhere'?: no such folder"):
        load(Pretrained(path=str(tmp_path / "nowhere")), CPU)
    with pytest.raises(ConfigError, match=r"no config\.json; it must hold a model in Hugging Face's layout"):
        load(Pretrained(path=str(tmp_path)), CPU)


def test_an_encoder_decoder(folder: Path):
    change_config(folder, model_type="t5", architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True)
    with pytest.raises(ConfigError, match=r"is an encoder-decoder; lifelora needs a causal LM"):
        load(Pretrained(path=str(folder)), CPU)


def test_a_folder_without_a_tokenizer(folder: Path):
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"could not be loaded|no fast tokenizer"):
        load(Pretrained(path=str(folder)), CPU)


@pytest.mark.parametrize(
    ("wish", "package"),
    [
        ({"quantization": "8-bit"}, "bitsandbytes"),
        ({"quantization": "4-bit"}, "bitsandbytes"),
        ({"attention": "flash_attention_2"}, "flash-attn"),
    ],
)
def test_extras_that_are_absent(original: Path, wish: dict[str, str], package: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(backbone, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=rf"backbone\..*'{next(iter(wish.values()))}' needs '{package}'.*lifelora\[gpu\]"):
        load(Pretrained.model_validate({"path": str(original)} | wish), CPU)


def test_a_name_on_the_hub_is_not_fetched_unasked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    asked: list[object] = []

    def refuse(self: socket.socket, address: object) -> None:
        asked.append(address)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    with pytest.raises(ConfigError, match=r"'nobody/no-such-model' could not be loaded.*add --download to fetch it"):
        load(Pretrained(path="nobody/no-such-model"), CPU)
    assert asked == []


def test_the_fingerprint_follows_every_byte(folder: Path):
    config = Pretrained(path=str(folder))
    before = config.fingerprint()
    assert config.fingerprint() == before
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    changed = config.fingerprint()
    assert changed != before
    (folder / "README.md").write_text("words that decide nothing")
    assert config.fingerprint() == changed
    change_config(folder, rope_theta=5.0)
    assert config.fingerprint() != changed


def test_the_fingerprint_of_large_files_reads_blocks(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "WHOLE_FILE", 100)
    config = Pretrained(path=str(folder))
    before = config.fingerprint()
    weights = bytearray((folder / "model.safetensors").read_bytes())
    weights[0] ^= 1
    (folder / "model.safetensors").write_bytes(weights)
    assert config.fingerprint() != before


def test_the_fingerprint_of_a_hub_name_is_of_the_name(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    assert Pretrained(path="some/model").fingerprint() != Pretrained(path="other/model").fingerprint()


def test_a_real_pretrained_llama_learns_through_its_adapters(pretrained: Path, tmp_path: Path):
    """Scores, a few steps (loss falls), and adapters that give the same scores after saving and loading."""

    def personal() -> tuple[YesNoLM, PersonalBatch]:
        loaded = load(Pretrained(path=str(pretrained)), CPU)
        liked, others = ["a red ball", "a big dog", "the sun"], ["the dark", "a cold rain", "a sad song"]
        cue = "Once upon a time there was a girl. Would she like {}?\nAnswer:"
        ids = [loaded.tokenizer(cue.format(text))["input_ids"] for text in [*liked, *others]]
        longest = max(map(len, ids))
        tokens_BL = torch.tensor([[0] * (longest - len(row)) + row for row in ids])
        mask_BL = torch.tensor([[False] * (longest - len(row)) + [True] * len(row) for row in ids])
        answers = find_answers(loaded.tokenizer, Plain())
        adaptation = Adaptation(coupling=Full.Config(rank=4, alpha=8), targets=("all-linear",), dropout=0.0)
        adapters = personalise(loaded.model, adaptation, user_width=3, generator=torch_generator(0, "test"))
        if answers.shared:
            tokens_BL = torch.cat([tokens_BL, torch.tensor([answers.shared] * 6)], dim=1)
            mask_BL = torch.cat([mask_BL, torch.ones(6, len(answers.shared), dtype=torch.bool)], dim=1)
        user_BD = torch.randn(6, 3, generator=torch_generator(1, "test"))
        batch = PersonalBatch(plain_prompts(tokens_BL, mask_BL), user_BD, torch.tensor([1.0] * 3 + [0.0] * 3))
        return YesNoLM(loaded.model, adapters, answers).eval(), batch

    lm, batch = personal()
    with torch.inference_mode():
        before = lm.score(batch)
    assert torch.isfinite(before).all()
    assert ((before > 0) & (before < 1)).all()
    optimizer = torch.optim.AdamW([p for p in lm.parameters() if p.requires_grad], lr=1e-2)
    losses = []
    for _ in range(8):
        with lm.scope(batch):
            loss = lm.loss(batch)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0], losses
    with torch.inference_mode():
        after = lm.score(batch)
    assert not torch.allclose(after, before, atol=1e-2)
    learnt = Learnt(lm)
    learnt.write(tmp_path / "model.safetensors", learnt.copy())
    again, _ = personal()
    with torch.inference_mode():
        torch.testing.assert_close(again.score(batch), before, rtol=0, atol=0)
        Learnt(again).read(tmp_path / "model.safetensors")
        torch.testing.assert_close(again.score(batch), after, rtol=0, atol=0)
