"""The nano LM: made here from the training texts only, the same from the same seed, and loaded like any other."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch

from lifelora.data.dataset import Dataset
from lifelora.data.prepare import Rules, prepare
from lifelora.data.sources.simulated import Simulated
from lifelora.llm import nano
from lifelora.llm.backbone import Backbone, Pretrained, load
from lifelora.llm.nano import Nano, pretrain
from lifelora.prompts.wording.titles import TitleTemplate
from lifelora.prompts.wording.yes_no import Plain
from lifelora.prompts.yes_no import find_answers
from lifelora.tokens import LineTokenizer
from lifelora.training import TrainingConfig

CPU = torch.device("cpu")
TINY = Nano(
    width=16,
    layers=1,
    heads=2,
    vocabulary=500,
    behaviours=6,
    training=TrainingConfig(batch_size=16, epochs=1, learning_rate=3e-3, select="-loss"),
)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    source = Simulated(users=12, items=60, events_per_user=12)
    return prepare(source.read(), Rules(min_history=3), tmp_path_factory.mktemp("data"), "a tiny world")


@pytest.fixture(scope="module")
def made(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("nano")
    pretrain(TINY, dataset, folder, 0, device=CPU, progress=False)
    return folder


@pytest.fixture(scope="module")
def loaded(made: Path) -> Backbone:
    return load(Pretrained(path=str(made)), CPU)


def test_it_loads_as_any_other_and_is_as_small_as_asked(loaded: Backbone):
    config = loaded.model.config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (16, 1, 2)
    assert config.vocab_size == len(loaded.tokenizer) <= 500
    assert loaded.context == TINY.context
    assert not any(p.requires_grad for p in loaded.model.parameters())


def test_what_it_is_called_says_what_it_is(made: Path, loaded: Backbone):
    about = json.loads((made / "about.json").read_text())
    assert about["label"] == nano.label(loaded.model, "a tiny world")
    for word in ("nano", "trained here", "a tiny world only"):
        assert word in about["label"]
    assert about["parameters"] == sum(p.numel() for p in loaded.model.parameters())


@pytest.mark.parametrize("text", ["Silent Harbor of Clues", "ŋ 🙂 卧虎 ẞ", "\x00\x7f \u2028", "two\nlines", "8½: [REC]!"])
def test_its_tokenizer_writes_any_text(loaded: Backbone, text: str):
    ids = loaded.tokenizer(text)["input_ids"]
    assert ids[0] == loaded.tokenizer.bos_token_id
    assert ids.count(loaded.tokenizer.bos_token_id) == 1
    back = loaded.tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)
    # It reads small letters, and puts a space before every piece that has none: at the start of each line, and its end.
    assert back.replace("\n ", "\n").replace(" \n", "\n").removeprefix(" ") == text.lower()


def test_the_answers_are_one_token_each_after_the_cue(loaded: Backbone):
    template = TINY.template
    answers = find_answers(loaded.tokenizer, template)
    assert answers.shared == ()
    line_tokenizer = LineTokenizer(loaded.tokenizer)
    cue = line_tokenizer.whole(f"{template.history}\n{template.answer}")
    for word, token in ((template.yes, answers.yes), (template.no, answers.no)):
        assert line_tokenizer.whole(f"{template.history}\n{template.answer}{word}") == [*cue, token]


def test_words_of_the_domain_are_single_tokens(loaded: Backbone):
    for word in (" stars", " book", " answer"):
        assert len(loaded.tokenizer(word, add_special_tokens=False)["input_ids"]) == 1, word


def test_training_rows_end_with_the_last_training_sample(dataset: Dataset):
    rows_N = dataset.training_events()
    last = dataset.time_N[dataset.samples["train"]].max()
    assert dataset.time_N[rows_N].max() == last
    assert len(rows_N) < len(dataset)
    assert not set(rows_N.tolist()) & {*dataset.samples["valid"].tolist(), *dataset.samples["test"].tolist()}
    assert set(dataset.samples["train"].tolist()) <= set(rows_N.tolist())


def test_only_events_of_the_training_period_are_read(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without item texts, a book that was first seen after the training period is in no document."""
    read: list[np.ndarray] = []
    collate = nano.collate

    def watched(documents: list[np.ndarray]) -> nano.Documents:
        read.extend(documents)
        return collate(documents)

    monkeypatch.setattr(nano, "collate", watched)
    pretrain(TINY.model_copy(update={"item_texts": 0}), dataset, tmp_path, 0, device=CPU, progress=False)
    tokenizer = load(Pretrained(path=str(tmp_path)), CPU).tokenizer
    text = "\n".join(tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in read)
    text = " ".join(text.split())
    rows_N = dataset.training_events()
    early = {dataset.titles[item].lower() for item in dataset.item_N[rows_N].tolist()}
    late = {dataset.titles[item].lower() for item in dataset.item_N.tolist()} - early
    assert early
    assert late
    assert all(title in text for title in early)
    assert not [title for title in late if title in text]
    # A document of n events has n - 1 rated lines and one question; each reading of the histories has every event once.
    documents = {ids.tobytes(): tokenizer.decode(ids, clean_up_tokenization_spaces=False) for ids in read}
    told = sum(t.count(" star)") + t.count(" stars)") + t.count("would they like") for t in documents.values())
    assert told % len(rows_N) == 0
    assert told >= len(rows_N)


