"""Delimited text and Parquet into ``Rows``: strings with the line each row began on. Knows no column's meaning.

Faults of form (encoding, number of fields, an open quote) are added to ``Problems``, and reading goes on.
"""

import codecs
import csv
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from lifelora.data.rows import MAX_VALUE, Problems, Rows
from lifelora.errors import DataError, Problem

DELIMITERS = ",;\t|"
BLOCK = 1 << 24
"""Bytes parsed at a time, and so the longest row."""
UNIT_SEPARATOR = b"\x1f"


def read_delimited(
    data: bytes, file: str, problems: Problems, *, columns: Sequence[str] | None = None, delimiter: str | None = None,
    encoding: str = "utf-8", quoted: bool = True, escape: str | None = None, wanted: Sequence[str] = (),
) -> Rows | None:
    """Rows of a delimited text, or None (with a problem) when there is nothing to read.

    ``columns`` names the columns of a text without a header. Without a ``delimiter``, the one of comma, semicolon, tab
    and bar is taken under which the header holds most of the ``wanted`` columns, then most columns. A delimiter of
    several characters is allowed where nothing is quoted. A quote inside a quoted field is doubled, or, where there is
    an ``escape`` sign, may stand behind that.
    """
    data = _as_utf8(data, file, encoding, problems)
    if not data.strip():
        problems.add_file(file, "the file is empty")
        return None
    header_bytes = header_lines = 0
    if columns is None:
        delimiter = delimiter or _sniff(data, wanted)
        columns, header_bytes, header_lines = _header(data, delimiter)
        twice = sorted({c for c in columns if columns.count(c) > 1})
        if twice:
            problems.add(Problem(file, 1, twice[0], None, "two columns have this name; rename one"))
            return None
        if not data[header_bytes:].strip():
            problems.add_file(file, "the file has a header and no rows")
            return None
    assert delimiter, "a text without a header comes with its delimiter"
    body = data[header_bytes:] if header_bytes else data
    if len(delimiter) > 1:
        body, delimiter = body.replace(delimiter.encode(), UNIT_SEPARATOR), UNIT_SEPARATOR.decode()
    return _parse(body, file, list(columns), delimiter, quoted and b'"' in body, escape, header_lines, problems)


def read_parquet(data: bytes, file: str, problems: Problems) -> Rows | None:
    """Rows of a Parquet file, every value as text; its 'lines' are row numbers from 1."""
    try:
        table = pq.read_table(pa.BufferReader(data))
        strings = pa.table({name: pc.fill_null(_text(table.column(name)), "") for name in table.column_names})
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:  # the second: nested columns have no text
        reason = str(error).splitlines()[0]
        problems.add_file(file, f"this cannot be read as a flat Parquet table ({reason})")
        return None
    if not len(strings):
        problems.add_file(file, "the file has columns and no rows")
        return None
    return Rows(file, strings, np.arange(1, len(strings) + 1))


def column_names(path: Path, problems: Problems) -> list[str]:
    """The columns of a Parquet file or of a delimited text with a header, without reading the rows."""
    if path.suffix == ".parquet":
        try:
            return list(pq.read_schema(path).names)
        except pa.ArrowInvalid as error:
            reason = str(error).splitlines()[0]
            problems.add_file(str(path), f"this is not a Parquet file ({reason})")
            return []
    with path.open("rb") as stream:
        start = stream.read(1 << 16).removeprefix(codecs.BOM_UTF8).decode(errors="replace").encode()
    if not start.strip():
        problems.add_file(str(path), "the file is empty")
        return []
    return _header(start, _sniff(start, ()))[0]


def _text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, "1", "0")
    return column.cast(pa.string())


def _as_utf8(data: bytes, file: str, encoding: str, problems: Problems) -> bytes:
    """``data`` as UTF-8 without a byte order mark; foreign bytes are problems, one per line, and replaced."""
    name = codecs.lookup(encoding).name
    bytewise = "\n".encode(name) == b"\n"  # UTF-16 is not
    if name == "utf-8":
        data = data.removeprefix(codecs.BOM_UTF8)
    if bytewise and data.isascii():
        return data
    try:
        if name == "utf-8":
            decoder = codecs.getincrementaldecoder(name)()  # block by block: the text itself is not needed
            for start in range(0, len(data), BLOCK):
                decoder.decode(data[start : start + BLOCK])
            decoder.decode(b"", final=True)
            return data
        return data.decode(encoding).removeprefix("\ufeff").encode()
    except UnicodeDecodeError as error:
        if not bytewise:
            problems.add_file(file, f"not {encoding} ({error.reason} at offset {error.start:,})")
            return data.decode(encoding, "replace").encode()
    shown, count, offset = [], 0, 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            line.decode(encoding)
        except UnicodeDecodeError as error:
            count += 1
            if count <= DataError.SHOWN:
                bad = line[error.start : error.end].hex(" ")
                shown.append(Problem(
                    file, number, None, line[:MAX_VALUE].decode("ascii", "backslashreplace"),
                    f"not {encoding}: byte(s) {bad} at offset {offset + error.start:,} of the file; give the encoding "
                    f"it was written in, {_guess(data)}, or save it as UTF-8",
                ))
        offset += len(line) + 1
    problems.add_kind(shown, count)
    return data.decode(encoding, "replace").encode()


def _guess(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "which looks like 'utf-16'"
    return "perhaps 'iso-8859-1' or 'cp1252'"


def _header(data: bytes, delimiter: str) -> tuple[list[str], int, int]:
    """Column names, and the bytes and lines that they take."""
    lines = io.BytesIO(data)
    reader = csv.reader((line.decode() for line in iter(lines.readline, b"")), delimiter=delimiter)
    names = [name.strip() for name in next(reader)]
    return names, lines.tell(), reader.line_num


def _sniff(data: bytes, wanted: Sequence[str]) -> str:
    def merit(delimiter: str) -> tuple[int, int]:
        names = _header(data, delimiter)[0]
        return len(set(wanted) & set(names)), len(names)

    return max(DELIMITERS, key=merit)


def _parse(
    body: bytes, file: str, columns: list[str], delimiter: str, quoted: bool, escape: str | None, header_lines: int,
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
                delimiter=delimiter, quote_char='"' if quoted else False, escape_char=escape or False,
                newlines_in_values=quoted, ignore_empty_lines=False, invalid_row_handler=skip,
            ),
            convert_options=pacsv.ConvertOptions(
                column_types=dict.fromkeys(columns, pa.string()), strings_can_be_null=False, check_utf8=False
            ),
        )
    except pa.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
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
        problems.add(Problem(file, int(line_R[-1]), None, None, "a quote is opened here and never closed"))
    blank = np.ones(len(table), np.bool_)
    for column in table.columns:  # a line with nothing on it is nobody's row
        blank &= pc.equal(column, "").to_numpy()
        if not blank.any():
            break
    line_N = line_R[valid_R]
    if blank.any():
        table, line_N = table.filter(pa.array(~blank)), line_N[~blank]
        if not len(table) and not invalid:
            problems.add_file(file, "the file has no rows, only blank ones")
    return Rows(file, table, line_N)


def _fields_fault(row: pacsv.InvalidRow, quoted: bool, delimiter: str) -> str:
    if quoted and "\n" in row.text and row.text.count('"') % 2:
        return "a quote is opened here and never closed"
    sign = "::" if delimiter == UNIT_SEPARATOR.decode() else delimiter
    return f"{row.actual_columns} field(s) where {row.expected_columns} are due (separated by {sign!r})"
