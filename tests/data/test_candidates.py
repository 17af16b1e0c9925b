"""Candidate lists: the target once, nobody's past, nothing twice, one seed one list; and a chance that is a chance."""

from pathlib import Path

import numpy as np
import pytest

from lifelora.data.candidates import Candidates, candidate_lists
from lifelora.data.prepare import Rules, prepare
from lifelora.data.sources.simulated import Simulated
from lifelora.data.split import LeaveOneOut
from lifelora.errors import ConfigError


def log(users: int, each: int, items: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    return np.repeat(np.arange(users), each), random.integers(0, items, users * each)


def test_a_list_is_what_it_should_be():
    user, item = log(30, 12, 40)
    rows = np.flatnonzero(np.arange(len(user)) % 12 >= 3)
    lists = candidate_lists(Candidates(count=10, seed=1), "test", rows, user, item, 40)
    assert lists.shape == (len(rows), 10)
    for row, some in zip(rows, lists.tolist(), strict=True):
        past = set(item[user[row] * 12 : row].tolist())
        assert len(set(some)) == 10
        assert item[row] in some
        assert not (set(some) - {item[row]}) & past
    places = (lists == item[rows][:, None]).argmax(axis=1)
    assert np.bincount(places, minlength=10).min() > 0.5 * len(rows) / 10  # no place is the target's own
    later = sum(
        bool((set(some) - {item[row]}) & set(item[row + 1 : (user[row] + 1) * 12].tolist()))
        for row, some in zip(rows, lists.tolist(), strict=True)
    )
    assert later > 0  # what a user meets later is not left out: a list must not know the future


def test_a_seed_and_a_part_have_one_list():
    user, item = log(5, 8, 30)
    rows = np.arange(3, 40, 8)

    def lists(seed: int, part: str) -> list[list[int]]:
        return candidate_lists(Candidates(count=5, seed=seed), part, rows, user, item, 30).tolist()

    assert lists(0, "test") == lists(0, "test")
    assert lists(0, "test") != lists(1, "test")
    assert lists(0, "test") != lists(0, "valid")


def test_too_small_a_catalogue_is_an_error():
    user, item = np.zeros(6, np.int64), np.arange(6)
    # The target 4 comes after 0 to 3, so 5 alone is left: enough for a list of two.
    assert sorted(candidate_lists(Candidates(count=2), "test", np.array([4]), user, item, 6)[0].tolist()) == [4, 5]
    with pytest.raises(ConfigError, match="count = 3: of 6 items too few are left"):
        candidate_lists(Candidates(count=3), "test", np.array([4]), user, item, 6)


def test_lists_are_kept_with_the_prepared_data(tmp_path: Path):
    raw = Simulated(users=20, items=60, events_per_user=12).read()
    dataset = prepare(raw, Rules(min_history=3, split=LeaveOneOut(), candidates=Candidates(count=6)), tmp_path / "a", "world")
    for part, rows in dataset.samples.items():
        assert dataset.lists[part].shape == (len(rows), 6)
        assert (dataset.lists[part] == dataset.item_N[rows][:, None]).sum(axis=1).tolist() == [1] * len(rows)
    assert prepare(raw, Rules(min_history=3), tmp_path / "b", "world").lists == {}
