"""Fields with several values from a file to models, prompts and selectors: lists, separators, notes, codes, what comes later."""

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lifelora.data.dataset import Dataset
from lifelora.data.describe import describe
from lifelora.data.extend import Event
from lifelora.data.fields import as_texts, coded
from lifelora.data.prepare import Rules, prepare
from lifelora.data.rows import MAX_VALUES, Problems, Rows
from lifelora.data.sources.tables import Tables
from lifelora.data.split import LeaveOneOut
from lifelora.errors import ConfigError, DataError
from lifelora.prompts.lines.base import table_texts
from lifelora.vectors.texts import item_texts

ITEMS = [
    ("A-1", "Kettle", "kitchen|steel"),
    ("A-2", "Kite", "toys| outdoor |toys"),
    ("A-3", "Cup", ""),
    ("A-4", "Rope", "outdoor|"),
]
LOG = "user,item,rating\n" + "".join(f"{u},A-{i},{1 + (i + k) % 5}\n" for k, u in enumerate("uvw") for i in (1, 2, 3, 4))
TOML = 'interactions = "log.csv"\ncatalogue = "goods.csv"\ntitle = "name"\nitem_fields = ["kinds"]\n'
RULES = Rules(min_history=1, split=LeaveOneOut())


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "goods.csv").write_text("item,name,kinds\n" + "".join(",".join(row) + "\n" for row in ITEMS))
    return tmp_path


def read(shop: Path, more: str = "", toml: str = TOML):
    (shop / "shop.toml").write_text(toml + more)
    return Tables.from_toml(shop / "shop.toml").read()


def prepared(shop: Path, more: str = 'lists = { kinds = "|" }\n') -> Dataset:
    return prepare(read(shop, more), RULES, shop / "prepared", "shop")


def test_values_are_lists_in_order_without_blanks_and_repetitions(shop: Path):
    raw = read(shop, 'lists = { kinds = "|" }\n')
    assert raw.catalogue.schema.field("kinds").type == pa.list_(pa.string())
    expected = [["kitchen", "steel"], ["toys", "outdoor"], [], ["outdoor"]]
    assert raw.catalogue.column("kinds").to_pylist() == expected
    assert not [note for note in raw.notes if "lists" in note]
    assert "kinds (4 values, 1.2 each)" in describe(raw, "shop")
    dataset = prepared(shop)
    assert dataset.catalogue.column("kinds").to_pylist() == expected
    assert pq.read_table(dataset.folder / "catalogue.parquet").column("kinds").to_pylist() == expected


def test_a_separator_that_nobody_told_of_is_told_of(shop: Path):
    raw = read(shop)
    assert raw.catalogue.column("kinds").to_pylist()[0] == "kitchen|steel"
    assert "kinds (3 values)" in describe(raw, "shop")
    assert not raw.notes  # three whole texts, four values: apart they would not be fewer
    rng = np.random.default_rng(0)
    kinds = ["|".join(sorted(rng.choice(list("abcdef"), size=3, replace=False))) for _ in range(30)]
    rows = "".join(f"A-{i},Thing,{kinds[i % 30]}\n" for i in range(1, 61))
    (shop / "goods.csv").write_text("item,name,kinds\n" + rows)
    (note,) = read(shop).notes
    assert f"100% of the texts of 'kinds' hold '|'. Each whole text is read as one value ({len(set(kinds))} different" in note
    assert 'lists = { "kinds" = "|" } reads 6 values.' in note
    assert not read(shop, 'lists = { "kinds" = "|" }\n').notes  # as the note has it


@pytest.mark.parametrize("sign", [";", ", ", " / ", "::"])
def test_a_separator_is_any_text(shop: Path, sign: str):
    rows = "".join(f'{item},{title},"{kinds.replace("|", sign)}"\n' for item, title, kinds in ITEMS)
    (shop / "goods.csv").write_text("item,name,kinds\n" + rows)
    raw = read(shop, f"lists = {{ kinds = {json.dumps(sign)} }}\n")
    assert raw.catalogue.column("kinds").to_pylist() == [["kitchen", "steel"], ["toys", "outdoor"], [], ["outdoor"]]


def test_columns_of_lists_are_lists_by_themselves(shop: Path):
    table = pa.table(
        {
            "item": [row[0] for row in ITEMS],
            "name": [row[1] for row in ITEMS],
            "kinds": pa.array([["kitchen", "steel"], ["toys", None, " outdoor\n"], None, [""]], pa.large_list(pa.string())),
        }
    )
    pq.write_table(table, shop / "goods.parquet")
    toml = TOML.replace("goods.csv", "goods.parquet")
    raw = read(shop, toml=toml)
    assert raw.catalogue.column("kinds").to_pylist() == [["kitchen", "steel"], ["toys", "outdoor"], [], []]
    numbers = pa.array([[1, 2], [2], [], [3]], pa.list_(pa.int64()))
    pq.write_table(table.set_column(2, "kinds", numbers), shop / "goods.parquet")
    assert read(shop, toml=toml).catalogue.column("kinds").to_pylist() == [["1", "2"], ["2"], [], ["3"]]


