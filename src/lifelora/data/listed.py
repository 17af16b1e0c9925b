"""Candidate lists that a published protocol comes with: checked, and found for each sample. Draws none, knows no file format.

A list is for a user and the item that they chose, its target. A file has a row for each list, with the candidates as a column
of lists or in one text, or a row for each candidate; their order is kept.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from lifelora.data.idmap import IdMap
from lifelora.data.rows import Meaning, Problems, Rows, is_list, mask
from lifelora.errors import ConfigError
from lifelora.types import Part

LISTED, ONE = "candidates", "candidate"
"""The column of a list's candidates, and that of a row's one candidate."""
SEPARATOR = "|"
"""Stands between candidates in one text, where ``lists`` says nothing else."""


def of_lists(user: str, item: str) -> dict[str, Meaning]:
    """What each column of such a file is; of the last two it has one."""
    return {user: "id", item: "id", LISTED: "field", ONE: "id"}


def checked_lists(rows: Rows, user: str, item: str, separator: str, known: pa.Array, problems: Problems) -> pa.Table | None:
    """user, item and candidates as ``RawTables`` has them; None when a column is missing.

    Problems are a target that is not among its candidates, a candidate that stands twice or that is none of the ``known`` items,
    lists of several lengths, and two lists for one user and target.
    """
    there = [name for name in (LISTED, ONE) if name in rows.table.column_names]
    if rows.lacks([user, item, *(there or [LISTED])][:3], problems):
        return None
    ids = {name: rows.ids(column, problems) for name, column in (("user", user), ("item", item))}
    pair_N = _numbers(ids["user"], ids["item"])
    if there == [ONE]:
        list_N, first_L = _in_turn(pair_N)
        order = np.argsort(list_N, kind="stable")
        flat_V, list_V = rows.ids(ONE, problems).take(order), list_N[order]
        first_N = np.isin(np.arange(len(list_N)), first_L)
        rows, ids = rows.where(first_N), {name: column.filter(pa.array(first_N)) for name, column in ids.items()}
    else:
        lists = rows.table.column(LISTED).combine_chunks()
        lists = lists if is_list(lists) else pc.split_pattern(lists, separator)
        flat_V, list_V = pc.utf8_trim_whitespace(pc.list_flatten(lists)), np.asarray(pc.list_parent_indices(lists), np.int64)
        twice_N = np.ones(len(pair_N), np.bool_)
        twice_N[np.unique(pair_N, return_index=True)[1]] = False
        problems.add_rows(rows, item, twice_N, "this user and target have a list already; keep one")
    n = len(rows)

    def has(bad_V: Bool[np.ndarray, "V"]) -> Bool[np.ndarray, "L"]:
        return np.bincount(list_V[bad_V], minlength=n) > 0

    length_L = np.bincount(list_V, minlength=n)
    target_V = mask(pc.equal(flat_V, ids["item"].take(list_V)))
    unknown_V = ~mask(pc.is_in(flat_V, value_set=known))
    again_V = np.ones(len(list_V), np.bool_)
    again_V[np.unique(_numbers(pa.array(list_V), flat_V), return_index=True)[1]] = False
    column = item if there == [ONE] else LISTED
    problems.add_rows(rows, item, ~has(target_V), "the target is not among its candidates")
    problems.add_rows(rows, column, has(again_V), "a candidate stands twice in the list")
    if unknown_V.any():
        example = str(flat_V[int(np.flatnonzero(unknown_V)[0])])
        what = f"a candidate is no item that the catalogue or the log has (one of them: {example[:80]!r})"
        problems.add_rows(rows, column, has(unknown_V), what)
    most = int(np.bincount(length_L).argmax()) if n else 0
    other_L = length_L != most
    problems.add_rows(
        rows, column, other_L, f"the list has another length than most, which have {most:,} candidates; make all alike"
    )
    return pa.table(ids | {LISTED: pa.ListArray.from_arrays(pa.array(np.cumsum([0, *length_L]), pa.int32()), flat_V)})


def lists_of(
    table: pa.Table, part: Part, users: IdMap, items: IdMap, user_N: Int[np.ndarray, "N"], item_N: Int[np.ndarray, "N"]
) -> tuple[Int[np.ndarray, "N C"] | None, list[str]]:
    """The list of each sample of a part, by its user and target; None where the part has none, and a note if it has some.

    Raises ConfigError where some samples of test have a list and others have none, and where a candidate went with ``core``.
    """
    known = {name: pa.array(ids.outside(np.arange(len(ids))), pa.string()) for name, ids in (("user", users), ("item", items))}
    user_L, item_L = (
        np.asarray(pc.fill_null(pc.index_in(table.column(name), value_set=ids), -1).to_numpy(), np.int64)
        for name, ids in known.items()
    )
    key_L, key_N = user_L * len(items) + item_L, user_N.astype(np.int64) * len(items) + item_N
    key_L[(user_L < 0) | (item_L < 0)] = -1
    order = np.argsort(key_L)
    place_N = order[np.minimum(np.searchsorted(key_L[order], key_N), len(order) - 1)]
    found_N = key_L[place_N] == key_N
    if not found_N.all():
        return None, _lacking(part, users, items, user_N, item_N, found_N)
    flat = pc.index_in(pc.list_flatten(table.column(LISTED).combine_chunks()), value_set=known["item"])
    if flat.null_count:
        raise ConfigError("data.rules.core leaves out items that are candidates in the lists of the data set; set it to 1.")
    lists_LC = np.asarray(flat.to_numpy(), np.int32).reshape(len(table), -1)
    said = f"the samples of {part} have the {lists_LC.shape[1]:,} candidates each that the data set says, in its order."
    return lists_LC[place_N], [said]


def _lacking(
    part: Part, users: IdMap, items: IdMap, user_N: np.ndarray, item_N: np.ndarray, found_N: Bool[np.ndarray, "N"]
) -> list[str]:
    count, first = int((~found_N).sum()), int(np.flatnonzero(~found_N)[0])
    who, what = users.outside([int(user_N[first])])[0], items.outside([int(item_N[first])])[0]
    said = f"{count:,} of {len(found_N):,} samples of {part} have no list of candidates (user '{who}', target '{what}')"
    if part == "test":
        raise ConfigError(f"{said}; give a list for each sample of test, or leave out data.source.candidates.")
    return [f"{said}, so the lists of the data set are not used there."] if found_N.any() else []


def _numbers(one: pa.Array, other: pa.Array) -> Int[np.ndarray, "N"]:
    """A number for each pair of values."""
    a, b = (np.asarray(pc.dictionary_encode(column).indices.to_numpy(), np.int64) for column in (one, other))
    return a * (int(b.max(initial=0)) + 1) + b


def _in_turn(number_N: Int[np.ndarray, "N"]) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "L"]]:
    """0, 1, … for each number in the order in which they first come, and where that is."""
    _, first_L, which_N = np.unique(number_N, return_index=True, return_inverse=True)
    rank_L = np.empty(len(first_L), np.int64)
    rank_L[np.argsort(first_L)] = np.arange(len(first_L))
    return rank_L[which_N], np.sort(first_L)
