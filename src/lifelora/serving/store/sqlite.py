"""SQLite's own part: a file that is a store, how it is opened, what its refusals mean, how bytes go. Knows no table.

WAL lets readers go on while one writes; ``synchronous=FULL`` flushes each commit to disk before it is acknowledged.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

from lifelora.errors import ArtefactError, BusyError, ConfigError, LifeloraError, StoreError
from lifelora.serving.store.place import Place
from lifelora.serving.store.sql import sa

MAGIC = b"SQLite format 3\0"
OURS = int.from_bytes(b"LfLR")
"""SQLite keeps in the head of a file whose it is."""
PATIENCE = 10.0
"""Seconds to wait for another process that writes."""
BEGIN = "BEGIN IMMEDIATE"
_each = sa.func.json_each(sa.bindparam("pairs")).table_valued("value")
PAIRS = sa.select(
    *(sa.func.json_extract(_each.c.value, f"$[{at}]").label(name) for at, name in enumerate(("user", "time")))
).subquery()
"""Users and times that are asked for: SQLite finds no index for ``(user, time) IN (…)``."""


def engine(place: Place, make: bool) -> sa.Engine:
    """For a store's file, which is made where there is none; with ``make`` off it is only read.

    Raises ConfigError for a file that cannot be, or that may not be written, ArtefactError for one that is no store.
    """
    path = place.path
    assert path is not None
    try:
        if not path.parent.is_dir():
            raise ConfigError(f"there is no folder '{path.parent}' for the store '{path.name}'; make it, or choose another path.")
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; a store is a file: name one in it, such as {path / 'events.db'}.")
        if not make and not (path.exists() and path.stat().st_size):
            raise place.absent()
        if make:  # only for its owner to read: it says what users did
            os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
        with path.open("rb") as stream:
            head = stream.read(100)
    except (OSError, ValueError) as error:
        if isinstance(error, LifeloraError):
            raise
        raise ConfigError(
            f"the store {path} cannot be {'written' if make else 'read'}: {getattr(error, 'strerror', None) or error}."
        ) from None
    if head and not (head[:16] == MAGIC and int.from_bytes(head[68:72]) == OURS):
        raise ArtefactError(f"{path} is no event store of lifelora; choose another path.")
    made = sa.create_engine(place.url, hide_parameters=True, isolation_level="AUTOCOMMIT", connect_args={"timeout": PATIENCE})
    sa.event.listen(made, "connect", lambda connection, _: _settings(connection, make, new=not head))
    return made


def _settings(connection: sqlite3.Connection, make: bool, new: bool) -> None:
    if not make:
        connection.execute("PRAGMA query_only = ON").close()
        return
    # The head is written before WAL is on: from then on it would stand in the write-ahead log at first.
    first = (f"application_id = {OURS}",) if new else ()
    for setting in (*first, "journal_mode = WAL", "synchronous = FULL", "secure_delete = ON", "cache_size = -16000"):
        connection.execute(f"PRAGMA {setting}").close()
    connection.execute("PRAGMA journal_size_limit = 67108864").close()


def as_pairs(pairs: Iterable[tuple[str, int]]) -> dict[str, Any]:
    """The parameter of ``PAIRS``."""
    return {"pairs": json.dumps(list(pairs))}


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]) -> None:
    """Rows of all columns of a table."""
    connection.exec_driver_sql(str(table.insert().compile(connection)), list(map(tuple, rows)))


def erase(connection: sa.Connection) -> None:
    """No byte of deleted rows is left in the file or its write-ahead log. Raises BusyError where a reader holds the log."""
    connection.exec_driver_sql("VACUUM")
    truncate(connection)


def truncate(connection: sa.Connection) -> None:
    """Everything of the write-ahead log moves to the file, and the log is empty."""
    busy = connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)").scalar_one()
    if busy:
        raise BusyError("another process reads the store, so that its write-ahead log cannot be emptied now; try again.")


def refused(place: Place, error: BaseException) -> LifeloraError:
    """What SQLite's error means to a user."""
    text = place.without_secrets(str(error))
    if "locked" in text:
        return BusyError(f"the store {place} is being written by another process for more than {PATIENCE:g} s; try again.")
    if "not a database" in text or "malformed" in text:
        return ArtefactError(f"the store {place} is damaged ({text}); move it away and restore a backup.")
    return StoreError(f"the store {place} cannot be read or written now: {text}.")
