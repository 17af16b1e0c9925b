"""JSON lines into rows: fields by path, the line of every row, and every fault of form."""

import gzip
import io

import pytest

from lifelora.data import jsonlines
from lifelora.data.jsonlines import first_line, read_json_lines
from lifelora.data.rows import Problems, Rows
from lifelora.errors import DataError, Problem

FIELDS = {"user": "$.user", "stars": "$.stars", "author": "$.authors[0].id"}


def read(data: bytes, fields: dict[str, str] = FIELDS) -> tuple[Rows | None, list[Problem]]:
    problems = Problems()
    rows = read_json_lines(io.BytesIO(data), "log.json", problems, fields)
    if not problems.count:
        return rows, []
    with pytest.raises(DataError) as caught:
        problems.refuse()
    assert caught.value.count == problems.count
    return rows, list(caught.value.problems)


GOOD = (
    b'{"user": "a", "stars": 5, "authors": [{"id": "7"}, {"id": "8"}]}\n'
    b"\n"
    b'  {"stars": 4.5, "user": "b\\u00e9 \\"x\\"", "authors": [], "more": {"user": "no"}}\r\n'
    b'{"user": 12, "stars": null}'
)


@pytest.mark.parametrize(
    "data", [GOOD, gzip.compress(GOOD, mtime=0), gzip.compress(GOOD[:70], mtime=0) + gzip.compress(GOOD[70:], mtime=0)]
)
def test_fields_come_as_text_with_their_lines(data):
    rows, problems = read(data)
    assert problems == []
    assert rows.table.to_pydict() == {"user": ["a", 'bé "x"', "12"], "stars": ["5", "4.5", ""], "author": ["7", "", ""]}
    assert rows.line_N.tolist() == [1, 3, 4]  # line 2 is blank


def test_blocks_end_anywhere(monkeypatch):
    whole, _ = read(GOOD)
    for size in (75, 80, 90, 200):
        monkeypatch.setattr(jsonlines, "BLOCK", size)
        rows, problems = read(GOOD)
        assert problems == []
        assert rows.table == whole.table
        assert rows.line_N.tolist() == whole.line_N.tolist()


def test_a_field_that_no_line_has_is_a_missing_column():
    rows, _ = read(b'{"user": "a"}\n{"user": "b"}\n')
    assert rows.table.column_names == ["user"]
    problems = Problems()
    assert rows.lacks(["user", "stars"], problems)
    assert problems.count == 1


def test_damaged_lines_are_counted_and_shown_and_the_rest_is_read():
    rows, problems = read(b'{"user": "a"}\n[1, 2]\n{"user": "b"\n{"user": "\xe9"}\n"x"\n{"user": "c"}\n')
    assert [(p.line, p.value, p.what.partition(":")[0]) for p in problems] == [
        (2, "[1, 2]", "not a JSON object on one line"),
        (3, '{"user": "b"', "not a JSON object on one line"),
        (4, '{"user": "\\xe9"}', "not utf-8"),
        (5, '"x"', "not a JSON object on one line"),
    ]
    assert rows.table.column("user").to_pylist() == ["a", "\ufffd", "c"]


def test_many_damaged_lines_are_all_counted():
    problems = Problems()
    read_json_lines(io.BytesIO(b"?\n" * 1000), "log.json", problems, FIELDS)
    assert problems.count == 1000
    assert len(problems.kinds[0]) == DataError.SHOWN


@pytest.mark.parametrize("data", [b"", b"\n \n", gzip.compress(b"", mtime=0)])
def test_an_empty_file_is_a_problem(data):
    rows, problems = read(data)
    assert rows is None
    assert [p.what for p in problems] == ["the file has no rows"]


