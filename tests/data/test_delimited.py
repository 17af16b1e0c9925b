"""Delimited text into rows: the line of every row, and every fault of form."""

import csv
import io
from contextlib import suppress
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lifelora import foreign
from lifelora.data.delimited import first_names, read_delimited
from lifelora.data.parquet import read_parquet
from lifelora.data.rows import Problems, Rows
from lifelora.errors import DataError, Problem


def read(data: bytes, **options) -> tuple[Rows | None, list[Problem]]:
    problems = Problems()
    rows = read_delimited(data, "log.csv", problems, **options)
    if not problems.count:
        return rows, []
    with pytest.raises(DataError) as caught:
        problems.refuse()
    assert caught.value.count == problems.count
    return rows, list(caught.value.problems)


def columns(rows: Rows | None) -> dict[str, list[str]]:
    assert rows is not None
    return rows.table.to_pydict()


def test_header_and_line_numbers():
    rows, problems = read(b"a,b\n1,2\n3,4\n")
    assert problems == []
    assert columns(rows) == {"a": ["1", "3"], "b": ["2", "4"]}
    assert rows.line_N.tolist() == [2, 3]


def test_quoted_newlines_and_blank_lines_move_the_line_numbers():
    rows, problems = read(b'a,b\r\n1,"x\r\ny"\r\n\r\n3,"say ""hi"""\r\n4,5')
    assert problems == []
    assert columns(rows) == {"a": ["1", "3", "4"], "b": ["x\r\ny", 'say "hi"', "5"]}
    assert rows.line_N.tolist() == [2, 5, 6]  # row 1 is lines 2 and 3, line 4 is blank


def test_quotes_behind_an_escape_sign_and_doubled_ones():
    data = b'"a";"b"\n"1";"The \\"X\\"; or \\"Y\\""\n"2";"say ""hi"""\n"3";"c:\\\\d"\nNULL;"one\n\\"two"\n"5";"\\"\\"\\""\n'
    rows, problems = read(data, delimiter=";", escape="\\")
    assert problems == []
    assert columns(rows) == {
        "a": ["1", "2", "3", "NULL", "5"],
        "b": ['The "X"; or "Y"', 'say "hi"', "c:\\d", 'one\n"two', '"""'],
    }
    assert rows.line_N.tolist() == [2, 3, 4, 5, 7]


def test_an_open_quote_is_found_among_escaped_ones():
    _, problems = read(b'a;b\n1;"x\\""\n2;"y\n3;z\n', delimiter=";", escape="\\")
    assert [(p.line, p.what) for p in problems] == [(3, "a quote is opened here and never closed")]


def test_a_header_over_two_lines():
    rows, _ = read(b'"a\nb",c\n1,2\n')
    assert columns(rows) == {"a\nb": ["1"], "c": ["2"]}
    assert rows.line_N.tolist() == [3]


def test_wrong_numbers_of_fields_are_reported_with_their_lines():
    rows, problems = read(b'a,b\n1,2\n3\n"x\ny",4\n5,6,7\n8,9\n')
    assert columns(rows) == {"a": ["1", "x\ny", "8"], "b": ["2", "4", "9"]}
    assert rows.line_N.tolist() == [2, 4, 7]
    assert [(p.line, p.value) for p in problems] == [(3, "3"), (6, "5,6,7")]
    assert problems[0].what == "1 field(s) where 2 are due (separated by ',')"


@pytest.mark.parametrize("data", [b'a,b\n1,2\n3,"x,4\n5,6\n', b'a,b\n1,2\n3,"x\n5,6\n'])
def test_a_quote_that_is_never_closed_is_found_where_it_opens(data):
    _, problems = read(data)
    assert [(p.line, p.what) for p in problems] == [(3, "a quote is opened here and never closed")]


def test_fields_separated_by_two_colons_keep_their_single_ones():
    text = b'1::Se7en: the film::x\n2::"Q"::y\n'
    rows, problems = read(text, columns=["i", "t", "g"], delimiter="::", quoted=False)
    assert problems == []
    assert columns(rows) == {"i": ["1", "2"], "t": ["Se7en: the film", '"Q"'], "g": ["x", "y"]}
    assert rows.line_N.tolist() == [1, 2]
    _, problems = read(b"1::a::x\n2:b:y\n", columns=["i", "t", "g"], delimiter="::", quoted=False)
    assert [(p.line, p.value) for p in problems] == [(2, "2:b:y")]
    assert "separated by '::'" in problems[0].what


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_found_from_the_header(delimiter):
    rows, _ = read(f"user{delimiter}item{delimiter}a b\n1{delimiter}2{delimiter}3.5".encode(), wanted=["user", "item"])
    assert columns(rows) == {"user": ["1"], "item": ["2"]}
    assert rows is not None
    assert rows.unread == ("a b",)


