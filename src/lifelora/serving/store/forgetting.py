"""A user is forgotten: every row of theirs goes, and a note stays that tells no id. Knows no cache.

The note is a sequence number and a *mark*: a hash of the id, keyed by the store's own secret. By it caches drop the user, and a
data set that is imported again does not bring them back. The mark alone tells no id. A reader who has the store can ask it
whether an id that is known or guessed was forgotten.
"""

import hashlib
from collections.abc import Iterable
from typing import NamedTuple

from lifelora.serving.store.accept import hold
from lifelora.serving.store.database import Database
from lifelora.serving.store.sql import answers, sa
from lifelora.serving.store.tables import EVENTS, FORGOTTEN

_notes = sa.select(FORGOTTEN).where(FORGOTTEN.c.seq > sa.bindparam("since")).order_by(FORGOTTEN.c.seq)
_there = sa.select(FORGOTTEN.c.mark).where(FORGOTTEN.c.mark.in_(sa.bindparam("values", expanding=True)))
_any = sa.select(FORGOTTEN.c.seq).limit(1)


class Forgotten(NamedTuple):
    """That a user was forgotten: events with larger numbers are of a later life."""

    seq: int
    mark: str


def mark(secret: bytes, user: str) -> str:
    """The one of a user."""
    return hashlib.blake2b(user.encode(), key=secret, digest_size=16).hexdigest()


def forget(database: Database, secret: bytes, user: str) -> Forgotten:
    """Delete a user's events and keys, in one transaction with the note, and then what SQLite's files still hold of them."""
    with database.writing() as connection:
        note = Forgotten(hold(connection) + 1, mark(secret, user))
        connection.execute(EVENTS.delete().where(EVENTS.c.user == user))
        connection.execute(FORGOTTEN.delete().where(FORGOTTEN.c.mark == note.mark))
        connection.execute(FORGOTTEN.insert(), note._asdict())
    database.erase()
    return note


def notes(database: Database, since: int) -> list[Forgotten]:
    """Those after a sequence number, in order."""
    with database.reading() as connection:
        return [Forgotten(*row) for row in connection.execute(_notes, {"since": since})]


def among(connection: sa.Connection, secret: bytes, users: Iterable[str]) -> set[str]:
    """Which of these users were forgotten."""
    if connection.execute(_any).first() is None:
        return set()
    marks = {mark(secret, user): user for user in users}
    return {marks[row.mark] for row in answers(connection, _there, marks)}
