"""Two towers: the formula by hand, rows beside one another, what learns, a planted taste, and what cannot be loaded."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from llm_world import saved
from transformers import BertModel, FNetConfig, FNetModel, RobertaConfig, RobertaModel

from lifelora.errors import ArtefactError, ConfigError
from lifelora.llm.two_tower import TwoTowerConfig, TwoTowerModel, encoder_fingerprint, load_encoder
from lifelora.prompts.towers import TowerBatch, TowerTexts
from lifelora.training import TrainingConfig, fit
from lifelora.training.checkpoint import Learnt
from lifelora.training.curve import History
from tiny_bert import saved_bert, word_piece

KEY = "two_towers.mine.path"
HISTORIES = ["they watched heat and alien", "they watched amelie", "nothing is known of them, so what"]
ITEMS = ["heat ( crime )", "amelie"]


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_bert(tmp_path_factory.mktemp("models") / "bert", [*HISTORIES, *ITEMS])


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "bert"))


def texts(tokenizer: Any, lines: list[str]) -> TowerTexts:
    made = tokenizer(lines, padding=True, return_tensors="pt")
    return TowerTexts(made["input_ids"], made["attention_mask"].bool())


def world(folder: Path, **changes: Any) -> tuple[TwoTowerModel, TowerBatch]:
    """Every user asked about every item."""
    config = TwoTowerConfig.model_validate({"path": str(folder), "hidden": (8,)} | changes)
    loaded = load_encoder(config, KEY)
    torch.manual_seed(0)
    batch = TowerBatch(
        texts(loaded.tokenizer, HISTORIES),
        torch.tensor([0, 0, 1, 1, 2, 2]),
        texts(loaded.tokenizer, ITEMS),
        torch.tensor([0, 1] * 3),
        torch.tensor([1.0, 0.0, 0.0, 1.0, 0.0, 1.0]),
    )
    return TwoTowerModel(loaded.model, config).eval(), batch


@torch.no_grad()
def test_the_logit_is_its_formula(original: Path):
    towers, batch = world(original)
    vectors = {}
    for tower, some in (("user", batch.users), ("item", batch.items)):
        for place in range(len(some.tokens_NL)):
            alone = some.tokens_NL[place][some.mask_NL[place]][None]
            vectors[tower, place] = towers.encoder(input_ids=alone).last_hidden_state[0].mean(dim=0)
    first, last = towers.head[0], towers.head[-1]
    expected = []
    for user, item in zip(batch.user_B.tolist(), batch.item_B.tolist(), strict=True):
        u, i = vectors["user", user], vectors["item", item]
        hidden = (first.weight @ torch.cat([u, i, u * i, (u - i).abs()]) + first.bias).clamp(min=0)
        expected.append((last.weight @ hidden + last.bias)[0])
    torch.testing.assert_close(towers.logits(batch), torch.stack(expected))
    torch.testing.assert_close(towers.score(batch), torch.stack(expected).sigmoid())
    p = torch.stack(expected).sigmoid()
    by_hand = -torch.where(batch.label_B > 0, p, 1 - p).log().mean()
    torch.testing.assert_close(towers.loss(batch), by_hand)


@torch.no_grad()
def test_a_batch_is_each_alone_and_reads_each_text_once(original: Path):
    towers, batch = world(original)
    read: list[int] = []
    towers.encoder.register_forward_pre_hook(lambda module, args, named: read.append(len(named["input_ids"])), with_kwargs=True)
    together = towers.score(batch)
    assert read == [3, 2]  # three users and two items for six rows
    for row in range(6):
        parts = []
        for some, which in ((batch.users, batch.user_B), (batch.items, batch.item_B)):
            real = some.mask_NL[which[row]]
            parts.append(TowerTexts(some.tokens_NL[which[row], real][None], real[real][None]))
        zero = torch.zeros(1, dtype=torch.int64)
        alone = TowerBatch(parts[0], zero, parts[1], zero, batch.label_B[[row]])
        torch.testing.assert_close(towers.score(alone)[0], together[row], rtol=1e-4, atol=1e-6)
    assert together.unique().numel() == 6


def step(towers: TwoTowerModel, batch: TowerBatch, rate: float = 1e-2) -> float:
    optimizer = torch.optim.AdamW([p for p in towers.parameters() if p.requires_grad], lr=rate)
    loss = towers.loss(batch)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    return loss.item()


def test_all_weights_learn_and_none_without_a_gradient(original: Path):
    towers, batch = world(original)
    towers.train().loss(batch).backward()
    assert [name for name, p in towers.named_parameters() if p.grad is None] == []
    assert any(name.startswith("encoder") for name in Learnt(towers).tensors)


def test_the_head_alone_learns_over_an_encoder_without_noise(original: Path):
    towers, batch = world(original, train="head", dropout=0.0)
    towers.train()
    assert towers.training
    assert not towers.encoder.training
    assert towers.loss(batch) == towers.loss(batch)
    before = {name: p.detach().clone() for name, p in towers.named_parameters()}
    step(towers, batch)
    changed = {name for name, p in towers.named_parameters() if not torch.equal(p, before[name])}
    assert changed == {"head.0.weight", "head.0.bias", "head.3.weight", "head.3.bias"}
    assert set(Learnt(towers).tensors) == changed


def test_checkpointing_changes_no_gradient(original: Path):
    gradients = []
    for checkpointing in (False, True):
        towers, batch = world(original)
        if checkpointing:
            towers.enable_checkpointing()
        towers.train()
        torch.manual_seed(1)
        towers.loss(batch).backward()
        gradients.append({name: p.grad for name, p in towers.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient)


HELD = np.arange(0, 48, 5)


def trained(folder: Path, out: Path, epochs: int, dies_after: int | None = None) -> tuple[TwoTowerModel, TowerBatch, History]:
    """Users like what they watched: 'heat' or 'amelie', in many wordings. The rows held back come with the towers."""
    towers, _ = world(folder, hidden=(64,))
    histories = [
        f"{before} {film} {after}"
        for film in ("heat", "amelie")
        for before in ("they watched", "last week", "once")
        for after in ("", "with others", "twice", "at home")
    ]
    tokenizer = load_encoder(TwoTowerConfig(path=str(folder)), KEY).tokenizer
    users, items = texts(tokenizer, histories), texts(tokenizer, ITEMS)
    calls = iter(range(10**6))

    def batch(rows_B: np.ndarray) -> TowerBatch:
        user_B, item_B = torch.from_numpy(rows_B // 2), torch.from_numpy(rows_B % 2)
        return TowerBatch(users, user_B, items, item_B, (user_B // 12 == item_B).float())

    def gather(rows_B: np.ndarray) -> TowerBatch:
        if next(calls) == dies_after:
            raise KeyboardInterrupt
        return batch(rows_B)

    config = TrainingConfig(batch_size=16, epochs=epochs, learning_rate=3e-3, select="-loss")
    history = fit(
        towers,
        np.setdiff1d(np.arange(48), HELD),
        gather,
        lambda: {"loss": float(towers.loss(batch(HELD)))},
        config,
        out,
        0,
        device="cpu",
        checkpoint_seconds=0.0,
        progress=False,
    )
    return towers, batch(HELD), history


@pytest.mark.timeout(180)
def test_it_learns_a_planted_taste(folder: Path, tmp_path: Path):
    """Items alone and users alone say nothing of the label here: only how they agree does.

    Without dropout: with it the loss of 16 rows in so small a BERT is mostly noise (.004 to .365 over 12 seeds), and a
    processor that adds up in another order draws another such number.
    """
    change_config(folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    towers, held, history = trained(folder, tmp_path / "out", epochs=50)
    assert history.training[0].loss > 0.5
    assert history.training[-1].loss < 0.1  # at most .002 over 12 seeds
    with torch.no_grad():
        assert ((towers.score(held) > 0.5).float() == held.label_B).all()


def test_a_killed_training_ends_with_the_same_bits(original: Path, tmp_path: Path):
    trained(original, tmp_path / "whole", epochs=4)
    with pytest.raises(KeyboardInterrupt):
        trained(original, tmp_path / "killed", epochs=4, dies_after=7)
    trained(original, tmp_path / "killed", epochs=4)
    for name in ("model.safetensors", "history.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_causal_lm_is_read_without_its_last_layer(tmp_path: Path):
    folder = saved(tmp_path / "llama")
    towers, batch = world(folder)
    assert type(towers.encoder).__name__ == "LlamaModel"
    assert towers.logits(batch).shape == (6,)
    towers.train().loss(batch).backward()
    assert [name for name, p in towers.named_parameters() if p.grad is None] == []


def test_padding_is_not_read(original: Path):
    towers, batch = world(original)
    other = replace(batch, users=TowerTexts(torch.where(batch.users.mask_NL, batch.users.tokens_NL, 7), batch.users.mask_NL))
    torch.testing.assert_close(towers.score(other), towers.score(batch))


def test_it_is_named_and_its_files_are_known(folder: Path):
    config = TwoTowerConfig(path=str(folder))
    loaded = load_encoder(config, KEY)
    assert loaded.label.endswith("M parameters, pretrained)")
    assert loaded.context == 512
    before = encoder_fingerprint(config)
    change_config(folder, hidden_dropout_prob=0.2)
    assert encoder_fingerprint(config) != before


def test_a_table_of_positions_that_begins_later(tmp_path: Path):
    """RoBERTa's has 514 places for 512 tokens; a text as long as they reach is read, a longer one is not."""
    tokenizer = word_piece(ITEMS)
    config = RobertaConfig(
        vocab_size=len(tokenizer),
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=34,
        pad_token_id=1,
    )
    RobertaModel(config).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    loaded = load_encoder(TwoTowerConfig(path=str(tmp_path)), KEY)
    assert loaded.context == 32
    with torch.no_grad():
        loaded.model(input_ids=torch.full((1, 32), 7))
        with pytest.raises((IndexError, RuntimeError), match="out of"):
            loaded.model(input_ids=torch.full((1, 33), 7))


