"""What may be put behind a log, and what is said of what may not. That it reads as a prepared one: test_grown_log.py."""

import tracemalloc
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest

from lifelora.artefacts import read_json
from lifelora.data.column import Column, grown, longer
from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event
from lifelora.data.idmap import IdMap
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import LeaveOneOut
from lifelora.errors import ArtefactError, DataError, LeakError
from lifelora.retrieval.select import MostRecent, Selector

LAST = 104
"""The time of each user's last event."""


def tables(has_times: bool = True) -> RawTables:
    """Users a and b with five events each, of the items 9, 10, 11, …, rated from 1 to 5."""
    columns = {
        "user": ["a"] * 5 + ["b"] * 5,
        "item": [str(9 + k) for k in range(5)] * 2,
        "rating": pa.array([1.0, 2.0, 3.0, 4.0, 5.0] * 2, pa.float32()),
    }
    times = {"time": pa.array([100 + k for k in range(5)] * 2, pa.int64())} if has_times else {}
    catalogue = pa.table({"item": [str(9 + k) for k in range(6)], "title": [f"t{k}" for k in range(6)], "genre": ["x"] * 6})
    return RawTables(pa.table(columns | times), catalogue, pa.table({"user": ["a", "b"], "age": ["old", ""]}), Words())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    rules = Rules(min_history=1, split=LeaveOneOut(), ties="item")
    return prepare(tables(), rules, tmp_path_factory.mktemp("extend"), "made")


def history(dataset: Dataset, user: str) -> list[tuple[str, float, bool, int]]:
    """Item, rating, label and time of a user's events."""
    rows = dataset.log.rows_of(int(dataset.users.inside([user])[0]))
    return list(
        zip(
            dataset.items.outside(dataset.item_N[rows]),
            [dataset.rating_levels[code] for code in dataset.rating_N[rows]],
            dataset.label_N[rows].tolist(),
            dataset.time_N[rows].tolist(),
            strict=True,
        )
    )


def test_events_come_in_order_of_time_and_then_of_item(dataset: Dataset):
    given = [Event("a", "11", 5, 300), Event("a", "10", 1, 200.9), Event("a", "9", 4, 300), Event("c", "9", 3.0, 1)]
    grown = dataset.extended(given)
    assert history(grown, "a")[5:] == [("10", 1.0, False, 200), ("9", 4.0, True, 300), ("11", 5.0, True, 300)]
    assert history(grown, "c") == [("9", 3.0, False, 1)]
    assert history(grown, "b") == history(dataset, "b")
    assert (len(dataset), len(grown), dataset.n_users, grown.n_users) == (10, 14, 2, 3)


def test_an_event_in_the_second_of_the_last_one_stands_behind_it(dataset: Dataset):
    """As it came later: ``prepare`` would put the lower item first."""
    grown = dataset.extended([Event("a", "9", 5, LAST)]).extended([Event("a", "10", 1, LAST)])
    assert [item for item, *_ in history(grown, "a")[-3:]] == ["13", "9", "10"]


def test_users_who_are_told_anew_read_as_if_they_had_been_told_in_order(dataset: Dataset):
    """c is new; b, who is not told anew, is left as it was."""
    early, between, late = (Event("a", item, 5, time) for item, time in (("9", 110), ("10", 120), ("11", 130)))
    others = [Event("b", "12", 4, 115), Event("c", "9", 1, 50)]
    grown = dataset.extended([late, *others]).extended([early, between, late], anew=["a"])
    whole = dataset.extended([early, between, late, *others])
    for user in ("a", "b", "c"):
        told = []
        for one in (grown, whole):
            rows = one.log.rows_of(int(one.users.inside([user])[0]))
            told.append((one.items.outside(one.item_N[rows]), one.time_N[rows].tolist()))
        assert told[0] == told[1]
    assert len(grown) == len(whole)
    assert len(dataset.extended([late]).extended([], anew=["a"])) == len(dataset)
    with pytest.raises(DataError, match="nobody"):
        dataset.extended([], anew=["nobody"])


