"""Numbers for titles: one of its own for each item, drawn by seed, and nothing else that is said of it."""

from pathlib import Path

import numpy as np
import pytest

from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event
from lifelora.data.prepare import Rules, prepare
from lifelora.data.sources.simulated import Simulated
from lifelora.prompts.lines.base import table_texts
from lifelora.prompts.unnamed import unnamed
from lifelora.testing.world import two_tribes


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder: Path = tmp_path_factory.mktemp("unnamed") / "data"
    return prepare(Simulated(users=30, items=100, events_per_user=20).read(), Rules(), folder, "a world")


def test_each_item_has_a_number_and_nothing_else(dataset: Dataset) -> None:
    told = unnamed(dataset, seed=0)
    assert sorted(told.titles) == sorted(f"item {number}" for number in range(1, 101))
    assert told.catalogue.column_names == dataset.catalogue.column_names
    for before, after in zip(table_texts(dataset.catalogue), table_texts(told.catalogue), strict=True):
        assert before.keys() == after.keys()
        assert {key for key, value in after.items() if value} == {"item", "title"}
        assert after["item"] == before["item"]
    assert told.profiles is dataset.profiles
    assert told.log is dataset.log
    assert dataset.titles[0] != told.titles[0], "the data set itself keeps its titles"


def test_numbers_tell_neither_when_an_item_came_nor_of_what_kind_it_is(dataset: Dataset) -> None:
    """The correlation of numbers with the order of items is that of drawn ones: within 4.5 / √100 of zero."""
    number_M = np.array([int(title.removeprefix("item ")) for title in unnamed(dataset, seed=0).titles])
    assert abs(np.corrcoef(number_M, np.arange(100))[0, 1]) < 0.45
    assert unnamed(dataset, seed=1).titles != unnamed(dataset, seed=0).titles
    assert unnamed(dataset, seed=0).titles == unnamed(dataset, seed=0).titles


def test_a_field_with_several_values_is_left_out_too(tmp_path: Path) -> None:
    told = unnamed(two_tribes(tmp_path / "tribes", several=True), seed=0)
    assert all(not row["genre"] for row in table_texts(told.catalogue))


def test_later_items_go_on_where_the_drawn_numbers_end(dataset: Dataset) -> None:
    user = dataset.users.outside(np.array([0]))[0]
    now = int(dataset.time_N.max()) + 1
    events = [Event(user, "new-1", 5.0, now), Event(user, "new-2", 4.0, now + 1)]
    grown = dataset.extended(events)
    told = unnamed(grown, seed=0)
    assert told.titles[:100] == unnamed(dataset, seed=0).titles
    assert told.titles[100:] == ["item 101", "item 102"]
