"""A user's own files: mapping, formats, defaults, and messages with the mend."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from lifelora import kinds
from lifelora.commands.words import SOURCES
from lifelora.data.sources import AnySource, forms, parse_source
from lifelora.data.sources.amazon import Amazon
from lifelora.data.sources.bookcrossing import Bookcrossing
from lifelora.data.sources.goodreads import Goodreads
from lifelora.data.sources.movielens import Movielens
from lifelora.data.sources.simulated import Simulated
from lifelora.data.sources.tables import Tables
from lifelora.errors import ConfigError, DataError

SHOP = """
interactions = "log.csv"
catalogue = "goods.csv"
profiles = "people.csv"
columns = { user = "customer_id", item = "sku", rating = "stars", time = "bought_at" }
title = "name"
description = "text"
item_fields = ["brand"]
user_fields = ["city"]
rating_range = [0, 10]
encoding = "cp1252"
[words]
item = "article"
items = "articles"
did = "bought"
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    log = "sku;stars;customer_id;bought_at\nA-1;9;c1;2024-05-31T18:30:00+02:00\nB;0;c2;2024-06-01\n"
    goods = 'sku,name,text,brand\nA-1,"Café, ""gross""",for the kitchen,Ärgo\nB,Cup,,\n'
    (tmp_path / "log.csv").write_text(log)
    (tmp_path / "goods.csv").write_text(goods, "cp1252")
    (tmp_path / "people.csv").write_text("customer_id\tcity\tage\nc1\tKöln\t30\n", "cp1252")
    (tmp_path / "shop.toml").write_text(SHOP)
    return tmp_path


def test_a_mapping_from_a_toml_file(shop: Path):
    raw = parse_source(f"tables:{shop / 'shop.toml'}").read()
    assert raw.interactions.to_pylist() == [
        {"user": "c1", "item": "A-1", "rating": 9.0, "time": 1717173000},
        {"user": "c2", "item": "B", "rating": 0.0, "time": 1717200000},
    ]
    assert raw.catalogue.to_pylist() == [
        {"item": "A-1", "title": 'Café, "gross"', "description": "for the kitchen", "brand": "Ärgo"},
        {"item": "B", "title": "Cup", "description": "", "brand": ""},
    ]
    assert raw.profiles.to_pylist() == [{"user": "c1", "city": "Köln"}]
    assert (raw.words.item, raw.words.did, raw.words.star) == ("article", "bought", "star")


def test_parquet_gives_the_same_as_text(shop: Path):
    expected = Tables.from_toml(shop / "shop.toml").read()
    pq.write_table(
        pa.table(
            {
                "sku": ["A-1", "B"],
                "stars": pa.array([9, 0], "int8"),
                "customer_id": ["c1", "c2"],
                "bought_at": pa.array([1717173000_000, 1717200000_000], pa.timestamp("ms", "UTC")),
            }
        ),
        shop / "log.parquet",
    )
    (shop / "shop.toml").write_text(SHOP.replace("log.csv", "log.parquet"))
    assert Tables.from_toml(shop / "shop.toml").read() == expected


def test_the_configuration_survives_its_own_json(shop: Path):
    source = Tables.from_toml(shop / "shop.toml")
    again = TypeAdapter(AnySource).validate_python(source.model_dump(mode="json", exclude_none=True))
    assert again == source


def test_a_plain_folder(tmp_path: Path):
    (tmp_path / "interactions.csv").write_text("user,item,rating,time\nu,b,1,1700000005\nu,a,0,1700000006\n")
    (tmp_path / "items.tsv").write_text("item\ttitle\tgenre\tdescription\na\tAlien\thorror\tin space\nb\tBrazil\t\t\n")
    (tmp_path / "users.csv").write_text("user,city\nu,Bonn\n")
    raw = parse_source(f"tables:{tmp_path}").read()
    assert raw.interactions.column("time").to_pylist() == [1700000005, 1700000006]
    assert raw.catalogue.column_names == ["item", "title", "description", "genre"]
    assert raw.profiles.to_pylist() == [{"user": "u", "city": "Bonn"}]


def test_a_log_alone(tmp_path: Path):
    pq.write_table(pa.table({"user": [7, 7], "item": [2, 1], "rating": [0.5, 1.0]}), tmp_path / "interactions.parquet")
    raw = Tables.of_folder(tmp_path).read()
    assert raw.interactions.to_pydict() == {"user": ["7", "7"], "item": ["2", "1"], "rating": [0.5, 1.0]}
    assert raw.catalogue.to_pydict() == {"item": ["2", "1"], "title": ["2", "1"]}
    assert raw.profiles.to_pydict() == {"user": ["7"]}
    assert raw.notes == ("there is no catalogue: items are called by their ids, which tell a language model little.",)


