"""What a store has becomes the data of the next run: whole, each event once, without forgotten users, in words as before."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from store_world import event, small_data

from lifelora.data.dataset import Dataset
from lifelora.data.prepare import Rules, prepare
from lifelora.data.sources import parse_source
from lifelora.data.split import LeaveOneOut
from lifelora.errors import ArtefactError
from lifelora.frames import AnyFrame
from lifelora.serving.store import Form, NewEvent, Store
from lifelora.serving.store import exports as module
from lifelora.serving.store.exports import Exported, export

RULES = Rules(min_history=0, split=LeaveOneOut())
LATER = 1_900_000_000


def events_of(dataset: Dataset) -> list[tuple[str, str, float, int]]:
    """As its log has them."""
    users, items = dataset.users.outside(dataset.user_N), dataset.items.outside(dataset.item_N)
    levels = [dataset.rating_levels[code] for code in dataset.rating_N]
    return list(zip(users, items, levels, np.asarray(dataset.time_N).tolist(), strict=True))


def again(made: Exported, folder: Path) -> Dataset:
    """The next run's data."""
    return prepare(parse_source(f"tables:{made.toml}").read(), RULES, folder, "next")


def test_the_next_data_are_these_and_what_came_since_without_who_was_forgotten(url: str, tmp_path: Path):
    dataset = small_data(tmp_path / "data")
    first = events_of(dataset)
    with Store.open(url, Form.of(dataset.folder)) as store:
        sent = [
            event("user-3", "item-0", LATER, 5.0, "k"),
            event("new", "item-new", LATER + 1),
            event("new", "unknown", LATER + 2),
        ]
        store.append([*sent, NewEvent(*first[0]), event("user-4", "item-1", LATER), event("user-5", "item-1", LATER)])
        store.add_items([{"item": "item-new", "title": "A new one"}, {"item": "item-0", "title": "known"}])
        store.forget("user-4")
        store.forget("user-5")
        store.append([event("user-5", "item-2", LATER + 9)])  # of a later life
        made = export(store, dataset.folder, tmp_path / "out")
    old = [one for one in first if one[0] not in ("user-4", "user-5")]
    new = [("user-3", "item-0", 5.0, LATER), ("new", "item-new", 4.0, LATER + 1), ("user-5", "item-2", 4.0, LATER + 9)]
    found = again(made, tmp_path / "next")
    assert sorted(events_of(found)) == sorted([*old, *new])
    assert "user-4" not in found.users
    assert b"user-4" not in b"".join(path.read_bytes() for path in (tmp_path / "out").iterdir())
    titles = dict(zip(*(found.catalogue.column(name).to_pylist() for name in ("item", "title")), strict=True))
    assert titles == {f"item-{n}": f"item-{n}" for n in range(9) if f"item-{n}" in dataset.items} | {"item-new": "A new one"}
    # 4: the three and the one of an unknown item, which the next run leaves out with a note
    assert made == (tmp_path / "out/tables.toml", len(old) + 4, 4, 1, 2, 0)


def test_an_import_changes_nothing_of_an_export(url: str, tmp_path: Path):
    dataset = small_data(tmp_path / "data")
    with Store.open(url, Form.of(dataset.folder)) as store:
        store.import_data(dataset.folder)
        made = export(store, dataset.folder, tmp_path / "out")
        assert (made.events, made.new) == (len(dataset), 0)
        assert export(store, dataset.folder, tmp_path / "out") == made  # takes the place of the first
    assert sorted(events_of(again(made, tmp_path / "next"))) == sorted(events_of(dataset))


def test_without_times_the_order_of_the_store_goes_on_behind_the_log(tmp_path: Path):
    dataset = small_data(tmp_path / "data", times=False)
    with Store.open(tmp_path / "events.db", Form.of(dataset.folder)) as store:
        store.import_data(dataset.folder)
        store.append([NewEvent("user-3", "item-8", 5.0, id="a"), NewEvent("user-3", "item-7", 5.0, id="b")])
        made = export(store, dataset.folder, tmp_path / "out")
    found = again(made, tmp_path / "next")

    def of_one(one: Dataset) -> list[str]:
        return one.items.outside(one.item_N[one.log.rows_of(int(one.users.inside(["user-3"])[0]))])

    assert of_one(found)[-2:] == ["item-8", "item-7"]
    assert made.new == 2


def test_without_times_what_is_repeated_is_not_counted_as_new(tmp_path: Path):
    """The next run has an event of one user, item and rating once."""
    dataset = small_data(tmp_path / "data", times=False)
    user, item, rating, _ = events_of(dataset)[0]
    with Store.open(tmp_path / "events.db", Form.of(dataset.folder)) as store:
        sent = [(user, item, rating, "a"), (user, item, rating, "b"), ("new", "item-1", 5.0, "c"), ("new", "item-1", 5.0, "d")]
        store.append([NewEvent(*what, id=key) for *what, key in sent])
        made = export(store, dataset.folder, tmp_path / "out")
    assert (made.events, made.new) == (len(dataset) + 1, 1)
    assert len(again(made, tmp_path / "next")) == len(dataset) + 1


def frames() -> dict[str, AnyFrame]:
    """Kinds of events, and fields with several values."""
    log = [
        ("ann", "a", "view", 1),
        ("ann", "b", "buy", 2),
        ("ann", "c", "view", 3),
        ("bob", "b", "view", 1),
        ("bob", "a", "buy", 2),
    ]
    user, item, kind, time = zip(*log, strict=True)
    return {
        "interactions": pa.table({"user": user, "item": item, "event": kind, "time": [1_600_000_000 + t for t in time]}),
        "items": pa.table({"item": ["a", "b", "c"], "title": ["A", "B", "C"], "tags": [["x", "y"], ["x"], []]}),
        "users": pa.table({"user": ["ann", "bob"], "city": ["Graz", "Linz"]}),
    }


