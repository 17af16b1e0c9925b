"""Times of the log: Unix seconds (a fraction is cut) or ISO 8601 dates and date-times. Knows no file format.

One without a zone means UTC.
"""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from lifelora.data.numbers import evaluated, numbers
from lifelora.data.rows import Problems, Rows

LATEST = 1e11
"""No log holds the year 5138: a greater number of 'seconds' is milliseconds or finer."""
ISO = (
    r"^(?P<date>\d{4}-\d{2}-\d{2})(?:[Tt ](?P<clock>\d{2}:\d{2}(?::\d{2})?)(?:[.,]\d+)?"
    r"\s*(?:(?P<utc>[Zz])|(?P<sign>[+-])(?P<hours>[01]\d|2[0-3]):?(?P<minutes>[0-5]\d)?)?)?$"
)


def seconds(rows: Rows, column: str, problems: Problems) -> Int[np.ndarray, "N"]:
    text = rows.table.column(column).combine_chunks()
    seconds_N = numbers(text)
    fine_N = np.isfinite(seconds_N)
    large_N = np.abs(seconds_N) > LATEST
    problems.add_rows(rows, column, fine_N & large_N, "too large for seconds since 1970; divide milliseconds by 1000")
    rest = np.flatnonzero(~fine_N)
    if len(rest):
        seconds_N[rest] = _iso(pc.utf8_trim_whitespace(text.take(pa.array(rest))))
        fine_N = np.isfinite(seconds_N)
    problems.add_rows(rows, column, ~fine_N, "not a time; write Unix seconds or ISO 8601 (2024-05-31T18:30:00Z)")
    return np.floor(np.where(fine_N & ~large_N, seconds_N, 0)).astype(np.int64)


def _iso(text: pa.Array) -> Float[np.ndarray, "N"]:
    """Unix seconds of ISO 8601 texts; NaN where a text is not one or names a day or an hour that does not exist."""
    parts = pc.extract_regex(text, ISO)
    if parts.null_count == len(parts):
        return np.full(len(parts), np.nan)
    table = pa.table({name: pc.struct_field(parts, name) for name in ("date", "clock", "sign", "hours", "minutes")})
    # The zone is taken off by hand: how DuckDB reads one differs between its versions.
    return evaluated(
        """epoch(TRY_CAST(concat(date, ' ', CASE length(clock) WHEN 0 THEN '00:00:00' WHEN 5 THEN concat(clock, ':00')
                                           ELSE clock END) AS TIMESTAMP))
           - CASE sign WHEN '-' THEN -60 WHEN '+' THEN 60 ELSE 0 END
             * (60 * coalesce(TRY_CAST(hours AS INT), 0) + coalesce(TRY_CAST(minutes AS INT), 0))""",
        table,
    )
