"""Delimited text and Parquet into ``Rows``: strings with the line each row began on. Knows no column's meaning.

Faults of form (encoding, number of fields, an open quote) are added to ``Problems``, and reading goes on. A line ends with a
line feed, a carriage return, or both.
"""

import codecs
import csv
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from lifelora import foreign
from lifelora.data.encodings import as_utf8
from lifelora.data.rows import MAX_VALUE, Problems, Rows
from lifelora.errors import DataError, Problem

DELIMITERS = ",;\t|"
BLOCK = 1 << 24
"""Bytes parsed at a time, and so the longest row."""
MAX_HEADER = 1 << 16
"""Bytes of the longest header: what is longer has a quote that is never closed, or is none."""
UNIT_SEPARATOR = b"\x1f"
LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|$)")
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
    wanted: Sequence[str] = (),
    notes: list[str] | None = None,
) -> Rows | None:
    """Rows of a delimited text, or None (with a problem) when there is nothing to read.

    ``columns`` names the columns of a text without a header. Without a ``delimiter``, the one of comma, semicolon, tab
    and bar is taken under which the header holds most of the ``wanted`` columns, then most columns. A delimiter of
    several characters is allowed where nothing is quoted. A quote inside a quoted field is doubled, or, where there is
    an ``escape`` sign, may stand behind that. Without one, quotes behind backslashes are found (Spark and MySQL write
    them): where the whole text is sound when they are read so, it is read so, and ``notes`` say it.
    """
    data = as_utf8(data, file, encoding, problems)
    if not data.strip():
        problems.add_file(file, "the file is empty")
        return None
    if b"\n" not in data:
        data = data.replace(b"\r", b"\n")
    header_bytes = header_lines = 0
    if columns is None:
        found = _found_header(data, file, delimiter, wanted, problems)
        if found is None:
            return None
        columns, header_bytes, header_lines, delimiter = found
        if not data[header_bytes:].strip():
            problems.add_file(file, "the file has a header and no rows")
            return None
    assert delimiter, "a text without a header comes with its delimiter"
    body = data[header_bytes:] if header_bytes else data
    if len(delimiter) > 1:
        if UNIT_SEPARATOR in body:
            line = body[: body.index(UNIT_SEPARATOR)].count(b"\n") + 1
            problems.add(Problem(file, line, None, None, "a control character (0x1f) stands here; take it out"))
            return None
        body, delimiter = body.replace(delimiter.encode(), UNIT_SEPARATOR), UNIT_SEPARATOR.decode()
    if quoted and escape is None and b'\\"' in body:
        return _perhaps_escaped(body, file, list(columns), delimiter, header_lines, problems, [] if notes is None else notes)
    return _parse(body, file, list(columns), delimiter, quoted, escape, header_lines, problems)


def column_names(path: Path, problems: Problems) -> list[str]:
    """The columns of a Parquet file or of a delimited text with a header, without reading the rows."""
    try:
        if path.suffix == ".parquet":
            return foreign.parquet_columns(path)
        with path.open("rb") as stream:
            start = stream.read(MAX_HEADER + 1).removeprefix(codecs.BOM_UTF8).decode(errors="replace").encode()
    except foreign.Unreadable as error:
        problems.add_file(str(path), f"this is not a Parquet file ({error})")
        return []
    except OSError as error:
        problems.add_file(str(path), f"this cannot be read ({error.strerror})")
        return []
    if not start.strip():
        problems.add_file(str(path), "the file is empty")
        return []
    found = _found_header(start, str(path), None, (), problems)
    return found[0] if found else []


def _found_header(
    data: bytes, file: str, delimiter: str | None, wanted: Sequence[str], problems: Problems
) -> tuple[list[str], int, int, str] | None:
    """Column names, the bytes and lines that they take, and the delimiter; None (with a problem) where there are none."""
    try:
        delimiter = delimiter or _sniff(data, wanted)
        names, length, lines = _header(data, delimiter)
    except csv.Error as error:
        said = f"the header cannot be read ({error}); look for a quote in it that is never closed, and for missing ends of lines"
        problems.add(Problem(file, 1, None, _start(data), said))
        return None
    if length == len(data) and data.count(b'"') % 2:
        problems.add(Problem(file, 1, None, _start(data), "a quote is opened in the header and never closed"))
        return None
    return None if _named_twice(names, file, problems) else (names, length, lines, delimiter)


def _named_twice(names: list[str], file: str, problems: Problems) -> bool:
    twice = sorted({name for name in names if names.count(name) > 1}) if len(set(names)) < len(names) else []
    if twice:
        problems.add(Problem(file, 1, twice[0], None, "two columns have this name; rename one"))
    return bool(twice)


def _start(data: bytes) -> str:
    return data[:MAX_VALUE].decode(errors="replace")


def _header(data: bytes, delimiter: str) -> tuple[list[str], int, int]:
    """Column names, and the bytes and lines that they take; csv.Error where they do not end."""
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        for found in LINE.finditer(data):
            if found.end() > MAX_HEADER:
                raise csv.Error(f"it does not end within {MAX_HEADER:,} bytes")
            taken = found.end()
            yield found[0].decode()

    reader = csv.reader(lines(), delimiter=delimiter)
    rows = ([name.strip() for name in row] for row in reader)
    names = next((row for row in rows if any(row)), None)  # a blank line before the header says nothing
    if names is None:
        raise csv.Error("there is none")
    return names, taken, reader.line_num


