"""The data of the next run: a prepared data set and what a store has beside it, as files that ``tables:`` reads. Knows no run.

Forgotten users are left out: of the data set with their profiles, and of the store all but a later life. Of two events of one
user, item and time the first stays, as in a log that answers; two kinds of events both stay, as where the next run reads them.
Without times the first of one user, item and rating stays.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lifelora.data.dataset import Dataset
from lifelora.data.rows import is_list
from lifelora.data.sources.tables import Tables
from lifelora.serving.store.events import SECONDS_BEGIN
from lifelora.serving.store.items import KeptItem
from lifelora.serving.store.store import Store


class Exported(NamedTuple):
    """What was written."""

    toml: Path
    "Of the source: ``tables:FOLDER/tables.toml``."
    events: int
    new: int
    "Of these, which the data set lacks."
    items: int
    "New ones."
    forgotten: int
    "Users who are left out."
    unnamed: int
    "Events of the store with a level that the data set has no name for (rated below ``data.rules.keep_from``); left out."


def export(store: Store, data: str | Path, out: str | Path) -> Exported:
    """Write a data set and what came since into a folder, which is new or of an earlier export.

    Raises ArtefactError for a folder with other files, and DataError where events are not as tables have them.
    """
    dataset = Dataset(data)
    while True:
        before = store.last_seq()
        made = _written(store, dataset, Path(out))
        if not store.forgotten(since=before):  # else the files may hold a user who was forgotten meanwhile
            return made


def _written(store: Store, dataset: Dataset, out: Path) -> Exported:
    profiled, new_items = dataset.profiles.column("user"), list(_new_items(store, dataset))
    user_U = dataset.users.outside(np.arange(dataset.n_users))
    gone = store.forgotten_among({*user_U, *profiled.to_pylist()})
    key = ["user", "item", *(["time"] if dataset.has_times else ["rating"]), "event"]
    ours = _first_of_each(_of_data(dataset, pa.array(user_U, pa.string()), gone), key)
    named = {level: name for level, name in dataset.level_names.items() if name}
    theirs, unnamed = _of_store(store, dataset, named)
    log = _first_of_each(pa.concat_tables([ours, theirs]), key)
    if not dataset.has_times:
        log = log.drop_columns("time")
    fields, catalogue = ("item", "title", "description"), dataset.catalogue
    layout: dict[str, Any] = {
        "columns": {name: name for name in log.column_names},
        "item_fields": [name for name in catalogue.column_names if name not in fields],
        "user_fields": list(dataset.user_field_names),
        "words": {key: word for key, word in dataset.words.model_dump().items() if word},
        "unknown_items": "drop",
        "without_title": "id",  # an item may be told of by its id alone
        "early_times": "allow",
    }
    layout |= {"events": {name: level for level, name in named.items()}} if named else {}
    toml = out / "tables.toml"
    Tables.from_frames(
        out,
        log,
        pa.concat_tables([catalogue, pa.Table.from_pylist(new_items, catalogue.schema)]),
        dataset.profiles.filter(pc.invert(pc.is_in(profiled, pa.array(gone, pa.string())))),
        **layout,
    )
    return Exported(toml, len(log), len(log) - len(ours), len(new_items), len(gone), unnamed)


def _of_data(dataset: Dataset, user_U: pa.Array, gone: set[str]) -> pa.Table:
    """The log as it stands, by user and time."""
    columns, level_R = dataset.log.columns, np.asarray(dataset.rating_levels, np.float64)
    items = pa.array(dataset.items.outside(np.arange(dataset.n_items)), pa.string())
    table = {"user": user_U.take(pa.array(columns["user"])), "item": items.take(pa.array(columns["item"]))}
    if any(dataset.level_names.values()):
        table["event"] = pa.array([dataset.level_names[level] for level in dataset.rating_levels]).take(
            pa.array(columns["rating"])
        )
    elif dataset.has_ratings:
        table["rating"] = pa.array(level_R[columns["rating"]])
    made = pa.table(table | {"time": pa.array(columns["time"], pa.int64())})
    return made.filter(pc.invert(pc.is_in(made.column("user"), pa.array(gone, pa.string()))))


def _of_store(store: Store, dataset: Dataset, named: dict[float, str]) -> tuple[pa.Table, int]:
    """The store's events in the order in which they came, and how many have no name."""
    rows, unnamed, name_of = list[dict[str, Any]](), 0, {float(np.float32(level)): name for level, name in named.items()}
    for one in store.since(0):
        if not dataset.has_times and one.id is None and one.time < SECONDS_BEGIN:  # imported, so of the data set
            continue
        if name_of and one.rating not in name_of:
            unnamed += 1
            continue
        told = {"event": name_of[one.rating]} if name_of else {"rating": one.rating} if dataset.has_ratings else {}
        rows.append({"user": one.user, "item": one.item, **told, "time": one.time})
    level = {"event": pa.string()} if named else {"rating": pa.float64()} if dataset.has_ratings else {}
    schema = {"user": pa.string(), "item": pa.string(), **level, "time": pa.int64()}
    return pa.Table.from_pylist(rows, pa.schema(schema)), unnamed


def _first_of_each(log: pa.Table, key: Sequence[str]) -> pa.Table:
    """Of the rows that are one for ``prepare`` (``repetitions``) the first; the log need not have all columns of the key."""
    numbered = log.append_column("row", pa.array(np.arange(len(log))))
    there = [name for name in key if name in log.column_names]
    first = numbered.group_by(there).aggregate([("row", "min")]).column("row_min")
    return log.take(pa.array(np.sort(first.to_numpy())))


def _new_items(store: Store, dataset: Dataset) -> Iterator[dict[str, Any]]:
    """Rows of the catalogue of items that were told of and that it lacks."""
    for kept in store.items():
        if kept.item not in dataset.items:
            yield {"item": kept.item, **{name: _texts(dataset, kept, name) for name in dataset.catalogue.column_names[1:]}}


def _texts(dataset: Dataset, kept: KeptItem, name: str) -> str | list[str]:
    """What was told of an item, in the form of a column of the catalogue: another run's may have had another."""
    value = kept.texts.get(name, "")
    if not is_list(dataset.catalogue.column(name)):
        return value if isinstance(value, str) else ", ".join(value)
    return [value] * bool(value) if isinstance(value, str) else value
