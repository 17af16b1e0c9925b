"""The names of a delimited text's columns, and what separates them, from its first line. Knows no column's meaning."""

import csv
import re
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from lifelora.data.rows import MAX_VALUE, Problems
from lifelora.errors import Problem

DELIMITERS = (",", ";", "\t", "|", "::", "||")
"""What is looked for where no delimiter is given; of equal ones the first is taken."""
MAX_HEADER = 1 << 16
"""Bytes of the longest header: what is longer has a quote that is never closed, or is none."""
LINE = re.compile(rb"[^\r\n]*(?:\r\n|\r|\n|$)")
ONE_SIGN = "\x1f"
"""Stands for a delimiter of several characters where a parser takes one alone."""
INSIDE = b"\x1e"
"""Stands for what is inside of quotes while delimiters are looked for."""
VALUE = re.compile(r"[+-]?\d+([.,]\d+)?([eE][+-]?\d+)?|\d{4}-\d\d-\d\d.*|\d\d?[./]\d\d?[./]\d{4}.*")
"""A number or a time: no name of a column is one."""


class Header(NamedTuple):
    """The names of columns, the bytes and lines that they take (none in a text without a header), and the delimiter."""

    names: list[str]
    length: int
    lines: int
    delimiter: str


def found_header(
    data: bytes, file: str, problems: Problems, delimiter: str | None, quoted: bool, wanted: Collection[str]
) -> Header | None:
    """The header of a text that has one; None (with a problem) where there is none.

    Without a ``delimiter``, the one is taken under which the header holds most of the ``wanted`` columns, then most columns.
    """
    try:
        delimiter = delimiter or max(DELIMITERS, key=lambda one: _merit(_first(data, one, quoted).names, wanted))
        found = _first(data, delimiter, quoted)
    except csv.Error as error:
        said = f"the header cannot be read ({error}); look for a quote in it that is never closed, and for missing ends of lines"
        problems.add(Problem(file, 1, None, _start(data), said))
        return None
    if quoted and found.length == len(data) and data.count(b'"') % 2:
        problems.add(Problem(file, 1, None, _start(data), "a quote is opened in the header and never closed"))
        return None
    if _is_a_row(found.names, wanted):
        named = [name for name in wanted if not VALUE.fullmatch(name)]
        names = [*named, *(f"column{place}" for place in range(len(named) + 1, len(found.names) + 1))][: len(found.names)]
        listed = ", ".join(f'"{name}"' for name in names)
        said = f"this looks like a row and no header; of a file without one say: header = false, names = [{listed}], in its order"
        problems.add(Problem(file, found.lines, None, _start(data), said))
        return None
    twice = sorted({name for name in found.names if found.names.count(name) > 1 and (not wanted or name in wanted)})
    if twice:
        problems.add(Problem(file, 1, twice[0], None, "two columns have this name; rename one"))
        return None
    return found


def without_header(
    data: bytes, file: str, problems: Problems, delimiter: str | None, quoted: bool, names: Sequence[str]
) -> Header | None:
    """The same of a text that has none, whose delimiter may be found from the number of names."""
    if delimiter:
        return Header(list(names), 0, 0, delimiter)
    try:
        fields = {one: len(_first(data, one, quoted).names) for one in DELIMITERS}
    except csv.Error as error:
        problems.add(Problem(file, 1, None, _start(data), f"the first row cannot be read ({error})"))
        return None
    fit = [one for one, count in fields.items() if count == len(names)]
    if not fit:
        most = max(fields, key=lambda one: fields[one])
        said = f"the first row has {fields[most]} field(s) (separated by {most!r}), and there are {len(names)} names"
        problems.add(Problem(file, 1, None, _start(data), f"{said}; give a name for each field, or the delimiter"))
        return None
    return Header(list(names), 0, 0, fit[0])


def with_one_sign(data: bytes, delimiter: str, quoted: bool, escape: str | None) -> bytes:
    """The text with ``ONE_SIGN`` where a delimiter of several characters stands outside of quotes; it has no such sign."""
    one = ONE_SIGN.encode()
    if not quoted or b'"' not in data:
        return data.replace(delimiter.encode(), one)
    hidden = {(escape * 2).encode(): b"\x1c", f'{escape}"'.encode(): b"\x1d"} if escape else {}
    for written, sign in hidden.items():
        data = data.replace(written, sign)
    pieces = data.split(b'"')  # every second one is inside of quotes; a doubled quote has an empty one outside
    pieces[::2] = INSIDE.join(pieces[::2]).replace(delimiter.encode(), one).split(INSIDE)
    data = b'"'.join(pieces)
    for written, sign in hidden.items():
        data = data.replace(sign, written)
    return data


def _merit(names: Sequence[str], wanted: Collection[str]) -> tuple[int, int, int]:
    filled = len([name for name in names if name])
    return len(set(wanted) & set(names)), filled, filled - len(names)


def _is_a_row(names: Sequence[str], wanted: Collection[str]) -> bool:
    """Whether the first line holds values; the numbers from 0 on are names that pandas gives."""
    if list(names) == [str(place) for place in range(len(names))]:
        return False
    sound = [name for name in names if name in wanted and not VALUE.fullmatch(name)]
    return bool(wanted) and not sound and any(VALUE.fullmatch(name) for name in names)


def _start(data: bytes) -> str:
    return data[:MAX_VALUE].partition(b"\n")[0].decode(errors="replace")


def _first(data: bytes, delimiter: str, quoted: bool) -> Header:
    """The fields of the first row that has any; csv.Error where they do not end."""
    taken = 0

    def lines() -> Iterator[str]:
        nonlocal taken
        for found in LINE.finditer(data):
            if found.end() > MAX_HEADER:
                raise csv.Error(f"it does not end within {MAX_HEADER:,} bytes")
            taken = found.end()
            yield (found[0] if len(delimiter) == 1 else with_one_sign(found[0], delimiter, quoted, None)).decode()

    reader = csv.reader(
        lines(), delimiter=delimiter if len(delimiter) == 1 else ONE_SIGN, quoting=csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    )
    rows = ([name.strip() for name in row] for row in reader)
    names = next((row for row in rows if any(row)), None)  # a blank line before the header says nothing
    if names is None:
        raise csv.Error("there is none")
    return Header(names, taken, reader.line_num, delimiter)
