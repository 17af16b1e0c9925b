"""Histories, what is new, who is there: each against a plain sort of the events that were sent."""

import random

import pytest
import sqlalchemy as sa
from store_world import FORM, event, told

from lifelora.serving.store import Store, reading


@pytest.fixture
def shuffled(store: Store) -> list[tuple[str, str, float, int]]:
    """Events of three users that come in any order, many in one second."""
    draw = random.Random(0)
    events = [event(f"u{n % 3}", f"i{n}", draw.randrange(20)) for n in range(120)]
    draw.shuffle(events)
    for start in range(0, 120, 40):
        store.append(events[start : start + 40])
    return [(e.user, e.item, e.rating, int(e.time or 0)) for e in events]


def in_order(events: list[tuple[str, str, float, int]], user: str) -> list[tuple[str, str, float, int]]:
    return sorted((e for e in events if e[0] == user), key=lambda e: e[3])  # stable: ties as they came


def test_a_history_stands_by_time_and_then_by_acceptance(
    store: Store, shuffled: list[tuple[str, str, float, int]], monkeypatch: pytest.MonkeyPatch
):
    for page in (reading.PAGE, 7):  # pages end within a second, too
        monkeypatch.setattr(reading, "PAGE", page)
        for user in ("u0", "u1", "u2"):
            assert told(list(store.history(user))) == in_order(shuffled, user)
            assert told(list(store.history(user, before=11))) == [e for e in in_order(shuffled, user) if e[3] < 11]
        assert told(list(store.since(0))) == shuffled
        assert list(store.users()) == ["u0", "u1", "u2"]
    assert list(store.history("nobody")) == []


def test_the_last_events_before_a_time(store: Store, shuffled: list[tuple[str, str, float, int]]):
    mine = in_order(shuffled, "u1")
    assert told(store.last("u1", 6)) == mine[-6:]
    assert told(store.last("u1", 1000)) == mine
    before = [e for e in mine if e[3] < 11]
    assert 6 < len(before) < len(mine)
    assert told(store.last("u1", 6, before=11)) == before[-6:]
    assert store.last("u1", 6, before=0) == []


def test_a_late_event_stands_where_its_time_says_and_is_news_when_it_comes(store: Store):
    store.append([event("a", "x", 10), event("a", "z", 30)])
    store.append([event("a", "y", 20)])
    assert [e.item for e in store.history("a")] == ["x", "y", "z"]
    assert [e.item for e in store.since(2)] == ["y"]


def test_users_are_counted_and_come_by_their_bytes(store: Store):
    """Whatever language PostgreSQL's database has."""
    names = ["b", "B", "a b", "ab", "Ä", "10", "9"]
    store.append([event(name, "x", 1) for name in names] + [event("b", "y", 2)])
    assert store.count_users() == 7
    assert list(store.users()) == sorted(names)


def test_nothing_but_a_page_is_asked_for_at_a_time(store: Store, monkeypatch: pytest.MonkeyPatch):
    store.append([event("a", f"i{n}", n) for n in range(100)])
    monkeypatch.setattr(reading, "PAGE", 10)
    news, asked = store.since(0), []
    real = reading.Database.reading
    monkeypatch.setattr(reading.Database, "reading", lambda self: asked.append(1) or real(self))
    assert [next(news).seq for _ in range(11)] == list(range(1, 12))
    assert len(asked) == 2


def test_no_question_reads_the_whole_table(tmp_path):
    """SQLite says of each statement of an append and of reads how it would find its rows."""
    statements: list[tuple[str, object]] = []
    with Store.open(tmp_path / "events.db", FORM) as store:
        engine = store._database._engine
        sa.event.listen(engine, "before_cursor_execute", lambda c, cursor, text, values, *_: statements.append((text, values)))
        store.append([event("a", "x", 1, key="k"), event("b", "x", 1)])
        assert [len(list(store.history("a"))), len(store.last("a", 3)), len(list(store.since(0))), store.last_seq()] == [
            1,
            1,
            2,
            2,
        ]
        questions = [one for one in statements if one[0].startswith("SELECT")]
        assert len(questions) == 7
        with store._database.reading() as connection:
            for text, values in questions:
                plan = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {text}", values).all()
                assert not any(step.detail.startswith("SCAN lifelora_events") for step in plan), (text, plan)