def test_kinds_of_events_lists_and_profiles_keep_their_words(tmp_path: Path):
    layout = {"columns": {"event": "event"}, "events": {"view": 1.0, "buy": 3.0}, "words": {"item": "tea", "did": "bought"}}
    dataset = Dataset.from_frames(*frames().values(), folder=tmp_path / "data", rules=RULES, **layout)
    with Store.open(tmp_path / "events.db", Form.of(dataset.folder)) as store:
        store.append([NewEvent("ann", "d", 3.0, LATER)])
        store.add_items([{"item": "d", "title": "D", "tags": ["y", "z"]}, {"item": "e", "title": "E"}])
        store.forget("bob")
        found = again(export(store, dataset.folder, tmp_path / "out"), tmp_path / "next")
    assert found.level_names == {1.0: "view", 3.0: "buy"}
    assert [(item, level) for _, item, level, _ in events_of(found)] == [("a", 1.0), ("b", 3.0), ("c", 1.0), ("d", 3.0)]
    assert found.catalogue.column("tags").to_pylist() == [["x", "y"], ["x"], [], ["y", "z"], []]
    assert found.profiles.to_pylist() == [{"user": "ann", "city": "Graz"}]
    assert (found.words.item, found.words.did) == ("tea", "bought")


def test_items_without_a_title_are_called_by_their_ids(tmp_path: Path):
    """Those that were told of, and those that the run's own data allowed."""
    log = frames()["interactions"]
    items = pa.table({"item": ["a", "b"], "title": ["A", "B"]})
    layout = {"columns": {"event": "event"}, "events": {"view": 1.0, "buy": 3.0}, "unknown_items": "allow"}
    dataset = Dataset.from_frames(log, items, folder=tmp_path / "data", rules=RULES, **layout)
    with Store.open(tmp_path / "events.db", Form.of(dataset.folder)) as store:
        store.append([NewEvent("ann", item, 3.0, LATER) for item in ("bare", "blank")])
        store.add_items([{"item": "bare"}, {"item": "blank", "title": "  "}])
        found = again(export(store, dataset.folder, tmp_path / "out"), tmp_path / "next")
    titles = dict(zip(*(found.catalogue.column(name).to_pylist() for name in ("item", "title")), strict=True))
    assert titles == {"a": "A", "b": "B", "c": "c", "bare": "bare", "blank": "blank"}
    assert len(found) == len(dataset) + 2


def test_two_kinds_of_events_in_one_second_are_both_there(tmp_path: Path):
    """Of the log and of the store; of one kind the first. A log of ratings has one event of a user, item and second."""
    log = frames()["interactions"]
    assert isinstance(log, pa.Table)
    bought = pa.table({"user": ["ann", "bob"], "item": ["c", "b"], "event": ["buy"] * 2, "time": [1_600_000_003, 1_600_000_001]})
    rows, layout = pa.concat_tables([log, bought]), {"columns": {"event": "event"}, "events": {"view": 1.0, "buy": 3.0}}
    dataset = Dataset.from_frames(rows, frames()["items"], folder=tmp_path / "data", rules=RULES, **layout)
    assert len(dataset) == 7
    with Store.open(tmp_path / "events.db", Form.of(dataset.folder)) as store:
        store.import_data(dataset.folder)
        assert export(store, dataset.folder, tmp_path / "out").new == 0
        sent = [(1.0, "seen"), (3.0, "bought"), (3.0, "bought, second line")]
        store.append([NewEvent("ann", "a", level, LATER, key) for level, key in sent])
        made = export(store, dataset.folder, tmp_path / "out")
    assert (made.events, made.new) == (9, 2)
    new = [("ann", "a", 1.0, LATER), ("ann", "a", 3.0, LATER)]
    assert sorted(events_of(again(made, tmp_path / "next"))) == sorted([*events_of(dataset), *new])
    with_ratings = small_data(tmp_path / "rated")
    with Store.open(tmp_path / "rated.db", Form.of(with_ratings.folder)) as store:
        store.append([event("user-3", "item-0", LATER, rating, key) for rating, key in ((5.0, "a"), (1.0, "b"))])
        made = export(store, with_ratings.folder, tmp_path / "rated-out")
    first = ("user-3", "item-0", 5.0, LATER)
    assert sorted(events_of(again(made, tmp_path / "rated-next"))) == sorted([*events_of(with_ratings), first])


def test_who_is_forgotten_while_it_is_written_is_not_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dataset = small_data(tmp_path / "data")
    with Store.open(tmp_path / "events.db", Form.of(dataset.folder)) as store:
        written, gone = module._written, list[str]()

        def meanwhile(*what: object) -> Exported:
            made: Exported = written(*what)  # type: ignore[arg-type]
            if not gone:
                gone.append("user-2")
                store.forget("user-2")
            return made

        monkeypatch.setattr(module, "_written", meanwhile)
        made = export(store, dataset.folder, tmp_path / "out")
    assert made.forgotten == 1
    assert "user-2" not in again(made, tmp_path / "next").users


def test_a_folder_with_other_files_stays_as_it_is(tmp_path: Path):
    dataset = small_data(tmp_path / "data")
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with Store.open(tmp_path / "events.db", Form.of(dataset.folder)) as store, pytest.raises(ArtefactError, match="out"):
        export(store, dataset.folder, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine.txt"]
