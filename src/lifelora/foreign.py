"""Files that others made: text, TOML, JSON and Parquet, where all that can be wrong with one is one error. Knows no meaning.

Each library has errors of its own for a damaged file, and some come as what looks like a fault of the program (RecursionError
for nested brackets, ValueError for a long integer, OSError for a damaged page). Here they become ``Unreadable``: a short
reason, which the caller puts into an error of lifelora's family with the place and the mend.
"""

import json
import reprlib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

MAX_SETTINGS = 1 << 20
"""Bytes of a file of settings (a recipe, a mapping of columns); the longest that comes with lifelora has 8,000."""
MAX_PARQUET = 1 << 34
"""Bytes that a Parquet file may have once unpacked: a few kilobytes can stand for billions of equal rows."""
ROWS = 1 << 18
"""Rows that are unpacked before the sum is looked at."""
DAMAGED = (pa.ArrowException, OSError, ValueError, MemoryError, OverflowError)
"""What Arrow raises for a damaged Parquet file: much is OSError, a name of a column that is no UTF-8 is ValueError."""

HALF = "this has half of a surrogate pair, which is no character; take it out"
"""What is wrong with a text that cannot be written in UTF-8: JSON's \\ud800, or a byte that a terminal typed."""


class Unreadable(Exception):  # noqa: N818 - no error of ours: it never leaves the reader that asked
    """Why a file cannot be read, on one line."""

    def __init__(self, why: object) -> None:
        super().__init__(" ".join(str(why).split())[:300] or type(why).__name__)


def is_written(text: str) -> bool:
    """Whether a text can be written in UTF-8; ``HALF`` says of the others what is wrong."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def place(written: str) -> Path:
    """A path as a user writes it, with ``~`` for a home. The ``~`` of an unknown user stays as it is, and is not found."""
    try:
        return Path(written).expanduser()
    except RuntimeError:
        return Path(written)


def exists(path: Path) -> bool:
    """Whether anything is there, as far as may be seen."""
    try:
        return path.exists()
    except (OSError, ValueError):
        return False


def is_file(path: Path) -> bool:
    """Whether a file is there; a path that no file can have (too long, or with a NUL) or that may not be seen is not."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def content(path: Path) -> bytes:
    """All bytes of a file."""
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise Unreadable(getattr(error, "strerror", None) or error) from error


def text(path: Path, most: int = MAX_SETTINGS) -> str:
    """A text in UTF-8, with or without a byte order mark."""
    try:
        with path.open("rb") as stream:
            data = stream.read(most + 1)
        if len(data) > most:
            raise Unreadable(f"it has more than {most:,} bytes")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        bad = data[error.start : error.end].hex(" ")
        raise Unreadable(f"it is not UTF-8: byte(s) {bad} in line {line:,}; save it as UTF-8") from error
    except (OSError, ValueError) as error:
        raise Unreadable(getattr(error, "strerror", None) or error) from error


def toml(written: str) -> dict[str, Any]:
    """The values of a TOML text."""
    try:
        return tomllib.loads(written)
    except RecursionError:
        raise Unreadable("its brackets are nested too deeply") from None
    except ValueError as error:  # TOMLDecodeError, and an integer of thousands of digits
        raise Unreadable(error) from error


def json_value(written: str | bytes) -> Any:
    """The value of a JSON text."""
    try:
        return json.loads(written)
    except RecursionError:
        raise Unreadable("its brackets are nested too deeply") from None
    except ValueError as error:
        raise Unreadable(error) from error


def parquet_columns(source: Path | bytes) -> list[str]:
    """The names of a Parquet file's columns."""
    try:
        return list(pq.read_schema(_opened(source)).names)
    except DAMAGED as error:
        raise Unreadable(str(error).partition("\n")[0]) from error


def parquet(source: Path | bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table of a Parquet file, whole or some of its columns; every text in it is UTF-8, every list has its values."""
    try:
        file, batches, size = pq.ParquetFile(_opened(source)), list[pa.RecordBatch](), 0
        for batch in file.iter_batches(ROWS, columns=None if columns is None else list(columns)):
            batch.validate(full=True)  # a damaged page may hold other bytes than UTF-8, and offsets that point nowhere
            size += batch.nbytes
            if size > MAX_PARQUET:
                raise Unreadable(f"it unpacks to more than {MAX_PARQUET:,} bytes")
            batches.append(batch)
        schema = file.schema_arrow if columns is None else pa.schema([file.schema_arrow.field(name) for name in columns])
        return pa.Table.from_batches(batches, batches[0].schema if batches else schema)
    except DAMAGED as error:
        raise Unreadable(str(error).partition("\n")[0]) from error


def shown(value: object, most: int = 80) -> str:
    """A value out of a file as an error shows it: cut, and never an error of its own."""
    try:
        return reprlib.repr(value)[:most] if isinstance(value, list | dict | tuple | int) else repr(value)[:most]
    except (ValueError, RecursionError):  # an integer of thousands of digits has no decimal text
        return f"a value of type {type(value).__name__}"


def _opened(source: Path | bytes) -> Any:
    return pa.BufferReader(source) if isinstance(source, bytes) else source