def test_fields_of_users_have_several_values_too(shop: Path):
    (shop / "people.csv").write_text("user,likes\nu,tea;walks\nv,\nw,walks\n")
    more = 'profiles = "people.csv"\nuser_fields = ["likes"]\nlists = { likes = ";", kinds = "|" }\n'
    dataset = prepared(shop, more)
    schema = dataset.schema()
    assert schema.user_fields_UF.tolist() == [[1, 2], [0, 0], [2, 0]]
    assert (schema.user_field_sizes, schema.user_field_widths) == ((3,), (2,))
    assert table_texts(dataset.profiles)[0]["likes"] == "tea, walks"


def test_the_length_and_number_of_values_are_bounded():
    notes: list[str] = []
    table = pa.table({"tags": ["|".join(map(str, range(100))), "x" * 5000 + "|y"]})
    found = Rows("f", table, np.arange(2)).sets("tags", "|", notes).to_pylist()
    assert found == [[str(n) for n in range(MAX_VALUES)], ["x" * 2000, "y"]]
    assert notes == [
        f"f: 1 rows have more than {MAX_VALUES} values of 'tags'; the first are kept.",
        "f: 1 values of 'tags' are cut after 2,000 characters.",
    ]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ('lists = { name = "|" }\n', "lists holds 'name', which is neither in item_fields nor in user_fields"),
        ('lists = { kinds = "" }\n', "lists.kinds: String should have at least 1 character"),
    ],
)
def test_lists_that_cannot_be_meant(shop: Path, more: str, said: str):
    with pytest.raises(ConfigError, match=said):
        read(shop, more)


def test_codes_by_hand(shop: Path):
    """kitchen 1, steel 2, toys 3, outdoor 4, in the order in which they are first met; 0 is unknown, and fills up."""
    dataset = prepared(shop)
    schema = dataset.schema()
    assert schema.item_fields_MF.tolist() == [[1, 2], [3, 4], [0, 0], [4, 0]]
    assert (schema.item_field_sizes, schema.item_field_widths) == ((5,), (2,))
    assert np.asarray(dataset.item_codes("kinds")).tolist() == [[1, 2], [3, 4], [0, 0], [4, 0]]
    codes, values = coded(pa.chunked_array([["b", "", "a", "b"]]))  # as they were before fields had several values
    assert (codes.tolist(), values) == ([[1], [0], [3], [1]], ["b", "", "a"])
    assert coded(pa.chunked_array([pa.array([[], []], pa.list_(pa.string()))]))[0].tolist() == [[0], [0]]


def test_words_join_the_values(shop: Path):
    dataset = prepared(shop)
    texts = table_texts(dataset.catalogue)
    assert [row["kinds"] for row in texts] == ["kitchen, steel", "toys, outdoor", "", "outdoor"]
    assert item_texts(dataset.catalogue, "article")[1:3] == ["The article Kite. Kinds: toys, outdoor.", "The article Cup."]
    assert as_texts(dataset.catalogue).schema.field("kinds").type == pa.string()


def test_what_comes_later_may_have_several_values(shop: Path):
    dataset = prepared(shop)
    grown = dataset.extended(
        [Event("u", "B-9", 3)],
        [{"item": "B-1", "kinds": ["outdoor", " rope\n", "steel", ""]}, {"item": "B-2", "kinds": "toys"}, {"item": "B-3"}],
    )
    assert grown.catalogue.column("kinds").to_pylist()[4:] == [["outdoor", "rope", "steel"], ["toys"], [], []]
    assert np.asarray(grown.item_codes("kinds")).tolist() == [
        *([1, 2, 0], [3, 4, 0], [0, 0, 0], [4, 0, 0]),
        *([4, 5, 2], [3, 0, 0], [0, 0, 0], [0, 0, 0]),
    ]
    assert grown.schema().item_fields_MF.shape == (4, 2)
    with pytest.raises(DataError, match=r"items:1, column 'kinds', value '\[1\]': this is no text, and no list of texts"):
        dataset.extended([], [{"item": "C", "kinds": [1]}])  # type: ignore[list-item]
    with pytest.raises(DataError, match="column 'title', value .* this is no text$"):
        dataset.extended([], [{"item": "C", "title": ["a"]}])


def test_a_title_or_a_description_of_several_texts_is_one(shop: Path):
    """Amazon's descriptions are lists."""
    lists = pa.array([["for tea,", "loud"], [], ["a"], ["b"]])
    rows = Rows("f", pa.table({"about": lists}), np.arange(4))
    assert rows.text("about", []).to_pylist() == ["for tea, loud", "", "a", "b"]
    problems = Problems()
    rows = Rows("f", pa.table({"item": lists}), np.arange(4))
    problems.add_rows(rows, "item", np.array([True, False, False, False]), "an id is a text")
    with pytest.raises(DataError, match="value"):
        problems.refuse()