def test_texts_of_new_items_and_users(dataset: Dataset):
    grown = dataset.extended(
        [Event("c", "99", 5, 1), Event("d", "9", 5, 1)],
        [{"item": "100", "title": " two\nlines  ", "genre": "y"}, {"item": "15", "genre": "x"}],
        [{"user": "c", "age": "young"}],
    )
    assert grown.items.outside(np.arange(6, 9)) == ["15", "99", "100"]  # by number, as all ids are
    assert grown.titles[6:] == ["", "", "two lines"]
    assert grown.catalogue.column("genre").to_pylist()[6:] == ["x", "", "y"]
    assert grown.profiles.slice(2).to_pylist() == [{"user": "c", "age": "young"}, {"user": "d", "age": ""}]
    codes = np.asarray(grown.item_codes("genre"))
    assert codes[6] == codes[0] != 0 == codes[7]
    assert codes[8] not in (0, codes[0])
    assert grown.schema().item_fields_MF.shape == (6, 1)  # what a trained model has
    again = grown.extended([], [{"item": "200", "genre": "y"}])
    assert np.asarray(again.item_codes("genre"))[9] == codes[8]


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            Event("a", "9", 2.5, 200),
            r"events:2, column 'rating', value '2\.5': this data set has no such rating; .* 1, 2, 3, 4, 5",
        ),
        (Event("a", "9", float("nan"), 200), r"events:2, column 'rating', value 'nan': a rating must be finite"),
        (
            Event("a", "9", 5, LAST - 1),
            rf"events:2, column 'time', value '103': before the last event of user 'a', at {LAST}; a log",
        ),
        (Event("a", "13", 5, LAST), r"events:2, column 'item', value '13': this event is in the log already"),
        (Event("b", "9", 5, 200), r"events:2: the same user, item and time as in line 1; keep one"),
        (Event("a", "", 5, 200), r"events:2, column 'item', value '': an id is missing"),
        (Event("a", "9", 5), r"events:2, column 'time', value 'None': a time is a number"),
        (Event("a", "9", 5, 2e11), r"events:2, column 'time', value '2.*': too large for a time"),
        (SimpleNamespace(user=3, item="9", rating=5, time=200), r"events:2, column 'user', value '3': an id is a text"),
        (Event("a\ud800", "9", 5, 200), r"events:2, column 'user', value .*ud800.*: this has half of a surrogate pair"),
        (Event("a", "\udfff", 5, 200), r"events:2, column 'item', value .*udfff.*: this has half of a surrogate pair"),
        (SimpleNamespace(user="a", item=None, rating=5, time=200), r"events:2, column 'item', value 'None': an id is a text"),
        (SimpleNamespace(user="a", item="9", rating="5", time=9), r"""events:2, column 'rating', value "'5'": a rating is"""),
        (
            SimpleNamespace(user="a", item="9", rating=True, time=9),
            r"events:2, column 'rating', value 'True': a rating is a number",
        ),
    ],
)
def test_wrong_events_are_answered(dataset: Dataset, event: Event, said: str):
    with pytest.raises(DataError, match=said):
        dataset.extended(iter([Event("b", "9", 5, 200), event]))
    assert len(dataset) == 10


@pytest.mark.parametrize(
    ("items", "users", "said"),
    [
        ([{"item": "9"}], [], r"items:1, column 'item', value '9': this item is known already, and its texts stay"),
        ([], [{"user": "b", "age": "old"}], r"users:1, column 'user', value 'b': this user is known already"),
        ([{"item": "99", "colour": "red"}], [], r"items:1, column 'colour': there is no such field .* item, title, genre"),
        ([{"item": "99", "title": 3}], [], r"items:1, column 'title', value '3': this is no text"),
        ([{"title": "x"}], [], r"items:1, column 'item', value 'None': an id is a text"),
        ([{"item": "\ud800"}], [], r"items:1, column 'item', value .*ud800.*: this has half of a surrogate pair"),
        ([{"item": "99", "title": "\ud800"}], [], r"items:1, column 'title', .*: this has half of a surrogate pair"),
        ([], [{"user": "\ud800"}], r"users:1, column 'user', .*: this has half of a surrogate pair"),
        ([], [{"user": "c", "age": "\ud800"}], r"users:1, column 'age', .*: this has half of a surrogate pair"),
        ([{"item": "99"}, {"item": "99"}], [], r"items:2, column 'item', value '99': this id has a row already"),
    ],
)
def test_wrong_texts_are_answered(dataset: Dataset, items, users, said: str):
    with pytest.raises(DataError, match=said):
        dataset.extended([], items, users)


def test_rules_of_the_log_hold_for_what_comes_later(tmp_path: Path):
    dataset = prepare(tables(), Rules(min_history=1, split=LeaveOneOut(), label_above=4, keep_from=2), tmp_path, "made")
    grown = dataset.extended([Event("a", "9", 1, 200), Event("a", "10", 4, 201), Event("a", "11", 5, 202), Event("z", "1", 1, 1)])
    assert history(grown, "a")[-2:] == [("10", 4.0, False, 201), ("11", 5.0, True, 202)]
    assert (len(grown), grown.n_users, grown.n_items) == (len(dataset) + 2, 2, dataset.n_items)


def test_without_times_events_go_on_in_the_order_that_is_given(tmp_path: Path):
    dataset = prepare(tables(has_times=False), Rules(min_history=1, split=LeaveOneOut()), tmp_path, "made")
    grown = dataset.extended([Event("a", "11", 5), Event("a", "9", 4)]).extended([Event("a", "10", 1, time=3)])
    assert [item for item, *_ in history(grown, "a")[-4:]] == ["13", "11", "9", "10"]