def test_wanted_columns_decide_where_the_header_holds_other_signs():
    rows, _ = read(b"user;item;a,b,c,d\n1;2;x\n", wanted=["user", "item"])
    assert columns(rows) == {"user": ["1"], "item": ["2"]}
    assert rows is not None
    assert rows.unread == ("a,b,c,d",)


@pytest.mark.parametrize("row", [b"1,2,,x\n,,,y\n3,4,,\n", b'"1",2,,x\n,,,"y\n"\n3,4,,\n'])
def test_a_row_is_blank_where_all_columns_are_not_only_the_wanted_ones(row: bytes):
    """It lacks its ids then, which is said of it with its line."""
    rows, problems = read(b"user,item,,note\n" + row + b",,,\n5,6,,\n", wanted=["user", "item"])
    assert problems == []
    assert columns(rows) == {"user": ["1", "", "3", "5"], "item": ["2", "", "4", "6"]}
    assert rows is not None
    assert rows.line_N.tolist() == ([2, 3, 4, 6] if b'"' not in row else [2, 3, 5, 7])
    assert rows.unread == ("", "note")


def test_wrong_bytes_are_reported_with_line_offset_and_bytes_and_the_rest_is_still_read():
    rows, problems = read("a,b\n1,é\n2,x\n3,ü\n4\n".encode("latin-1"))
    assert [(p.line, p.value) for p in problems] == [(2, "1,\\xe9"), (4, "3,\\xfc"), (5, "4")]
    assert "byte(s) e9 at offset 6 of the file" in problems[0].what  # 'a,b\n' is 4 bytes, then '1,'
    assert "'iso-8859-1'" in problems[0].what
    assert len(rows) == 3


def test_every_line_of_a_wrong_encoding_is_counted():
    _, problems = read(b"a,b\n" + b"1,\xe9\n" * 500)
    assert len(problems) == 20
    found = Problems()
    read_delimited(b"a,b\n" + b"1,\xe9\n" * 500, "log.csv", found)
    assert found.count == 500


def test_encodings_and_byte_order_marks():
    for encoding in ("utf-8", "utf-8-sig", "iso-8859-1", "cp1252", "utf-16"):
        rows, problems = read("a,b\n1,é\n".encode(encoding), encoding=encoding)
        assert problems == []
        assert columns(rows) == {"a": ["1"], "b": ["é"]}, encoding
    rows, _ = read(b"\xef\xbb\xbfa,b\n1,2\n")  # a mark that nobody announced
    assert columns(rows) == {"a": ["1"], "b": ["2"]}
    _, problems = read("a,b\n1,2\n".encode("utf-16"))
    assert "'utf-16'" in problems[0].what
    _, problems = read(b"a,b\n1,2", encoding="utf-16")
    assert "not utf-16" in problems[0].what


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"", "the file is empty"),
        (b" \n\n", "the file is empty"),
        (b"a,b\n", "a header and no rows"),
        (b"a,b\n\n\n", "a header and no rows"),
        (b"a,b\n,\n,\n", "no rows, only blank ones"),
        (b"a,a\n1,2\n", "two columns"),
    ],
)
def test_nothing_to_read(data, what):
    _, problems = read(data)
    assert len(problems) == 1
    assert what in problems[0].what


def test_rows_longer_than_a_block_are_refused_not_cut(monkeypatch):
    monkeypatch.setattr("lifelora.data.delimited.BLOCK", 64)
    _, problems = read(b'a,b\n1,"' + b"x\n" * 100 + b'"\n2,3\n')
    assert "never closed" in problems[0].what


def test_line_numbers_hold_across_blocks(monkeypatch):
    monkeypatch.setattr("lifelora.data.delimited.BLOCK", 64)
    body = "".join(f'{n},"x\ny"\n' if n % 3 == 0 else f"{n},z\n" if n % 7 else f"{n}\n" for n in range(1, 101))
    rows, problems = read(b"a,b\n" + body.encode())
    lines = body.split("\n")
    assert all(lines[line - 2].split(",")[0] == a for line, a in zip(rows.line_N, columns(rows)["a"], strict=True))
    short = [n for n in range(1, 101) if n % 7 == 0 and n % 3]
    assert [int(p.value) for p in problems] == short
    assert all(lines[p.line - 2] == p.value for p in problems)


def test_parquet_becomes_text(tmp_path: Path):
    table = pa.table(
        {
            "n": pa.array([1, None]),
            "x": [0.5, 4.0],
            "b": [True, False],
            "d": pa.array(["p", "q"]).dictionary_encode(),
            "t": pa.array([0, 86_400_000], pa.timestamp("ms", "UTC")),
        }
    )
    pq.write_table(table, tmp_path / "log.parquet")
    problems = Problems()
    rows = read_parquet((tmp_path / "log.parquet").read_bytes(), "log.parquet", problems)
    problems.refuse()
    assert columns(rows) == {
        "n": ["1", ""],
        "x": ["0.5", "4"],
        "b": ["1", "0"],
        "d": ["p", "q"],
        "t": ["1970-01-01 00:00:00Z", "1970-01-02 00:00:00Z"],
    }
    assert rows.line_N.tolist() == [1, 2]


