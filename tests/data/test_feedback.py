"""Logs without ratings, with kinds of events, with counts: what becomes levels, what they are called, and what is refused."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lifelora.data.dataset import Dataset
from lifelora.data.describe import describe
from lifelora.data.extend import Event
from lifelora.data.feedback import Log, Quantiles, Thresholds
from lifelora.data.layout import Layout, laid_out
from lifelora.data.levels import for_readers
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables
from lifelora.data.rows import Problems, Rows
from lifelora.data.sources.tables import Tables
from lifelora.data.split import LeaveOneOut
from lifelora.errors import ConfigError, DataError

RULES = Rules(min_history=1, split=LeaveOneOut())


def rows(**columns: list[str]) -> Rows:
    n = len(next(iter(columns.values())))
    return Rows(
        "log.csv", pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()}), np.arange(2, n + 2)
    )


def read(log: Rows, **layout) -> RawTables:
    return laid_out(Layout.model_validate(layout), log, None, None, Problems(), [])


def clicks(n_users: int = 3, each: int = 4, **more: list[str]) -> Rows:
    """User u chose items u, u + 1, …, one a second."""
    pairs = [(u, u + t) for u in range(n_users) for t in range(each)]
    times = [str(1_700_000_000 + t) for _ in range(n_users) for t in range(each)]
    return rows(user=[f"u{u}" for u, _ in pairs], item=[f"i{i}" for _, i in pairs], time=times, **more)


TIMED = {"columns": {"time": "time"}}


# Without ratings.


def test_a_log_without_ratings_has_none_and_says_so():
    raw = read(clicks(), **TIMED)
    assert raw.interactions.column_names == ["user", "item", "time"]
    assert raw.words.did == "interacted with"
    assert any("log.csv has no ratings" in note and "columns.rating; it has: user, item, time" in note for note in raw.notes)
    assert "ratings    none: every row is a like" in describe(raw, "clicks")


def test_a_column_called_rating_is_one_without_being_named():
    raw = read(clicks(rating=["3"] * 12), **TIMED)
    assert raw.interactions.column("rating").to_pylist() == [3.0] * 12
    assert raw.words.did == "rated"


def test_every_event_of_a_log_without_ratings_is_a_like(tmp_path: Path):
    raw = read(clicks(), **TIMED)
    dataset = prepare(raw, RULES.model_copy(update={"keep_from": 3.0}), tmp_path, "clicks")
    assert (dataset.has_ratings, dataset.rating_levels, dataset.levels) == (False, (1.0,), ("",))
    assert dataset.label_N.all()
    assert len(dataset) == 12
    assert "there are no ratings, so data.rules.keep_from = 3 leaves nothing out." in dataset.notes
    assert (dataset.words.stars, dataset.words.rated) == ("", "")


def test_such_a_log_grows_without_ratings(tmp_path: Path):
    dataset = prepare(read(clicks(), **TIMED), RULES, tmp_path, "clicks")
    grown = dataset.extended([Event("u0", "i7", time=1_700_020_000)], items=[{"item": "i7", "title": "Kettle"}])
    assert (grown.label_N[12], grown.rating_N[12]) == (True, 0)


def test_the_same_choice_twice_without_a_time_is_one_too_many():
    with pytest.raises(DataError, match=r"log\.csv:3: the same user and item as in line 2"):
        read(rows(user=["a", "a"], item=["x", "x"]))


def test_a_constant_rating_tells_a_prompt_nothing(tmp_path: Path):
    dataset = prepare(read(clicks(rating=["1"] * 12), **TIMED), RULES, tmp_path, "ones")
    assert (dataset.has_ratings, dataset.levels) == (True, ("",))
    with pytest.raises(ConfigError, match=r"keep_from = 3 leaves nothing of 12 .* ratings are 1\. .*keep_from = 'null'"):
        prepare(read(clicks(rating=["1"] * 12), **TIMED), RULES.model_copy(update={"keep_from": 3.0}), tmp_path / "other", "ones")


# Kinds of events.

KINDS = {"columns": {"time": "time", "event": "event"}, "events": {"view": 1, "cart": 2, "purchase": 3}}


def test_kinds_of_events_become_levels_with_names(tmp_path: Path):
    raw = read(clicks(event=["view", "cart", "purchase ", "view"] * 3), **KINDS)
    assert raw.interactions.column("rating").to_pylist() == [1.0, 2.0, 3.0, 1.0] * 3
    assert "ratings    1 (view): 6, 2 (cart): 3, 3 (purchase): 3" in describe(raw, "shop")
    dataset = prepare(raw, RULES.model_copy(update={"label_above": 1.5}), tmp_path, "shop")
    assert dataset.levels == for_readers(dataset.level_names, dataset.words) == ("view", "cart", "purchase")
    assert dataset.label_N.tolist() == [False, True, True, False] * 3


def test_kinds_of_one_value_are_one_level():
    raw = read(
        clicks(event=["view", "click", "purchase", "view"] * 3),
        columns=KINDS["columns"],
        events={"view": 1, "click": 1, "purchase": 2},
    )
    assert raw.level_names == {1.0: "view or click", 2.0: "purchase"}


def test_an_unknown_kind_is_refused_with_the_mend_or_left_out_and_counted():
    log = clicks(event=["view", "refund", "purchase", "view"] * 3)
    with pytest.raises(
        DataError, match=r"log\.csv:3, column 'event', value 'refund': events has no such kind; it has view, "
    ) as e:
        read(log, **KINDS)
    assert e.value.count == 3
    assert "other_events = 'drop'" in str(e.value)
    raw = read(log, **KINDS, other_events="drop")
    assert len(raw.interactions) == 9
    assert "log.csv: 3 of 12 rows are left out, of kinds that `events` does not name: refund (3)." in raw.notes


def test_two_kinds_in_one_second_are_two_events_and_one_kind_twice_is_one():
    first = {"user": ["a", "a", "b"], "item": ["x"] * 3, "time": ["1700000000", "1700000000", "1700000001"]}
    assert len(read(rows(**first, event=["view", "purchase", "view"]), **KINDS).interactions) == 3
    with pytest.raises(DataError, match=r"log\.csv:3: the same user, item, time and kind as in line 2; keep one"):
        read(rows(**first, event=["view", "view", "view"]), **KINDS)


def test_an_empty_kind_is_a_missing_rating():
    with pytest.raises(DataError, match=r"log\.csv:2, column 'event', value '': a kind of event is missing"):
        read(clicks(event=["", "view", "view", "view"] * 3), **KINDS)


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({"columns": {"event": "e"}}, "events = { view = 1, purchase = 3 }"),
        ({"events": {"view": 1}}, "columns.event = COLUMN"),
        ({"columns": {"count": "n"}}, "counts = { rule = 'log' }"),
        ({"counts": {"rule": "log"}}, "columns.count = COLUMN"),
        ({"columns": {"count": "n", "rating": "r"}}, "columns.rating and columns.count say the same"),
        ({"columns": {"count": "n"}, "counts": {"rule": "thresholds", "at": [5, 2]}}, "each larger than the one before"),
        ({"columns": {"count": "n"}, "counts": {"rule": "log", "bas": 2}}, "did you mean 'base'"),
    ],
)
def test_halves_of_a_setting_name_the_other_half(tmp_path: Path, layout: dict, said: str):
    import tomli_w

    (tmp_path / "shop.toml").write_text(tomli_w.dumps({"interactions": "log.csv"} | layout))
    with pytest.raises(ConfigError) as caught:
        Tables.from_toml(tmp_path / "shop.toml")
    assert said in str(caught.value)


# Counts.


def test_counts_become_levels_by_powers_of_ten():
    # 1 … 9 is level 1, 10 … 99 level 2, 100 and more level 3
    counts = ["1", "9", "10", "99", "100", "12345", "2", "11", "500", "1", "1", "1"]
    raw = read(clicks(plays=counts), columns={"time": "time", "count": "plays"}, counts={"rule": "log", "levels": 3})
    assert raw.interactions.column("rating").to_pylist() == [1, 1, 2, 2, 3, 3, 1, 2, 3, 1, 1, 1]
    assert raw.level_names == {1: "1 to 9 times", 2: "10 to 99 times", 3: "100 times or more"}
    assert any("counts in 'plays' became 3 levels, the same for all users: 1 = 1 to 9 times, 2" in note for note in raw.notes)


def test_levels_by_quantiles_are_as_large_as_numpys_bins():
    count_N = np.random.default_rng(0).integers(1, 10_000, 1000).astype(float)
    cuts_K = Quantiles(levels=4).cuts(count_N)
    assert np.bincount(np.searchsorted(cuts_K, count_N, side="right")).tolist() == pytest.approx([250] * 4, abs=3)
    # most users played once: equal counts are of one level
    assert Quantiles(levels=4).cuts(np.array([1.0] * 8 + [5.0, 9.0])).tolist() == [5.0]  # 8 of 10 are below 5, more than 3/4
    assert Quantiles(levels=4).cuts(np.ones(9)).tolist() == []


def test_the_levels_of_a_history_do_not_tell_the_targets():
    # One user played 1, 2, 3, 4 times and another 101, 102, 103, 104 times: cut for all, neither has one event of each level.
    raw = read(
        rows(user=["a"] * 4 + ["b"] * 4, item=list("wxyz") * 2, plays=["1", "2", "3", "4", "101", "102", "103", "104"]),
        columns={"count": "plays"},
        counts={"rule": "quantiles", "levels": 4},
    )
    assert raw.interactions.column("rating").to_pylist() == [1, 1, 2, 2, 3, 3, 4, 4]


def test_levels_of_counts_have_names():
    three = Thresholds(at=(2, 5))
    names = [three.name(low, high, True) for low, high in ((None, 2.0), (2.0, 5.0), (5.0, None))]
    assert names == ["once", "2 to 4 times", "5 times or more"]
    hours = Thresholds(at=(0.5, 10), unit="hours")
    names = [hours.name(low, high, False) for low, high in ((None, 0.5), (0.5, 10.0), (10.0, None))]
    assert names == ["below 0.5 hours", "0.5 to below 10 hours", "10 hours or more"]
    assert Log(base=2, levels=3).cuts(np.zeros(0)).tolist() == [2.0, 4.0]


@pytest.mark.parametrize("value", ["0", "-3", "many", "inf"])
def test_what_is_no_count_is_refused_once(value: str):
    with pytest.raises(DataError, match=r"log\.csv:2, column 'plays', .*not a count; write a number above 0") as caught:
        read(clicks(plays=[value] + ["2"] * 11), columns={"time": "time", "count": "plays"}, counts={"rule": "log"})
    assert caught.value.count == 1


def test_thousands_of_ratings_are_refused_in_a_few_words_that_name_counts(tmp_path: Path):
    n = 5436
    log = rows(user=[f"u{k % 50}" for k in range(n)], item=[f"i{k}" for k in range(n)], rating=[str(k + 1) for k in range(n)])
    raw = read(log)
    for ask in (lambda: describe(raw, "plays"), lambda: prepare(raw, RULES, tmp_path, "plays")):
        with pytest.raises(ConfigError, match=r"5,436 distinct values, from 1 to 5436 .*data\.source\.counts = ") as caught:
            ask()
        assert len(str(caught.value)) < 500


def test_an_old_folder_without_these_facts_opens(tmp_path: Path):
    import json

    dataset = prepare(read(clicks(rating=["1", "5", "4", "2"] * 3), **TIMED), RULES, tmp_path, "old")
    facts = json.loads((tmp_path / "dataset.json").read_text())
    (tmp_path / "dataset.json").write_text(
        json.dumps({k: v for k, v in facts.items() if k not in ("has_ratings", "level_names")})
    )
    again = Dataset(tmp_path)
    assert again.levels == dataset.levels == (1.0, 2.0, 4.0, 5.0)
    assert for_readers(again.level_names, again.words) == ("1 star", "2 stars", "4 stars", "5 stars")


# What says nothing.

NOTHINGS = ["", "NULL", "nan", "None", "\\N", " "]


@pytest.mark.parametrize(
    ("column", "good", "keys", "what"),
    [
        ("event", "view", {"events": {"view": 1}}, "kind of event"),
        ("count", "7", {"counts": {"rule": "log"}}, "count"),
    ],
)
def test_rows_without_a_count_or_a_kind_are_refused_once_or_left_out_and_counted(column, good, keys, what):
    values = [*NOTHINGS, *[good] * 6]
    layout = {"columns": {"time": "time", column: "what"}, **keys}
    with pytest.raises(DataError) as caught:
        read(clicks(what=values), **layout)
    said = f'a {what} is missing; or set without_rating = "drop"'
    assert [(problem.line, problem.what) for problem in caught.value.problems] == [(line, said) for line in range(2, 8)]
    raw = read(clicks(what=values), **layout, without_rating="drop")
    assert raw.interactions.column("user").to_pylist() == ["u1"] * 2 + ["u2"] * 4
    assert f'log.csv: 6 of 12 rows are left out: they have no {what} (without_rating = "drop").' in raw.notes
    with pytest.raises(DataError, match=rf"no row is left: every one lacks a {what} in 'what'"):
        read(clicks(what=["NULL"] * 12), **layout, without_rating="drop")


def test_a_kind_may_be_called_none():
    layout = {"columns": {"time": "time", "event": "what"}, "events": {"none": 1, "buy": 3}}
    raw = read(clicks(what=["none", "buy"] * 6), **layout, without_rating="drop")
    assert raw.interactions.column("rating").to_pylist() == [1.0, 3.0] * 6
