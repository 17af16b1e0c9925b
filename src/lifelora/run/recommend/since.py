"""Events that a file tells of and that came after a run's own: put behind its log for as long as it is open. Knows no scorer."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event
from lifelora.data.rows import MAX_VALUE, Problems
from lifelora.errors import ConfigError, Problem
from lifelora.run.context import Context
from lifelora.run.recommend.told import read_table

OPTION = "--events"


def add_events(context: Context, path: Path) -> list[str]:
    """Put the events of a file behind the log, in which each user's go on; what a reader should know of them.

    The file has ``user``, ``item``, and as the data set has them ``rating`` (a number) and ``time`` (Unix seconds). What is no
    newer than the last event of its user is left out: so the file may be the whole log. Raises ConfigError for a missing column
    and DataError for what ``Dataset.extended`` does not take.
    """
    dataset = context.dataset
    numbers = [name for name, has in (("rating", dataset.has_ratings), ("time", dataset.has_times)) if has]
    table, unread = read_table(path, "user", OPTION, {"item": "id", **dict.fromkeys(numbers, "number")})
    missing = [name for name in ("item", *numbers) if name not in table.column_names]
    if missing:
        raise ConfigError(
            f"{OPTION} {path} lacks the column{'s' * (len(missing) > 1)} {' and '.join(missing)}, which the run's log has."
        )
    problems = Problems()
    values = {name: _numbers(table.column(name), name, path, problems) for name in numbers}
    problems.refuse()
    newer_N = _newer(dataset, table, values["time"]) if dataset.has_times else np.ones(len(table), np.bool_)
    users, items = (pc.utf8_trim_whitespace(table.column(name)).to_pylist() for name in ("user", "item"))
    events = [
        Event(users[row], items[row], *(float(values[name][row]) if name in values else None for name in ("rating", "time")))
        for row in np.flatnonzero(newer_N).tolist()
    ]
    before = len(dataset)
    context.extend(events)
    notes = [f"{path}: {len(context.dataset) - before:,} events came after those of the run."]
    if old := len(table) - len(events):
        notes.append(f"{path}: {old:,} events are no newer than the last one of their user in the run, and were left out.")
    return notes + ([f"{path}: columns that were not read: {', '.join(unread)}."] if unread else [])


def _newer(dataset: Dataset, table: pa.Table, time_N: np.ndarray) -> Bool[np.ndarray, "N"]:
    """Which events come after all that the run knows of their user."""
    user_N = dataset.users.known(table.column("user")).astype(np.int64)
    count_N = np.where(user_N < 0, 0, dataset.log.count(np.maximum(user_N, 0)))
    last_N = np.full(len(table), -np.inf)
    old = np.flatnonzero(count_N)
    last_N[old] = dataset.log.columns["time"][dataset.log.rows(user_N[old], count_N[old] - 1)]
    return np.asarray(np.floor(time_N) > last_N)


def _numbers(column: pa.ChunkedArray, name: str, path: Path, problems: Problems) -> np.ndarray:
    """A column of texts as numbers; what is none is a problem, by its line, or its row in a file without a header."""
    first, found = 1 if path.suffix == ".parquet" else 2, np.empty(len(column))
    for row, text in enumerate(column.to_pylist()):
        try:
            found[row] = float(text)
        except ValueError:
            found[row] = np.nan
        if not np.isfinite(found[row]):
            what = "Unix seconds are wanted" if name == "time" else "a number is wanted"
            problems.add(Problem(str(path), first + row, name, text[:MAX_VALUE], what))
    return found
