"""Times of the log, as numbers or dates of many forms, in Unix seconds. Knows no file format.

A fraction of a second is cut. A time without a zone means UTC. What looks like a time of another unit or form is refused with
the key that would read it, and so is what is no time of any log.
"""

import re
from calendar import month_name
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Float, Int
from pydantic import field_validator, model_validator

from lifelora.data.numbers import evaluated, numbers
from lifelora.data.rows import Problems, Rows, mask
from lifelora.errors import Problem
from lifelora.types import Frozen

UNITS = {"seconds": 1, "milliseconds": 10**3, "microseconds": 10**6, "nanoseconds": 10**9}
"""How many make a second."""
EARLIEST, SOON = 631_152_000, 4_102_444_800
"""The beginnings of 1990 and 2100. Logs lie between them: a number that does not, and would in another unit, is of that one."""
LATEST, FARTHEST = 1e11, 2.0**62
"""No log holds the year 5138; and what 64 bits hold."""
ISO = (
    r"^(?P<date>\d{4}-\d{2}-\d{2}|\d{4}/\d{2}/\d{2})(?:[Tt ](?P<clock>\d{2}:\d{2}(?::\d{2})?)(?:[.,]\d+)?"
    r"\s*(?:(?P<utc>[Zz]|UTC|GMT)|(?P<sign>[+-])(?P<hours>[01]\d|2[0-3]):?(?P<minutes>[0-5]\d)?)?)?$"
)
COMPACT = (
    r"^(?:19|20)\d\d(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])(?P<clock>(?:[01]\d|2[0-3])(?:[0-5]\d(?:[0-5]\d(?:\d{3})?)?)?)?$"
)
"""Dates written as numbers: 20240105, 202401051230."""
COMPACT_FORMATS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S", 17: "%Y%m%d%H%M%S%g"}
"""By their length."""
DAY_OR_MONTH = r"^(?P<first>\d{1,2})(?P<sign>[./-])(?P<second>\d{1,2})[./-]\d{4}(?P<clock> \d{1,2}:\d{2}(?::\d{2})?)?$"
DATE_SIGNS = ({"Y", "y"}, {"m", "b", "B", "j"}, {"d", "j"})
FORMAT_SIGNS = "aAbBdfgHIjmMnpSyYz%"
"""Of strptime, those that mean the same everywhere."""


class Times(Frozen):
    """How a log writes its times, and whether those that look like none are taken."""

    time_unit: Literal["seconds", "milliseconds", "microseconds", "nanoseconds"] = "seconds"
    "Since 1970, where times are numbers."
    time_format: str | None = None
    """Where they are written otherwise than by ISO 8601, in the words of strptime: ``%d.%m.%Y``, ``%d/%m/%Y %H:%M``."""
    early_times: Literal["refuse", "allow"] = "refuse"
    "What to do with times before 1990, and with a log all of whose times are the same: they are rarely times."

    @field_validator("time_format")
    @classmethod
    def _names_a_day(cls, value: str | None) -> str | None:
        if value is None:
            return value
        signs = re.findall(r"%(.?)", value, re.DOTALL)
        for sign in signs:
            if not sign or sign not in FORMAT_SIGNS:
                allowed = ", ".join(f"%{one}" for one in FORMAT_SIGNS)
                raise ValueError(f"time_format: '%{sign}' is not known; write {allowed}, as in '%d.%m.%Y %H:%M'")
        if len(value) > 100 or not all(needed & set(signs) for needed in DATE_SIGNS):
            raise ValueError("time_format has to name a year, a month and a day, as '%d.%m.%Y' does")
        return value

    @model_validator(mode="after")
    def _of_one_form(self) -> "Times":
        if self.time_format is not None and self.time_unit != "seconds":
            raise ValueError("time_unit is for numbers and time_format for dates; give one of them")
        return self


TRUSTED = Times(early_times="allow")
"""Of a source whose files are known."""


def seconds(rows: Rows, column: str, times: Times, problems: Problems, mend: str = "") -> Int[np.ndarray, "N"]:
    """Unix seconds of each row; what is no time, or hardly one, is a problem and 0. ``mend``: for a missing one."""
    text = pc.utf8_trim_whitespace(rows.table.column(column)).combine_chunks()
    if times.time_format is not None:
        second_N = np.floor(evaluated("epoch(try_strptime(text, ?))", pa.table({"text": text}), times.time_format))
    else:
        second_N = _of_numbers(text, UNITS[times.time_unit])
        rest = np.flatnonzero(np.isnan(second_N))
        if len(rest):
            second_N[rest] = _iso(text.take(pa.array(rest)))
    fine_N = np.isfinite(second_N)
    missing_N = mask(pc.equal(text, "")) if not fine_N.all() else ~fine_N
    problems.add_rows(rows, column, missing_N, f"a time is missing{mend}")
    if times.time_format is None:
        _refuse_forms(rows, column, text, ~fine_N & ~missing_N, problems)
    else:
        what = f"not a time as time_format = '{times.time_format}' has it"
        problems.add_rows(rows, column, ~fine_N & ~missing_N, what)
    _refuse_unlikely(rows, column, text, second_N, times, problems)
    return np.where(fine_N, np.clip(second_N, -FARTHEST, FARTHEST), 0).astype(np.int64)


def _of_numbers(text: pa.Array, scale: int) -> Float[np.ndarray, "N"]:
    """Whole seconds of numbers of which ``scale`` are one; NaN where a text is no number."""
    try:
        second_N: np.ndarray = np.floor_divide(text.cast(pa.int64()).to_numpy(), scale).astype(np.float64)
        return second_N
    except pa.ArrowInvalid:
        second_N = np.floor(numbers(text) / scale)
    long_N = mask(pc.match_substring_regex(text, r"^-?(\d{16,18}|[0-8]\d{18})$"))  # a float cuts their last digits
    if long_N.any():
        second_N[long_N] = text.filter(pa.array(long_N)).cast(pa.int64()).to_numpy() // scale
    return second_N


