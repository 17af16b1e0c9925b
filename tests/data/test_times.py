"""Times as logs write them: units, dates of many forms, and what looks like one and is none."""

import datetime

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from lifelora.data.parquet import read_parquet
from lifelora.data.rows import Problems, Rows
from lifelora.data.times import Times, seconds
from lifelora.errors import DataError

UTC = datetime.UTC
NOON = 1_704_456_000
"""2024-01-05 12:00:00 UTC"""


def read(texts: list[str], **keys: str) -> list[int]:
    rows = Rows("log.csv", pa.table({"at": pa.array(texts, pa.string())}), np.arange(2, len(texts) + 2))
    problems = Problems()
    found = seconds(rows, "at", Times(**keys), problems)
    problems.refuse()
    return found.tolist()


def refused(texts: list[str], **keys: str) -> dict[int | None, str]:
    """What is said of each line."""
    with pytest.raises(DataError) as caught:
        read(texts, **keys)
    assert caught.value.count == len(caught.value.problems)
    return {problem.line: problem.what for problem in caught.value.problems}


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        ("1704456000", {}),
        ("1704456000.999", {}),
        ("1.704456e9", {}),
        ("1704456000999", {"time_unit": "milliseconds"}),
        ("1704456000999.5", {"time_unit": "milliseconds"}),
        ("1704456000999999", {"time_unit": "microseconds"}),
        ("1704456000999999999", {"time_unit": "nanoseconds"}),
        ("2024-01-05 12:00:00 UTC", {}),
        ("2024-01-05 12:00:00.250 GMT", {}),
        ("2024/01/05 12:00", {}),
        ("2024/01/05T13:00:00+01:00", {}),
        ("05.01.2024 12:00", {"time_format": "%d.%m.%Y %H:%M"}),
        ("5/1/2024 12:00", {"time_format": "%d/%m/%Y %H:%M"}),
        ("01/05/2024 12:00 PM", {"time_format": "%m/%d/%Y %I:%M %p"}),
        ("20240105120000", {"time_format": "%Y%m%d%H%M%S"}),
        ("Jan 5, 2024 - 14:00:00 +0200", {"time_format": "%b %d, %Y - %H:%M:%S %z"}),
    ],
)
def test_noon_of_a_day_however_it_is_written(text, keys):
    assert read([text], **keys) == [NOON]


def test_a_date_is_its_first_second():
    day = NOON - 12 * 3600
    assert read(["2024-01-05", "2024/01/05", "2024-01-05T00:00Z"], early_times="allow") == [day] * 3
    assert read(["05.01.2024"], time_format="%d.%m.%Y") == [day]
    assert read(["01.05.2024"], time_format="%m.%d.%Y") == [day]


def test_the_last_digits_of_nanoseconds_count_beside_other_texts():
    """As floats, 1700000000999999999 ns are 1700000001 s."""
    texts = ["1700000000999999999", "2024-01-05T12:00:00Z"]
    assert read(texts, time_unit="nanoseconds") == [1_700_000_000, NOON]


@pytest.mark.parametrize("given_unit", ["seconds", "milliseconds", "microseconds", "nanoseconds"])
def test_another_unit_is_refused_and_named(given_unit):
    written = {"seconds": NOON, "milliseconds": NOON * 10**3, "microseconds": NOON * 10**6, "nanoseconds": NOON * 10**9}
    for unit, number in written.items():
        texts = [str(number), str(number + 7 * written[unit] // NOON)]
        if unit == given_unit:
            assert read(texts, time_unit=given_unit) == [NOON, NOON + 7]
        else:
            what = f"this looks like {unit} since 1970, and time_unit is '{given_unit}'; set time_unit = '{unit}'"
            assert refused(texts, time_unit=given_unit) == {2: what, 3: what}


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("20240105", "%Y%m%d"),
        ("2024010512", "%Y%m%d%H"),
        ("202401051230", "%Y%m%d%H%M"),
        ("20240105123000", "%Y%m%d%H%M%S"),
        ("20240105123000250", "%Y%m%d%H%M%S%g"),
    ],
)
def test_a_date_written_as_a_number_is_no_time_of_1970(text, form):
    other = text[:6] + "17" + text[8:]
    said = f"this looks like a date; set time_format = '{form}'"
    assert refused([text, other]) == {2: said, 3: said}
    first, second = read([text, other], time_format=form)
    assert second - first == 12 * 86_400
    assert datetime.datetime.fromtimestamp(first, UTC).date() == datetime.date(2024, 1, 5)


def test_seconds_of_2034_are_seconds_where_not_all_look_like_dates():
    assert read(["2024010512", "2024010599"]) == [2_024_010_512, 2_024_010_599]


