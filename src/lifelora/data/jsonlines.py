"""JSON lines and arrays of JSON objects, also packed, into ``Rows``: chosen fields, with their lines. Knows no field's meaning.

Lines are read block by block: besides the chosen fields, memory holds one block. Faults of form (a line that is no JSON object,
foreign bytes, a cut archive) are added to ``Problems``, and reading goes on where it can.
"""

import codecs
import re
from collections.abc import Iterable, Iterator, Mapping
from io import BufferedIOBase

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lifelora import foreign
from lifelora.data.jsonvalues import as_meant, extracted, keys, kinds, mended_line
from lifelora.data.rows import MAX_COLUMN, MAX_VALUE, MEND_LARGE, Meaning, Problems, Rows, mask
from lifelora.data.unpacked import UNREADABLE, most, plain
from lifelora.errors import DataError, Problem

BLOCK = 1 << 24
"""Bytes read at a time, and so the longest line."""
BYTE = re.compile(r"at byte (\d+)")


def read_json_lines(
    stream: BufferedIOBase,
    file: str,
    problems: Problems,
    fields: Mapping[str, str],
    notes: list[str] | None = None,
    packed: int | None = None,
    meant: Mapping[str, Meaning] | None = None,
) -> Rows | None:
    """Rows of JSON objects, one a line, or None (with a problem) when there is nothing to read.

    ``fields`` maps column names to JSON paths (``$.authors[0].author_id``). Every value comes as text; one that is null
    or absent is empty, but a field that no line has is a column that the rows lack. Blank lines are skipped.
    Lines whose one fault are escapes that JSON does not know are mended and counted in ``notes``: half of a surrogate pair
    becomes U+FFFD, a control character a space, any other stays as it is written. ``packed`` is how many bytes the file takes
    on disk: where it is known, what unpacks to very much more is a problem. Where it is said what a field is ``meant`` to be,
    arrays become lists, and what is no such value is a problem.
    """
    return _collected(_blocks(stream, file, problems, packed), file, problems, fields, notes, meant)


def read_json_array(
    data: bytes,
    file: str,
    problems: Problems,
    fields: Mapping[str, str],
    notes: list[str] | None = None,
    meant: Mapping[str, Meaning] | None = None,
) -> Rows | None:
    """The same of one JSON array of objects, which may stand on any lines: its 'lines' are places in the array, from 1."""
    if len(data) > MAX_COLUMN:
        problems.add_file(file, f"more than {MAX_COLUMN:,} bytes in one JSON array; write one object a line")
        return None
    try:
        with duckdb.connect() as connection:
            connection.register("whole", pa.table({"document": pa.array([data.decode()])}))
            query = "SELECT unnest(json_extract(document, '$[*]'))::VARCHAR AS element FROM whole"
            texts = connection.sql(query).to_arrow_table().column("element").combine_chunks()
    except (duckdb.Error, UnicodeDecodeError) as error:
        at = BYTE.search(str(error))
        line = 1 + data.count(b"\n", 0, int(at[1])) if at else None
        problems.add(Problem(file, line, None, None, f"this is no JSON ({str(error).partition(chr(10))[0][:200]})"))
        return None
    return _collected([(1, texts)], file, problems, fields, notes, meant)


def _collected(
    blocks: Iterable[tuple[int, pa.Array]],
    file: str,
    problems: Problems,
    fields: Mapping[str, str],
    notes: list[str] | None,
    meant: Mapping[str, Meaning] | None,
) -> Rows | None:
    tables, lines, seen = [], [], set[str]()
    damaged, bad_count, before = list[Problem](), 0, problems.count
    size_of, mended_N = dict.fromkeys(fields, 0), list[int]()
    kind_of, there = {name: list[np.ndarray]() for name in fields}, list[str]()
    for start, came in blocks:
        filled = mask(pc.not_equal(pc.utf8_trim_whitespace(came), ""))
        texts, line_N = came.filter(pa.array(filled)), start + np.flatnonzero(filled)
        found = extracted(texts, fields)
        good_N = mask(found.column("good"))
        if not good_N.all():
            again = [(int(at), mended) for at in np.flatnonzero(~good_N) if (mended := mended_line(texts[int(at)].as_py()))]
            if again:
                whole = texts.to_pylist()
                for at, text in again:
                    whole[at] = text
                texts = pa.array(whole, pa.string())
                found = extracted(texts, fields)
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
        if meant is not None and good_N.any():
            texts = texts.filter(pa.array(good_N))
            there = there or keys(texts[0].as_py())
            for name, kind_N in kinds(texts, fields).items():
                kind_of[name].append(kind_N)
        for name in fields:
            size_of[name] += tables[-1].column(name).nbytes
        large = max(size_of, key=lambda name: size_of[name], default="")
        if fields and size_of[large] > MAX_COLUMN:
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
    rows = Rows(file, table, np.concatenate(lines))
    if meant is None:
        return rows
    return as_meant(rows, {name: np.concatenate(found) for name, found in kind_of.items()}, meant, problems).beside_unread(there)


def first_keys(data: bytes, file: str, problems: Problems) -> list[str]:
    """The keys of the objects in an array, or at the beginning of JSON lines; none, with a problem, where there are none."""
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        if data.lstrip().startswith(b"["):
            objects = list(foreign.json_value(data))
        else:
            whole = data[: data.rfind(b"\n") + 1] if data.count(b"\n") else data  # the last line may be cut
            objects = [foreign.json_value(line) for line in whole.splitlines() if line.strip()]
    except foreign.Unreadable as error:
        problems.add_file(file, f"this is no JSON ({error})")
        return []
    found = list(dict.fromkeys(key for one in objects if isinstance(one, dict) for key in one))
    if not found:
        problems.add_file(file, "there are no objects with keys")
    return found


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
    inner = plain(stream)
    yield inner.read(BLOCK).removeprefix(codecs.BOM_UTF8)
    yield from iter(lambda: inner.read(BLOCK), b"")


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
