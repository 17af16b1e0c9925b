"""Values of typed columns as text, as delimited text would say what Parquet or a frame holds. Knows no meaning of a column."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

EXACT = 2.0**53
"""Below it a float tells every whole number from its neighbours."""


def as_text(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """What the values would be as text; nothing is an empty text. Raises pa.ArrowException for a type that has no text.

    pandas makes floats of whole numbers where one is missing: 12345678901.0 is no 1.2345678901e+10, and NaN is nothing and no
    "nan". Decimals, which databases give for whole numbers, too, are written likewise. Times are ISO 8601, in UTC where they
    have a zone, without a clock where all are at midnight; durations are seconds. A column of lists becomes one of lists of
    texts; nothing is an empty list, and of a list's values those that are nothing are left out.
    """
    kind = column.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _texts(column.combine_chunks())
    if pa.types.is_dictionary(kind):
        return as_text(pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], kind.value_type))
    if pa.types.is_boolean(kind):
        column = pc.if_else(column, "1", "0")
    elif pa.types.is_duration(kind):
        column = pc.divide(column.cast(pa.duration("us")).cast(pa.int64()).cast(pa.float64()), 1e6)
    elif pa.types.is_timestamp(kind):
        column = _short_time(column)
    text = column.cast(pa.string())
    if pa.types.is_decimal(kind):
        text = pc.replace_substring_regex(text, r"^(-?\d+)\.0*$", r"\1")
    if pa.types.is_floating(column.type):
        number = column.cast(pa.float64())
        whole = pc.and_(pc.equal(pc.floor(number), number), pc.less(pc.abs(number), EXACT))
        digits = pc.if_else(whole, number, 0.0).cast(pa.int64()).cast(pa.string())
        text = pc.if_else(pc.is_nan(number), None, pc.if_else(whole, digits, text))
    return pc.fill_null(text, "")


def _texts(lists: pa.Array) -> pa.ChunkedArray:
    row_V = np.asarray(pc.list_parent_indices(lists), np.int64)
    text_V = as_text(pa.chunked_array([pc.list_flatten(lists)])).combine_chunks()
    if not pa.types.is_string(text_V.type):
        raise pa.ArrowNotImplementedError("lists of lists")
    filled_V = np.asarray(pc.not_equal(text_V, "").to_numpy(zero_copy_only=False), np.bool_)
    count_N = np.bincount(row_V[filled_V], minlength=len(lists))
    offsets = pa.array(np.concatenate([[0], np.cumsum(count_N)]), pa.int32())
    return pa.chunked_array([pa.ListArray.from_arrays(offsets, text_V.filter(pa.array(filled_V)))])


def _short_time(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Timestamps without the digits that are zero in all of them."""
    zone = "UTC" if column.type.tz else None
    column = column.cast(pa.timestamp(column.type.unit, zone))
    try:
        column = column.cast(pa.timestamp("s", zone))
    except pa.ArrowInvalid:  # fractions of a second
        return column
    days = column.cast(pa.date32(), safe=False)
    midnight = pc.equal(days.cast(pa.timestamp("s", zone)), column)
    return days if zone is None and pc.all(midnight).as_py() else column
