"""Bytes in an encoding that was given, or found for a whole file, into UTF-8. Knows nothing of fields and rows.

Foreign bytes are ``Problems``, one a line, and replaced, so that reading can go on.
"""

import codecs
from pathlib import Path

from lifelora.data.rows import MAX_VALUE, Problems
from lifelora.errors import DataError, Problem

BLOCK = 1 << 24
"""Bytes decoded at a time, where the text itself is not needed."""
OLD = "iso-8859-1"
NO_TEXT = {"idna", "punycode", "undefined", "unicode_escape", "raw-unicode-escape", "raw_unicode_escape", "unicode-escape"}
"""Encodings of Python in which no file is written."""


def known(encoding: str) -> str | None:
    """The encoding by the name that Python gives it; None where there is no such one for files."""
    try:
        name = codecs.lookup(encoding).name
        sound = name not in NO_TEXT and "a,\n".encode(name).decode(name) == "a,\n"
    except (LookupError, ValueError):
        return None
    return name if sound else None


def published(data: bytes, file: str, problems: Problems, notes: list[str], *, mixed: bool = False) -> str:
    """UTF-8 where the whole of a file is, else ISO-8859-1, as it was published; ``notes`` say which, where it matters.

    A file in both (some lines are UTF-8, others are not) is a problem, since any one reading garbles letters; or a note
    where ``mixed`` says that the set is known for it.
    """
    if data.isascii():
        return "utf-8"
    name = Path(file).name
    if _is_utf8(data):
        notes.append(f"{name}: read as UTF-8, which the whole file is (it was first published in ISO-8859-1).")
        return "utf-8"
    notes.append(f"{name}: read as ISO-8859-1, as it was published.")
    lines = [(number, line) for number, line in enumerate(data.split(b"\n"), start=1) if not line.isascii() and _is_utf8(line)]
    if lines:
        number, first = lines[0]
        what = f"{len(lines):,} lines are UTF-8 and others are not"
        if mixed:
            notes.append(f"{name}: {what}, the first being line {number:,}: letters in them are garbled.")
        else:
            shown = first[:MAX_VALUE].decode(errors="replace")
            problems.add(Problem(file, number, None, shown, f"{what}: a file is in one encoding; save it as UTF-8"))
    return OLD


def _is_utf8(data: bytes) -> bool:
    try:
        decoder = codecs.getincrementaldecoder("utf-8")()
        for start in range(0, len(data), BLOCK):
            decoder.decode(data[start : start + BLOCK])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        return False
    return True


def as_utf8(data: bytes, file: str, encoding: str, problems: Problems) -> bytes:
    """``data`` as UTF-8 without a byte order mark; foreign bytes are problems, one per line, and replaced."""
    name = codecs.lookup(encoding).name
    bytewise = "\n".encode(name) == b"\n"  # UTF-16 is not
    if name == "utf-8":
        data = data.removeprefix(codecs.BOM_UTF8)
        if data.isascii() or _is_utf8(data):
            return data
    try:
        return data.decode(encoding).removeprefix("\ufeff").encode(errors="replace")
    except UnicodeDecodeError as error:
        if not bytewise:
            problems.add_file(file, f"not {encoding} ({error.reason} at offset {error.start:,})")
            return data.decode(encoding, "replace").encode(errors="replace")
    shown, count, offset = [], 0, 0
    for number, line in enumerate(data.split(b"\n"), start=1):
        try:
            line.decode(encoding)
        except UnicodeDecodeError as error:
            count += 1
            if count <= DataError.SHOWN:
                bad = line[error.start : error.end].hex(" ")
                shown.append(
                    Problem(
                        file,
                        number,
                        None,
                        line[:MAX_VALUE].decode("ascii", "backslashreplace"),
                        f"not {encoding}: byte(s) {bad} at offset {offset + error.start:,} of the file; give the encoding "
                        f"it was written in, {_guess(data)}, or save it as UTF-8",
                    )
                )
        offset += len(line) + 1
    if not count:  # a state that goes over ends of lines, and is at fault as a whole
        problems.add_file(file, f"not {encoding}")
    problems.add_kind(shown, count)
    return data.decode(encoding, "replace").encode(errors="replace")


def _guess(data: bytes) -> str:
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "which looks like 'utf-16'"
    return "perhaps 'iso-8859-1' or 'cp1252'"
