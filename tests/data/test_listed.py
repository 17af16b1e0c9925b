"""Candidate lists of a published protocol: taken as they are, in both forms of a file, and what is wrong with one is told."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lifelora.data.candidates import Candidates
from lifelora.data.dataset import Dataset
from lifelora.data.prepare import Rules, prepare
from lifelora.data.sources.tables import Tables
from lifelora.data.split import Given
from lifelora.errors import ConfigError, DataError

LOG = {
    "train": ["a,1", "a,2", "b,3", "b,1", "c,5"],
    "valid": ["a,3", "b,4", "c,1"],
    "test": ["c,2", "a,4", "b,5"],
}
WIDE = "user,item,candidates\nb,5,1|2|5\na,4,4|6|1\nc,2,3|2|6\nz,1,1|2|3\n"
RULES = Rules(min_history=0, split=Given())


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for part, rows in LOG.items():
        (tmp_path / f"{part}.csv").write_text("user,item\n" + "".join(f"{row}\n" for row in rows))
    (tmp_path / "goods.csv").write_text("item,title\n" + "".join(f"{n},Thing {n}\n" for n in range(1, 7)))
    return tmp_path


def prepared(shop: Path, lists: str, more: str = "", rules: Rules = RULES, ending: str = "csv") -> Dataset:
    if lists:
        (shop / f"lists.{ending}").write_text(lists)
    (shop / "split.toml").write_text(
        'interactions = { train = "train.csv", valid = "valid.csv", test = "test.csv" }\ncatalogue = "goods.csv"\n'
        f'candidates = "lists.{ending}"\n{more}'
    )
    tables = Tables.from_toml(shop / "split.toml")
    assert len(tables.files()) == 5
    return prepare(tables.read(), rules, shop / f"prepared-{len(list(shop.iterdir()))}", "split")


def listed(dataset: Dataset, part: str = "test") -> list[tuple[str, str, list[str]]]:
    """User, target and candidates of each sample of a part."""
    targets = dataset.targets(dataset.samples[part])
    return [
        (user, item, dataset.items.outside(list_C))
        for user, item, list_C in zip(
            dataset.users.outside(targets.user_B), dataset.items.outside(targets.item_B), dataset.lists[part], strict=True
        )
    ]


EXPECTED = [("c", "2", ["3", "2", "6"]), ("a", "4", ["4", "6", "1"]), ("b", "5", ["1", "2", "5"])]


def test_lists_are_those_of_the_file_in_its_order(shop: Path):
    """Item 6 is in nobody's log; nobody is called z."""
    dataset = prepared(shop, WIDE)
    assert listed(dataset) == EXPECTED
    assert set(dataset.lists) == {"test"}
    assert "the samples of test have the 3 candidates each that the data set says, in its order." in dataset.notes


def test_a_row_for_each_candidate_is_a_list_too(shop: Path):
    rows = [f"{user},{item},{one}" for user, item, list_C in EXPECTED for one in list_C]
    rows = rows[::3] + rows[1::3] + rows[2::3]  # lists need not lie side by side
    assert listed(prepared(shop, "user,item,candidate\n" + "".join(f"{row}\n" for row in rows))) == EXPECTED


def test_lists_in_other_forms(shop: Path):
    semicolons = WIDE.replace("|", ";")
    assert listed(prepared(shop, semicolons, 'lists = { candidates = ";" }\n')) == EXPECTED
    users, items, lists = zip(*EXPECTED, strict=True)
    pq.write_table(pa.table({"user": users, "item": items, "candidates": lists}), shop / "lists.parquet")
    assert listed(prepared(shop, "", ending="parquet")) == EXPECTED


def test_parts_without_lists_have_drawn_ones_where_the_rules_say_so(shop: Path):
    dataset = prepared(shop, WIDE, rules=RULES.model_copy(update={"candidates": Candidates(count=2)}))
    assert listed(dataset) == EXPECTED
    assert dataset.lists["valid"].shape == (3, 2)
    assert dataset.lists["train"].shape == (5, 2)