def test_a_folder_of_an_earlier_version_says_that_it_cannot(tmp_path: Path):
    import json

    prepare(tables(), Rules(min_history=1, split=LeaveOneOut()), tmp_path, "made")
    facts = read_json(tmp_path / "dataset.json")
    del facts["label_above"]
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    with pytest.raises(ArtefactError, match="prepare it anew before it is extended"):
        Dataset(tmp_path).extended([])


@pytest.mark.parametrize(("row", "position"), [(10, 5), (11, 6), (12, 6), (5, 6), (99, 6)])
def test_a_leak_on_a_log_that_grew_is_an_error(dataset: Dataset, row: int, position: int):
    """Rows 10 and 11 are user a's sixth and seventh event, row 12 is user b's, and there is no row 99."""
    grown = dataset.extended([Event("a", "9", 5, 200), Event("a", "10", 5, 201), Event("b", "9", 5, 200)])

    class Leaking(Selector):
        def _choose(self, dataset, targets):
            return np.array([[row]]), np.array([[True]])

    targets = grown.candidates(0, np.array([0]))
    assert targets.position_B.tolist() == [7]
    asked = type(targets)(targets.user_B, targets.item_B, np.array([position]), targets.label_B)
    with pytest.raises(LeakError, match=f"chose event {row} for target 0, which may see the first {position} events"):
        Leaking().select(grown, asked)
    assert MostRecent(MostRecent.Config(k=2)).select(grown, asked)[0].max() < row or row == 5


def test_an_event_costs_no_more_after_many(dataset: Dataset):
    """By the bytes that are allocated for sixteen events of new users, one by one, after 100 others and after 10,000."""

    def peaks(others: int) -> int:
        grown = dataset.extended([Event(f"u{n:05}", "9", 5, 300) for n in range(others)])
        grown, most = grown.extended([Event("v", "10", 4, 400)]), 0  # which looks for its user among the others
        for number in range(16):
            tracemalloc.start()
            grown = grown.extended([Event(f"v{number:02}", "10", 4, 400)])
            most += tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        assert history(grown, "v15") == [("10", 4.0, True, 400)]
        assert (len(grown), grown.n_users) == (len(dataset) + others + 17, 2 + others + 17)
        return most

    assert peaks(10_000) < 1.5 * peaks(100)


def test_pieces_of_what_came_one_by_one_are_few():
    pieces: tuple[np.ndarray, ...] = ()
    copied = 0

    def joined(before: np.ndarray, after: np.ndarray) -> np.ndarray:
        nonlocal copied
        copied += len(before) + len(after)
        return np.concatenate([before, after])

    for number in range(3000):
        pieces = grown(pieces, np.array([number]), joined)
        assert all(len(a) > 4 * len(b) for a, b in pairwise(pieces))
    assert np.concatenate(pieces).tolist() == [*range(3000)]
    assert len(pieces) <= 6  # 4^6 > 3000
    assert copied < 3000 * 5 * 6, "each once for each quarter that comes after it, in each of so many sizes"


def test_a_column_reads_as_the_array_of_both():
    first, later = np.arange(6).reshape(3, 2), np.array([[10, 11], [12, 13]])
    column, both = longer(longer(first, later[:1]), later[1:]), np.concatenate([first, later])
    assert column.first is first
    assert len(column) == 5
    for rows in (np.array([4, 0, 3]), np.array([[0, 4], [2, 3]]), np.zeros((0, 2), np.int64), slice(1, 4), slice(3, None), 4, 1):
        np.testing.assert_array_equal(column[rows], both[rows])
    np.testing.assert_array_equal(np.asarray(column), both)
    assert column.max() == 13
    assert Column(np.arange(3), np.arange(0)).max() == 2


def test_ids_that_came_later_have_the_next_numbers():
    first = IdMap.of([f"{n}" for n in range(2000)], "items")
    grown = first.extended(IdMap.of(["b", "a"])).extended(IdMap.of(["10000"]))
    assert (len(first), len(grown)) == (2000, 2003)
    assert grown.outside([0, 2000, 2001, 2002]) == ["0", "a", "b", "10000"]
    assert grown.outside([2002, 2001]) == ["10000", "b"]
    every = grown.outside(np.arange(2003))
    assert grown.inside(every).tolist() == list(range(2003))  # many at once
    assert grown.inside(["10000", "7", "a"]).tolist() == [2002, 7, 2000]
    assert "a" in grown
    assert "a" not in first
    with pytest.raises(DataError, match="value 'c': unknown id; of the 2,003 known ones"):
        grown.inside(["a", "c"])
    for wrong in ([2003], [-1], [0, 2003]):
        with pytest.raises(IndexError):
            grown.outside(wrong)
