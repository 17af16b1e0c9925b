"""Columns of Arrow's types into ``Rows`` of text, as Parquet and frames have them. Knows no format and no kind of frame."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from lifelora import foreign
from lifelora.data.rows import Meaning, Problems, Rows
from lifelora.data.values import as_text
from lifelora.errors import DataError, Problem


def typed_rows(
    columns: Mapping[str, pa.ChunkedArray],
    there: Sequence[str],
    file: str,
    first: int,
    problems: Problems,
    wanted: Mapping[str, Meaning],
    notes: list[str] | None = None,
) -> Rows | None:
    """Rows of typed ``columns``, numbered from ``first``; None, with problems, where they cannot be read as what is ``wanted``.

    ``there`` are the names of all columns that the file has. Texts and fields may be lists, and what is not wanted is read like
    a field. ``notes`` say which ids were floats, as pandas makes of whole numbers where one is missing.
    """
    if not columns:
        return Rows(file, pa.table({}), np.empty(0, np.int64), tuple(there))
    n = len(next(iter(columns.values())))
    if not n:
        problems.add_file(file, "it has columns and no rows")
        return None
    texts, before = dict[str, pa.ChunkedArray](), problems.count
    for name, column in columns.items():
        meaning = wanted.get(name, "field")
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
    rows = Rows.of(file, pa.table(texts), np.arange(first, first + n), problems)
    return rows and rows.beside_unread(there)


def called_by_row(error: DataError) -> DataError:
    """The same problems of a frame, whose rows are called as in ``interactions[7]``."""
    placed = [p if p.line is None else replace(p, file=f"{p.file}[{p.line}]", line=None) for p in error.problems]
    return DataError(placed, error.count)