def test_only_wanted_columns_of_parquet_are_read(tmp_path: Path):
    """A nested column that nobody mapped does not refuse a file; one that is mapped is named."""
    table = pa.table(
        {
            "id": [7.0, None],
            "raw": [{"a": 1}, None],
            "genres": [["x", "y"], None],
            "text": [["for tea,", "loud"], []],
            "raw.a": ["p", "q"],
        }
    )
    pq.write_table(table, tmp_path / "x.parquet")
    problems, notes = Problems(), list[str]()
    rows = read_parquet(tmp_path / "x.parquet", "x.parquet", problems, {"id": "id", "genres": "field", "none": "field"}, notes)
    assert columns(rows) == {"id": ["7", ""], "genres": [["x", "y"], []]}
    assert rows.lacks(["none"], problems)
    assert problems.kinds[0][0].what == "there is no such column; the file has: id, genres, raw, text, raw.a"
    assert notes == [
        "x.parquet: the ids of 'id' are floats, as pandas makes where one is missing; whole ones are read without their '.0'."
    ]
    problems = Problems()
    assert read_parquet(tmp_path / "x.parquet", "x.parquet", problems, {"raw": "field", "genres": "word"}) is None
    assert [(p.column, p.what) for kind in problems.kinds for p in kind] == [
        ("raw", "it holds struct<a: int64>; write texts, numbers or times, or lists of these"),
        ("genres", "it holds lists; write one value a row"),
    ]


@pytest.mark.parametrize("kind", [pa.float64(), pa.float32()])
def test_whole_numbers_that_pandas_made_floats_are_whole_numbers(kind: pa.DataType, tmp_path: Path):
    """A column of ids with one missing comes as floats; 2**34 is one in float32, too."""
    table = pa.table({"id": pa.array([2.0**34, 7.0, -0.0, float("nan"), None, 0.25, float("inf")], kind)})
    pq.write_table(table, tmp_path / "log.parquet")
    rows = read_parquet((tmp_path / "log.parquet").read_bytes(), "log.parquet", Problems())
    assert columns(rows) == {"id": ["17179869184", "7", "0", "", "", "0.25", "inf"]}


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"not parquet at all", "cannot be read"),
        (pa.table({"a": [{"b": 1}]}), "it holds struct<b: int64>"),
        (pa.table({"a": pa.array([], "int64")}), "no rows"),
    ],
)
def test_parquet_that_is_none(tmp_path: Path, data, what):
    if isinstance(data, pa.Table):
        pq.write_table(data, tmp_path / "x.parquet")
        data = (tmp_path / "x.parquet").read_bytes()
    problems = Problems()
    assert read_parquet(data, "x.parquet", problems) is None
    assert problems.count == 1
    assert what in problems.kinds[0][0].what


@pytest.mark.parametrize("end", [b"\r", b"\n", b"\r\n"])
def test_lines_end_in_three_ways(end: bytes):
    rows, problems = read(end.join([b"a,b", b"1,2", b'"3","4"', b"5,6", b""]))
    assert problems == []
    assert columns(rows) == {"a": ["1", "3", "5"], "b": ["2", "4", "6"]}
    assert rows.line_N.tolist() == [2, 3, 4]


def test_blank_lines_before_a_header_count_as_lines():
    rows, problems = read(b"\n\r\na,b\n1,2\n3\n")
    assert columns(rows) == {"a": ["1"], "b": ["2"]}
    assert rows.line_N.tolist() == [4]
    assert [(p.line, p.value) for p in problems] == [(5, "3")]


def test_a_carriage_return_inside_a_header_is_an_end_of_line():
    rows, problems = read(b"us\rer,item\na,b\n")
    assert rows.table.column_names == ["us"]
    assert len(problems) == 2  # neither of the other lines has one field


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b'"a,b\n1,2\n', "a quote is opened in the header and never closed"),
        (b'a,"b\n1,2\n', "a quote is opened in the header and never closed"),
        (b'"a,b\n' + b"1,2\n" * 100_000, "the header cannot be read (it does not end within 65,536 bytes); look for a quote"),
        (b"x" * 200_000 + b"\n1\n", "the header cannot be read (it does not end within 65,536 bytes)"),
    ],
)
def test_headers_that_do_not_end(data: bytes, what: str):
    _, problems = read(data)
    assert [(p.line, p.what.startswith(what)) for p in problems] == [(1, True)]
    found = Problems()
    assert first_names(data, "log.csv", found) == []
    assert found.kinds[0][0].what.startswith(what)


