"""What a store is asked: histories, what is new, who is there. Knows nothing of writing.

A history stands by time, and events of one second by sequence number, the order in which they were accepted. Long answers come
page by page, each a question of its own, so that no reader holds the database or much memory.
"""

from collections.abc import Iterator
from typing import Any

from lifelora.serving.store.database import Database
from lifelora.serving.store.events import Kept
from lifelora.serving.store.sql import sa
from lifelora.serving.store.tables import EVENTS, FORGOTTEN

PAGE = 5_000
"""Rows of one question."""
END = 2**62
"""After all times."""
_user, _time, _seq = EVENTS.c.user, EVENTS.c.time, EVENTS.c.seq
_of_user = sa.select(EVENTS).where(_user == sa.bindparam("user"), _time < sa.bindparam("before"))
_last = _of_user.order_by(_time.desc(), _seq.desc()).limit(sa.bindparam("count"))
_place = sa.tuple_(sa.bindparam("time"), sa.bindparam("seq"))
_history = _of_user.where(sa.tuple_(_time, _seq) > _place).order_by(_time, _seq).limit(sa.bindparam("page"))
_since = sa.select(EVENTS).where(_seq > sa.bindparam("seq")).order_by(_seq).limit(sa.bindparam("page"))
_newest = sa.select(*(sa.select(sa.func.max(table.c.seq)).scalar_subquery() for table in (EVENTS, FORGOTTEN)))
_users = sa.select(_user).where(_user > sa.bindparam("user")).distinct().order_by(_user).limit(sa.bindparam("page"))
_count = sa.select(sa.func.count()).select_from(sa.select(_user).distinct().subquery())


def last(database: Database, user: str, count: int, before: int | None) -> list[Kept]:
    """The last events of a user before a time, oldest first."""
    asked = {"user": user, "count": count, "before": END if before is None else before}
    with database.reading() as connection:
        return [Kept._make(row) for row in reversed(connection.execute(_last, asked).all())]


def history(database: Database, user: str, before: int | None) -> Iterator[Kept]:
    """All of them."""
    asked = {"user": user, "before": END if before is None else before, "time": -END, "seq": 0}
    return map(Kept._make, _pages(database, _history, asked, "time", "seq"))


def since(database: Database, seq: int) -> Iterator[Kept]:
    """Events after a sequence number, in the order of acceptance."""
    return map(Kept._make, _pages(database, _since, {"seq": seq}, "seq"))


def users(database: Database) -> Iterator[str]:
    """Users that have events, in the order of their ids' bytes."""
    return (row.user for row in _pages(database, _users, {"user": ""}, "user"))


def count_users(database: Database) -> int:
    """How many there are."""
    with database.reading() as connection:
        return int(connection.execute(_count).scalar_one())


def last_seq(database: Database) -> int:
    """The largest sequence number that was given."""
    with database.reading() as connection:
        return newest(connection)


def newest(connection: sa.Connection) -> int:
    """The same, in a transaction. A forgotten user's note has a larger number than their events had, so it never goes back."""
    return max(seq or 0 for seq in connection.execute(_newest).one())


def _pages(database: Database, question: sa.Select[Any], asked: dict[str, Any], *place: str) -> Iterator[sa.Row[Any]]:
    """Rows of a question that begins after a place, page by page."""
    while True:
        with database.reading() as connection:
            rows = connection.execute(question, {**asked, "page": PAGE}).all()
        yield from rows
        if len(rows) < PAGE:
            return
        asked = asked | {name: getattr(rows[-1], name) for name in place}
