"""Feedback that is no rating: kinds of events and counts become levels with names. Knows rows of text, no split.

The levels of counts are cut by numbers c_1 < c_2 < …, the same for all users:

    level(n) = 1 + how many of the cuts are <= n

    log         c_k = base^k, k = 1 … levels - 1: 1 to 9, 10 to 99, 100 to 999, 1000 and more for base = 10 and levels = 4
    thresholds  c_k as they are given
    quantiles   c_k = the least count that k/levels of all counts of the log are below, for levels that are about as large

Quantiles are never taken user by user. Each user would have as many events of one level as of another, so the levels of a history
would tell the target's: of 4, 3, 2 and 1 plays the last is what the first three are not. Over all users a count moves a cut by
one place of the whole log at most, so the log is not split before.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float
from pydantic import Field, model_validator

from lifelora.data.faults import Faults, nothing
from lifelora.data.interactions import Columns
from lifelora.data.levels import MAX_LEVELS
from lifelora.data.numbers import numbers
from lifelora.data.omit import omit
from lifelora.data.rows import Problems, Rows, mask
from lifelora.errors import on_one_line
from lifelora.types import Frozen

SHOWN = 10
"""Kinds of events that a message lists."""
OTHERS = "other_events"


class Cuts(Frozen, ABC):
    """A rule for counts."""

    unit: str = Field(default="times", min_length=1)
    "What is counted, as prompts say it: 2 to 9 times."

    @abstractmethod
    def cuts(self, count_N: Float[np.ndarray, "N"]) -> Float[np.ndarray, "K"]:
        """Where levels begin, but for the first, in order."""

    @final
    def name(self, low: float | None, high: float | None, whole: bool) -> str:
        """What a level of the counts ``low <= n < high`` is called; ``whole`` says whether they are whole numbers."""
        if not whole:
            end = f"{self.unit} or more" if high is None else f"below {high:g} {self.unit}"
            start = "" if low is None else f"{low:g} " if high is None else f"{low:g} to "
            return start + end
        first = 1 if low is None else int(np.ceil(low))
        if high is None:
            return f"{first} {self.unit} or more"
        last = int(np.ceil(high)) - 1
        if first < last:
            return f"{first} to {last} {self.unit}"
        return "once" if (first, self.unit) == (1, "times") else f"{first} {self.unit}"


@final
class Log(Cuts):
    """Each level holds counts ``base`` times as large as the one below."""

    rule: Literal["log"] = "log"
    base: float = Field(default=10.0, gt=1, le=1e6)
    levels: int = Field(default=5, ge=2, le=MAX_LEVELS)
    "The last one has no upper end."

    def cuts(self, count_N: Float[np.ndarray, "N"]) -> Float[np.ndarray, "K"]:
        return np.asarray(self.base ** np.arange(1.0, self.levels))


@final
class Quantiles(Cuts):
    """Levels are about equally large; equal counts are of one level, so there may be fewer."""

    rule: Literal["quantiles"] = "quantiles"
    levels: int = Field(default=5, ge=2, le=MAX_LEVELS)

    def cuts(self, count_N: Float[np.ndarray, "N"]) -> Float[np.ndarray, "K"]:
        value_V, times_V = np.unique(count_N, return_counts=True)
        below_V = np.cumsum(times_V) - times_V
        place_K = np.searchsorted(below_V * self.levels, np.arange(1, self.levels) * len(count_N))  # whole numbers: exact
        return np.asarray(value_V[np.unique(place_K[place_K < len(value_V)])])


@final
class Thresholds(Cuts):
    """Levels begin at the given counts, the first below them."""

    rule: Literal["thresholds"] = "thresholds"
    at: tuple[float, ...] = Field(min_length=1, max_length=MAX_LEVELS - 1)

    @model_validator(mode="after")
    def _grow(self) -> "Thresholds":
        if not all(np.isfinite(self.at)) or any(a >= b for a, b in pairwise((0.0, *self.at))):
            raise ValueError(f"counts.at = {list(self.at)} must be positive numbers, each larger than the one before")
        return self

    def cuts(self, count_N: Float[np.ndarray, "N"]) -> Float[np.ndarray, "K"]:
        return np.array(self.at)


Counts = Annotated[Log | Quantiles | Thresholds, Field(discriminator="rule")]
Names = dict[float, str]


def rated(
    log: Rows,
    columns: Columns,
    events: Mapping[str, float],
    counts: Cuts | None,
    other_events: Literal["refuse", "drop"],
    faults: Faults,
    problems: Problems,
    notes: list[str],
) -> tuple[Rows, Columns, Names, Rows | None]:
    """The log with ratings in the place of kinds of events or of counts, where its ratings are, and what these are called.

    The last are the events of other kinds that are left out.
    """
    told = columns.event or columns.count
    if told is None or log.lacks([told], problems):
        return log, columns.among(log.table.column_names), {}, None
    others = None
    missing_N = nothing(log.table.column(told)) & ~_is_kind(log, told, events)  # a kind may be called None
    what = "kind of event" if columns.event else "count"
    if faults.without_rating == "drop":
        if len(log) and missing_N.all():
            problems.add_file(log.file, f"no row is left: every one lacks a {what} in '{told}'")
        log = omit(log, missing_N, notes, f'they have no {what} (without_rating = "drop")')
        missing_N = missing_N[~missing_N]
    else:
        problems.add_rows(log, told, missing_N, f"a {what} is missing{faults.mend('without_rating', 'drop')}")
    if columns.event:
        log, rating, names, others = _of_events(log, told, missing_N, events, other_events, problems, notes)
    else:
        assert counts is not None, "the layout asks for a rule"
        rating, names = _of_counts(log, told, missing_N, counts, problems, notes)
    # The column keeps its name in messages.
    ratings = columns.model_copy(update={"count": None, "rating": told})
    return log.with_columns(**{told: rating}), ratings, names, others


def _is_kind(log: Rows, column: str, events: Mapping[str, float]) -> Bool[np.ndarray, "N"]:
    kinds = pc.utf8_trim_whitespace(log.table.column(column))
    return mask(pc.is_in(kinds, value_set=pa.array(list(events), pa.string())))


def _of_events(
    log: Rows,
    column: str,
    missing_N: Bool[np.ndarray, "N"],
    events: Mapping[str, float],
    others: Literal["refuse", "drop"],
    problems: Problems,
    notes: list[str],
) -> tuple[Rows, pa.Array, Names, Rows | None]:
    kinds = pc.utf8_trim_whitespace(log.table.column(column).combine_chunks())
    place, left_out = pc.index_in(kinds, value_set=pa.array(list(events), pa.string())), None
    other_N = mask(pc.is_null(place)) & ~missing_N
    if others == "refuse":
        known = ", ".join(map(on_one_line, list(events)[:SHOWN]))
        what = f"events has no such kind; it has {known}. Give it a value there, or leave out all other kinds: {OTHERS} = 'drop'"
        problems.add_rows(log, column, other_N, what)
    elif other_N.any():
        counted = pc.value_counts(kinds.filter(pa.array(other_N))).to_pylist()
        listed = sorted(counted, key=lambda one: (-one["counts"], one["values"]))
        said = ", ".join(f"{on_one_line(one['values'])[:80]} ({one['counts']:,})" for one in listed[:SHOWN])
        more = f" and {len(listed) - SHOWN:,} more" if len(listed) > SHOWN else ""
        rest = f"{int(other_N.sum()):,} of {len(log):,} rows"
        notes.append(f"{log.file}: {rest} are left out, of kinds that `events` does not name: {said}{more}.")
        log, left_out, place = log.where(~other_N), log.where(other_N), place.filter(pa.array(~other_N))
    values = pa.array([f"{value!r}" for value in events.values()], pa.string())
    names: Names = {}
    for kind, value in events.items():
        names[float(value)] = f"{names[float(value)]} or {kind}" if float(value) in names else kind
    return log, values.take(pc.fill_null(place, 0)), names, left_out  # what was refused has any value: no second problem


def _of_counts(
    log: Rows, column: str, missing_N: Bool[np.ndarray, "N"], counts: Cuts, problems: Problems, notes: list[str]
) -> tuple[pa.Array, Names]:
    count_N = numbers(log.table.column(column))
    bad_N = ~missing_N & ~(np.isfinite(count_N) & (count_N > 0))
    problems.add_rows(log, column, bad_N, "not a count; write a number above 0 (what never happened has no row)")
    good_N = count_N[~missing_N & ~bad_N]
    whole = bool((good_N == np.floor(good_N)).all())
    cuts_K = counts.cuts(good_N)
    level_N = np.searchsorted(cuts_K, np.where(np.isnan(count_N), 0, count_N), side="right")
    ends: Sequence[float | None] = [None, *cuts_K.tolist(), None]
    names = {float(level): counts.name(low, high, whole) for level, (low, high) in enumerate(pairwise(ends), start=1)}
    texts = pa.array([str(level) for level in range(1, len(ends))], pa.string())
    listed = ", ".join(f"{level:g} = {name}" for level, name in names.items())
    notes.append(f"{log.file}: counts in '{column}' became {len(names)} levels, the same for all users: {listed}.")
    return texts.take(pa.array(level_N)), names  # what was refused has any level: no second problem
