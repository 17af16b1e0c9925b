"""Delimited text and Parquet into ``Rows``: strings with the line each row began on. Knows no column's meaning.

Faults of form (encoding, number of fields, an open quote) are added to ``Problems``, and reading goes on. A line ends with a
line feed, a carriage return, or both.
"""

import codecs
import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from lifelora import foreign
from lifelora.data.encodings import as_utf8
from lifelora.data.header import ONE_SIGN, Header, found_header, with_one_sign, without_header
from lifelora.data.rows import MAX_VALUE, Problems, Rows
from lifelora.errors import DataError, Problem

BLOCK = 1 << 24
"""Bytes parsed at a time, and so the longest row."""
SIGNS = re.compile(rb"[\x1c-\x1f]")
"""What ``with_one_sign`` puts into a text while it reads it."""
QUOTE_BEHIND_BACKSLASH = re.compile(rb'\\["\\]?')
OPEN = "a quote is opened here and never closed"


def read_delimited(
    data: bytes,
    file: str,
    problems: Problems,
    *,
    columns: Sequence[str] | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    quoted: bool = True,
    escape: str | None = None,
    wanted: Collection[str] = (),
    notes: list[str] | None = None,
) -> Rows | None:
    """Rows of a delimited text, or None (with a problem) when there is nothing to read.

    ``columns`` names the columns of a text without a header. Without a ``delimiter``, which may be several characters, it is
    found (``header.DELIMITERS``). Only ``wanted`` columns are kept, or else all. A quote inside a quoted field is doubled, or,
    where there is an ``escape`` sign, may stand behind that. Without one, quotes behind backslashes are found (Spark and MySQL
    write them): where the whole text is sound when they are read so, it is read so, and ``notes`` say it.
    """
    data = as_utf8(data, file, encoding, problems)
    if not data.strip():
        problems.add_file(file, "the file is empty")
        return None
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    if columns is None:
        header = found_header(data, file, problems, delimiter, quoted, wanted)
    else:
        header = without_header(data, file, problems, delimiter, quoted, columns)
    if header is None:
        return None
    body = data[header.length :] if header.length else data
    if not body.strip():
        problems.add_file(file, "the file has a header and no rows")
        return None
    if len(header.delimiter) > 1 and (odd := SIGNS.search(body)):
        line = 1 + header.lines + body.count(b"\n", 0, odd.start())
        problems.add(Problem(file, line, None, None, f"a control character (0x{odd[0].hex()}) stands here; take it out"))
        return None
    form = Parsing(file, header, quoted, escape, tuple(wanted))
    if quoted and escape is None and b'\\"' in body:
        return _perhaps_escaped(body, form, problems, [] if notes is None else notes)
    return _parse(body, form, problems)


def first_names(
    data: bytes,
    file: str,
    problems: Problems,
    *,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    quoted: bool = True,
    wanted: Collection[str] = (),
) -> list[str]:
    """The names of columns at the beginning of a text; none, with a problem, where they cannot be read."""
    data = data.removeprefix(codecs.BOM_UTF8).decode(encoding, "replace").removeprefix("\ufeff").encode()
    if not data.strip():
        problems.add_file(file, "the file is empty")
        return []
    found = found_header(data, file, problems, delimiter, quoted, wanted)
    return found.names if found else []


@dataclass(frozen=True)
class Parsing:
    """How a text is parsed, but for its bytes."""

    file: str
    header: Header
    quoted: bool
    escape: str | None
    wanted: tuple[str, ...]


def _perhaps_escaped(body: bytes, form: Parsing, problems: Problems, notes: list[str]) -> Rows | None:
    """A text in which quotes stand behind backslashes: those may be the signs before quotes, or the ends of fields."""
    plain, escaped = Problems(), Problems()
    as_plain = _parse(body, form, plain)
    # What ends no field (its quote stands before neither delimiter, quote nor end of line) says that backslashes are signs.
    inside = re.search(rb'\\"(?!"|[\r\n]|' + re.escape(form.header.delimiter.encode()) + rb"|$)", body)
    if not plain.count and not inside:
        return as_plain
    # A backslash alone stays one: only quotes and backslashes are written with one before them.
    doubled = QUOTE_BEHIND_BACKSLASH.sub(lambda found: found[0] if len(found[0]) > 1 else b"\\\\", body)
    as_escaped = _parse(doubled, replace(form, escape="\\"), escaped)
    if not escaped.count:
        notes.append(f"{Path(form.file).name}: quotes inside of fields stand behind backslashes, and are read so.")
        return as_escaped
    if inside is not None:
        at = inside.start()
        shown = body[at : at + MAX_VALUE].partition(b"\n")[0].decode(errors="replace")
        line = 1 + form.header.lines + body.count(b"\n", 0, at)
        said = (
            "a quote stands behind a backslash, and the text is not sound when all such quotes are read as parts of a field; "
            "double the quotes inside of fields"
        )
        problems.add(Problem(form.file, line, None, shown, said))
    problems.add_all(plain)
    return as_plain