def test_a_column_of_ratings_that_is_named_must_be_there(tmp_path: Path):
    (tmp_path / "interactions.csv").write_text("user,item,time\nu,a,1\n")
    (tmp_path / "shop.toml").write_text('interactions = "interactions.csv"\ncolumns = { rating = "rating" }\n')
    with pytest.raises(DataError, match=r"column 'rating': .*columns\.rating .*0/1 label"):
        Tables.from_toml(tmp_path / "shop.toml").read()


def test_faults_of_all_files_come_together(shop: Path):
    (shop / "log.csv").write_text("sku;stars;customer_id;bought_at\nZ;9;c1;1700000001\nB;11;c2;1700000002\nB;1\n")
    (shop / "goods.csv").write_text("sku,name,text,brand\nB,,x,y\n")
    (shop / "people.csv").write_text("customer_id\tage\nc1\t3\n")
    with pytest.raises(DataError) as caught:
        Tables.from_toml(shop / "shop.toml").read()
    assert [(Path(p.file).name, p.line, p.column, p.value) for p in caught.value.problems] == [
        ("goods.csv", 2, "name", ""),
        ("log.csv", 2, "sku", "Z"),
        ("log.csv", 3, "stars", "11"),
        ("log.csv", 4, None, "B;1"),
        ("people.csv", 1, "city", None),
    ]


def test_unknown_items_may_be_allowed(shop: Path):
    (shop / "log.csv").write_text("sku;stars;customer_id;bought_at\nZ;9;c1;1700000001\nB;1;c1;1700000002\n")
    (shop / "shop.toml").write_text('unknown_items = "allow"\n' + SHOP)
    raw = Tables.from_toml(shop / "shop.toml").read()
    assert raw.interactions.column("item").to_pylist() == ["Z", "B"]
    assert raw.notes == ("1 interactions are with 1 items that the catalogue lacks; they have no text.",)


def test_the_wrong_encoding_is_a_fault_not_a_traceback(shop: Path):
    (shop / "shop.toml").write_text(SHOP.replace("cp1252", "utf-8"))
    with pytest.raises(DataError, match=r"goods\.csv:2, value .*not utf-8: byte\(s\) e9 at offset 28"):
        Tables.from_toml(shop / "shop.toml").read()


@pytest.mark.parametrize(
    ("was", "now", "said"),
    [
        ('title = "name"', 'titel = "name"', "titel: there is no such key; did you mean 'title'?"),
        ('user = "customer_id"', 'usr = "customer_id"', "columns.usr: there is no such key; did you mean 'user'?"),
        ('did = "bought"', 'verb = "bought"', "words.verb: there is no such key; allowed: did, item, items, rated, star, stars"),
        ("[0, 10]", "[10, 0]", "rating_range = [10, 0] is empty"),
        ('"cp1252"', '"latin-7000"', "encoding: there is no text encoding 'latin-7000'"),
        ('["brand"]', '["title"]', "item_fields holds 'title'"),
        ('["brand"]', '["brand", "brand"]', "item_fields holds 'brand'"),
        ('profiles = "people.csv"', "", "user_fields need profiles"),
        ('interactions = "log.csv"', "", "interactions: Field required"),
        ("[0, 10]", '"0 to 10"', "rating_range: Input should be a valid tuple (came: '0 to 10')"),
    ],
)
def test_mistakes_in_the_toml_name_their_place(shop: Path, was, now, said):
    assert was in SHOP
    (shop / "shop.toml").write_text(SHOP.replace(was, now))
    with pytest.raises(ConfigError) as caught:
        Tables.from_toml(shop / "shop.toml")
    assert said in str(caught.value)
    assert str(shop / "shop.toml") in str(caught.value)


def test_files_that_are_not_there(shop: Path, tmp_path: Path):
    (shop / "log.csv").unlink()
    with pytest.raises(ConfigError, match=r"there is no file '.*log\.csv'"):
        Tables.from_toml(shop / "shop.toml").read()
    with pytest.raises(ConfigError, match="there is no file"):
        Tables.from_toml(shop / "none.toml")
    with pytest.raises(ConfigError, match=r"holds no interactions\.csv .*goods\.csv, people\.csv, shop\.toml"):
        parse_source(f"tables:{shop}")
    with pytest.raises(ConfigError, match="no such folder"):
        parse_source(f"tables:{shop / 'none'}")
    (shop / "shop.toml").write_text("a = = 1")
    with pytest.raises(ConfigError, match="is not TOML"):
        parse_source(f"tables:{shop / 'shop.toml'}")


