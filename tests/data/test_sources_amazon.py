"""Amazon reviews: both published layouts in small, telling them apart, repetitions, gaps, and what is refused."""

import gzip
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from lifelora.data.sources import parse_source
from lifelora.data.sources.amazon import Amazon
from lifelora.errors import ConfigError, DataError


def review_18(user: str, item: str, stars: float, time: int) -> dict[str, Any]:
    return {
        "overall": stars,
        "verified": True,
        "reviewTime": "05 31, 2014",
        "reviewerID": user,
        "asin": item,
        "style": {"Format:": "CD"},
        "reviewerName": "A",
        "reviewText": "Good \u201cstuff\u201d\nindeed",
        "summary": "ok",
        "unixReviewTime": time,
    }


def review_23(user: str, item: str, stars: float, time: int) -> dict[str, Any]:
    return {
        "rating": stars,
        "title": "ok",
        "text": "Good",
        "images": [],
        "asin": f"variant of {item}",
        "parent_asin": item,
        "user_id": user,
        "timestamp": time,
        "helpful_vote": 0,
        "verified_purchase": True,
    }


REVIEWS_18 = [
    review_18("A1", "B01", 5.0, 1401494400),
    review_18("A1", "B01", 5.0, 1401494400),  # shown under two variants
    review_18("A1", "B01", 2.0, 1501494400),
    review_18("A2", "0700026657", 1.0, 1401494400),
    review_18("A2", "B99", 3.0, 5),
]
META_18 = [
    {
        "category": ["Video Games", "PC", "Games"],
        "tech1": "",
        "description": ["x"],
        "title": "Anno 1602",
        "brand": "Sunflowers",
        "rank": [">#67"],
        "asin": "0700026657",
        "price": "$4",
    },
    {"category": [], "title": "Reversi &amp; more", "brand": "", "asin": "B01"},
    {"category": ["Video Games"], "title": "Again", "brand": "Other", "asin": "B01"},
    {"category": [], "title": "var aPageStart = (new Date()).getTime();", "brand": "", "asin": "B99"},
]
REVIEWS_23 = [
    review_23("AE2", "B07", 4.0, 1588687728923),
    review_23("AE2", "B07", 1.0, 852076800000),
    review_23("AE3", "B08", 5.0, 1588687728923),
]
META_23 = [
    {
        "main_category": "Computers",
        "title": "Headset",
        "average_rating": 4.8,
        "store": "HyperX",
        "parent_asin": "B07",
        "categories": ["Video Games", "Accessories"],
        "details": {},
    },
    {"main_category": None, "title": "Pad", "store": None, "categories": [], "parent_asin": "B08"},
]