@pytest.mark.parametrize("template", [Plain(), TitleTemplate()])
def test_a_title_that_spells_its_first_token_does_not_begin_a_document(tmp_path, monkeypatch, template):
    source = Simulated(users=6, items=60, events_per_user=10).read()
    titles = pa.array([f"<begin> again {number} <BEGIN>" for number in range(len(source.catalogue))])
    catalogue = source.catalogue.set_column(source.catalogue.column_names.index("title"), "title", titles)
    hostile = prepare(replace(source, catalogue=catalogue), Rules(min_history=3), tmp_path / "data", "hostile")
    read: list[np.ndarray] = []
    monkeypatch.setattr(
        nano,
        "fit",
        lambda module, rows, gather, *rest, **options: read.extend(gather(np.array([row])).tokens_BL[0].numpy() for row in rows),
    )
    pretrain(TINY.model_copy(update={"template": template}), hostile, tmp_path / "nano", 0, device=CPU, progress=False)
    assert len(read) > 10
    assert all(ids[0] == 0 and (ids[1:] != 0).all() for ids in read)
    tokenizer = load(Pretrained(path=str(tmp_path / "nano")), CPU).tokenizer
    assert "begin>" in tokenizer.decode(read[0][1:], clean_up_tokenization_spaces=False).replace(" ", "")


def test_the_same_seed_gives_the_same_bits(dataset: Dataset, made: Path, tmp_path: Path):
    pretrain(TINY, dataset, tmp_path / "again", 0, device=CPU, progress=False)
    pretrain(TINY, dataset, tmp_path / "other", 1, device=CPU, progress=False)
    for name in ("model.safetensors", "tokenizer.json", "about.json"):
        assert (tmp_path / "again" / name).read_bytes() == (made / name).read_bytes(), name
    assert (tmp_path / "other/model.safetensors").read_bytes() != (made / "model.safetensors").read_bytes()


def test_the_next_token_is_what_is_asked_and_padding_is_not():
    documents = [np.array([1, 2, 3, 4], np.int32), np.array([5, 6], np.int32)]
    batch = nano.collate(documents)
    assert batch.tokens_BL.tolist() == [[1, 2, 3], [5, 0, 0]]
    assert batch.next_BL.tolist() == [[2, 3, 4], [6, nano.IGNORED, nano.IGNORED]]


def test_one_value_of_its_training_can_be_changed_alone():
    assert Nano.model_validate({"training": {"epochs": 1}}).training == Nano().training.model_copy(update={"epochs": 1})
