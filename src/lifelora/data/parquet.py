"""Parquet into ``Rows``: the columns that are wanted, as text. Knows what kind of value each holds, and no more."""

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa

from lifelora import foreign
from lifelora.data.rows import Meaning, Problems, Rows
from lifelora.data.typed import typed_rows
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
        table = foreign.parquet(source, names) if names else pa.table({})
    except foreign.Unreadable as error:
        problems.add_file(file, f"this cannot be read as a Parquet table ({error})")
        return None
    return typed_rows({name: table.column(name) for name in names}, there, file, 1, problems, wanted or {}, notes)
