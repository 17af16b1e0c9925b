"""Interactions that are written twice. Knows ids, times and ratings, and no file format."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lifelora.data.rows import Problems, Rows
from lifelora.errors import DataError, Problem


def refuse_repeated(rows: Rows, table: pa.Table, problems: Problems) -> None:
    """The same user, item and time (without times: and rating, if there is one) twice is one interaction written twice."""
    ids = (table.column(name).combine_chunks() for name in ("user", "item"))
    user_N, item_N = (pc.dictionary_encode(column).indices.to_numpy() for column in ids)
    pair_N = user_N.astype(np.int64) * (int(item_N.max(initial=0)) + 1) + item_N
    order = np.argsort(pair_N, kind="stable")
    again = np.flatnonzero(pair_N[order][1:] == pair_N[order][:-1])
    if not len(again):
        return
    what = next((name for name in ("time", "rating") if name in table.column_names), None)
    last = np.zeros(len(table)) if what is None else table.column(what).to_numpy()
    suspects = np.unique(np.concatenate([order[again], order[again + 1]]))
    order = suspects[np.lexsort((suspects, last[suspects], pair_N[suspects]))]
    same = np.append(False, (pair_N[order][1:] == pair_N[order][:-1]) & (last[order][1:] == last[order][:-1]))
    group = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))  # where each run of equals begins
    found = np.flatnonzero(same)
    same_in = "user and item" if what is None else f"user, item and {what}"
    shown = [
        Problem(
            *rows.place(order[at]),
            None,
            None,
            f"the same {same_in} as in {rows.beside(order[group[at]], order[at])}; keep one",
        )
        for at in found[: DataError.SHOWN]
    ]
    if len(found):
        problems.add_kind(shown, len(found))
