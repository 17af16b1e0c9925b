"""After forgetting, no byte of a user is left in SQLite's files and no row in PostgreSQL; the note tells no id."""

import random
from pathlib import Path

import pytest
import sqlalchemy as sa
from store_world import FORM, event, small_data, told

from lifelora.errors import BusyError
from lifelora.serving.store import Accepted, Form, NewEvent, Store, sqlite, tables


def everything(store: Store) -> bytes:
    """All bytes of SQLite's files; of PostgreSQL all values of all rows of all tables."""
    place = store._database.place
    if place.path is not None:
        return b"".join(file.read_bytes() for file in sorted(place.path.parent.iterdir()))
    with store._database.reading() as connection:
        return repr([connection.execute(sa.select(table)).all() for table in tables.TABLES.sorted_tables]).encode()


def test_nothing_of_the_user_is_left_and_others_are_as_before(url: str, store: Store):
    store.append([event(f"user-{n % 5}", f"item-{n % 3}", n, key=f"key-{n % 5}-{n}") for n in range(500)])
    others = [e for e in store.since(0) if e.user != "user-3"]
    assert b"user-3" in everything(store)
    note = store.forget("user-3")
    left = everything(store)
    assert (left.count(b"user-3"), left.count(b"key-3-")) == (0, 0)
    assert (b"user-4" in left, b"key-4-" in left) == (True, True)
    assert list(store.since(0)) == others
    assert (list(store.history("user-3")), store.count_users()) == ([], 4)
    assert note.seq == store.last_seq() == 501
    with Store.open(url, FORM) as again:
        assert again.forgotten() == [note]


def long_and_short(draw: random.Random, users: list[str], bulk: int) -> list[NewEvent]:
    def key(n: int) -> str | None:
        return draw.choice([None, f"key-{bulk}-{n}-{draw.random()}"])

    items = ["i" * draw.choice([1, 10, 100, 900]) for _ in range(40)]
    return [event(draw.choice(users), item, draw.randrange(10**6), key=key(n)) for n, item in enumerate(items)]


def left_of_forgotten(folder: Path) -> int:
    """How many of 50 users leave a trace: ids of all lengths, so that SQLite moves rows between pages as tables grow."""
    draw, traces = random.Random(2), 0
    with Store.open(folder / "events.db", FORM) as store:
        users = [f"user-{n:03}-" + "x" * draw.choice([0, 5, 50, 300, 900]) for n in range(200)]
        for bulk in range(100):
            store.append(long_and_short(draw, users, bulk))
            if bulk >= 50:
                user = users.pop()
                ids = [user[:9], *(e.id for e in store.history(user) if e.id)]
                store.forget(user)
                content = everything(store)
                traces += any(one.encode() in content for one in ids)
    return traces


def test_no_byte_is_left_where_rows_were_moved_between_pages(tmp_path: Path):
    assert left_of_forgotten(tmp_path) == 0


def test_zeros_over_deleted_rows_alone_would_leave_some(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The reason for VACUUM: with ``secure_delete`` alone, copies stay where a page was rebuilt."""
    monkeypatch.setattr(sqlite, "erase", sqlite.truncate)
    assert left_of_forgotten(tmp_path) > 0


def test_the_note_tells_caches_who_went_and_nobody_else_anything(store: Store):
    store.append([event("a", "x", 1), event("b", "x", 1)])
    first, second = store.forget("a"), store.forget("b")
    assert store.forgotten() == [first, second]
    assert store.forgotten(since=first.seq) == [second]
    assert (first.mark, second.mark) == (store.mark("a"), store.mark("b"))
    assert store.mark(" a ") == store.mark("a")
    assert store.forgotten_among(["a", "c", "b", "d"]) == {"a", "b"}
    with store._database.reading() as connection:
        other = connection.execute(sa.select(tables.STORE.c.secret)).scalar_one()
    assert len(bytes.fromhex(other)) == 32  # without it the mark of a guessed id cannot be made


def test_two_stores_have_other_marks_for_one_user(tmp_path: Path):
    with Store.open(tmp_path / "one.db", FORM) as one, Store.open(tmp_path / "two.db", FORM) as two:
        assert one.mark("a") != two.mark("a")


def test_forgetting_again_gives_one_newer_note_and_an_unknown_user_is_noted_too(store: Store):
    store.append([event("a", "x", 1)])
    store.forget("a")
    again = store.forget("a")
    assert store.forgotten() == [again]
    assert store.forget("never there").seq == again.seq + 1


def test_numbers_are_never_given_twice(store: Store):
    """A follower that has seen the last number sees what comes after a user with that number is gone."""
    store.append([event("b", "x", 1), event("a", "x", 1)])
    assert store.forget("a").seq == 3
    assert store.append([event("c", "x", 1)]) == [Accepted(4, True)]
    assert [e.user for e in store.since(2)] == ["c"]


def test_a_user_who_acts_again_begins_anew_and_keys_are_free(store: Store):
    store.append([event("a", "x", 1, key="k")])
    store.forget("a")
    assert store.append([event("a", "y", 2, key="k")]) == [Accepted(3, True)]
    assert told(list(store.history("a"))) == [("a", "y", 4.0, 2)]


def test_an_import_does_not_bring_a_forgotten_user_back(url: str, tmp_path: Path):
    dataset = small_data(tmp_path / "data")
    with Store.open(url, Form.of(dataset.folder)) as store:
        all_there = store.import_data(dataset.folder).events
        store.forget("user-2")
        assert store.import_data(dataset.folder) == (0, all_there, 0)  # done already
        other = small_data(tmp_path / "more", users=9)  # a later export of the same shop, who was forgotten in it still
        done = store.import_data(other.folder)
        assert (done.forgotten, list(store.history("user-2"))) == (1, [])
        assert done.events > 0
        assert store.count_users() == 8


def test_a_reader_that_keeps_old_bytes_is_told_and_forgetting_goes_on_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite, "PATIENCE", 0.2)
    with Store.open(tmp_path / "events.db", FORM) as store:
        store.append([event("user-7", "x", 1), event("b", "x", 1)])
        with store._database.reading() as reader:
            reader.exec_driver_sql("BEGIN")
            assert len(reader.execute(sa.select(tables.EVENTS)).all()) == 2
            with pytest.raises(BusyError, match="another process reads the store"):
                store.forget("user-7")
            reader.exec_driver_sql("COMMIT")
        assert list(store.history("user-7")) == []
        store.forget("user-7")
        assert b"user-7" not in everything(store)
