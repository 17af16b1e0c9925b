"""The log's rows, checked: ids, ratings, times, repetitions. Knows no file format and nothing about items.

Times are Unix seconds (a fraction is cut) or ISO 8601 dates and date-times; one without a zone means UTC.
"""

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from lifelora.data.rows import Problems, Rows, mask
from lifelora.errors import DataError, Problem
from lifelora.types import Frozen

MAX_RATING = float(np.finfo(np.float32).max)
LATEST = 1e11
"""No log holds the year 5138: a greater number of 'seconds' is milliseconds or finer."""
MEND_RATING = (
    "; say with columns.rating which one holds the rating or a 0/1 label (a log of clicks or purchases alone says "
    "nothing about what users did not like)"
)
ISO = (
    r"^(?P<date>\d{4}-\d{2}-\d{2})(?:[Tt ](?P<clock>\d{2}:\d{2}(?::\d{2})?)(?:[.,]\d+)?"
    r"\s*(?:(?P<utc>[Zz])|(?P<sign>[+-])(?P<hours>[01]\d|2[0-3]):?(?P<minutes>[0-5]\d)?)?)?$"
)


class Columns(Frozen):
    """Which columns of the log hold what."""

    user: str = "user"
    item: str = "item"
    rating: str = "rating"
    time: str | None = None
    "None where the log has no times."

    @property
    def names(self) -> list[str]:
        """The columns that must be there."""
        return [self.user, self.item, self.rating, *([self.time] if self.time else [])]


def checked_interactions(
    rows: Rows, columns: Columns, rating_range: tuple[float, float] | None, problems: Problems
) -> pa.Table | None:
    """user, item, rating and (if mapped) time as ``RawTables`` has them; None when a column is missing."""
    if rows.lacks(columns.names, problems, {columns.rating: MEND_RATING}):
        return None
    users, items = rows.ids(columns.user, problems), rows.ids(columns.item, problems)
    rating_N = _ratings(rows, columns.rating, rating_range, problems)
    made = {"user": users, "item": items, "rating": pa.array(rating_N.astype(np.float32))}
    if columns.time:
        made["time"] = pa.array(_times(rows, columns.time, problems))
    _repetitions(rows, pa.table(made), problems)
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
    rating_N = _numbers(text)
    missing_N = mask(pc.equal(pc.utf8_trim_whitespace(text), ""))
    problems.add_rows(rows, column, missing_N, "a rating is missing")
    named_N = mask(pc.match_substring_regex(text, r"^\s*[+-]?(nan|inf|infinity)\s*$", ignore_case=True))
    problems.add_rows(rows, column, ~np.isfinite(rating_N) & named_N, "a rating must be finite")
    problems.add_rows(
        rows,
        column,
        ~np.isfinite(rating_N) & ~missing_N & ~named_N,
        "not a number; write ratings with digits and a decimal point",
    )
    large_N = np.isfinite(rating_N) & (np.abs(rating_N) > MAX_RATING)
    problems.add_rows(rows, column, large_N, "too large for a rating: 32-bit floating point does not hold it")
    rating_N[large_N] = np.nan
    if rating_range:
        low, high = rating_range
        outside_N = np.isfinite(rating_N) & ((rating_N < low) | (rating_N > high))
        problems.add_rows(rows, column, outside_N, f"ratings go from {low:g} to {high:g}")
    return rating_N


def _times(rows: Rows, column: str, problems: Problems) -> Int[np.ndarray, "N"]:
    text = rows.table.column(column).combine_chunks()
    seconds_N = _numbers(text)
    fine_N = np.isfinite(seconds_N)
    large_N = np.abs(seconds_N) > LATEST
    problems.add_rows(rows, column, fine_N & large_N, "too large for seconds since 1970; divide milliseconds by 1000")
    rest = np.flatnonzero(~fine_N)
    if len(rest):
        seconds_N[rest] = _iso(pc.utf8_trim_whitespace(text.take(pa.array(rest))))
        fine_N = np.isfinite(seconds_N)
    problems.add_rows(rows, column, ~fine_N, "not a time; write Unix seconds or ISO 8601 (2024-05-31T18:30:00Z)")
    return np.floor(np.where(fine_N & ~large_N, seconds_N, 0)).astype(np.int64)


