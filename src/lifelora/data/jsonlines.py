"""JSON lines, also gzipped, into ``Rows``: chosen fields as text, with their lines. Knows no field's meaning.

Read block by block: besides the chosen fields, memory holds one block. Faults of form (a line that is no JSON object,
foreign bytes, a cut archive) are added to ``Problems``, and reading goes on where it can.
"""

import gzip
import re
from collections.abc import Iterator, Mapping
from io import BufferedIOBase

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lifelora.data.rows import MAX_COLUMN, MAX_VALUE, MEND_LARGE, Problems, Rows, mask
from lifelora.data.unpacked import UNREADABLE, most
from lifelora.errors import DataError, Problem

BLOCK = 1 << 24
"""Bytes read at a time, and so the longest line."""
GZIP = b"\x1f\x8b"
ESCAPE = re.compile(
    r"\\(?:u(?P<high>[dD][89abAB][0-9a-fA-F]{2})(?P<low>\\u[dD][c-fC-F][0-9a-fA-F]{2})?"
    r'|u(?P<alone>[dD][c-fC-F][0-9a-fA-F]{2})|u[0-9a-fA-F]{4}|["\\/bfnrt]|(?P<odd>.?))'
)
"""Any escape of a line: a pair of surrogates, half of one, a code, a letter that JSON knows, or (odd) anything else."""
CONTROL = re.compile(r"[\x00-\x1f]")
LOST = "\\ufffd"


def read_json_lines(
    stream: BufferedIOBase,
    file: str,
    problems: Problems,
    fields: Mapping[str, str],
    notes: list[str] | None = None,
    packed: int | None = None,
) -> Rows | None:
    """Rows of JSON objects, one a line, or None (with a problem) when there is nothing to read.

    ``fields`` maps column names to JSON paths (``$.authors[0].author_id``). Every value comes as text; one that is null
    or absent is empty, but a field that no line has is a column that the rows lack. Blank lines are skipped.
    Lines whose one fault are escapes that JSON does not know are mended and counted in ``notes``: half of a surrogate pair
    becomes U+FFFD, a control character a space, any other stays as it is written. ``packed`` is how many bytes the file takes
    on disk: where it is known, what unpacks to very much more is a problem.
    """
    tables, lines, seen = [], [], set[str]()
    damaged, bad_count, before = list[Problem](), 0, problems.count
    size_of, mended_N = dict.fromkeys(fields, 0), list[int]()
    for start, came in _blocks(stream, file, problems, packed):
        filled = mask(pc.not_equal(pc.utf8_trim_whitespace(came), ""))
        texts, line_N = came.filter(pa.array(filled)), start + np.flatnonzero(filled)
        found = _extracted(texts, fields)
        good_N = mask(found.column("good"))
        if not good_N.all():
            again = [(int(at), mended) for at in np.flatnonzero(~good_N) if (mended := _mended(texts[int(at)].as_py()))]
            if again:
                whole = texts.to_pylist()
                for at, text in again:
                    whole[at] = text
                found = _extracted(pa.array(whole, pa.string()), fields)
                good_N = mask(found.column("good"))
                mended_N += [int(line_N[at]) for at, _ in again if good_N[at]]
        bad = np.flatnonzero(~good_N)
        bad_count += len(bad)
        damaged += [
            Problem(file, int(line_N[at]), None, texts[int(at)].as_py()[:MAX_VALUE], "not a JSON object on one line")
            for at in bad[: max(0, DataError.SHOWN - len(damaged))]
        ]
        table = found.select(list(fields)).filter(pa.array(good_N))
        seen |= {name for name in fields if table.column(name).null_count < len(table)}
        tables.append(pa.table({name: pc.fill_null(table.column(name), "") for name in fields}))
        lines.append(line_N[good_N])
        for name in fields:
            size_of[name] += tables[-1].column(name).nbytes
        large = max(size_of, key=lambda name: size_of[name])
        if size_of[large] > MAX_COLUMN:
            problems.add(Problem(file, None, large, None, f"more than {MAX_COLUMN:,} bytes in one column; {MEND_LARGE}"))
            return None
    if damaged:
        problems.add_kind(damaged, bad_count)
    if mended_N and notes is not None:
        notes.append(
            f"{file.rpartition('/')[2]}: {len(mended_N):,} lines hold escapes or control characters that JSON does not "
            f"know, the first being line {mended_N[0]:,}: half of a surrogate pair became U+FFFD, a control character a "
            "space, and any other escape stays as it is written."
        )
    if not lines or not sum(map(len, lines)):
        if problems.count == before:
            problems.add_file(file, "the file has no rows")
        return None
    table = pa.concat_tables(tables).select([name for name in fields if name in seen]).combine_chunks()
    return Rows(file, table, np.concatenate(lines))


