"""What systems said of samples, out of columns that others wrote: checked, and nothing dropped. Knows no model and no figure.

A sample is a row: its user, a label, and a score of each system; or, where the right item stands in a list, a rank of each.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int

from lifelora.data.numbers import numbers as parsed
from lifelora.data.rows import Problems, Rows, mask
from lifelora.errors import ConfigError
from lifelora.evaluation.columns import codes, numbers
from lifelora.evaluation.ranks import Ranks
from lifelora.types import Frozen


class Names(Frozen):
    """Which columns hold what."""

    user: str = "user"
    item: str | None = None
    "Only tells samples apart; figures need none."
    label: str = "label"
    scores: tuple[str, ...] = ()
    """A number a sample each; or, with ``target``, a list of numbers, one for each candidate."""
    ranks: tuple[str, ...] = ()
    "Where the right item stood, from 1."
    target: str | None = None
    "Which of a list of scores is the right item's, from 0."

    @property
    def ranked(self) -> bool:
        """Whether samples are lists in which one item is right."""
        return bool(self.ranks or self.target)


@dataclass(frozen=True, eq=False)
class Predictions:
    """Samples and what each system said of them; users and items are codes of their ids."""

    user_N: Int[np.ndarray, "N"]
    item_N: Int[np.ndarray, "N"]
    label_N: Bool[np.ndarray, "N"]
    scores: Mapping[str, Float[np.ndarray, "N"]] = field(default_factory=dict)
    ranks: Mapping[str, Ranks] = field(default_factory=dict)

    @property
    def systems(self) -> list[str]:
        """Names of systems, in the order that was asked for."""
        return [*self.scores, *self.ranks]


def read_predictions(rows: Rows, names: Names, problems: Problems, *, labelled: bool = True) -> Predictions | None:
    """Checked predictions of rows of text or of Arrow's types; None, with all that is wrong as problems.

    ``labelled`` is False where others know the labels. Raises ConfigError where no system is named, or one twice.
    """
    systems = [*names.scores, *names.ranks]
    if not systems or len(set(systems)) < len(systems):
        raise ConfigError(f"the columns of systems are {systems}; name at least one, and each once.")
    if names.ranks and (names.scores or names.target):
        raise ConfigError("ranks and scores are judged apart; name the columns of one of them.")
    labelled = labelled and not names.ranked
    wanted = [names.user, names.item, names.label if labelled else None, names.target, *systems]
    if rows.lacks([name for name in wanted if name is not None], problems):
        return None
    before = problems.count
    ids = [_ids(rows, name, problems) if name else np.zeros(len(rows), np.int64) for name in (names.user, names.item)]
    label_N = _labels(rows, names.label, problems) if labelled else np.zeros(len(rows), np.bool_)
    if names.target:
        ranks = {name: _of_lists(rows, name, names.target, problems) for name in names.scores}
    else:
        ranks = {name: _ranks(rows, name, problems) for name in names.ranks}
    scores = {} if names.target else {name: _numbers(rows, name, "score", problems) for name in names.scores}
    return None if problems.count > before else Predictions(ids[0], ids[1], label_N, scores, ranks)


def _numbers(rows: Rows, column: str, called: str, problems: Problems) -> Float[np.ndarray, "N"]:
    """A number for every sample."""
    values = rows.table.column(column)
    if _is_text(values):
        missing_N, number_N = mask(pc.equal(pc.fill_null(pc.utf8_trim_whitespace(values), ""), "")), parsed(values)
    else:
        missing_N = mask(pc.is_null(values, nan_is_null=True))
        try:
            number_N = numbers(values, called)
        except ConfigError:
            problems.add_rows(rows, column, ~missing_N, f"a {called} is a number, and this is {values.type}")
            return np.zeros(len(rows))
    problems.add_rows(rows, column, missing_N, f"a {called} is missing; every sample needs one")
    problems.add_rows(rows, column, ~np.isfinite(number_N) & ~missing_N, f"a {called} is a finite number")
    finite_N: Float[np.ndarray, "N"] = np.nan_to_num(number_N)
    return finite_N


def _labels(rows: Rows, column: str, problems: Problems) -> Bool[np.ndarray, "N"]:
    values = rows.table.column(column)
    if _is_text(values):  # as pandas writes booleans into a CSV
        word = pc.utf8_lower(pc.utf8_trim_whitespace(values))
        worded = pc.if_else(pc.equal(word, "true"), "1", pc.if_else(pc.equal(word, "false"), "0", values))
        rows = rows.with_columns(**{column: worded})
    before, label_N = problems.count, _numbers(rows, column, "label", problems)
    if problems.count == before:
        problems.add_rows(rows, column, (label_N != 0) & (label_N != 1), "a label is 0 or 1")
    return np.asarray(label_N == 1, np.bool_)


def _ids(rows: Rows, column: str, problems: Problems) -> Int[np.ndarray, "N"]:
    values = rows.table.column(column)
    missing_N = mask(pc.is_null(values, nan_is_null=True))
    if _is_text(values):
        missing_N |= mask(pc.equal(pc.utf8_trim_whitespace(values), ""))
    problems.add_rows(rows, column, missing_N, "an id is missing")
    return np.zeros(len(rows), np.int64) if missing_N.any() else codes(values, column)


def _ranks(rows: Rows, column: str, problems: Problems) -> Ranks:
    before, rank_N = problems.count, _numbers(rows, column, "rank", problems)
    if problems.count == before:
        bad_N = (rank_N < 1) | (rank_N != np.floor(rank_N))
        what = "a rank is a whole number from 1; give one that was not in the list the length of the list plus 1"
        problems.add_rows(rows, column, bad_N, what)
    better_N = np.maximum(rank_N, 1).astype(np.int64) - 1
    return Ranks(better_N, np.ones_like(better_N))


def _of_lists(rows: Rows, column: str, target: str, problems: Problems) -> Ranks:
    """Ranks of the right items in lists of scores, which need not be equally long."""
    lists, before = rows.table.column(column).combine_chunks(), problems.count
    target_N = _numbers(rows, target, "place of the right item", problems)
    if not (pa.types.is_list(lists.type) or pa.types.is_large_list(lists.type)):
        problems.add_rows(rows, column, np.ones(len(rows), np.bool_), f"a list of scores is due, and this is {lists.type}")
        return Ranks(np.zeros(0, np.int64), np.zeros(0, np.int64))
    flat = pc.list_flatten(lists)
    score_V, row_V = (
        parsed(flat) if _is_text(flat) else numbers(flat, column),
        np.asarray(pc.list_parent_indices(lists).to_numpy(), np.int64),
    )
    length_N = np.bincount(row_V, minlength=len(rows))
    nothing_N = np.bincount(row_V, weights=np.isnan(score_V), minlength=len(rows)) > 0
    problems.add_rows(rows, column, nothing_N, "a score of a candidate is missing or no number")
    outside_N = (target_N < 0) | (target_N >= length_N) | (target_N != np.floor(target_N))
    problems.add_rows(rows, target, outside_N, f"the right item's place in '{column}' counts from 0 and ends before its length")
    if problems.count > before:
        return Ranks(np.zeros(0, np.int64), np.zeros(0, np.int64))
    own_N = score_V[np.cumsum(length_N) - length_N + target_N.astype(np.int64)]
    better_N = np.bincount(row_V, weights=score_V > own_N[row_V], minlength=len(rows)).astype(np.int64)
    tied_N = np.bincount(row_V, weights=score_V == own_N[row_V], minlength=len(rows)).astype(np.int64)
    return Ranks(better_N, tied_N)


def _is_text(values: pa.Array | pa.ChunkedArray) -> bool:
    return bool(pa.types.is_string(values.type) or pa.types.is_large_string(values.type))


def rows_of(columns: Mapping[str, pa.ChunkedArray], there: Sequence[str], called: str, first: int) -> Rows:
    """Columns of Arrow's types as rows, which are numbered from ``first``; what has a dictionary of values gets its values."""
    plain = {
        name: pa.chunked_array([chunk.dictionary_decode() for chunk in column.chunks], column.type.value_type)
        if pa.types.is_dictionary(column.type)
        else column
        for name, column in columns.items()
    }
    n = len(next(iter(plain.values()))) if plain else 0
    return Rows(called, pa.table(plain), np.arange(first, first + n), tuple(there))