def test_lists_of_validation_count_where_all_of_its_samples_have_one(shop: Path):
    rows = "a,3,3|1|2\nb,4,1|4|6\n"
    dataset = prepared(shop, WIDE + rows + "c,1,6|1|2\n")
    assert [list_C for _, _, list_C in listed(dataset, "valid")] == [["3", "1", "2"], ["1", "4", "6"], ["6", "1", "2"]]
    dataset = prepared(shop, WIDE + rows)
    assert "valid" not in dataset.lists
    (note,) = [note for note in dataset.notes if "of valid" in note]
    said = "1 of 3 samples of valid have no list of candidates (user 'c', target '1'), so the lists of the data set are not used"
    assert note.startswith(said)


@pytest.mark.parametrize(
    ("lists", "said"),
    [
        (
            WIDE.replace("c,2,3|2|6", "c,2,3|1|6"),
            r"lists\.csv:4, column 'item', value '2': the target is not among its candidates",
        ),
        (WIDE.replace("4|6|1", "4|6|99"), r"lists\.csv:3, column 'candidates', value '4\|6\|99': a candidate is no item .*'99'"),
        (WIDE.replace("4|6|1", "4|6|6"), r"lists\.csv:3, .*a candidate stands twice in the list"),
        (WIDE.replace("4|6|1", "4|6"), r"lists\.csv:3, .*another length than most, which have 3 candidates"),
        (WIDE + "b,5,5|2|1\n", r"lists\.csv:6, column 'item', value '5': this user and target have a list already"),
        (WIDE.replace("candidates", "options"), "column 'candidates': there is no such column"),
    ],
)
def test_a_wrong_list_is_told_of(shop: Path, lists: str, said: str):
    with pytest.raises(DataError, match=said):
        prepared(shop, lists)


def test_every_sample_of_test_needs_a_list(shop: Path):
    with pytest.raises(ConfigError, match=r"1 of 3 samples of test have no list of candidates \(user 'a', target '4'\)"):
        prepared(shop, WIDE.replace("a,4,", "a,3,").replace("4|6|1", "3|6|1"))


def test_parts_are_files(shop: Path):
    dataset = prepared(shop, WIDE)
    for part, rows in LOG.items():
        targets = dataset.targets(dataset.samples[part])
        users, items = dataset.users.outside(targets.user_B), dataset.items.outside(targets.item_B)
        assert [f"{user},{item}" for user, item in zip(users, items, strict=True)] == rows
    row = dataset.samples["test"][1]
    assert dataset.items.outside(np.asarray(dataset.item_N[dataset.log.rows_of(0, 3)])) == ["1", "2", "3"]
    assert dataset.items.outside(dataset.targets(np.array([row])).item_B) == ["4"]


@pytest.mark.parametrize(
    ("interactions", "said"),
    [
        ('{ train = "train.csv", test = "test.csv" }', r"interactions\.valid: Field required"),
        ('{ train = "train.csv", valid = "test.csv", test = "test.csv" }', "is named twice"),
        ('{ train = "train.csv", valid = "valid.csv", tests = "test.csv" }', "did you mean 'test'"),
        (
            '{ train = "train.csv", valid = "valid.csv", test = "test.csv" }\n[columns]\npart = "part"',
            "come part by part, and columns",
        ),
    ],
)
def test_three_files_that_cannot_be_meant(shop: Path, interactions: str, said: str):
    (shop / "split.toml").write_text(f"interactions = {interactions}\n")
    with pytest.raises(ConfigError, match=said):
        Tables.from_toml(shop / "split.toml").read()


def test_a_part_may_be_several_files_and_problems_name_theirs(shop: Path):
    (shop / "more.csv").write_text("user,item\nc,6\n,3\n")
    toml = 'interactions = { train = ["train.csv", "more.csv"], valid = "valid.csv", test = { path = "test.csv" } }\n'
    (shop / "split.toml").write_text(toml)
    with pytest.raises(DataError, match=r"more\.csv:3, column 'user'"):
        Tables.from_toml(shop / "split.toml").read()
    (shop / "more.csv").write_text("user,item\nc,6\n")
    parts = Tables.from_toml(shop / "split.toml").read().interactions.column("part").to_pylist()
    assert parts == ["train"] * 6 + ["valid"] * 3 + ["test"] * 3
