"""Parquet into ``Rows``: the columns that are wanted, as text. Knows what kind of value each holds, and no more."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa

from lifelora import foreign
from lifelora.data.rows import Meaning, Problems, Rows
from lifelora.data.values import as_text
from lifelora.errors import Problem


def read_parquet(
    source: Path | bytes,
    file: str,
    problems: Problems,
    wanted: Mapping[str, Meaning] | None = None,
    notes: list[str] | None = None,
) -> Rows | None:
    """Rows of a Parquet file, every value as text; 'lines' are rows from 1. None, with a problem, where there is nothing to read.

    Only ``wanted`` columns are read (all of them by default), so one that nobody wants may hold anything. Texts and fields may
    be lists. ``notes`` say which ids were floats, as pandas makes of whole numbers where one is missing.
    """
    try:
        there = foreign.parquet_columns(source)
        names = [name for name in there if wanted is None or name in wanted]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            problems.add(Problem(file, None, twice[0], None, "two columns have this name; rename one"))
            return None
        if there and not names:
            return Rows(file, pa.table({}), np.empty(0, np.int64), tuple(there))
        table = foreign.parquet(source, names)
    except foreign.Unreadable as error:
        problems.add_file(file, f"this cannot be read as a Parquet table ({error})")
        return None
    if not len(table):
        problems.add_file(file, "the file has columns and no rows")
        return None
    texts, before = dict[str, pa.ChunkedArray](), problems.count
    for name in names:
        column, meaning = table.column(name), (wanted or {}).get(name, "field")
        try:
            texts[name] = as_text(column)
        except foreign.DAMAGED:  # structs, maps, lists of these, and bytes that are no text
            what = f"it holds {column.type}; write texts, numbers or times, or lists of these"
            problems.add(Problem(file, None, name, None, what))
            continue
        if meaning not in ("text", "field") and pa.types.is_list(texts[name].type):
            problems.add(Problem(file, None, name, None, "it holds lists; write one value a row"))
        if meaning == "id" and pa.types.is_floating(column.type) and notes is not None:
            said = f"{Path(file).name}: the ids of '{name}' are floats, as pandas makes where one is missing"
            notes.append(f"{said}; whole ones are read without their '.0'.")
    if problems.count > before:
        return None
    rows = Rows.of(file, pa.table(texts), np.arange(1, len(table) + 1), problems)
    return rows and rows.beside_unread(there)
