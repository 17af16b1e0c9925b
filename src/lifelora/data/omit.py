"""Rows that are left out, and counted in a note. Knows no one set.

For faults that published sets are known for, and for those that a user's own tables may have by a key of theirs (``faults``).
"""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
from jaxtyping import Bool

from lifelora.data.rows import Rows


def omit(rows: Rows, bad_N: Bool[np.ndarray, "N"], notes: list[str], why: str) -> Rows:
    """The other rows."""
    if bad_N.any():
        rest = f"{int(bad_N.sum()):,} of {len(rows):,} rows"
        notes.append(f"{Path(rows.file).name}: {rest} are left out: {why}.")
    return rows.where(~bad_N)


def repeated(rows: Rows, columns: list[str]) -> Bool[np.ndarray, "N"]:
    """All but the first of the rows that are equal in these columns."""
    left = np.arange(len(rows))  # rows that have a double as far as the columns looked at say
    key = np.zeros(len(rows), np.int64)
    for column in columns:
        codes = pc.dictionary_encode(rows.table.column(column).combine_chunks().take(left)).indices.to_numpy()
        key = key * (int(codes.max(initial=0)) + 1) + codes  # both are below the number of rows: no overflow
        _, key, count = np.unique(key, return_inverse=True, return_counts=True)
        doubled = count[key] > 1
        left, key = left[doubled], key[doubled]
    again_N = np.zeros(len(rows), np.bool_)
    again_N[left] = True
    again_N[left[np.unique(key, return_index=True)[1]]] = False
    return again_N
