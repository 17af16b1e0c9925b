"""Popularity: arithmetic that can be done by eye."""

from pathlib import Path

import pyarrow as pa
import pytest

from lifelora.conventional.popularity import Popularity
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.errors import ConfigError

from .contract import RecommenderContract, extra_fields


class TestPopularity(RecommenderContract):
    config = Popularity.Config()
    golden = 0.7011486


def test_it_refuses_extra_fields(data):
    with pytest.raises(ConfigError, match="popularity counts and reads no fields"):
        Popularity.Config().build(data.schema(), extra_fields(data, 4))


def test_the_rate_is_smoothed_and_counts_training_samples_only(tmp_path: Path):
    """One user, 11 events: one without a past, 8 training samples, one for validation, one for test."""
    item = ["a", *"aaaaabbb", "c", "c"]
    rating = [5, *(5, 5, 5, 1, 1, 5, 1, 1), 5, 5]
    log = {"user": ["u"] * 11, "item": item, "rating": pa.array(rating, pa.float32()), "time": list(range(11))}
    catalogue, profiles = pa.table({"item": list("abc"), "title": list("ABC")}), pa.table({"user": ["u"]})
    raw = RawTables(pa.table(log), catalogue, profiles, Words())
    dataset = prepare(raw, Rules(min_history=1), tmp_path, "arithmetic")
    assert [len(dataset.samples[part]) for part in ("train", "valid", "test")] == [8, 1, 1]

    model = Popularity(Popularity.Config(smoothing=2.0), dataset.schema())
    model.fit(dataset)
    overall = (4 + 1) / (8 + 2)  # likes and rows of training, and an imaginary row of each label
    expected = {"a": (3 + 2 * overall) / (5 + 2), "b": (1 + 2 * overall) / (3 + 2), "c": overall}  # c was never seen
    inside = dataset.items.inside(list(expected)).tolist()
    assert model.rate_M[inside].tolist() == pytest.approx(list(expected.values()))
    assert model.item_embeddings()[:, 0].sigmoid().tolist() == pytest.approx(model.rate_M[:-1].tolist())
