"""The log's rows, checked: ids, ratings, times, repetitions. Knows no file format and nothing about items."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float
from pydantic import model_validator

from lifelora.data.numbers import numbers
from lifelora.data.parts import checked_parts
from lifelora.data.repetitions import refuse_repeated
from lifelora.data.rows import Problems, Rows, mask
from lifelora.data.times import seconds
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
    rows: Rows, columns: Columns, rating_range: tuple[float, float] | None, problems: Problems
) -> pa.Table | None:
    """user, item and, where the log has them, rating and time as ``RawTables`` has them; None when a column is missing."""
    columns = columns.among(rows.table.column_names)
    if rows.lacks(columns.names, problems, {columns.rating: MEND_RATING} if columns.rating else None):
        return None
    made = {"user": rows.ids(columns.user, problems), "item": rows.ids(columns.item, problems)}
    if columns.rating:
        made["rating"] = pa.array(_ratings(rows, columns.rating, rating_range, problems).astype(np.float32))
    if columns.time:
        made["time"] = pa.array(seconds(rows, columns.time, problems))
    if columns.part:
        made["part"] = checked_parts(rows, columns.part, problems)
    refuse_repeated(rows, pa.table(made), problems)
    return pa.table(made)


def check_known(
    rows: Rows, column: str, interactions: pa.Table, catalogue: pa.Table, allowed: bool, problems: Problems
) -> list[str]:
    """Interactions with items that the catalogue lacks are problems, or, if ``allowed``, counted in a note."""
    items = interactions.column("item")
    unknown_N = mask(pc.invert(pc.is_in(items, value_set=catalogue.column("item").combine_chunks())))
    unknown_N &= ~mask(pc.equal(items, ""))  # a missing id is reported already
    if not allowed:
        problems.add_rows(rows, column, unknown_N, "the catalogue has no such item")
        return []
    if not unknown_N.any():
        return []
    distinct = len(pc.unique(items.filter(pa.array(unknown_N))))
    n = int(unknown_N.sum())
    return [f"{n:,} interactions are with {distinct:,} items that the catalogue lacks; they have no text."]


def _ratings(rows: Rows, column: str, rating_range: tuple[float, float] | None, problems: Problems) -> Float[np.ndarray, "N"]:
    text = rows.table.column(column)
    rating_N = numbers(text)
    missing_N = mask(pc.equal(pc.utf8_trim_whitespace(text), ""))
    problems.add_rows(rows, column, missing_N, "a rating is missing")
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
