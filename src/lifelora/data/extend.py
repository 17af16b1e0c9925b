"""What happened since a data set was prepared: events, items and users by outside ids, checked at the door and numbered.

Knows ids, texts and rules of the log, and no file. The checks are those of ``prepare``; what is new is that a log grows at its
end only.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lifelora import foreign
from lifelora.data.column import TIMES
from lifelora.data.faults import PUBLISHED
from lifelora.data.idmap import IdMap
from lifelora.data.interactions import Columns, checked_interactions
from lifelora.data.log import Log
from lifelora.data.repetitions import ids_once
from lifelora.data.rows import MAX_VALUE, Problems, Rows, is_list
from lifelora.data.ties import Ties, keys
from lifelora.data.times import TRUSTED
from lifelora.errors import Problem

Told = Mapping[str, str | Sequence[str]]
"""What is told of a user or an item: a text a field, or, of a field that may have several values, a list of texts."""
EVENTS = "events"
"""What stands for the file's name in a problem, and the number of the event for the line."""


@dataclass(frozen=True)
class Event:
    """A user did something with an item and perhaps rated it."""

    user: str
    item: str
    rating: int | float | None = None
    "Of kinds of events, the value of one; of counts, the number of a level. Not looked at where the data set has no ratings."
    time: int | float | None = None
    "Unix seconds, of which a fraction is cut; None, and not looked at, where the data set has no times."


def checked_events(
    events: Iterable[Event], levels: Sequence[float], has_times: bool, keep_from: float | None, has_ratings: bool = True
) -> pa.Table:
    """user, item, rating and perhaps time as ``RawTables`` has them; DataError lists all that is wrong with them."""
    problems, listed = Problems(), list(events)
    wanted: dict[str, tuple[type, ...]] = {"user": (str,), "item": (str,)} | ({"rating": (int, float)} if has_ratings else {})
    wanted |= {"time": (int, float)} if has_times else {}
    for number, event in enumerate(listed, start=1):
        for column, kinds in wanted.items():
            value = getattr(event, column, None)
            if not isinstance(value, (*kinds, *_numpy(kinds))) or isinstance(value, bool):
                what = "an id is a text" if str in kinds else f"a {column} is a number"
                problems.add(Problem(EVENTS, number, column, repr(value)[:MAX_VALUE], what))
            elif isinstance(value, str) and not foreign.is_written(value):
                problems.add(Problem(EVENTS, number, column, repr(value)[:MAX_VALUE], foreign.HALF))
    problems.refuse()
    texts = {column: pa.array([str(getattr(event, column)) for event in listed], pa.string()) for column in wanted}
    rows = Rows(EVENTS, pa.table(texts), np.arange(1, len(listed) + 1))
    columns = Columns(time="time" if has_times else None)
    checked = checked_interactions(rows, columns, None, problems, [], PUBLISHED, TRUSTED)
    problems.refuse()
    assert checked is not None, "no column is missing, and no event is left out"
    rows, table = checked
    if not has_ratings:  # all have the one level that there is
        return table.append_column("rating", pa.array(np.full(len(table), levels[0], np.float32)))
    rating_N, level_R = table.column("rating").to_numpy(), np.asarray(levels, np.float32)
    if keep_from is not None:
        kept_N = rating_N >= keep_from
        table, rows, rating_N = table.filter(pa.array(kept_N)), rows.where(kept_N), rating_N[kept_N]
    known = ", ".join(f"{level:g}" for level in levels)
    problems.add_rows(rows, "rating", ~np.isin(rating_N, level_R), f"this data set has no such rating; its ratings are {known}")
    problems.refuse()
    return table


def _numpy(kinds: tuple[type, ...]) -> tuple[type, ...]:
    return () if str in kinds else (np.integer, np.floating)


