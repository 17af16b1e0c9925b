"""The one door from files to ``Rows``, whatever their format: delimited text, Parquet, JSON; plain or packed; one or many."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lifelora import foreign
from lifelora.data.delimited import first_names, read_delimited
from lifelora.data.encodings import as_utf8
from lifelora.data.jsonlines import first_keys, read_json_array, read_json_lines
from lifelora.data.parquet import read_parquet
from lifelora.data.rows import Meaning, Problems, Rows, mask
from lifelora.data.written import Located
from lifelora.errors import Problem

FORMATS: dict[str, Literal["parquet", "json"]] = {
    ".parquet": "parquet",
    ".pq": "parquet",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
}
"""By their endings; all others are delimited text."""
PARQUET = b"PAR1"
START = (1 << 16) + 1
"""Bytes by which the format is told, and the columns: more than a header may have."""


def read(files: Sequence[Located], wanted: Mapping[str, Meaning], problems: Problems, notes: list[str]) -> Rows | None:
    """The wanted columns of a table in one or several files, in their order; None (with problems) where nothing can be read.

    A wanted column that no file has is absent; one that some lack is a problem.
    """
    tables = [rows for one in files if (rows := _read(one, wanted, problems, notes)) is not None]
    return _joined(tables, problems) if tables else None


def names(file: Located, wanted: Collection[str], problems: Problems) -> list[str]:
    """The names of a file's columns, or the keys of the first objects of JSON; none, with a problem, where there are none.

    The ``wanted`` ones help to find the delimiter.
    """
    form, place = file.form, str(file.path)
    if form.names:
        return list(form.names)
    try:
        start, name = file.opened.start(START)
        match _format(file, name, start):
            case "parquet":
                return foreign.parquet_columns(file.opened.content())
            case "json":
                return first_keys(file.opened.content() if _is_array(start) else file.opened.start(1 << 20)[0], place, problems)
            case _:
                encoding, quoted = form.encoding or "utf-8", form.quoted is not False
                return first_names(
                    start, place, problems, delimiter=_delimiter(file), encoding=encoding, quoted=quoted, wanted=wanted
                )
    except foreign.Unreadable as error:
        problems.add_file(place, f"this cannot be read ({error})")
        return []


def _read(one: Located, wanted: Mapping[str, Meaning], problems: Problems, notes: list[str]) -> Rows | None:
    form, file = one.form, str(one.path)
    encoding = form.encoding or "utf-8"
    try:
        start, name = one.opened.start(START)
        match _format(one, name, start):
            case "parquet":
                rows = read_parquet(one.opened.content(), file, problems, wanted, notes)
            case "json":
                paths = {
                    name: (form.paths or {}).get(name) or f"/{name.replace('~', '~0').replace('/', '~1')}" for name in wanted
                }
                if _is_array(start):
                    data = as_utf8(one.opened.content(), file, encoding, problems)
                    rows = read_json_array(data, file, problems, paths, notes, wanted)
                elif encoding != "utf-8":
                    stream = BytesIO(as_utf8(one.opened.content(), file, encoding, problems))
                    rows = read_json_lines(stream, file, problems, paths, notes, meant=wanted)
                else:
                    with one.opened.stream() as (packed, _):
                        rows = read_json_lines(packed, file, problems, paths, notes, one.opened.size(), wanted)
            case _:
                rows = read_delimited(
                    one.opened.content(),
                    file,
                    problems,
                    columns=form.names,
                    delimiter=_delimiter(one),
                    encoding=encoding,
                    quoted=form.quoted is not False,
                    escape=form.escape,
                    wanted=wanted,
                    notes=notes,
                )
    except foreign.Unreadable as error:
        problems.add_file(file, f"this cannot be read ({error})")
        return None
    return _with_points(rows, wanted, problems) if rows is not None and form.decimal == "," else rows


def _format(one: Located, name: str, start: bytes) -> Literal["parquet", "json", "delimited"]:
    said = f".{one.form.format}" if one.form.format else name[name.rfind(".") :].lower() if "." in name else ""
    if said not in FORMATS and not one.form.format and start.startswith(PARQUET):
        return "parquet"
    return FORMATS.get(said, "delimited")


def _delimiter(one: Located) -> str | None:
    return one.form.delimiter or ("\t" if one.form.format == "tsv" else None)


def _is_array(start: bytes) -> bool:
    return start.lstrip(b"\xef\xbb\xbf\xff\xfe\0 \t\r\n").startswith(b"[")


def _with_points(rows: Rows, wanted: Mapping[str, Meaning], problems: Problems) -> Rows:
    """Numbers with a decimal comma as those with a point; one with a point says that not all are written so."""
    made = {}
    for name in (name for name in rows.table.column_names if wanted[name] == "number"):
        column = rows.table.column(name)
        pointed_N = mask(pc.match_substring(column, "."))
        what = "a point in a number where decimal = ',' says that commas stand before fractions; write all numbers in one way"
        problems.add_rows(rows, name, pointed_N, what)
        made[name] = pc.replace_substring(column, ",", ".")
    return rows.with_columns(**made) if made else rows


def _joined(tables: Sequence[Rows], problems: Problems) -> Rows | None:
    """The rows of several files of one table, each with its file and line."""
    first = tables[0]
    if len(tables) == 1:
        return first
    columns, alike = first.table.column_names, True
    for other in tables[1:]:
        for name in sorted({*columns} ^ {*other.table.column_names}):
            here, there = (other, first) if name in columns else (first, other)
            problems.add(
                Problem(
                    here.file, 1, name, None, f"there is no such column, and '{there.file}' has it; files of one table are alike"
                )
            )
            alike = False
        for name in (name for name in columns if name in other.table.column_names):
            if first.table.schema.field(name).type != other.table.schema.field(name).type:
                problems.add(
                    Problem(other.file, None, name, None, f"one value here and lists in '{first.file}', or the other way round")
                )
                alike = False
    if not alike:
        return None
    table = pa.concat_tables([rows.table.select(columns) for rows in tables])
    said = f"{first.file} and {len(tables) - 1:,} more"
    rows = Rows.of(said, table, np.concatenate([rows.line_N for rows in tables]), problems)
    file_N = np.repeat(np.arange(len(tables), dtype=np.int32), [len(rows) for rows in tables])
    return rows and replace(rows, unread=first.unread, files=tuple(rows.file for rows in tables), file_N=file_N)