def _parse(body: bytes, form: Parsing, problems: Problems, *, whole: bool = False) -> Rows | None:
    file, names, delimiter, escape = form.file, form.header.names, form.header.delimiter, form.escape
    quoted = form.quoted and (b'"' in body or escape is not None)
    if len(delimiter) > 1:
        body = with_one_sign(body, delimiter, quoted, escape)
    kept = [name for name in names if not form.wanted or name in form.wanted]
    part = kept if not quoted and not whole and len(kept) < len(names) else []  # quoted fields may hold ends of lines: count all
    invalid: list[pacsv.InvalidRow] = []

    def skip(row: pacsv.InvalidRow) -> str:
        invalid.append(row)
        return "skip"

    try:
        table = pacsv.read_csv(
            pa.BufferReader(body.rstrip(b"\r\n") if part else body),
            # One thread, so that invalid rows come with their number.
            read_options=pacsv.ReadOptions(use_threads=False, column_names=names, block_size=BLOCK),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter if len(delimiter) == 1 else ONE_SIGN,
                quote_char='"' if quoted else False,
                escape_char=escape or False,
                newlines_in_values=quoted,
                ignore_empty_lines=False,
                invalid_row_handler=skip,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                include_columns=part,
                strings_can_be_null=False,
                check_utf8=False,
            ),
        )
    except foreign.DAMAGED as error:
        reason = str(error).partition("\n")[0]
        what = f"this cannot be read as delimited text ({reason}); look for a quote that is never closed"
        problems.add_file(file, what)
        return None

    blank = np.ones(len(table), np.bool_)
    for column in table.columns:  # an empty line is not an event
        blank &= pc.equal(column, "").to_numpy()
        if not blank.any():
            break
    if part and blank.any():  # perhaps what nobody wants is filled: look at all columns
        return _parse(body, form, problems, whole=True)

    skipped = np.array([row.number - 1 for row in invalid], np.int64)
    length_R = np.ones(len(table) + len(invalid), np.int64)  # lines that each record takes, invalid ones too
    valid_R = np.ones(len(length_R), np.bool_)
    valid_R[skipped] = False
    if quoted:
        for column in table.columns:
            length_R[valid_R] += pc.count_substring(column, "\n").to_numpy()
        length_R[skipped] += np.array([row.text.count("\n") for row in invalid], np.int64)
    line_R = 1 + form.header.lines + np.cumsum(length_R) - length_R

    shown = [
        Problem(file, int(line_R[row.number - 1]), None, _shown(row.text, delimiter), _fields_fault(row, quoted, delimiter))
        for row in invalid[: DataError.SHOWN]
    ]
    if shown:
        problems.add_kind(shown, len(invalid))
    quotes = body.count(b'"') - (body.count(f'{escape}"'.encode()) if escape else 0) if quoted else 0
    if len(table) and quotes % 2 and length_R[-1] > 1 and valid_R[-1]:
        problems.add(Problem(file, int(line_R[-1]), None, None, OPEN))
    line_N = line_R[valid_R]
    if blank.any():
        table, line_N = table.filter(pa.array(~blank)), line_N[~blank]
        if not len(table) and not invalid:
            problems.add_file(file, "the file has no rows, only blank ones")
    table = table.select(kept)
    if len(delimiter) > 1:  # what stood behind an escape sign is no delimiter
        table = pa.table([pc.replace_substring(column, ONE_SIGN, delimiter) for column in table.columns], names=kept)
    rows = Rows.of(file, table, line_N, problems)
    return rows and rows.beside_unread(names)


def _shown(text: str, delimiter: str) -> str:
    return text.replace(ONE_SIGN, delimiter)[:MAX_VALUE] if len(delimiter) > 1 else text[:MAX_VALUE]


def _fields_fault(row: pacsv.InvalidRow, quoted: bool, delimiter: str) -> str:
    if quoted and "\n" in row.text and row.text.count('"') % 2:
        return OPEN
    return f"{row.actual_columns} field(s) where {row.expected_columns} are due (separated by {delimiter!r})"
