"""Frames and columns that users hold in memory, as Arrow and back: of pandas, polars, pyarrow and what narwhals bridges.

Knows no meaning of a column. Nothing that is given is changed, and neither pandas nor polars is imported: who gives a frame of
one has done so.
"""

import math
import re
from collections.abc import Sequence
from datetime import date, datetime
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from lifelora.errors import ConfigError, DataError, Problem

AnyFrame: TypeAlias = Any
"""A frame of pandas, polars or pyarrow, or another that narwhals knows; a lazy one is collected."""
AnyColumn: TypeAlias = Any
"""A Series or column of one of these, a NumPy array of one axis, a tensor, or a list."""
SURROGATE = re.compile("[\ud800-\udfff]")
KINDS = "a frame of pandas, polars or pyarrow (or another that narwhals knows)"


class Frame:
    """A table that a user holds in memory, by the names of its columns; a pandas index that has a name is a column, too."""

    def __init__(self, given: AnyFrame, called: str) -> None:
        """``called`` is what errors say; ConfigError where ``given`` is no frame, or two of its columns have one name."""
        self._called, self._table = called, _eager(given, called)
        self.names = [str(name) for name in self._table.columns]

    def __len__(self) -> int:
        return len(self._table)

    @cached_property
    def _native(self) -> dict[str, Any]:
        return dict(zip(self.names, (column.to_native() for column in self._table.iter_columns()), strict=True))

    def column(self, name: str) -> pa.ChunkedArray:
        """One column; values of several types become texts. ConfigError where there is none of that name."""
        if name not in self.names:
            raise ConfigError(f"{self._called} has no column '{name}'; it has: {', '.join(self.names)}.")
        return column_of(self._native[name], f"column '{name}' of {self._called}")

    def table(self, names: Sequence[str]) -> pa.Table:
        """Some of its columns."""
        return pa.table({name: self.column(name) for name in names})


def column_of(values: AnyColumn, called: str) -> pa.ChunkedArray:
    """A column in Arrow's types, NaN of pandas and NumPy as null; values of several types become texts.

    Raises ConfigError for what is no column, and DataError for a text that is no Unicode.
    """
    if hasattr(values, "to_native"):  # narwhals'
        values = values.to_native()
    if isinstance(values, pa.ChunkedArray):
        return values
    if isinstance(values, str | bytes | dict) or not (hasattr(values, "__len__") and hasattr(values, "__iter__")):
        raise ConfigError(f"{called} is {type(values).__name__}, which is no column; give a Series, an array or a list.")
    if getattr(values, "ndim", 1) != 1:
        raise ConfigError(f"{called} has {values.ndim} axes; a column has one.")
    if hasattr(values, "detach"):  # a tensor, maybe on a GPU and with a gradient
        values = values.detach().cpu().numpy()
    if "Object" in str(getattr(values, "dtype", "")):  # polars hands over the addresses of Python's objects
        values = values.to_list()
    try:
        found = values.to_arrow() if hasattr(values, "to_arrow") else pa.array(values, from_pandas=True)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        found = _as_texts(values, called)
    if isinstance(found.type, pa.BaseExtensionType):  # periods and intervals of pandas, whose storage says something else
        found = _as_texts(values, called)
    return found if isinstance(found, pa.ChunkedArray) else pa.chunked_array([found])


def like(given: AnyFrame | AnyColumn, table: pa.Table) -> AnyFrame:
    """A table as a frame of the kind that was given: frame or Series; pyarrow's where that has none (a list, an array)."""
    import narwhals as nw

    try:
        backend = nw.from_native(given, allow_series=True).implementation
        return nw.from_arrow(table, backend=backend).to_native()
    except (TypeError, ValueError):  # lists, arrays; a lazy frame of a database, which holds none in memory
        return table


def _eager(given: AnyFrame, called: str) -> Any:
    """The frame in narwhals' hands."""
    import narwhals as nw
    from narwhals.exceptions import DuplicateError

    if isinstance(given, pa.RecordBatch):
        given = pa.Table.from_batches([given])
    try:
        frame = nw.from_native(given)
        frame = frame.collect() if isinstance(frame, nw.LazyFrame) else frame
        native = frame.to_native()
        if nw.dependencies.is_pandas_like_dataframe(native):
            levels = [name for name in native.index.names if name is not None and name not in native.columns]
            native = native.reset_index(level=levels) if levels else native
            return nw.from_native(native)
        return frame
    except TypeError:
        mend = "; read the file first, or name it in a TOML file (tables:PATH.toml)" if isinstance(given, str) else ""
        raise ConfigError(f"{called} is {type(given).__name__}, which is no frame; give {KINDS}{mend}.") from None
    except DuplicateError:
        raise ConfigError(f"{called} has two columns of one name; rename one.") from None


def _as_texts(values: AnyColumn, called: str) -> pa.Array:
    """Values of several types, each as the text that a column of its type would give."""
    texts = [_as_text(value) for value in values]
    try:
        return pa.array(texts, pa.string())
    except UnicodeEncodeError:
        row = next(row for row, text in enumerate(texts) if text is not None and SURROGATE.search(text))
        what = "half of a surrogate pair, which is no character; take it out"
        raise DataError([Problem(f"{called}[{row}]", None, None, ascii(texts[row])[:80], what)]) from None


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, bool | np.bool_):
        return str(int(value))
    if isinstance(value, float | np.floating):
        number = float(value)
        return None if math.isnan(number) else str(int(number)) if number.is_integer() and abs(number) < 2**53 else str(number)
    if isinstance(value, date | datetime):
        return None if value != value else value.isoformat()
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    text = str(value)
    return None if text in ("<NA>", "NaT", "NaN") else text