def with_new(what: str, ids: IdMap, table: pa.Table, told: Iterable[Told], seen: pa.ChunkedArray) -> tuple[IdMap, pa.Table]:
    """Ids and their table of texts with those that are new: told of in mappings, or only ``seen`` in an event.

    DataError lists keys that the table does not have, values of another kind, and ids that are known already.
    """
    problems, listed = Problems(), list(told)
    file = f"{what}s"
    for number, row in enumerate(listed, start=1):
        for key, value in ({what: None} | dict(row)).items():
            if key not in table.column_names:
                allowed = f"there is no such field in this data set; it has: {', '.join(table.column_names)}"
                problems.add(Problem(file, number, str(key), None, allowed))
            elif not isinstance(value, str) and not (is_list(table.column(key)) and _are_texts(value)):
                said = "an id is a text" if key == what else "this is no text"
                said += ", and no list of texts" if is_list(table.column(key)) else ""
                problems.add(Problem(file, number, key, repr(value)[:MAX_VALUE], said))
            elif not all(map(foreign.is_written, [value] if isinstance(value, str) else value or ())):
                problems.add(Problem(file, number, key, repr(value)[:MAX_VALUE], foreign.HALF))
    problems.refuse()
    names = [name for name in table.column_names if name != what]
    texts = pa.table(
        {name: _column([row.get(name, "") for row in listed], table.schema.field(name).type) for name in (what, *names)}
    )
    rows = Rows(file, texts, np.arange(1, len(listed) + 1))
    _, told_ids = ids_once(rows, what, rows.ids(what, problems), PUBLISHED, problems, [])
    known_N = np.array([one in ids for one in told_ids.to_pylist()], np.bool_)
    problems.add_rows(rows, what, known_N, f"this {what} is known already, and its texts stay; tell of new ones only")
    problems.refuse()
    bare = [one for one in pc.unique(seen).to_pylist() if one not in ids]
    new = IdMap.of([*told_ids.to_pylist(), *bare])
    if not len(new):
        return ids, table
    place = pc.index_in(pa.array(new.outside(np.arange(len(new)))), value_set=told_ids)
    made = {}
    for name in names:
        several = is_list(texts.column(name))
        values = rows.sets(name, None, []) if several else rows.text(name, [])
        made[name] = pc.fill_null(values.take(place), pa.scalar([] if several else "", values.type))
    more = pa.table({what: pa.array(new.outside(np.arange(len(new)))), **made}).select(table.column_names).cast(table.schema)
    return ids.extended(new), _longer(table, more)


def _longer(table: pa.Table, more: pa.Table) -> pa.Table:
    """The rows of both. Short pieces at the end are put together, as those of a column are: else each new user would be one."""
    if table.num_columns:
        start = len(table)
        for piece in reversed(table.column(0).chunks):
            if len(piece) > TIMES * (len(table) - start + len(more)):
                break
            start -= len(piece)
        table, more = table.slice(0, start), pa.concat_tables([table.slice(start), more]).combine_chunks()
    return pa.concat_tables([table, more])


def _are_texts(value: object) -> bool:
    return isinstance(value, list | tuple) and all(isinstance(one, str) for one in value)


def _column(values: Sequence[str | Sequence[str]], kind: pa.DataType) -> pa.Array:
    """Texts, or lists of texts, as a column of a kind: one text is a list of one."""
    if not is_list(pa.array([], kind)):
        return pa.array(values, pa.string())
    return pa.array([[value] if isinstance(value, str) else list(value) for value in values], pa.list_(pa.string()))


def numbered(
    table: pa.Table, log: Log, users: IdMap, items: IdMap, levels: Sequence[float], label_above: float, ties: Ties
) -> dict[str, np.ndarray]:
    """Checked events as columns of the log, each user's in order; DataError for one that does not come after what is there."""
    user_n, item_n = (ids.inside(table.column(name)).astype(np.int64) for ids, name in ((users, "user"), (items, "item")))
    rating_n = table.column("rating").to_numpy()
    if "time" in table.column_names:
        time_n = table.column("time").to_numpy()
        _after_the_last(table, log, user_n, item_n, time_n)
    else:
        time_n = len(log) + np.arange(len(table))
    tie_n = keys(ties, user_n, item_n, time_n, users, items)
    order = np.lexsort((rating_n, item_n, tie_n, time_n, user_n))
    columns = {
        "user": user_n,
        "item": item_n,
        "rating": np.searchsorted(np.asarray(levels, np.float32), rating_n),
        "label": rating_n > label_above,
        "time": time_n,
    }
    return {name: column[order] for name, column in columns.items()}


def _after_the_last(table: pa.Table, log: Log, user_n: np.ndarray, item_n: np.ndarray, time_n: np.ndarray) -> None:
    problems, rows = Problems(), Rows(EVENTS, table, np.arange(1, len(table) + 1))
    count_n = log.count(user_n)
    old = np.flatnonzero(count_n)
    last_n = np.full(len(table), np.iinfo(np.int64).min)
    last_n[old] = log.columns["time"][log.rows(user_n[old], count_n[old] - 1)]
    for number in np.flatnonzero(time_n < last_n)[:1000].tolist():
        what = f"before the last event of user '{rows.table.column('user')[number]}', at {last_n[number]}"
        problems.add(
            Problem(
                EVENTS,
                number + 1,
                "time",
                str(time_n[number]),
                f"{what}; a log grows at its end: prepare the data anew to put an event between others",
            )
        )
    for number in np.flatnonzero(time_n == last_n).tolist():
        rows_of = log.rows_of(int(user_n[number]))
        there = (log.columns["time"][rows_of] == time_n[number]) & (log.columns["item"][rows_of] == item_n[number])
        if there.any():
            item = str(table.column("item")[number])
            problems.add(Problem(EVENTS, number + 1, "item", item, "this event is in the log already"))
    problems.refuse()
