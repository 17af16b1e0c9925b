"""Data sets from frames: the same as from the files of the same content, whatever holds the frame; and what is refused."""

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lifelora.data.dataset import Dataset
from lifelora.data.prepare import Rules, prepare
from lifelora.data.sources.tables import Tables
from lifelora.errors import ArtefactError, ConfigError, DataError
from lifelora.recipe.files import load

RULES = Rules(min_history=3)
MAPPED: dict[str, Any] = {
    "columns": {"user": "customer", "item": "sku", "rating": "stars", "time": "bought_at"},
    "title": "name",
    "description": "text",
    "rating_range": [1, 5],
    "words": {"item": "article", "items": "articles", "did": "bought"},
}
KINDS = {"pandas": lambda frame: frame, "polars": pl.from_pandas, "pyarrow": pa.Table.from_pandas}


def shop() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Native types throughout: times with a zone, categories, nullable integers, a float with a hole, booleans."""
    n = 300
    log = pd.DataFrame(
        {
            "customer": pd.array([i % 11 + 100 for i in range(n)], dtype="Int64"),
            "sku": [f"A-{(i * i) % 41}" for i in range(n)],
            "stars": [float(i % 5 + 1) for i in range(n)],
            "bought_at": pd.date_range("2024-03-30", periods=n, freq="37min", tz="Europe/Vienna"),
        }
    )
    goods = pd.DataFrame(
        {
            "sku": [f"A-{i}" for i in range(41)],
            "name": [f"Kettle {i}" for i in range(41)],
            "text": [None if i % 3 else 'for tea, "loud"' for i in range(41)],
            "brand": pd.Categorical(["Argo" if i % 2 else "Boreas" for i in range(41)]),
            "litres": [None if i % 4 == 0 else float(i % 4) for i in range(41)],
            "steel": [i % 2 == 0 for i in range(41)],
        }
    )
    customers = pd.DataFrame({"customer": list(range(100, 111)), "city": ["Graz", None, "Linz"] * 3 + ["Graz", "Wels"]})
    return log, goods, customers


def contents(folder: Path) -> dict[str, str]:
    """What a prepared folder holds: the bytes of its arrays, the values of its tables."""
    arrays = {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.npy")}
    return arrays | {p.name: str(pq.read_table(p).to_pydict()) for p in folder.glob("*.parquet")}


@pytest.fixture(scope="module")
def from_csv(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("shop")
    log, goods, customers = shop()
    log.assign(bought_at=log["bought_at"].map(lambda t: t.isoformat())).to_csv(folder / "log.csv", index=False)
    # A hole made floats of whole litres, and a CSV has no booleans.
    goods.astype({"litres": "Int64", "steel": int}).to_csv(folder / "goods.csv", index=False)
    customers.to_csv(folder / "users.csv", index=False)
    source = Tables(
        interactions=str(folder / "log.csv"),
        catalogue=str(folder / "goods.csv"),
        profiles=str(folder / "users.csv"),
        item_fields=("brand", "litres", "steel"),
        user_fields=("city",),
        **MAPPED,
    )
    prepare(source.read(), RULES, folder / "prepared", "shop")
    return contents(folder / "prepared")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_frames_give_what_the_csv_of_the_same_content_gives(kind: Any, from_csv: dict[str, str], tmp_path: Path):
    frames = [kind(frame) for frame in shop()]
    dataset = Dataset.from_frames(*frames, folder=tmp_path / "own", rules=RULES, **MAPPED)
    assert len(from_csv) > 12
    assert contents(tmp_path / "own") == from_csv
    assert dataset.words.did == "bought"
    assert dataset.item_field_names == ("brand", "litres", "steel")
    # and through Parquet and TOML, as a recipe keeps them
    source = Tables.from_frames(tmp_path / "kept", *frames, **MAPPED)
    again = load("demo", source).data.source
    prepare(again.read(), RULES, tmp_path / "again", "shop")
    assert contents(tmp_path / "again") == from_csv


def test_our_own_names_need_no_layout(tmp_path: Path):
    log, goods, _ = shop()
    log = log.rename(columns={"customer": "user", "sku": "item", "stars": "rating", "bought_at": "time"})
    goods = goods.rename(columns={"sku": "item", "name": "title", "text": "description"})
    dataset = Dataset.from_frames(log, goods, folder=tmp_path / "d", rules={"min_history": 3, "label_above": 4})
    assert (dataset.has_times, dataset.n_users, dataset.titles[0]) == (True, 11, "Kettle 0")
    assert dataset.catalogue.column_names == ["item", "title", "description", "brand", "litres", "steel"]
    assert dataset.label_N.sum() == 60  # the fives


def test_nothing_in_a_frame_is_changed(tmp_path: Path):
    frames, before = shop(), shop()
    Dataset.from_frames(*frames, folder=tmp_path / "d", rules=RULES, **MAPPED)
    for frame, was in zip(frames, before, strict=True):
        pd.testing.assert_frame_equal(frame, was)


def log_with(**columns: Any) -> pd.DataFrame:
    n = 40
    plain = {
        "user": [f"u{i % 4}" for i in range(n)],
        "item": range(n),
        "rating": [i % 5 for i in range(n)],
        "time": range(1700000000, 1700000000 + n),
    }
    return pd.DataFrame(plain | columns)


@pytest.mark.parametrize(
    ("column", "values", "texts"),
    [
        ("item", pd.array([None, *range(39)], dtype="Int64").astype("float64") + 1, None),
        ("item", pd.Series([*range(20), *map(str, range(20, 40))], dtype=object), [str(i) for i in range(40)]),
        ("item", pd.Series([float(i) for i in range(39)] + [39], dtype=object), [str(i) for i in range(40)]),
        ("user", pd.Categorical([7, 8] * 20), ["7", "8"]),
        ("rating", [i % 2 == 0 for i in range(40)], [0.0, 1.0]),
        ("time", pd.date_range("2024-01-01", periods=40, tz="Asia/Tokyo"), 1704034800),
        ("time", pd.date_range("2024-01-01", periods=40), 1704067200),
    ],
)
def test_native_types_are_what_they_say(column: str, values: Any, texts: Any, tmp_path: Path):
    def made() -> Dataset:
        return Dataset.from_frames(log_with(**{column: values}), folder=tmp_path / "d", rules={"min_history": 1})

    if texts is None:
        with pytest.raises(
            DataError, match=r"1 problem in the data:\n  interactions\[0\], column 'item', value '': an id is missing"
        ):
            made()
    elif column == "time":
        # midnight of 1 January in Tokyo is 15:00 of the day before in UTC; one without a zone means UTC
        assert made().time_N.min() == texts
    elif column == "rating":
        assert list(made().rating_levels) == texts
    else:
        dataset = made()
        ids = {"user": dataset.users, "item": dataset.items}[column]
        assert ids.outside(np.arange(len(ids))) == texts


def test_problems_name_the_frame_and_the_row(tmp_path: Path):
    log = log_with(rating=["five", *[4] * 38, None])
    items = pl.DataFrame({"item": [*range(39), 38], "title": ["t"] * 39 + [""]})
    with pytest.raises(DataError) as refused:
        Dataset.from_frames(log, items, folder=tmp_path / "d")
    assert [str(problem).split(": ")[0] for problem in refused.value.problems] == [
        "interactions[0], column 'rating', value 'five'",
        "interactions[39], column 'item', value '39'",
        "interactions[39], column 'rating', value ''",
        "items[39], column 'item', value '38'",
        "items[39], column 'title', value ''",
    ]
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    ("layout", "said"),
    [
        ({"colums": {}}, "from_frames has 1 mistake:\n  colums: there is no such key; did you mean 'columns'"),
        ({"columns": {"usr": "u"}}, "columns.usr: there is no such key; did you mean 'user'"),
        (
            {"columns": {"user": "who"}},
            "interactions, column 'who': there is no such column; the file has: item, rating, time, user",
        ),
        ({"columns": 3}, "columns: Input should be a valid dictionary"),
        ({"rules": {"min_histor": 1}}, "rules has 1 mistake:\n  min_histor: there is no such key; did you mean 'min_history'"),
        ({"rules": {"split": {"kind": "global-time", "x": 1}}}, "split.global-time.x: there is no such key"),
    ],
)
def test_a_wrong_key_is_answered_with_the_right_ones(layout: dict[str, Any], said: str, tmp_path: Path):
    with pytest.raises((ConfigError, DataError)) as refused:
        Dataset.from_frames(log_with(), folder=tmp_path / "d", **layout)
    assert said in str(refused.value)


def test_what_nobody_mapped_is_not_looked_at(tmp_path: Path):
    log = log_with(basket=[{"a": [1]}] * 40, noise=[object()] * 40)
    dataset = Dataset.from_frames(log, folder=tmp_path / "d", rules={"min_history": 1})
    assert len(dataset) == 40
    nested = pa.table({"user": [[1]], "item": [1], "rating": [1]})
    with pytest.raises(DataError, match="interactions, column 'user': it holds lists; write one value a row"):
        Dataset.from_frames(nested, folder=tmp_path / "e")
    nested = pa.table({"user": [{"a": 1}], "item": [1], "rating": [1]})
    with pytest.raises(DataError, match="column 'user': it holds struct<a: int64>; write texts, numbers or times"):
        Dataset.from_frames(nested, folder=tmp_path / "e")
    with pytest.raises(DataError, match="interactions, column 'user': there is no such column; the file has: a"):
        Dataset.from_frames(pl.DataFrame({"a": [1]}), folder=tmp_path / "e")
    with pytest.raises(DataError, match="interactions: it has columns and no rows"):
        Dataset.from_frames(pl.DataFrame(schema=["user", "item", "rating"]), folder=tmp_path / "e")


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_fields_of_lists_are_lists_and_those_of_texts_may_be(kind: Any, tmp_path: Path):
    """A list of any type, one that is missing, and a text with a separator; the same again from Parquet."""
    items = pd.DataFrame(
        {
            "item": range(40),
            "title": ["t"] * 40,
            "tags": [["a", "b"], None] * 20,
            "years": [[1999, 2001]] * 40,
            "genres": ["x|y", ""] * 20,
        }
    )
    frames, lists = (kind(log_with()), kind(items)), {"genres": "|"}
    dataset = Dataset.from_frames(*frames, folder=tmp_path / "d", rules={"min_history": 1}, lists=lists)
    first, second = dataset.catalogue.to_pylist()[:2]
    assert (first["tags"], first["years"], first["genres"]) == (["a", "b"], ["1999", "2001"], ["x", "y"])
    assert (second["tags"], second["genres"]) == ([], [])
    assert Tables.from_frames(tmp_path / "t", *frames, lists=lists).read().catalogue.to_pylist()[:2] == [first, second]


def test_knobs_and_events_are_those_of_files(tmp_path: Path):
    """A repeated row, a missing user, kinds of events, own parts: each key of a TOML file, told in a note or kept."""
    log = pd.concat([log_with(), log_with().head(1), log_with(user=[None] * 40).head(2)])
    with pytest.raises(DataError, match="interactions\\[40\\].*the same user, item and time as in line 0"):
        Dataset.from_frames(log.iloc[:41], folder=tmp_path / "d")
    dataset = Dataset.from_frames(log, folder=tmp_path / "d", rules={"min_history": 1}, duplicates="first", without_user="drop")
    assert len(dataset) == 40
    assert [note.split(":")[1].split(" of")[0] for note in dataset.notes[:2]] == [" 2", " 1"]  # no user, then repeated
    seen = log_with(did=["view", "buy"] * 20).drop(columns="rating")
    bought = Dataset.from_frames(
        seen,
        folder=tmp_path / "e",
        rules={"min_history": 1, "label_above": 1},
        columns={"event": "did"},
        events={"view": 1, "buy": 3},
    )
    assert (bought.rating_levels, int(bought.label_N.sum())) == ((1, 3), 20)


def test_a_folder_is_made_anew_and_files_of_others_are_left_alone(tmp_path: Path):
    first = Dataset.from_frames(log_with(), folder=tmp_path / "d", rules={"min_history": 1})
    second = Dataset.from_frames(log_with(rating=[4] * 40), folder=tmp_path / "d", rules={"min_history": 1, "label_above": 3})
    assert (len(first.rating_levels), len(second.rating_levels)) == (5, 1)
    assert first.label_N.sum() == 8  # what is open stays as it was
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/users.parquet").write_bytes(b"precious")
    with pytest.raises(ArtefactError, match="holds what lifelora did not make"):
        Tables.from_frames(tmp_path / "mine", log_with())
    with pytest.raises(ArtefactError, match="is of another stage"):
        Tables.from_frames(tmp_path / "d", log_with())
    assert (tmp_path / "mine/users.parquet").read_bytes() == b"precious"
