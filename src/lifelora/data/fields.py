"""Fields of items and users, each of one value or several: checked, as texts, and as codes of values. Knows no model.

A column of texts has one value a row, and the empty text is unknown. A column of lists of texts has a set of values a row, in the
order of its source; where the set is empty, the field is unknown.
"""

import json
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int

from lifelora.data.rows import Rows, is_list, mask, one_line

JOINED = ", "
"""What stands between the values of a field where it is read as a text."""
SEPARATORS = ("|", ";", ",")
"""Signs that may stand between several values in one text."""


def as_texts(table: pa.Table) -> pa.Table:
    """The table with every field as one text a row: several values are joined."""
    for place, name in enumerate(table.column_names):
        if is_list(table.column(name)):
            table = table.set_column(place, name, pc.binary_join(table.column(name), JOINED))
    return table


def checked_fields(
    rows: Rows, fields: Sequence[str], separators: Mapping[str, str], notes: list[str]
) -> dict[str, pa.Array | pa.ListArray]:
    """The columns of fields, whose texts hold several values where there is a separator; a column of lists needs none."""
    made = {}
    for field in fields:
        if field in separators or is_list(rows.table.column(field)):
            made[field] = rows.sets(field, separators.get(field), notes)
        else:
            made[field] = rows.text(field, notes)
            notes += _seems_several(rows.file, field, made[field])
    return made


def _seems_several(file: str, field: str, texts: pa.Array) -> list[str]:
    """A note where most texts hold a sign between what come again as values: apart they are fewer than the texts are."""
    counted = pc.value_counts(texts.filter(pc.not_equal(texts, "")))
    distinct, count_V = counted.field("values"), counted.field("counts").to_numpy()
    for sign in SEPARATORS:
        share = count_V[mask(pc.match_substring(distinct, sign))].sum() / max(1, count_V.sum())
        apart = pc.count_distinct(one_line(pc.list_flatten(pc.split_pattern(distinct, sign)))).as_py() if share > 0.5 else 0
        if 0 < apart < len(distinct):
            return [
                f"{file}: {share:.0%} of the texts of '{field}' hold '{sign}'. Each whole text is read as one value "
                f'({len(distinct):,} different ones); lists = {{ {json.dumps(field)} = "{sign}" }} reads {apart:,} values.'
            ]
    return []


def values_of(column: pa.Array | pa.ChunkedArray) -> tuple[pa.Array, Int[np.ndarray, "V"]]:
    """All V known values of a column, and the row of each, which do not fall."""
    column = pa.chunked_array([column]).combine_chunks() if isinstance(column, pa.Array) else column.combine_chunks()
    if is_list(column):
        return pc.list_flatten(column), np.asarray(pc.list_parent_indices(column).to_numpy(), np.int64)
    known_N = mask(pc.not_equal(column, ""))
    return column.filter(pa.array(known_N)), np.flatnonzero(known_N)


def coded(column: pa.ChunkedArray) -> tuple[Int[np.ndarray, "N V"], list[str]]:
    """Codes of the values of each row, and the values of codes 1, 2, …; 0 is unknown, and fills up rows of fewer values.

    A column of texts has one code a row. Numbers go by the first row that has a value.
    """
    texts = pc.fill_null(column, "").combine_chunks() if not is_list(column) else None
    values, row_V = (texts, np.arange(len(column))) if texts is not None else values_of(column)
    encoded = pc.dictionary_encode(values)
    code_V = np.asarray(encoded.indices.to_numpy(zero_copy_only=False), np.int64) + 1
    if texts is not None:  # the empty text takes a code, too, which nothing has
        code_V = np.where(mask(pc.not_equal(texts, "")), code_V, 0)
    count_N = np.bincount(row_V, minlength=len(column))
    place_V = np.arange(len(row_V)) - np.repeat(np.cumsum(count_N) - count_N, count_N)
    codes_NV = np.zeros((len(column), max(1, int(count_N.max(initial=1)))), np.int64)
    codes_NV[row_V, place_V] = code_V
    return codes_NV, encoded.dictionary.to_pylist()