def test_cut_archives_and_endless_lines(monkeypatch):
    packed = gzip.compress(GOOD)
    rows, problems = read(packed[:-9])
    assert rows is None
    assert "the archive is damaged or cut" in problems[0].what
    assert len(problems) == 1
    assert "the archive is damaged" in read(packed[:20] + b"\xff" * 40)[1][0].what
    monkeypatch.setattr(jsonlines, "BLOCK", 40)
    assert read(b'{"user": "a"}\n' + b" " * 200)[1] == [Problem("log.json", 2, None, None, "a line of more than 40 bytes")]


def test_more_text_than_one_column_holds_is_refused_with_the_mend(monkeypatch):
    monkeypatch.setattr(jsonlines, "MAX_COLUMN", 100)
    rows, problems = read(b'{"user": "' + b"x" * 150 + b'"}\n')
    assert rows is None
    assert problems[0].column == "user"
    assert "use a part of the set" in problems[0].what


def test_the_first_line_that_says_something():
    problems = Problems()
    assert first_line(io.BytesIO(b"\n \n{}\n[]\n"), "f", problems) == "{}"
    assert first_line(io.BytesIO(b"\n"), "f", problems) == ""
    assert problems.count == 0
    assert first_line(io.BytesIO(gzip.compress(GOOD)[:-9]), "f", problems) == ""
    assert problems.count == 1


def test_odd_escapes_are_mended_and_said():
    r"""A half of a pair has no letter (U+FFFD); an escape that JSON does not know stays as it is written; others are as ever."""
    lines = [
        r'{"user": "a\ud83d", "stars": 1}',
        r'{"user": "\ude00b", "stars": 2}',
        r'{"user": "\ud83d\ude00", "stars": 3}',
        r'{"user": "it\'s \x41 \u00zz \\\" \n", "stars": 4}',
        '{"user": "a\tb", "stars": 5}',
        r'{"user": "\ud83d\u0041", "stars": 6}',
        r'{"user": "good \\ud83d", "stars": 7}',
    ]
    notes: list[str] = []
    problems = Problems()
    rows = read_json_lines(io.BytesIO("\n".join(lines).encode()), "x/log.json", problems, FIELDS, notes)
    problems.refuse()
    assert rows.table.column("user").to_pylist() == [
        "a\ufffd",
        "\ufffdb",
        "\U0001f600",
        "it\\'s \\x41 \\u00zz \\\" \n",
        "a b",
        "\ufffdA",
        r"good \ud83d",
    ]
    assert rows.table.column("stars").to_pylist() == list("1234567")
    assert rows.line_N.tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert len(notes) == 1
    assert notes[0].startswith("log.json: 5 lines hold escapes or control characters that JSON does not know, the first")


def test_odd_escapes_hide_no_other_fault():
    rows, problems = read(b'{"user": "a\\ud83d"\n{"user": "b"}\n')
    assert [(p.line, p.what) for p in problems] == [(1, "not a JSON object on one line")]
    assert rows.table.column("user").to_pylist() == ["b"]


@pytest.mark.parametrize("inside", [b"\n" * 3_000_000, b'{"user": "a"}\n' * 300_000])
def test_what_unpacks_to_very_much_more_is_refused(monkeypatch, inside: bytes):
    """gzip packs 3,000,000 ends of lines into 3 kB; a file may unpack to a hundred times its size, and a small one to FREE."""
    monkeypatch.setattr("lifelora.data.unpacked.FREE", 100_000)
    monkeypatch.setattr(jsonlines, "BLOCK", 50_000)
    data, problems = gzip.compress(inside), Problems()
    assert len(inside) > 100 * len(data)
    read_json_lines(io.BytesIO(data), "log.json.gz", problems, FIELDS, packed=len(data))
    allowed = max(100_000, 100 * len(data))
    assert problems.kinds[-1][0].what.startswith(f"it unpacks to more than {allowed:,} bytes from {len(data):,}")
    problems = Problems()
    assert first_line(io.BytesIO(gzip.compress(b"\n" * 3_000_000)), "log.json.gz", problems, 3000) == ""
    assert problems.count == 1