def test_empty_files_in_a_plain_folder(tmp_path: Path):
    (tmp_path / "interactions.csv").write_text("")
    with pytest.raises(DataError, match=r"interactions\.csv: the file is empty"):
        Tables.of_folder(tmp_path)


def test_words_of_the_command_line(tmp_path: Path):
    assert parse_source("simulated") == Simulated()
    assert parse_source("movielens:1m") == Movielens(path="1m")
    assert parse_source(f"movielens:{tmp_path}") == Movielens(path=str(tmp_path))
    assert parse_source("bookcrossing:bx.zip") == Bookcrossing(path="bx.zip")
    assert parse_source("goodreads:C:/poetry") == Goodreads(path="C:/poetry")
    assert parse_source("amazon:games") == Amazon(path="games")


def test_every_source_is_in_every_list_of_them():
    for kind in kinds.SOURCES.ours:
        assert re.search(rf"\b{kind}\b", forms())
        assert re.search(rf"\b{kind}\b", SOURCES)


def test_any_source_has_a_name(shop: Path):
    assert parse_source(f"tables:{shop / 'shop.toml'}").label == "log"
    assert Movielens(path="1m").label == "MovieLens 1m"
    assert Movielens(path="data/ml-1m/").label == "MovieLens (ml-1m)"
    assert Simulated().label == "the simulated world"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("movielnes:1m", "did you mean 'movielens'?"),
        ("csv:x", "Write one of: simulated, movielens:PATH"),
        ("amazn:x", "did you mean 'amazon'?"),
        ("goodreads:", "lacks its place"),
        ("movielens", "lacks its place"),
        ("tables:", "lacks its place"),
        ("simulated:small", "the simulated world has no place"),
        ("movielens:ml-1M", "did you mean '1m'?"),
        ("", "there is no data source ''"),
        ("movielens:/no/such/place", "Sets by name: 100k, 1m, 25m, latest-small"),
    ],
)
def test_wrong_words_are_answered_with_the_right_ones(text, said):
    with pytest.raises(ConfigError) as caught:
        parse_source(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (b"interactions = " + b"[" * 5000, "nested too deeply"),
        (b"interactions = " + b"9" * 5000, "4300 digits"),
        (b"interactions = 'caf\xe9'", "it is not UTF-8: byte.s. e9 in line 1"),
        (b"interactions = 'x.csv'\nencoding = 'rot13'", "for files"),
        (b"interactions = 'x.csv'\nencoding = 'idna'", "for files"),
        (b"interactions = 'x.csv'\nencoding = ''", "for files"),
        (b'interactions = "x.csv"\ndelimiter = "\\r"', "a delimiter is one or a few ASCII characters"),
        (b"interactions = 'x.csv'\nrating_range = [nan, inf]", "without an end"),
        (b"interactions = 'x.csv'\nrating_range = [0, inf]", "without an end"),
        (b'interactions = "a\\u0000b"', "there is no file"),
        (b"interactions = '~nobody-of-this-name/x'", "there is no file"),
    ],
)
def test_toml_files_that_are_none(tmp_path: Path, written: bytes, said: str):
    (tmp_path / "t.toml").write_bytes(written)
    with pytest.raises(ConfigError, match=said):
        Tables.from_toml(tmp_path / "t.toml").read()


def test_a_rating_beyond_32_bits_is_refused_with_its_line(tmp_path: Path):
    """The greatest float32 is 3.4028235e38: what is above it would be infinite."""
    (tmp_path / "interactions.csv").write_text("user,item,rating\na,x,3.4028e38\na,y,3.5e38\na,z,-1e300\n")
    with pytest.raises(DataError) as caught:
        Tables.of_folder(tmp_path).read()
    assert [(p.line, p.value) for p in caught.value.problems] == [(3, "3.5e38"), (4, "-1e300")]
    assert "32-bit" in caught.value.problems[0].what


def test_a_file_that_may_not_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def denied(self: Path, mode: str = "r") -> bytes:
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "interactions.csv").write_text("user,item,rating\na,x,3\n")
    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(DataError, match=r"interactions.csv: this cannot be read \(Permission denied\)"):
        Tables.of_folder(tmp_path).read()
