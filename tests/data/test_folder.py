"""Folders whose files and columns have usual names: recognised, and said, or refused by name with the mend."""

import gzip
import json
from pathlib import Path

import pytest

from lifelora.data.prepare import Rules, prepare
from lifelora.data.sources.tables import Tables
from lifelora.data.split import Given
from lifelora.data.synonyms import by_names
from lifelora.errors import ConfigError, DataError

LOG = "user,item,rating\nu,a,1\n"


def written(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


def test_usual_names_are_recognised_and_said(tmp_path: Path):
    files = {
        "ratings__csv": "userId,movieId,rating,timestamp,price\n7,2,5,1600000000,3\n",
        "Movies__csv": "movieId,name,genre,summary\n2,Alien,horror,long ago\n",
        "customers__tsv": "customer_id\tcity\tUnnamed: 0\n7\tGraz\t0\n",
        "README__txt": "who made this",
    }
    raw = Tables.of_folder(written(tmp_path, **files)).read()
    assert raw.interactions.to_pylist() == [{"user": "7", "item": "2", "rating": 5.0, "time": 1600000000}]
    assert raw.catalogue.to_pylist() == [{"item": "2", "title": "Alien", "description": "long ago", "genre": "horror"}]
    assert raw.profiles.to_pylist() == [{"user": "7", "city": "Graz"}]
    assert raw.notes == (
        "columns by their names: columns.user = 'userId', columns.item = 'movieId', columns.time = 'timestamp', "
        "user_id = 'customer_id', title = 'name', description = 'summary'.",
        "columns of the log that nothing reads: 'price'.",
        "files of the folder that nothing reads: README.txt.",
    )


@pytest.mark.parametrize("time", ["time", "timestamp", "ts", "Timestamp", "unix_time", "created_at", "datetime"])
def test_times_are_never_passed_over(tmp_path: Path, time: str):
    raw = Tables.of_folder(written(tmp_path, interactions__csv=f"user,item,rating,{time}\nu,a,1,1600000000\n")).read()
    assert raw.interactions.column("time").to_pylist() == [1600000000]


@pytest.mark.parametrize(
    ("ending", "data"),
    [
        (".csv.gz", gzip.compress(LOG.encode(), mtime=0)),
        (".jsonl", json.dumps({"user": "u", "item": "a", "rating": 1}).encode()),
        (".json", json.dumps([{"user": "u", "item": "a", "rating": 1}]).encode()),
        (".jsonl.gz", gzip.compress(json.dumps({"user": "u", "item": "a", "rating": 1}).encode() + b"\n", mtime=0)),
        (".txt", LOG.replace(",", "||").encode()),
    ],
)
def test_files_of_any_format(tmp_path: Path, ending: str, data: bytes):
    (tmp_path / f"interactions{ending}").write_bytes(data)
    assert Tables.of_folder(tmp_path).read().interactions.to_pylist() == [{"user": "u", "item": "a", "rating": 1.0}]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("catalogue.csv", None),
        ("catalog.csv", None),
        ("products.csv", None),
        ("product.csv", None),
        ("goods.parquet.csv", "'goods.parquet.csv': not known by name; call what is meant interactions, items and users"),
        ("stock.csv", "'stock.csv': not known by name"),
        ("tags.jsonl", "'tags.jsonl': not known by name"),
        (
            "ratings.csv",
            "'interactions.csv' and 'ratings.csv' may each be the interactions; keep one of them there, or name your files",
        ),
        ("interactions.csv.gz", "'interactions.csv' and 'interactions.csv.gz' may each be the interactions"),
    ],
)
def test_a_file_beside_the_log_is_known_or_refused(tmp_path: Path, name: str, said: str | None):
    written(tmp_path, interactions__csv=LOG)
    (tmp_path / name).write_text("item,title\na,Alien\n")
    if said is None:
        assert Tables.of_folder(tmp_path).read().catalogue.to_pylist() == [{"item": "a", "title": "Alien"}]
    else:
        with pytest.raises(ConfigError) as caught:
            Tables.of_folder(tmp_path)
        assert said in str(caught.value)
        assert "tables:PATH.toml" in str(caught.value)


@pytest.mark.parametrize(
    ("log", "items", "said"),
    [
        (
            ["user", "user_id", "item", "rating"],
            [],
            "'user' and 'user_id' of the log may each be the user; say which one is: columns.user",
        ),
        (["user", "item", "rating", "date", "timestamp"], [], "'date' and 'timestamp' of the log may each be the time"),
        (["user", "product_id", "sku", "rating"], [], "'product_id' and 'sku' of the log may each be the item"),
        (["user", "item", "rating"], ["item_id", "asin", "title"], "'item_id' and 'asin' of the catalogue may each be the item"),
        (
            ["user", "item", "rating"],
            ["item", "name", "product_name"],
            "'name' and 'product_name' of the catalogue may each be the title",
        ),
    ],
)
def test_two_candidates_are_refused(log: list[str], items: list[str], said: str):
    with pytest.raises(ConfigError) as caught:
        by_names(log, items)
    assert said in str(caught.value)


