"""The log's rows: every kind of bad value, with its line, all at once."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifelora.data.catalogue import checked_catalogue
from lifelora.data.delimited import read_delimited
from lifelora.data.faults import Faults
from lifelora.data.interactions import Columns, checked_interactions, known_items
from lifelora.data.profiles import checked_profiles
from lifelora.data.rows import MAX_TEXT, Problems, Rows
from lifelora.data.times import TRUSTED
from lifelora.errors import DataError, Problem

LOG = Columns(time="time")
ONE = '; keep one; or set duplicates = "first" or "last"'
NO_TIME = "not a time; write seconds since 1970 or ISO 8601 (2024-05-31T18:30:00Z), or say with time_format how it is written"


def rows(text: str) -> Rows:
    problems = Problems()
    made = read_delimited(text.encode(), "log.csv", problems, delimiter=",")
    problems.refuse()
    assert made is not None
    return made


def checked(text: str, columns: Columns = LOG, rating_range: tuple[float, float] | None = (1.0, 5.0)) -> pa.Table:
    problems = Problems()
    found = checked_interactions(rows(text), columns, rating_range, problems, [], Faults(), TRUSTED)
    problems.refuse()
    return found[1]


def faults(text: str, columns: Columns = LOG, rating_range: tuple[float, float] | None = (1.0, 5.0)) -> list[Problem]:
    with pytest.raises(DataError) as caught:
        checked(text, columns, rating_range)
    assert caught.value.count == len(caught.value.problems)
    return list(caught.value.problems)


def test_good_rows_come_out_typed():
    table = checked("user,item,rating,time\n u1 ,i1,4.5,10\nu2,i2, 1 ,20.9\n")
    assert table.to_pydict() == {"user": ["u1", "u2"], "item": ["i1", "i2"], "rating": [4.5, 1.0], "time": [10, 20]}
    assert table.schema == pa.schema({"user": "string", "item": "string", "rating": "float32", "time": "int64"})


def test_a_log_without_times_has_no_such_column():
    assert checked("user,item,rating\na,b,1\n", Columns()).column_names == ["user", "item", "rating"]


def test_missing_columns_name_what_there_is_and_the_mend():
    first, second = faults("user,sku,time\na,b,1\n", Columns(rating="stars", time="time"))
    assert (first.line, first.column) == (1, "item")
    assert first.what == "there is no such column; the file has: user, sku, time"
    assert second.column == "stars"
    assert "columns.rating" in second.what


def test_everything_bad_is_found_at_once_each_with_line_column_and_value():
    found = faults(
        "user,item,rating,time\n"
        "u,a,3,1\n"
        ",b,3,1\n"  # 3: no user
        "u,  ,3,1\n"  # 4: no item
        "u,c,good,1\n"  # 5: no number
        "u,d,nan,1\n"  # 6
        "u,e,-inf,1\n"  # 7
        "u,f,7,1\n"  # 8: outside
        "u,g,0.5,1\n"  # 9: outside
        "u,h,,1\n"  # 10: missing
        "u,i,3,yesterday\n"  # 11
        "u,j,3,1700000000000\n"  # 12: milliseconds
        'u,k,"4,5",1\n'  # 13
        "u,a,4,1\n"  # 14: repeats line 2
    )
    said = {p.line: (p.column, p.value, p.what) for p in found}
    assert said == {
        3: ("user", "", 'an id is missing; or set without_user = "drop"'),
        4: ("item", "  ", 'an id is missing; or set without_item = "drop"'),
        5: ("rating", "good", "not a number; write ratings with digits and a decimal point (or of a file, say decimal = ',')"),
        6: ("rating", "nan", "a rating must be finite"),
        7: ("rating", "-inf", "a rating must be finite"),
        8: ("rating", "7", "ratings go from 1 to 5"),
        9: ("rating", "0.5", "ratings go from 1 to 5"),
        10: ("rating", "", 'a rating is missing; or set without_rating = "drop"'),
        11: ("time", "yesterday", NO_TIME),
        12: (
            "time",
            "1700000000000",
            "this looks like milliseconds since 1970, and time_unit is 'seconds'; set time_unit = 'milliseconds'",
        ),
        13: ("rating", "4,5", "not a number; write ratings with digits and a decimal point (or of a file, say decimal = ',')"),
        14: (None, None, f"the same user, item and time as in line 2{ONE}"),
    }


def test_a_frequent_fault_hides_no_rare_one_and_all_are_counted():
    text = "user,item,rating,time\n" + "".join(f"u,i{n},9,{n}\n" for n in range(1000)) + "u,x,3,never\n"
    with pytest.raises(DataError, match="1,001 problems") as caught:
        checked(text)
    assert len(caught.value.problems) == 20
    assert any(p.line == 1002 and p.column == "time" for p in caught.value.problems)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("-1.5", -2),
        ("1717180200", 1717180200),
        ("1.7e9", 1_700_000_000),
        ("1970-01-02", 86_400),
        ("1970-01-01T00:01", 60),
        ("1970-01-01 00:00:01.999", 1),
        ("1970-01-01T01:00:00Z", 3600),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00-0530", 19_800),
        ("1970-01-01t00:00:00+02", -7200),
        ("1969-12-31T23:59:59z", -1),
        ("2024-02-29", 1_709_164_800),
    ],
)
def test_times_that_are_read(text, seconds):
    assert checked(f"user,item,rating,time\na,b,1,{text}\n").column("time").to_pylist() == [seconds]


@pytest.mark.parametrize(
    "text",
    [
        "2023-02-29",
        "31.12.2023",
        "2024-05-31T25:00:00",
        "12:30",
        "",
        "2024-05-31T10:00+99:00",
        "x1",
        "2024-5-1",
    ],
)
def test_times_that_are_refused(text):
    (fault,) = faults(f'user,item,rating,time\na,b,1,"{text}"\n')
    assert (fault.line, fault.column, fault.value) == (2, "time", text)


def zone(half_hours: int) -> datetime.timezone:
    return datetime.timezone(datetime.timedelta(minutes=30 * half_hours))


@settings(max_examples=10)
@given(
    st.lists(
        st.datetimes(datetime.datetime(1900, 1, 1), datetime.datetime(2200, 1, 1), timezones=st.integers(-46, 46).map(zone)),
        min_size=20,
        max_size=40,
    )
)
def test_any_date_time_agrees_with_python_s_own_reading(moments):
    text = "".join(f"u,i{n},1,{moment.isoformat()}\n" for n, moment in enumerate(moments))
    expected = [int(np.floor(moment.replace(microsecond=0).timestamp())) for moment in moments]
    assert checked("user,item,rating,time\n" + text).column("time").to_pylist() == expected


def test_repetitions():
    table = checked("user,item,rating,time\nu,a,3,1\nu,a,3,2\nv,a,3,1\nu,b,3,1\n")  # never all three alike
    assert len(table) == 4
    found = faults("user,item,rating,time\nu,a,3,1\nv,b,1,1\nu,a,4,1\nu,a,3,1970-01-01T00:00:01\n")
    assert [(p.line, p.what) for p in found] == [
        (4, f"the same user, item and time as in line 2{ONE}"),
        (5, f"the same user, item and time as in line 2{ONE}"),
    ]
    no_times = Columns()
    assert len(checked("user,item,rating\nu,a,3\nu,a,4\n", no_times)) == 2
    (fault,) = faults("user,item,rating\nu,a,3\nu,a,4\nu,a,3\n", no_times)
    assert (fault.line, fault.what) == (4, f"the same user, item and rating as in line 2{ONE}")


@settings(max_examples=40)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=40))
def test_repetitions_agree_with_a_plain_loop(events):
    seen: dict[tuple[int, int, int], int] = {}
    expected = []
    for line, event in enumerate(events, start=2):
        if event in seen:
            expected.append((line, f"the same user, item and time as in line {seen[event]}{ONE}"))
        seen.setdefault(event, line)
    text = "user,item,rating,time\n" + "".join(f"u{u},i{i},1,{t}\n" for u, i, t in events)
    if not expected:
        assert len(checked(text)) == len(events)
        return
    with pytest.raises(DataError) as caught:
        checked(text)
    assert caught.value.count == len(expected)
    assert [(p.line, p.what) for p in caught.value.problems] == expected[:20]


def test_unknown_items_are_refused_or_counted_or_left_out():
    log = rows("user,item,rating,time\nu,a,1,1\nu,zz,1,2\nv,zz,1,3\n")
    _, table = checked_interactions(log, LOG, None, Problems(), [], Faults(), TRUSTED)
    catalogue = pa.table({"item": ["a", "b"], "title": ["A", "B"]})
    problems, notes = Problems(), []
    assert known_items(log, "item", table, catalogue, Faults(), problems, notes) == table
    assert (problems.count, notes) == (2, [])
    assert [(p.line, p.column, p.value) for p in problems.kinds[0]] == [(3, "item", "zz"), (4, "item", "zz")]
    assert problems.kinds[0][0].what == 'the catalogue has no such item; or set unknown_items = "drop" or "allow"'
    problems = Problems()
    assert known_items(log, "item", table, catalogue, Faults(unknown_items="allow"), problems, notes) == table
    left = known_items(log, "item", table, catalogue, Faults(unknown_items="drop"), problems, notes)
    assert left.to_pylist() == table.slice(0, 1).to_pylist()
    assert problems.count == 0
    assert notes == [
        "2 interactions are with 1 items that the catalogue lacks; they have no text.",
        '2 interactions are with 1 items that the catalogue lacks; they are left out (unknown_items = "drop").',
    ]


def test_catalogue_rows():
    problems, notes = Problems(), []
    made = rows('item,title,genre,about\n1," Two\nlines\t and\u00a0more ",drama,x\n2,,,y\n1,Again,a,z\n,No id,b,\n')
    table = checked_catalogue(made, "item", "title", "about", ["genre"], {}, problems, notes, Faults())
    assert table.column("title").to_pylist() == ["Two lines and more", "", "Again", "No id"]
    assert table.column_names == ["item", "title", "description", "genre"]
    with pytest.raises(DataError) as caught:
        problems.refuse()
    assert [(p.line, p.column, p.what) for p in caught.value.problems] == [
        (4, "title", 'an item needs a title; or set without_title = "id" or "drop"'),
        (5, "item", f"this id has a row already{ONE}"),
        (6, "item", 'an id is missing; or set without_item = "drop"'),
    ]
    assert notes == []


def test_long_texts_are_cut_and_that_is_said():
    problems, notes = Problems(), []
    made = rows(f"item,title\n1,{'é' * (MAX_TEXT + 1)}\n2,{'é' * MAX_TEXT}\n")
    table = checked_catalogue(made, "item", "title", None, [], {}, problems, notes, Faults())
    assert [len(title) for title in table.column("title").to_pylist()] == [MAX_TEXT, MAX_TEXT]
    assert notes == ["log.csv: 1 values of 'title' are cut after 2,000 characters."]


def test_control_characters_never_reach_a_text():
    made = rows('item,title\n1,"a\x00b\x1b[31mc\u2028d\x85e"\n')
    table = checked_catalogue(made, "item", "title", None, [], {}, Problems(), [], Faults())
    assert table.column("title").to_pylist() == ["a b [31mc d e"]


def test_profile_rows():
    problems = Problems()
    table = checked_profiles(rows("user,city\nu,Bonn\nv,\nu,Ulm\n"), "user", ["city"], {}, problems, [], Faults())
    assert table.to_pydict() == {"user": ["u", "v", "u"], "city": ["Bonn", "", "Ulm"]}
    assert [(p.line, p.value) for p in problems.kinds[0]] == [(4, "u")]
    assert checked_profiles(rows("user,city\nu,Bonn\n"), "user", ["town"], {}, problems, [], Faults()) is None
    assert problems.kinds[1][0].what == "there is no such column; the file has: user, city"