def _numbers(text: pa.Array | pa.ChunkedArray) -> Float[np.ndarray, "N"]:
    """Values of decimal texts; NaN where a text is not one."""
    text = pc.utf8_trim_whitespace(text)
    try:
        return np.array(text.cast(pa.float64()).to_numpy(), np.float64)
    except pa.ArrowInvalid:  # some text is no number: find out which
        return _evaluated("TRY_CAST(text AS DOUBLE)", pa.table({"text": text}))


def _iso(text: pa.Array) -> Float[np.ndarray, "N"]:
    """Unix seconds of ISO 8601 texts; NaN where a text is not one or names a day or an hour that does not exist."""
    parts = pc.extract_regex(text, ISO)
    if parts.null_count == len(parts):
        return np.full(len(parts), np.nan)
    table = pa.table({name: pc.struct_field(parts, name) for name in ("date", "clock", "sign", "hours", "minutes")})
    # The zone is taken off by hand: how DuckDB reads one differs between its versions.
    return _evaluated(
        """epoch(TRY_CAST(concat(date, ' ', CASE length(clock) WHEN 0 THEN '00:00:00' WHEN 5 THEN concat(clock, ':00')
                                           ELSE clock END) AS TIMESTAMP))
           - CASE sign WHEN '-' THEN -60 WHEN '+' THEN 60 ELSE 0 END
             * (60 * coalesce(TRY_CAST(hours AS INT), 0) + coalesce(TRY_CAST(minutes AS INT), 0))""",
        table,
    )


def _evaluated(expression: str, table: pa.Table) -> Float[np.ndarray, "N"]:
    """A DuckDB expression over each row, as float64; NaN where it is null."""
    with duckdb.connect() as connection:
        connection.execute("SET threads = 2")
        connection.register("rows", table)
        answer = connection.execute(f"SELECT coalesce(({expression})::DOUBLE, 'nan'::DOUBLE) AS value FROM rows")
        return np.array(answer.fetchnumpy()["value"], np.float64)


def _repetitions(rows: Rows, table: pa.Table, problems: Problems) -> None:
    """The same user, item and time (without times: and rating) twice is one interaction written twice."""
    ids = (table.column(name).combine_chunks() for name in ("user", "item"))
    user_N, item_N = (pc.dictionary_encode(column).indices.to_numpy() for column in ids)
    pair_N = user_N.astype(np.int64) * (int(item_N.max(initial=0)) + 1) + item_N
    order = np.argsort(pair_N, kind="stable")
    again = np.flatnonzero(pair_N[order][1:] == pair_N[order][:-1])
    if not len(again):
        return
    last = table.column("time" if "time" in table.column_names else "rating").to_numpy()
    suspects = np.unique(np.concatenate([order[again], order[again + 1]]))
    order = suspects[np.lexsort((suspects, last[suspects], pair_N[suspects]))]
    same = np.append(False, (pair_N[order][1:] == pair_N[order][:-1]) & (last[order][1:] == last[order][:-1]))
    group = np.maximum.accumulate(np.where(same, 0, np.arange(len(order))))  # where each run of equals begins
    found = np.flatnonzero(same)
    what = "time" if "time" in table.column_names else "rating"
    shown = [
        Problem(
            rows.file,
            int(rows.line_N[order[at]]),
            None,
            None,
            f"the same user, item and {what} as in line {rows.line_N[order[group[at]]]}; keep one",
        )
        for at in found[: DataError.SHOWN]
    ]
    if len(found):
        problems.add_kind(shown, len(found))