def spark(rows: list[tuple[str, str]]) -> bytes:
    """As Spark and MySQL write fields: quotes and backslashes behind a backslash."""

    def field(text: str) -> str:
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'

    return ("a,b\n" + "".join(f"{field(a)},{field(b)}\n" for a, b in rows)).encode()


@pytest.mark.parametrize(
    "rows",
    [
        [('12" pan', "x"), ("y", "plain")],
        [('12" pan, round', "x")],
        [('say "hi"', "x"), ("two\nlines", 'a "b" c')],
        [("C:\\dir", '1" x'), ('"', "z")],
    ],
)
def test_quotes_behind_backslashes_are_read_and_said(rows: list[tuple[str, str]]):
    notes: list[str] = []
    found, problems = read(spark(rows), notes=notes)
    assert problems == []
    assert list(zip(*columns(found).values(), strict=True)) == rows
    assert notes == ["log.csv: quotes inside of fields stand behind backslashes, and are read so."]


@pytest.mark.parametrize("data", [b'a,b\n"C:\\",1\n"D:\\",2\n', b'a,b\n"C:\\",1\n', b'a,b\n"x ""\\""",1\n'])
def test_a_backslash_at_the_end_of_a_field_stays_one(data: bytes):
    """The same as Python's own reader of RFC 4180 makes of it."""
    notes: list[str] = []
    found, problems = read(data, notes=notes)
    _, *rows = csv.reader(io.StringIO(data.decode()))
    assert (problems, notes) == ([], [])
    assert list(zip(*columns(found).values(), strict=True)) == [tuple(row) for row in rows]


def test_backslashes_of_both_kinds_are_refused_with_the_line():
    _, problems = read(b'a,b\nx,y\n"12\\" pan",1\n"C:\\",2\n')
    assert (3, True) in [(p.line, "a quote stands behind a backslash" in p.what) for p in problems]


def test_a_control_character_that_would_part_fields_is_refused():
    _, problems = read(b"1::a\x1fb::x\n", columns=["i", "t", "g"], delimiter="::", quoted=False)
    assert "0x1f" in problems[0].what


def damaged(data: bytes, seed: int) -> bytes:
    """One byte changed, a piece cut out, or the end cut off, by seed."""
    random = np.random.default_rng(seed)
    at, other = sorted(random.integers(0, len(data), 2).tolist())
    changed = data[:at] + bytes([data[at] ^ int(random.integers(1, 256))]) + data[at + 1 :]
    return [changed, data[:at] + data[other:], data[:at]][seed % 3]


@pytest.mark.parametrize("compression", ["none", "snappy", "zstd", "gzip"])
def test_damaged_parquet_is_a_problem_or_a_table(tmp_path: Path, compression: str):
    """Arrow raises OSError, UnicodeDecodeError and others for damage. What can be read is text of the right form."""
    n = 200
    table = pa.table({"user": [f"é{i % 7}" for i in range(n)], "rating": pa.array(np.arange(n) % 5 + 1.0), "item": np.arange(n)})
    pq.write_table(table, tmp_path / "x.parquet", compression=compression)
    whole, refused = (tmp_path / "x.parquet").read_bytes(), 0
    for seed in range(150):
        problems = Problems()
        rows = read_parquet(damaged(whole, seed), "x.parquet", problems)
        refused += rows is None
        assert (rows is None) == (problems.count == 1)
        if rows is not None:
            rows.table.validate(full=True)
            assert all(isinstance(value, str) for column in rows.table.to_pydict().values() for value in column)
        with suppress(foreign.Unreadable):
            foreign.parquet_columns(damaged(whole, seed))
    assert refused > 75


def test_few_bytes_of_parquet_that_become_very_many(tmp_path: Path, monkeypatch):
    """Equal values take no room in the file: a million of them a few kilobytes."""
    equal = pa.array(["x" * 100]).take(pa.array(np.zeros(1_000_000, np.int64)))
    pq.write_table(pa.table({"user": equal}), tmp_path / "x.parquet")
    data = (tmp_path / "x.parquet").read_bytes()
    assert len(data) < 50_000
    monkeypatch.setattr("lifelora.foreign.MAX_PARQUET", 50_000_000)
    problems = Problems()
    assert read_parquet(data, "x.parquet", problems) is None
    assert "unpacks to more than 50,000,000 bytes" in problems.kinds[0][0].what


def test_more_text_than_a_column_holds_is_refused(monkeypatch):
    monkeypatch.setattr("lifelora.data.rows.MAX_COLUMN", 1000)
    _, problems = read(b"a,b\n" + b"x,yyyyyyyyyy\n" * 100)
    assert [(p.column, "use a part of the set" in p.what) for p in problems] == [("b", True)]