def lines(values: list[dict[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(value)}\n" for value in values).encode()


def folder(place: Path, contents: dict[str, bytes]) -> str:
    place.mkdir(exist_ok=True)
    for name, data in contents.items():
        (place / name).write_bytes(data)
    return str(place)


def files_18() -> dict[str, bytes]:
    return {"Video_Games.json.gz": gzip.compress(lines(REVIEWS_18)), "meta_Video_Games.json.gz": gzip.compress(lines(META_18))}


def files_23() -> dict[str, bytes]:
    return {"Video_Games.jsonl.gz": gzip.compress(lines(REVIEWS_23)), "meta_Video_Games.jsonl.gz": gzip.compress(lines(META_23))}


def test_the_release_of_2018(tmp_path: Path):
    raw = Amazon(path=folder(tmp_path, files_18())).read()
    assert raw.interactions.to_pydict() == {
        "user": ["A1", "A1", "A2", "A2"],
        "item": ["B01", "B01", "0700026657", "B99"],
        "rating": [5.0, 2.0, 1.0, 3.0],
        "time": [1401494400, 1501494400, 1401494400, 5],
    }
    assert raw.catalogue.to_pylist() == [
        {"item": "0700026657", "title": "Anno 1602", "brand": "Sunflowers", "category": "PC"},
        {"item": "B01", "title": "Reversi &amp; more", "brand": "", "category": ""},
    ]
    assert raw.notes == (
        "Video_Games.json.gz: 1 of 5 rows are left out: they repeat a review of the same user, product and time.",
        "meta_Video_Games.json.gz: 1 of 4 rows are left out: their product has a row already.",
        "meta_Video_Games.json.gz: 1 of 3 rows are left out: they have no title.",
        "1 interactions are with 1 items that the catalogue lacks; they have no text.",
    )


def test_the_release_of_2023_counts_milliseconds(tmp_path: Path):
    raw = Amazon(path=folder(tmp_path, files_23())).read()
    assert raw.interactions.to_pydict() == {
        "user": ["AE2", "AE2", "AE3"],
        "item": ["B07", "B07", "B08"],
        "rating": [4.0, 1.0, 5.0],
        "time": [1588687728, 852076800, 1588687728],
    }
    assert raw.catalogue.to_pylist() == [
        {"item": "B07", "title": "Headset", "brand": "HyperX", "category": "Accessories", "main_category": "Computers"},
        {"item": "B08", "title": "Pad", "brand": "", "category": "", "main_category": ""},
    ]
    assert raw.notes == ()


@pytest.mark.parametrize("files", [files_18, files_23])
def test_plain_files_and_zips_read_alike_and_metadata_may_be_absent(tmp_path: Path, files):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name, data in files().items():
            archive.writestr(f"amazon/{name}", data)
    whole = Amazon(path=str(tmp_path / "a.zip")).read()
    plain = {name.removesuffix(".gz"): gzip.decompress(data) for name, data in files().items()}
    path = folder(tmp_path / "plain", plain)
    assert Amazon(path=path).read().catalogue == whole.catalogue
    (tmp_path / "plain" / next(name for name in plain if name.startswith("meta"))).unlink()
    alone = Amazon(path=path).read()
    assert alone.interactions == whole.interactions
    assert "items are called by their ids" in alone.notes[-1]


def test_damaged_lines_and_bad_values_are_listed_with_their_lines(tmp_path: Path):
    bad = [*REVIEWS_18, review_18("A3", "B01", 7.0, 1), review_18("A3", "", 3.0, 1), review_18("A3", "B01", 3.0, 1588687728923)]
    contents = files_18() | {"Video_Games.json.gz": gzip.compress(lines(bad) + b"{'reviewerID': 'A4'}\n")}
    with pytest.raises(DataError) as caught:
        Amazon(path=folder(tmp_path, contents)).read()
    assert {(p.line, p.column, p.value) for p in caught.value.problems} == {
        (6, "overall", "7.0"),
        (7, "asin", ""),
        (8, "unixReviewTime", "1588687728923"),
        (9, None, "{'reviewerID': 'A4'}"),
    }


@pytest.mark.parametrize(
    ("first", "said"),
    [
        (b'{"user": "a", "item": "b"}\n', "its first line has: item, user."),
        (b"user,item\n", "its first line has: no JSON object"),
        (b"[1]\n", "its first line has: no JSON object"),
        (b"", "its first line has: no JSON object"),
    ],
)
def test_a_file_of_another_kind_is_told_from_both_releases(tmp_path: Path, first, said):
    with pytest.raises(ConfigError) as caught:
        Amazon(path=folder(tmp_path, {"x.json": first})).read()
    assert said in str(caught.value)
    assert "2018: reviewerID, asin, overall, unixReviewTime; 2023: user_id, parent_asin, rating, timestamp" in str(caught.value)


def test_places_that_hold_none_or_several_or_a_damaged_one(tmp_path: Path):
    with pytest.raises(ConfigError, match="holds no file of reviews"):
        parse_source(f"amazon:{tmp_path}").read()
    cut = {"Video_Games.json.gz": files_18()["Video_Games.json.gz"][:-10]}
    with pytest.raises(DataError, match="the archive is damaged or cut"):
        Amazon(path=folder(tmp_path / "cut", cut)).read()
    with pytest.raises(ConfigError, match=r"2 files of reviews \(Video_Games.json.gz, Video_Games_5.json.gz\)"):
        Amazon(path=folder(tmp_path, files_18() | {"Video_Games_5.json.gz": b""})).read()
    assert Amazon(path="data/games/").label == "Amazon (games)"
