"""Goodreads: the layout of the UCSD Book Graph in small, its times, its gaps, and what is refused."""

import gzip
import json
import zipfile
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelora.data.omit import repeated
from lifelora.data.prepare import Rules, prepare
from lifelora.data.rows import Rows
from lifelora.data.sources import parse_source
from lifelora.data.sources.goodreads import Goodreads, iso
from lifelora.errors import ConfigError, DataError

ANN, BOB = "8842281e1d1347389f2ab93d60773d4d", "72fb0d0087d28c832f15776b0d936598"


def event(user: str, book: str, rating: Any, added: str = "Mon Sep 18 15:04:44 -0700 2017", read: str = "") -> dict[str, Any]:
    return {
        "user_id": user,
        "book_id": book,
        "review_id": "4d4a" * 8,
        "is_read": bool(read),
        "rating": rating,
        "review_text_incomplete": "",
        "date_added": added,
        "date_updated": added,
        "read_at": read,
        "started_at": "",
    }


def book(number: str, title: str, authors: list[str], **more: str) -> dict[str, Any]:
    return {
        "isbn": "",
        "text_reviews_count": "1",
        "series": [],
        "country_code": "US",
        "language_code": "eng",
        "popular_shelves": [{"count": "3", "name": "to-read"}],
        "book_id": number,
        "title": title,
        "publisher": "Faber",
        "num_pages": "256",
        "publication_year": "1984",
        "authors": [{"author_id": author, "role": ""} for author in authors],
    } | more


EVENTS = [
    event(ANN, "12", 5),
    event(ANN, "7", 0),
    event(BOB, "12", 3, "Sat Jan 01 00:00:01 +0130 2000", "Mon Aug 04 00:00:00 -0700 2014"),
    event(BOB, "7", 4, "Thu Feb 29 23:59:59 +0000 2016"),
    event(BOB, "404", 1),
    event(ANN, "12", 5),
]
BOOKS = [
    book("12", 'W.C. Fields: "A Life" on Film', ["604031", "1"]),
    book("7", "Good Harbor", [], publication_year="", publisher=""),
    book("9", " ", ["604031"]),
]
AUTHORS = [
    {"average_rating": "3.98", "author_id": "604031", "text_reviews_count": "7", "name": "Ronald J. Fields"},
    {"average_rating": "4.08", "author_id": "626222", "text_reviews_count": "28", "name": "Anita Diamant"},
]


def lines(values: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(value)}\n" for value in values).encode()


def files(events: list[dict[str, Any]] = EVENTS) -> dict[str, bytes]:
    return {
        "goodreads_interactions_poetry.json.gz": gzip.compress(lines(events)),
        "goodreads_books_poetry.json.gz": gzip.compress(lines(BOOKS)),
        "goodreads_book_authors.json.gz": gzip.compress(lines(AUTHORS)),
        "goodreads_book_works.json.gz": b"not looked at",
        "goodreads_reviews_poetry.json.gz": b"not looked at",
    }


def folder(place: Path, contents: dict[str, bytes]) -> str:
    place.mkdir(exist_ok=True)
    for name, data in contents.items():
        (place / name).write_bytes(data)
    return str(place)


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def test_the_published_layout(tmp_path: Path):
    raw = Goodreads(path=folder(tmp_path, files())).read()
    assert raw.interactions.to_pydict() == {
        "user": [ANN, BOB, BOB, BOB],
        "item": ["12", "12", "7", "404"],
        "rating": [5.0, 3.0, 4.0, 1.0],
        "time": [
            seconds("2017-09-18T15:04:44-07:00"),
            seconds("2000-01-01T00:00:01+01:30"),
            seconds("2016-02-29T23:59:59+00:00"),
            seconds("2017-09-18T15:04:44-07:00"),
        ],
    }
    assert raw.catalogue.to_pylist() == [
        {
            "item": "12",
            "title": 'W.C. Fields: "A Life" on Film',
            "author": "Ronald J. Fields",
            "year": "1984",
            "publisher": "Faber",
            "language": "eng",
        },
        {"item": "7", "title": "Good Harbor", "author": "", "year": "", "publisher": "", "language": "eng"},
    ]
    assert raw.profiles.column_names == ["user"]
    assert raw.notes == (
        "goodreads_interactions_poetry.json.gz: 1 of 6 rows are left out: their rating is 0, which means none was given.",
        "goodreads_interactions_poetry.json.gz: 1 of 5 rows are left out: they repeat an event of the same second.",
        "goodreads_books_poetry.json.gz: 1 of 3 rows are left out: they have no title.",
        "1 interactions are with 1 items that the catalogue lacks; they have no text.",
    )


