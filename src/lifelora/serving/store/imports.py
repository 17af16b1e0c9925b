"""The log of a prepared data set becomes the beginning of a store's history: all of it or nothing, and once. Knows no run.

Its events have no keys, so what the store has already (sent by clients, or from a data set of the same shop before) is not added
a second time. Users who were forgotten stay so.
"""

from collections.abc import Iterator
from itertools import count, islice, repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lifelora.artefacts import file_hash, key_of, read_json
from lifelora.data.idmap import IdMap
from lifelora.data.log import EVENT_COLUMNS, Log
from lifelora.errors import ArtefactError
from lifelora.serving.store.accept import accept, hold
from lifelora.serving.store.database import Database
from lifelora.serving.store.events import Form, Row, known_id
from lifelora.serving.store.forgetting import among
from lifelora.serving.store.sql import sa
from lifelora.serving.store.tables import EVENTS, IMPORTS

AT_ONCE = 20_000
"""Events that are in memory at one time."""


class Imported(NamedTuple):
    """What became of a data set."""

    events: int
    "New ones."
    there: int
    "Those that the store had."
    forgotten: int
    "Users who are left out, for they were forgotten."


def import_data(database: Database, secret: bytes, form: Form, folder: Path) -> Imported:
    """Add the events of a data set in one transaction.

    Raises ArtefactError for one that is not whole, of another shop, or whose events cannot be told from those that are there.
    """
    theirs = Form.of(folder)
    if (theirs.has_times, theirs.has_ratings) != (form.has_times, form.has_ratings):
        raise ArtefactError(f"{folder} is of another shop than this store: one has times or ratings, and the other has none.")
    try:
        log, users, items = Log.open(folder / "events"), *(IdMap.load(folder / f"{name}.parquet") for name in ("users", "items"))
        files = [folder / "users.parquet", folder / "items.parquet", *(folder / f"events/{name}.npy" for name in EVENT_COLUMNS)]
        digest, name = key_of([*map(file_hash, files), theirs.levels]), str(read_json(folder / "dataset.json")["name"])
    except OSError as error:
        raise ArtefactError(f"{folder} is no whole data set ({error}); `lifelora prepare` makes it again.") from error
    with database.writing() as connection:
        before = hold(connection)
        done = connection.execute(sa.select(IMPORTS)).all()
        if any(row.digest == digest for row in done):
            return Imported(0, len(log), 0)
        if done and not form.has_times:
            raise ArtefactError(
                f"this store has the data set '{done[0].name}' already, and without times the events of another one cannot be "
                "told from those that are there; import it into a new store."
            )
        user_U, item_M = ([known_id(one) for one in ids.outside(np.arange(len(ids)))] for ids in (users, items))
        left_out = among(connection, secret, user_U)
        new = there = 0
        for columns in _columns(log, user_U, item_M, theirs.levels, left_out):
            if not before:  # nothing can be there already
                numbered = zip(count(new + 1), *columns, repeat(None), strict=False)
                database.insert(connection, EVENTS, list(islice(numbered, len(columns[0]))))
                new += len(columns[0])
                continue
            (outcome,) = accept(database, connection, [list(map(Row, *columns))])
            assert isinstance(outcome, list), "without keys there is no conflict"
            added = sum(one.new for one in outcome)
            new, there = new + added, there + len(outcome) - added
        connection.execute(IMPORTS.insert(), {"digest": digest, "name": name, "events": new})
    database.settle()
    return Imported(new, there, len(left_out))


def _columns(
    log: Log, user_U: list[str], item_M: list[str], levels: tuple[float, ...], left_out: set[str]
) -> Iterator[tuple[list[str], list[str], list[float], list[int]]]:
    """Users, items, ratings and times of the log as it stands, by user and time, in pieces."""
    out_U = np.array([user in left_out for user in user_U], np.bool_)
    for start in range(0, len(log), AT_ONCE):
        piece = {name: column[slice(start, start + AT_ONCE)] for name, column in log.columns.items()}
        kept_N = ~out_U[piece["user"]]
        user_N, item_N, rating_N, time_N = (piece[name][kept_N].tolist() for name in ("user", "item", "rating", "time"))
        yield [user_U[u] for u in user_N], [item_M[i] for i in item_N], [levels[r] for r in rating_N], time_N
