"""The log's rows, checked: ids, ratings, times, repetitions. Knows no file format and nothing about items."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float
from pydantic import model_validator

from lifelora.data.faults import Faults
from lifelora.data.forms import ALIKE, bare_forms
from lifelora.data.numbers import numbers
from lifelora.data.parts import checked_parts
from lifelora.data.repetitions import interactions_once
from lifelora.data.rows import MAX_VALUE, Problems, Rows, mask
from lifelora.data.times import Times, seconds
from lifelora.types import Frozen

RATING = "rating"
MAX_RATING = float(np.finfo(np.float32).max)
MEND_RATING = "; say with columns.rating which one holds the rating or a 0/1 label, or leave the key out where there is none"


class Columns(Frozen):
    """Which columns of the log hold what."""

    user: str = "user"
    item: str = "item"
    rating: str | None = None
    """A number or a 0/1 label. Where nothing is said: the column 'rating', if there is one; else the log has no ratings, and a
    row says that its user chose its item."""
    event: str | None = None
    "In the place of ratings, what happened: view, purchase. ``events`` says what each kind is worth."
    count: str | None = None
    "In the place of ratings, how often it happened. ``counts`` makes a few levels of it."
    time: str | None = None
    "None where the log has no times."
    part: str | None = None
    "Train, valid or test, where the log comes with a split of its own; ``data.rules.split = { kind = 'given' }`` takes it."

    @model_validator(mode="after")
    def _said_once(self) -> "Columns":
        said = [name for name in ("rating", "event", "count") if getattr(self, name) is not None]
        if len(said) > 1:
            raise ValueError(f"columns.{' and columns.'.join(said)} say the same of a row, how much it counts; keep one of them")
        return self

    @property
    def names(self) -> list[str]:
        """The columns that must be there."""
        wanted = [self.user, self.item, self.rating, self.event, self.count, self.time, self.part]
        return [name for name in wanted if name is not None]

    def among(self, names: Sequence[str]) -> "Columns":
        """These columns of a log that has columns of these ``names``: with its ratings, where it has some and nothing is said."""
        if RATING in names and self.rating is None and self.event is None and self.count is None:
            return self.model_copy(update={"rating": RATING})
        return self


def checked_interactions(
    rows: Rows,
    columns: Columns,
    rating_range: tuple[float, float] | None,
    problems: Problems,
    notes: list[str],
    faults: Faults,
    times: Times,
) -> tuple[Rows, pa.Table] | None:
    """The rows that stay, and their user, item and, where the log has them, rating and time as ``RawTables`` has them.

    None when a column is missing, or when no row stays.
    """
    columns = columns.among(rows.table.column_names)
    if rows.lacks(columns.names, problems, {columns.rating: MEND_RATING} if columns.rating else None):
        return None
    optional = {columns.rating: "without_rating", columns.time: "without_time"}
    keys = {columns.user: "without_user", columns.item: "without_item"} | {c: key for c, key in optional.items() if c is not None}
    rows, came = faults.dropped(rows, keys, notes), len(rows)
    if came and not len(rows):
        problems.add_file(rows.file, f"no row is left: every one lacks a value in one of {', '.join(keys)}")
        return None
    made = {
        "user": rows.ids(columns.user, problems, faults.mend("without_user", "drop")),
        "item": rows.ids(columns.item, problems, faults.mend("without_item", "drop")),
    }
    if columns.rating:
        made["rating"] = pa.array(_ratings(rows, columns.rating, rating_range, problems, faults).astype(np.float32))
    if columns.time:
        made["time"] = pa.array(seconds(rows, columns.time, times, problems, faults.mend("without_time", "drop")))
    if columns.part:
        made["part"] = checked_parts(rows, columns.part, problems)
    return interactions_once(rows, pa.table(made), faults, problems, notes, kinds=columns.event is not None)


def known_items(
    rows: Rows, column: str, interactions: pa.Table, catalogue: pa.Table, faults: Faults, problems: Problems, notes: list[str]
) -> pa.Table:
    """Interactions of which the catalogue may have the item, by ``faults.unknown_items``; others are problems or dropped."""
    items = interactions.column("item").combine_chunks()
    there = catalogue.column("item").combine_chunks()
    unknown_N = ~mask(pc.is_in(items, value_set=there))
    unknown_N &= ~mask(pc.equal(items, ""))  # a missing id is reported already
    if not unknown_N.any():
        return interactions
    if faults.unknown_items == "refuse":
        bare = bare_forms(items.filter(pa.array(unknown_N)))
        other = pc.index_in(bare, value_set=bare_forms(there))
        written_N = unknown_N.copy()
        written_N[unknown_N] = mask(pc.is_valid(other))
        if written_N.any():
            example = there[other.drop_null()[0].as_py()].as_py()
            what = f"the catalogue has no such item, but '{example[:MAX_VALUE]}', which is written otherwise: {ALIKE}"
            problems.add_rows(rows, column, written_N, what)
        mend = faults.mend("unknown_items", "drop", "allow")
        problems.add_rows(rows, column, unknown_N & ~written_N, f"the catalogue has no such item{mend}")
        return interactions
    distinct = pc.count_distinct(items.filter(pa.array(unknown_N))).as_py()
    said = f"{int(unknown_N.sum()):,} interactions are with {distinct:,} items that the catalogue lacks"
    if faults.unknown_items == "allow":
        notes.append(f"{said}; they have no text.")
        return interactions
    notes.append(f'{said}; they are left out (unknown_items = "drop").')
    if unknown_N.all():
        problems.add_file(rows.file, "no row is left: the catalogue has none of the log's items; are the ids written alike?")
    return interactions.filter(pa.array(~unknown_N))


def _ratings(
    rows: Rows, column: str, rating_range: tuple[float, float] | None, problems: Problems, faults: Faults
) -> Float[np.ndarray, "N"]:
    text = rows.table.column(column)
    rating_N = numbers(text)
    missing_N = mask(pc.equal(pc.utf8_trim_whitespace(text), ""))
    problems.add_rows(rows, column, missing_N, f"a rating is missing{faults.mend('without_rating', 'drop')}")
    named_N = mask(pc.match_substring_regex(text, r"^\s*[+-]?(nan|inf|infinity)\s*$", ignore_case=True))
    problems.add_rows(rows, column, ~np.isfinite(rating_N) & named_N, "a rating must be finite")
    problems.add_rows(
        rows,
        column,
        ~np.isfinite(rating_N) & ~missing_N & ~named_N,
        "not a number; write ratings with digits and a decimal point (or of a file, say decimal = ',')",
    )
    large_N = np.isfinite(rating_N) & (np.abs(rating_N) > MAX_RATING)
    problems.add_rows(rows, column, large_N, "too large for a rating: 32-bit floating point does not hold it")
    rating_N[large_N] = np.nan
    if rating_range:
        low, high = rating_range
        outside_N = np.isfinite(rating_N) & ((rating_N < low) | (rating_N > high))
        problems.add_rows(rows, column, outside_N, f"ratings go from {low:g} to {high:g}")
    return rating_N