def first_line(stream: BufferedIOBase, file: str, problems: Problems, packed: int | None = None) -> str:
    """The first line that is not blank, or '' (with a problem where the file cannot be read so far)."""
    for _, texts in _blocks(stream, file, problems, packed):
        filled = texts.filter(pc.not_equal(pc.utf8_trim_whitespace(texts), ""))
        if len(filled):
            return str(filled[0].as_py())
    return ""


def _blocks(stream: BufferedIOBase, file: str, problems: Problems, packed: int | None) -> Iterator[tuple[int, pa.Array]]:
    """Whole lines as text, with the number of the first of each block."""
    number, rest, come = 1, b"", 0
    try:
        for block in _read(stream):
            come += len(block)
            if packed is not None and come > most(packed):
                problems.add_file(
                    file,
                    f"it unpacks to more than {most(packed):,} bytes from {packed:,}; if that is right, "
                    "unpack it and give the folder",
                )
                return
            *whole, rest = (rest + block).split(b"\n")
            if len(rest) > BLOCK:
                problems.add(Problem(file, number + len(whole), None, None, f"a line of more than {BLOCK:,} bytes"))
                return
            if whole:
                yield number, _decoded(whole, number, file, problems)
                number += len(whole)
    except UNREADABLE as error:
        what = f"the archive is damaged or cut ({error}) after line {number - 1:,}; fetch it again"
        problems.add_file(file, what)
        return
    if rest:
        yield number, _decoded([rest], number, file, problems)


def _read(stream: BufferedIOBase) -> Iterator[bytes]:
    zipped = stream.read(len(GZIP)) == GZIP  # names say .gz of files that are none, and the other way round
    stream.seek(0)
    plain: BufferedIOBase = gzip.GzipFile(fileobj=stream) if zipped else stream
    return iter(lambda: plain.read(BLOCK), b"")


def _decoded(lines: list[bytes], number: int, file: str, problems: Problems) -> pa.Array:
    """Lines as strings; those with foreign bytes are problems, and the bytes replaced."""
    try:
        return pa.array(lines, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        texts, shown, count = [], list[Problem](), 0
        for at, line in enumerate(lines):
            try:
                texts.append(line.decode())
            except UnicodeDecodeError as error:
                texts.append(line.decode(errors="replace"))
                count += 1
                if count <= DataError.SHOWN:
                    start = line[:MAX_VALUE].decode("ascii", "backslashreplace")
                    what = f"not utf-8: byte(s) {line[error.start : error.end].hex(' ')}; save the file as UTF-8"
                    shown.append(Problem(file, number + at, None, start, what))
        problems.add_kind(shown, count)
        return pa.array(texts, pa.string())


def _mended(line: str) -> str | None:
    """The line with its odd escapes and control characters mended; None where it has none."""
    odd = False

    def mend(found: re.Match[str]) -> str:
        nonlocal odd
        if (found["high"] and not found["low"]) or found["alone"]:
            odd = True
            return LOST
        if found["odd"] is None:
            return found[0]
        odd = True
        return "\\\\" + found["odd"]

    mended = CONTROL.sub(" ", ESCAPE.sub(mend, line))
    return mended if odd or CONTROL.search(line) else None


def _extracted(texts: pa.Array, fields: Mapping[str, str]) -> pa.Table:
    """The fields of each line (null where it has none), and whether it is a JSON object."""
    columns = ", ".join(f'found[{at}] AS "{name}"' for at, name in enumerate(fields, start=1))
    paths = ", ".join(f"'{path}'" for path in fields.values())
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        connection.register("block", pa.table({"line": texts}))
        # json_extract_string stops at a line that is no JSON, so only those that are come to it.
        return connection.sql(
            f"""SELECT coalesce(good, false) AS good, {columns} FROM (
                  SELECT line, good, CASE WHEN good THEN json_extract_string(line, [{paths}]) END AS found FROM (
                    SELECT line, CASE WHEN json_valid(line) THEN json_type(line) = 'OBJECT' END AS good FROM block))"""
        ).to_arrow_table()
