"""What is written twice: interactions, and ids of a catalogue or of profiles. Knows no file format."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from lifelora.data.faults import Faults
from lifelora.data.omit import omit
from lifelora.data.rows import Problems, Rows, mask
from lifelora.errors import DataError, Problem


def interactions_once(
    rows: Rows, table: pa.Table, faults: Faults, problems: Problems, notes: list[str], kinds: bool = False
) -> tuple[Rows, pa.Table]:
    """Rows, and what was made of them, with each interaction once.

    The same user, item and time (without times: and rating, if there is one) twice is one interaction written twice. ``kinds``
    says that ratings stand for kinds of events: two of them may have one time.
    """
    key = ["user", "item", *(name for name in ("time", "rating") if name in table.column_names)][:3]
    keys = table.select(key)
    if kinds and "time" in key:
        key.append("kind")
        keys = keys.set_column(2, "both", pa.array(_pairs(table.column("time").to_numpy(), table.column("rating").to_numpy())))
    order, first = _grouped(keys)
    again = np.flatnonzero(first != np.arange(len(order)))
    if not len(again):
        return rows, table
    what = "user and item" if len(key) < 3 else f"{', '.join(key[:-1])} and {key[-1]}"
    if faults.duplicates != "refuse":
        kept_N = _without(again, order, faults, len(rows))
        return _left_out(rows, kept_N, what, faults, notes), table.filter(pa.array(kept_N))
    mend = faults.mend("duplicates", "first", "last")
    shown = [
        Problem(
            *rows.place(order[at]),
            None,
            None,
            f"the same {what} as in {rows.beside(order[first[at]], order[at])}; keep one{mend}",
        )
        for at in again[: DataError.SHOWN]
    ]
    problems.add_kind(shown, len(again))
    return rows, table


def ids_once(
    rows: Rows, column: str, ids: pa.Array, faults: Faults, problems: Problems, notes: list[str]
) -> tuple[Rows, pa.Array]:
    """Rows and their ids with each id once; empty ids are problems already."""
    code_N = pc.dictionary_encode(ids).indices.to_numpy()
    last = faults.duplicates == "last"
    seen = np.unique(code_N[::-1] if last else code_N, return_index=True)[1]
    again_N = np.ones(len(ids), np.bool_)
    again_N[len(ids) - 1 - seen if last else seen] = False
    again_N &= ~mask(pc.equal(ids, ""))
    if not again_N.any():
        return rows, ids
    if faults.duplicates == "refuse":
        mend = faults.mend("duplicates", "first", "last")
        problems.add_rows(rows, column, again_N, f"this id has a row already; keep one{mend}")
        return rows, ids
    return _left_out(rows, ~again_N, column, faults, notes), ids.filter(pa.array(~again_N))


def _pairs(time_N: Int[np.ndarray, "N"], level_N: Float[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
    """A number for each pair of values."""
    levels, code_N = np.unique(level_N, return_inverse=True)
    return np.asarray(np.unique(time_N, return_inverse=True)[1] * len(levels) + code_N)


def _grouped(key: pa.Table) -> tuple[Int[np.ndarray, "S"], Int[np.ndarray, "S"]]:
    """Rows that may be equal, equals side by side in the order of the file; and where among them each one's group begins."""
    user_N, item_N = (pc.dictionary_encode(key.column(name).combine_chunks()).indices.to_numpy() for name in ("user", "item"))
    pair_N = user_N.astype(np.int64) * (int(item_N.max(initial=0)) + 1) + item_N
    order = np.argsort(pair_N, kind="stable")
    again = np.flatnonzero(pair_N[order][1:] == pair_N[order][:-1])
    if not len(again):
        return order[:0], order[:0]
    suspects = np.unique(np.concatenate([order[again], order[again + 1]]))
    third_N = key.column(2).to_numpy() if key.num_columns > 2 else np.zeros(len(pair_N))
    order = suspects[np.lexsort((suspects, third_N[suspects], pair_N[suspects]))]
    same = np.append(False, (pair_N[order][1:] == pair_N[order][:-1]) & (third_N[order][1:] == third_N[order][:-1]))
    return order, np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))


def _without(again: Int[np.ndarray, "_"], order: Int[np.ndarray, "S"], faults: Faults, n: int) -> Bool[np.ndarray, "N"]:
    """Which of n rows stay: the first of each group, or the last."""
    kept_N = np.ones(n, np.bool_)
    kept_N[order[again if faults.duplicates == "first" else again - 1]] = False
    return kept_N


def _left_out(rows: Rows, kept_N: Bool[np.ndarray, "N"], what: str, faults: Faults, notes: list[str]) -> Rows:
    other = "an earlier" if faults.duplicates == "first" else "a later"
    return omit(rows, ~kept_N, notes, f'they have the {what} of {other} row (duplicates = "{faults.duplicates}")')