def _sniff(data: bytes, wanted: Sequence[str]) -> str:
    def merit(delimiter: str) -> tuple[int, int]:
        names = _header(data, delimiter)[0]
        return len(set(wanted) & set(names)), len(names)

    return max(DELIMITERS, key=merit)


def _perhaps_escaped(
    body: bytes, file: str, columns: list[str], delimiter: str, header_lines: int, problems: Problems, notes: list[str]
) -> Rows | None:
    """A text in which quotes stand behind backslashes: those may be the signs before quotes, or the ends of fields."""
    plain, escaped = Problems(), Problems()
    as_plain = _parse(body, file, columns, delimiter, True, None, header_lines, plain)
    # What ends no field (its quote stands before neither delimiter, quote nor end of line) says that backslashes are signs.
    inside = re.search(rb'\\"(?![\r\n"' + re.escape(delimiter.encode()) + rb"]|$)", body)
    if not plain.count and not inside:
        return as_plain
    # A backslash alone stays one: only quotes and backslashes are written with one before them.
    doubled = QUOTE_BEHIND_BACKSLASH.sub(lambda found: found[0] if len(found[0]) > 1 else b"\\\\", body)
    as_escaped = _parse(doubled, file, columns, delimiter, True, "\\", header_lines, escaped)
    if not escaped.count:
        notes.append(f"{Path(file).name}: quotes inside of fields stand behind backslashes, and are read so.")
        return as_escaped
    if inside is not None:
        at = inside.start()
        shown = body[at : at + MAX_VALUE].partition(b"\n")[0].decode(errors="replace")
        line, said = (
            1 + header_lines + body.count(b"\n", 0, at),
            (
                "a quote stands behind a backslash, and the text is not sound when all such quotes are read as parts of a field; "
                "double the quotes inside of fields"
            ),
        )
        problems.add(Problem(file, line, None, shown, said))
    problems.add_all(plain)
    return as_plain


def _parse(
    body: bytes,
    file: str,
    columns: list[str],
    delimiter: str,
    quoted: bool,
    escape: str | None,
    header_lines: int,
    problems: Problems,
) -> Rows | None:
    invalid: list[pacsv.InvalidRow] = []

    def skip(row: pacsv.InvalidRow) -> str:
        invalid.append(row)
        return "skip"

    try:
        table = pacsv.read_csv(
            pa.BufferReader(body),
            # One thread, so that invalid rows come with their number.
            read_options=pacsv.ReadOptions(use_threads=False, column_names=columns, block_size=BLOCK),
            parse_options=pacsv.ParseOptions(
                delimiter=delimiter,
                quote_char='"' if quoted else False,
                escape_char=escape or False,
                newlines_in_values=quoted,
                ignore_empty_lines=False,
                invalid_row_handler=skip,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False, check_utf8=False
            ),
        )
    except foreign.DAMAGED as error:
        reason = str(error).partition("\n")[0]
        what = f"this cannot be read as delimited text ({reason}); look for a quote that is never closed"
        problems.add_file(file, what)
        return None

    skipped = np.array([row.number - 1 for row in invalid], np.int64)
    length_R = np.ones(len(table) + len(invalid), np.int64)  # lines that each record takes, invalid ones too
    valid_R = np.ones(len(length_R), np.bool_)
    valid_R[skipped] = False
    if quoted:
        for column in table.columns:
            length_R[valid_R] += pc.count_substring(column, "\n").to_numpy()
        length_R[skipped] += np.array([row.text.count("\n") for row in invalid], np.int64)
    line_R = 1 + header_lines + np.cumsum(length_R) - length_R

    shown = [
        Problem(file, int(line_R[row.number - 1]), None, row.text[:MAX_VALUE], _fields_fault(row, quoted, delimiter))
        for row in invalid[: DataError.SHOWN]
    ]
    if shown:
        problems.add_kind(shown, len(invalid))
    quotes = body.count(b'"') - (body.count(f'{escape}"'.encode()) if escape else 0)
    if quoted and len(table) and quotes % 2 and length_R[-1] > 1 and valid_R[-1]:
        problems.add(Problem(file, int(line_R[-1]), None, None, OPEN))
    blank = np.ones(len(table), np.bool_)
    for column in table.columns:  # an empty line is not an event
        blank &= pc.equal(column, "").to_numpy()
        if not blank.any():
            break
    line_N = line_R[valid_R]
    if blank.any():
        table, line_N = table.filter(pa.array(~blank)), line_N[~blank]
        if not len(table) and not invalid:
            problems.add_file(file, "the file has no rows, only blank ones")
    return Rows.of(file, table, line_N, problems)


def _fields_fault(row: pacsv.InvalidRow, quoted: bool, delimiter: str) -> str:
    if quoted and "\n" in row.text and row.text.count('"') % 2:
        return OPEN
    sign = "::" if delimiter == UNIT_SEPARATOR.decode() else delimiter
    return f"{row.actual_columns} field(s) where {row.expected_columns} are due (separated by {sign!r})"