def _refuse_unlikely(
    rows: Rows, column: str, text: pa.Array, second_N: Float[np.ndarray, "N"], times: Times, problems: Problems
) -> None:
    """Times that no log has are problems, said by what they seem to be."""
    fine_N, allowed = np.isfinite(second_N), times.early_times == "allow"
    equal = len(second_N) > 1 and fine_N.all() and second_N.min() == second_N.max()
    # Many times of a coarser unit than was said are one second of 1970: that is told below.
    if equal and not allowed and (second_N[0] >= EARLIEST or pc.count_distinct(text).as_py() == 1):
        what = (
            f"all {len(second_N):,} times are the same, so nothing came before anything; leave columns.time out if there "
            'are none, or set early_times = "allow"'
        )
        problems.add(Problem(rows.file, None, column, text[0].as_py(), what))
        return
    with np.errstate(invalid="ignore"):
        off_N = (second_N > LATEST) | ((second_N < EARLIEST) & (not allowed))
        hours_N = (second_N >= 1.99e9) & (second_N < 2.1e9)  # 2033 to 2036, or 1990010100 to 2099123123
    if not allowed and times.time_format is None and fine_N.any() and hours_N[fine_N].all():
        off_N |= hours_N & bool(pc.all(pc.match_substring_regex(text.filter(pa.array(fine_N)), COMPACT)).as_py())
    left_N = off_N.copy()

    def refuse(those_N: Bool[np.ndarray, "N"], what: str) -> None:
        nonlocal left_N
        problems.add_rows(rows, column, those_N & left_N, what)
        left_N &= ~those_N

    if off_N.any() and times.time_format is None:
        compact_N, length_N = mask(pc.match_substring_regex(text, COMPACT)), pc.utf8_length(text).to_numpy()
        for length, form in COMPACT_FORMATS.items():
            refuse(compact_N & (length_N == length), f"this looks like a date; set time_format = '{form}'")
        raw_N = numbers(text)
        for unit, scale in UNITS.items():
            said = f"this looks like {unit} since 1970, and time_unit is '{times.time_unit}'; set time_unit = '{unit}'"
            refuse((raw_N >= EARLIEST * scale) & (raw_N < SOON * scale), said)
    refuse(second_N > LATEST, "too large for a time: no log holds the year 5138")
    refuse(off_N, 'this is before 1990, when no log was kept; set early_times = "allow" if it is meant')


def _refuse_forms(rows: Rows, column: str, text: pa.Array, bad_N: Bool[np.ndarray, "N"], problems: Problems) -> None:
    """Texts that are no times: those that begin with a day or a month are said to need a format."""
    if not bad_N.any():
        return
    bad = np.flatnonzero(bad_N)
    parts = pc.extract_regex(text.take(pa.array(bad)), DAY_OR_MONTH)
    dated_N = np.zeros(len(rows), np.bool_)
    dated_N[bad[np.asarray(pc.is_valid(parts).to_numpy(zero_copy_only=False), np.bool_)]] = True
    if dated_N.any():
        found = parts.drop_null()
        first, second = (pc.struct_field(found, name).cast(pa.int64()).to_numpy() for name in ("first", "second"))
        problems.add_rows(
            rows, column, dated_N, _readings(found[0].as_py(), bool((second <= 12).all()), bool((first <= 12).all()))
        )
    what = "not a time; write seconds since 1970 or ISO 8601 (2024-05-31T18:30:00Z), or say with time_format how it is written"
    problems.add_rows(rows, column, bad_N & ~dated_N, what)


def _readings(parts: dict[str, str], day_first: bool, month_first: bool) -> str:
    """How a date that begins with a day or a month can be read, by what all such dates of the column allow."""
    clock = ["", " %H:%M", " %H:%M:%S"][parts["clock"].count(":")]
    formats = [f"{sign.join(words)}{sign}%Y{clock}" for sign in [parts["sign"]] for words in (("%d", "%m"), ("%m", "%d"))]
    possible = [form for form, there in zip(formats, (day_first, month_first), strict=True) if there]
    first, second = int(parts["first"]), int(parts["second"])
    if len(possible) == 2 and 1 <= first <= 12 and 1 <= second <= 12:
        named = f"this can be {first} {month_name[second]} or {second} {month_name[first]}"
        return f"{named}; say which it is: time_format = '{formats[0]}' or '{formats[1]}'"
    return f"not a time in this form; say how it is written: time_format = '{(possible or formats)[0]}'"


def _iso(text: pa.Array) -> Float[np.ndarray, "N"]:
    """Unix seconds of ISO 8601 texts; NaN where a text is not one or names a day or an hour that does not exist."""
    parts = pc.extract_regex(text, ISO)
    if parts.null_count == len(parts):
        return np.full(len(parts), np.nan)
    table = pa.table({name: pc.struct_field(parts, name) for name in ("date", "clock", "sign", "hours", "minutes")})
    # The zone is taken off by hand: how DuckDB reads one differs between its versions.
    return evaluated(
        """epoch(TRY_CAST(concat(replace(date, '/', '-'), ' ', CASE length(clock) WHEN 0 THEN '00:00:00'
                                 WHEN 5 THEN concat(clock, ':00') ELSE clock END) AS TIMESTAMP))
           - CASE sign WHEN '-' THEN -60 WHEN '+' THEN 60 ELSE 0 END
             * (60 * coalesce(TRY_CAST(hours AS INT), 0) + coalesce(TRY_CAST(minutes AS INT), 0))""",
        table,
    )