def test_an_encoder_without_a_mask(tmp_path: Path):
    """FNet mixes all tokens of a text by a Fourier transform, padding too."""
    tokenizer = word_piece(ITEMS)
    FNetModel(
        FNetConfig(
            vocab_size=len(tokenizer), hidden_size=16, intermediate_size=24, num_hidden_layers=1, max_position_embeddings=64
        )
    ).save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    with pytest.raises(ConfigError, match=r"two_towers\.mine\.path = .*FNetModel reads the padding of a text"):
        load_encoder(TwoTowerConfig(path=str(tmp_path)), KEY)


@pytest.mark.parametrize("what", ["mask", "numbers"])
def test_an_encoder_that_reads_the_padding(what: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    forward = BertModel.forward

    def changed(self: BertModel, **inputs: Any) -> Any:
        output = forward(self, **(inputs | ({"attention_mask": None} if what == "mask" else {})))
        if what == "numbers":
            output.last_hidden_state *= torch.nan
        return output

    monkeypatch.setattr(BertModel, "forward", changed)
    with pytest.raises(ConfigError, match="BertModel reads the padding of a text though the mask leaves it out"):
        load_encoder(TwoTowerConfig(path=str(folder)), KEY)


def change_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def test_what_cannot_be_loaded_names_the_key(folder: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^two_towers\.mine\.path = .*nowhere'?: no such folder"):
        load_encoder(TwoTowerConfig(path=str(tmp_path / "nowhere")), KEY)
    with pytest.raises(ConfigError, match=r"^two_towers\.mine\.path = 'no-such-model' could not be loaded: .*--download"):
        load_encoder(TwoTowerConfig(path="no-such-model"), KEY)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'exit 1'\ntR.")
    with pytest.raises(ArtefactError, match=r"only pytorch_model\.bin, a pickle, which is never read"):
        load_encoder(TwoTowerConfig(path=str(folder)), KEY)
    (folder / "model.safetensors").write_bytes(weights)
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(ConfigError, match=r"^two_towers\.mine\.path = .*(could not be loaded|no fast tokenizer)"):
        load_encoder(TwoTowerConfig(path=str(folder)), KEY)
    (folder / "config.json").write_text(json.dumps({"model_type": "t5", "is_encoder_decoder": True}))
    with pytest.raises(ConfigError, match=r"^two_towers\.mine\.path = .* is an encoder-decoder; .* an encoder alone"):
        load_encoder(TwoTowerConfig(path=str(folder)), KEY)


def test_configurations():
    with pytest.raises(ValueError, match="'all' or 'head'"):
        TwoTowerConfig.model_validate({"path": "x", "train": "lora"})
    with pytest.raises(ValueError, match="greater than 0"):
        TwoTowerConfig.model_validate({"path": "x", "hidden": [0]})