def test_early_times_and_equal_times_are_allowed_by_one_key():
    said = 'this is before 1990, when no log was kept; set early_times = "allow" if it is meant'
    assert refused(["0", str(NOON), "631151999", "1989-12-31"]) == {2: said, 4: said, 5: said}
    assert read(["631152000", str(NOON)]) == [631_152_000, NOON]  # 1990 begins
    equal = refused(["0", "0", "0"])
    assert list(equal) == [None]
    assert equal[None].startswith("all 3 times are the same, so nothing came before anything; leave columns.time out")
    assert refused([str(NOON)] * 2)[None].endswith('set early_times = "allow"')
    assert read(["0", "5"], early_times="allow") == [0, 5]
    assert read(["0", "0"], early_times="allow") == [0, 0]
    assert read([str(NOON)]) == [NOON]  # one event alone is no log of equal times


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (
            ["05.01.2024", "06.02.2024"],
            "this can be 5 January or 1 May; say which it is: time_format = '%d.%m.%Y' or '%m.%d.%Y'",
        ),
        (["05.01.2024", "31.01.2024"], "not a time in this form; say how it is written: time_format = '%d.%m.%Y'"),
        (
            ["05/01/2024 9:30", "05/31/2024 9:30"],
            "not a time in this form; say how it is written: time_format = '%m/%d/%Y %H:%M'",
        ),
        (["5-1-2024 12:00:01"], "this can be 5 January or 1 May; say which it is: time_format = '%d-%m-%Y %H:%M:%S' or "),
    ],
)
def test_a_date_that_begins_with_a_day_or_a_month_says_how_it_may_be_read(texts, said):
    assert all(what.startswith(said) for what in refused(texts).values())
    assert len(refused(texts)) == len(texts)


def test_the_readings_that_are_offered_are_right():
    assert read(["05.01.2024", "31.01.2024"], time_format="%d.%m.%Y") == [NOON - 43_200, NOON - 43_200 + 26 * 86_400]


def test_what_does_not_have_the_format_is_refused_each_with_its_line():
    said = "not a time as time_format = '%d.%m.%Y' has it"
    assert refused(["05.01.2024", "2024-01-05", "31.02.2024", "", str(NOON)], time_format="%d.%m.%Y") == {
        3: said,
        4: said,
        5: "a time is missing",
        6: said,
    }


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"time_format": "%d.%m"}, "has to name a year, a month and a day"),
        ({"time_format": "%H:%M"}, "has to name a year, a month and a day"),
        ({"time_format": "%d.%m.%Q"}, "'%Q' is not known"),
        ({"time_format": "%d.%m.%Y %"}, "'%' is not known"),
        ({"time_format": "dd.mm.yyyy"}, "has to name a year, a month and a day"),
        ({"time_format": "%d.%m.%Y" + " " * 100}, "has to name"),
        ({"time_format": "%d.%m.%Y", "time_unit": "milliseconds"}, "give one of them"),
        ({"time_unit": "ms"}, "'milliseconds'"),
    ],
)
def test_keys_that_say_nothing_are_refused(keys, said):
    with pytest.raises(ValidationError, match=said):
        Times(**keys)


def test_a_format_cannot_end_the_question_that_it_is_put_in():
    assert refused(["x"], time_format="%d.%m.%Y'); DROP TABLE rows; --") == {
        2: "not a time as time_format = '%d.%m.%Y'); DROP TABLE rows; --' has it"
    }


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.datetimes(datetime.datetime(1991, 1, 1), datetime.datetime(2099, 1, 1)), min_size=20, max_size=40, unique=True),
    st.sampled_from(["%d.%m.%Y %H:%M:%S", "%m/%d/%y %I:%M %p", "%Y%m%d%H%M", "%d %b %Y %H:%M:%S.%f", "%j/%Y", "%B %d, %Y"]),
)
def test_a_format_reads_as_python_reads_it(moments, form):
    """The lower half of two-digit years is of this century for both: 1991 to 2068 here."""
    moments = [moment for moment in moments if "%y" not in form or moment.year < 2068]
    texts = [moment.strftime(form) for moment in moments]
    expected = [int(datetime.datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() // 1) for text in texts]
    assert read(texts, time_format=form, early_times="allow") == expected


@pytest.mark.parametrize(
    "kind",
    [
        pa.timestamp("s"),
        pa.timestamp("ms"),
        pa.timestamp("us", "UTC"),
        pa.timestamp("ns"),
        pa.timestamp("ms", "Europe/Berlin"),
        pa.date32(),
        pa.date64(),
    ],
)
def test_times_and_dates_of_parquet(kind, tmp_path):
    moments = [datetime.datetime(2024, 1, 5, 12, tzinfo=UTC), datetime.datetime(2024, 7, 1, 3, 59, 59, 999000, tzinfo=UTC)]
    values = pa.array(moments, pa.timestamp("ms", "UTC"))
    column = values.cast(pa.timestamp("s"), safe=False).cast(kind) if kind == pa.timestamp("s") else None
    if column is None:
        column = pa.array([m.date() for m in moments], kind) if pa.types.is_date(kind) else values.cast(kind, safe=False)
    pq.write_table(pa.table({"at": column}), tmp_path / "log.parquet")
    problems = Problems()
    rows = read_parquet((tmp_path / "log.parquet").read_bytes(), "log.parquet", problems)
    found = seconds(rows, "at", Times(), problems)
    problems.refuse()
    expected = [int(moment.timestamp()) for moment in moments]
    assert found.tolist() == ([at - at % 86_400 for at in expected] if pa.types.is_date(kind) else expected)


def test_numbers_of_parquet_that_are_dates_are_refused_too(tmp_path):
    pq.write_table(pa.table({"at": pa.array([20240105, 20240106], pa.int64())}), tmp_path / "log.parquet")
    problems = Problems()
    rows = read_parquet((tmp_path / "log.parquet").read_bytes(), "log.parquet", problems)
    seconds(rows, "at", Times(), problems)
    with pytest.raises(DataError, match="value '20240105': this looks like a date; set time_format = '%Y%m%d'"):
        problems.refuse()