def test_what_is_said_is_not_looked_for():
    said = {"columns": {"user": "user_id", "time": "date"}, "title": "product_name"}
    found = by_names(["user", "user_id", "item", "rating", "date", "ts"], ["item", "name", "product_name"], [], said)
    assert found["columns"] == {"user": "user_id", "time": "date", "item": "item", "rating": "rating"}
    assert found["item_fields"] == ["name"]
    assert "title" not in found
    assert found["notes"] == ["columns of the log that nothing reads: 'user', 'ts'."]


def test_a_title_beside_other_names_leaves_them_to_be_fields():
    found = by_names(["user", "item", "rating"], ["item", "title", "name", "description", "summary", ""])
    assert (found["title"], found["description"], found["item_fields"]) == ("title", "description", ["name", "summary"])
    assert found["notes"] == []


def test_ids_are_looked_for_by_the_name_that_the_log_has():
    found = by_names(["user_id", "asin", "rating"], ["asin", "parent_asin", "title"], ["user_id", "city"])
    assert "item_id" not in found
    assert found["item_fields"] == ["parent_asin"]
    assert found["user_fields"] == ["city"]


PUBLISHED = "uid,iid,label,timestamp,split\n"


@pytest.mark.parametrize("valid", ["valid", "val", "Validation", "dev"])
def test_three_files_are_the_parts_of_a_log(tmp_path: Path, valid: str):
    folder = tmp_path / "published"
    folder.mkdir()
    for part, item in (("train", "a"), (valid, "b"), ("test", "c")):
        written(folder, **{f"{part}__csv": f"{PUBLISHED}u,{item},1,160000000{ord(item) - ord('a')},x\n"})
    written(folder, items__csv="iid,title\na,Kettle\nb,Kite\nc,Kayak\n")
    source = Tables.of_folder(folder)
    raw = source.read()
    assert [(row["item"], row["part"]) for row in raw.interactions.to_pylist()] == [("a", "train"), ("b", "valid"), ("c", "test")]
    assert f"the parts of the log by their names: train = train.csv, valid = {valid}.csv, test = test.csv." in raw.notes
    assert source.label == "published"
    dataset = prepare(raw, Rules(min_history=0, split=Given()), tmp_path / "data", source.label)
    assert [dataset.item_N[dataset.samples[part]].tolist() for part in ("train", "valid", "test")] == [[0], [1], [2]]


def test_parts_that_are_not_all_there_or_are_beside_a_log_are_refused(tmp_path: Path):
    written(tmp_path, train__csv=LOG, test__csv=LOG)
    with pytest.raises(ConfigError, match=r"nor one file each for train, valid and test \(test\.csv, train\.csv\)"):
        Tables.of_folder(tmp_path)
    written(tmp_path, valid__csv=LOG, val__csv=LOG)
    with pytest.raises(ConfigError, match="nor one file each for train, valid and test"):
        Tables.of_folder(tmp_path)
    written(tmp_path, interactions__csv=LOG)
    with pytest.raises(ConfigError, match=r"'test\.csv', 'train\.csv', 'val\.csv', 'valid\.csv': not known by name"):
        Tables.of_folder(tmp_path)


@pytest.mark.parametrize("name", ["part", "split", "Subset"])
def test_a_column_of_parts_and_lists_of_candidates_take_their_roles(tmp_path: Path, name: str):
    log = f"user,item,{name}\nu,a,train\nu,b,val\nu,c,test\n"
    lists = "user,item,candidates\nu,b,a|b\nu,c,c|a\n"
    raw = Tables.of_folder(written(tmp_path, interactions__csv=log, candidates__csv=lists)).read()
    assert raw.interactions.column("part").to_pylist() == ["train", "valid", "test"]
    assert raw.candidates is not None
    assert raw.candidates.column("candidates").to_pylist() == [["a", "b"], ["c", "a"]]
    assert {f"columns by their names: columns.part = '{name}'.", "candidate lists by their name: candidates.csv."} < {*raw.notes}


def test_folds_are_no_parts_and_other_columns_of_a_parts_name_are_refused(tmp_path: Path):
    raw = Tables.of_folder(written(tmp_path, log__csv="user,item,fold\nu,a,1\n")).read()
    assert "columns of the log that nothing reads: 'fold'." in raw.notes
    source = Tables.of_folder(written(tmp_path, log__csv="user,item,part\nu,a,1\n"))
    with pytest.raises(DataError, match=r"value '1': no such part; write one of train, .*\(a column of something else is not"):
        source.read()