def test_plain_files_and_zips_read_alike_and_authors_may_be_absent(tmp_path: Path):
    packed = files()
    plain = {name.removesuffix(".gz"): gzip.decompress(data) for name, data in packed.items() if data.startswith(b"\x1f\x8b")}
    with zipfile.ZipFile(tmp_path / "g.zip", "w") as archive:
        for name, data in packed.items():
            archive.writestr(name, data)
    first = Goodreads(path=folder(tmp_path / "packed", packed)).read()
    second = Goodreads(path=folder(tmp_path / "plain", plain)).read()
    assert Goodreads(path=str(tmp_path / "g.zip")).read() == first
    assert (first.interactions, first.catalogue) == (second.interactions, second.catalogue)
    (tmp_path / "plain" / "goodreads_book_authors.json").unlink()
    without = Goodreads(path=str(tmp_path / "plain")).read()
    assert without.catalogue.column_names == ["item", "title", "year", "publisher", "language"]
    assert any("no names of authors" in note for note in without.notes)


def test_bad_values_and_damaged_lines_are_listed_with_their_lines(tmp_path: Path):
    bad = [*EVENTS, event(BOB, "8", 6), event(BOB, "9", 4, ""), event(BOB, "10", 4, "2017-13-01"), event("", "12", 4)]
    contents = files(bad)
    contents["goodreads_interactions_poetry.json.gz"] = gzip.compress(lines(bad) + b'{"user_id": "x", "book_id"\n')
    contents["goodreads_books_poetry.json.gz"] = gzip.compress(lines(BOOKS) + b"null\n")
    with pytest.raises(DataError) as caught:
        Goodreads(path=folder(tmp_path, contents)).read()
    assert {(Path(p.file).name[10:13], p.line, p.column, p.value) for p in caught.value.problems} == {
        ("int", 7, "rating", "6"),
        ("int", 8, "date_added", ""),
        ("int", 9, "date_added", "2017-13-01"),
        ("int", 10, "user_id", ""),
        ("int", 11, None, '{"user_id": "x", "book_id"'),
        ("boo", 4, None, "null"),
    }
    contents["goodreads_interactions_poetry.json.gz"] = files()["goodreads_interactions_poetry.json.gz"][:-12]
    with pytest.raises(DataError, match="the archive is damaged or cut"):
        Goodreads(path=folder(tmp_path, contents)).read()


def test_fields_that_are_called_otherwise(tmp_path: Path):
    renamed = [{("stars" if key == "rating" else key): value for key, value in event.items()} for event in EVENTS]
    with pytest.raises(DataError) as caught:
        Goodreads(path=folder(tmp_path, files(renamed))).read()
    (problem,) = caught.value.problems
    assert (problem.column, problem.what.partition(":")[0]) == ("rating", "there is no such column; the file has")


def test_places_that_hold_none_or_several(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"holds no Goodreads set; it needs goodreads_interactions.*It has: no files"):
        parse_source(f"goodreads:{tmp_path}").read()
    folder(tmp_path, files() | {"goodreads_interactions_dedup.json.gz": b""})
    with pytest.raises(ConfigError, match=r"2 files of interactions \(goodreads_interactions_dedup.json.gz, goodreads_"):
        Goodreads(path=str(tmp_path)).read()
    assert Goodreads(path="data/poetry").label == "Goodreads (poetry)"


def test_the_rules_of_the_paper_prepare_it(tmp_path: Path):
    events = [
        event(f"{u:032x}", str(b), 1 + (u + b) % 5, f"Mon Sep {1 + (u + b) % 28:02d} 10:{u:02d}:{b:02d} +0000 2017")
        for u in range(12)
        for b in range(12)
    ]
    events += [event(f"{u:032x}", str(99 - u), 5) for u in range(12)]  # books that one user has
    raw = Goodreads(path=folder(tmp_path / "raw", files(events))).read()
    dataset = prepare(raw, Rules(core=5, label_above=3), tmp_path / "d", "poetry")
    assert (len(dataset), dataset.n_users, dataset.n_items) == (144, 12, 12)
    assert dataset.notes[-1].startswith("5-core: 144 of 156 interactions are left")
    assert dataset.label_N.sum() == sum((u + b) % 5 >= 3 for u in range(12) for b in range(12))


@given(st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(9999, 1, 1)), st.sampled_from(["-0700", "+0000", "+0530"]))
def test_times_are_written_as_iso(moment: datetime, zone: str):
    text = f"{moment:%a %b %d %H:%M:%S} {zone} {moment.year:04d}"
    (found,) = iso(pa.array([text])).to_pylist()
    assert datetime.fromisoformat(found) == datetime.strptime(text, "%a %b %d %H:%M:%S %z %Y")


@pytest.mark.parametrize("text", ["", "2017-01-01", "Mon Foo 18 15:04:44 -0700 2017", "Sep", "Mon Sep 18 15:04 -0700 2017"])
def test_other_texts_stay_as_they_came(text: str):
    assert iso(pa.array([text])).to_pylist() == [text]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from("xyz"), st.sampled_from("12")), max_size=20))
def test_repetitions_are_all_but_the_first(rows: list[tuple[str, str, str]]):
    table = pa.table({name: pa.array([row[at] for row in rows], pa.string()) for at, name in enumerate("uit")})
    found = repeated(Rows("f", table, np.arange(len(rows))), ["u", "i", "t"])
    assert found.tolist() == [row in rows[:at] for at, row in enumerate(rows)]
