"""Columns as users hold them into NumPy: numbers, labels, and the codes of ids. Knows no figure."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from lifelora.errors import ConfigError
from lifelora.frames import AnyColumn, column_of


def numbers(values: AnyColumn, called: str) -> Float[np.ndarray, "N"]:
    """A column as float64, nan where a value is missing; ConfigError, in which it is ``called`` so, where it holds no numbers."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "fiub":
        return values.astype(np.float64)
    column = _plain(column_of(values, called))
    if not (pa.types.is_boolean(column.type) or pa.types.is_null(column.type) or pa.types.is_decimal(column.type)) and (
        not pa.types.is_integer(column.type) and not pa.types.is_floating(column.type)
    ):
        raise ConfigError(f"{called} are {column.type}, and numbers are due; the first is {_first(column)}.")
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    return np.array(pc.fill_null(column.cast(pa.float64(), safe=False), float("nan")).to_numpy(), np.float64)


def labels(values: AnyColumn) -> Bool[np.ndarray, "N"]:
    """A column of 0 and 1 (or bool) as bool; ConfigError with the first sample that has another label, or none."""
    if isinstance(values, np.ndarray) and values.dtype == bool:
        return values
    label_N = numbers(values, "labels")
    bad_N = (label_N != 0) & (label_N != 1)
    if bad_N.any():
        first = bad_N.argmax()
        came = "missing" if np.isnan(label_N[first]) else f"{label_N[first]:g}"
        raise ConfigError(f"labels are 0 or 1 (or bool); that of sample {first:,} is {came}.")
    yes_N: Bool[np.ndarray, "N"] = label_N == 1
    return yes_N


def codes(values: AnyColumn, called: str) -> Int[np.ndarray, "N"]:
    """Ids of any kind as whole numbers, equal for equal ids and in their order; ConfigError where one is missing."""
    if isinstance(values, np.ndarray) and values.ndim == 1 and values.dtype.kind in "iu":
        return values
    column = _plain(column_of(values, called))
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), None, column)
    if column.null_count:
        first = int(pc.index(pc.is_null(column), True).as_py())
        raise ConfigError(f"{called} are missing in {column.null_count:,} samples; the first is sample {first:,}. Name them all.")
    if pa.types.is_integer(column.type) and not pa.types.is_uint64(column.type):
        return np.array(column.to_numpy(), np.int64)
    try:
        encoded = pc.dictionary_encode(column.combine_chunks())
        rank_U = np.argsort(pc.sort_indices(encoded.dictionary).to_numpy())
    except pa.ArrowException:
        raise ConfigError(f"{called} are {column.type}, and ids are due: texts or whole numbers.") from None
    return np.asarray(rank_U[encoded.indices.to_numpy()], np.int64)


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Values instead of a dictionary of them."""
    if not pa.types.is_dictionary(column.type):
        return column
    return pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type)


def _first(column: pa.ChunkedArray) -> Any:
    return repr(next((value.as_py() for value in column if value.is_valid), None))[:80]
