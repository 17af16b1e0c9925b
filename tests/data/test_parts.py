"""Published splits: every row that the files put into a part is a sample of it, with what came before it as its history."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from lifelora.data.dataset import Dataset
from lifelora.data.describe import describe
from lifelora.data.parts import places, told
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables
from lifelora.data.sources.tables import Tables
from lifelora.data.split import Given, LeaveOneOut
from lifelora.errors import ConfigError, DataError

RULES = Rules(min_history=0, label_above=0.5, split=Given())


def read(folder: Path, log: str, time: bool = False) -> RawTables:
    (folder / "log.csv").write_text(log)
    columns = '[columns]\npart = "part"\n' + 'time = "time"\n' * time
    (folder / "split.toml").write_text('interactions = "log.csv"\n' + columns)
    return Tables.from_toml(folder / "split.toml").read()


def samples(dataset: Dataset, part: str) -> list[tuple[str, str, bool, list[str]]]:
    """User, item, label and the items of the history of each sample of a part."""
    targets, found = dataset.targets(dataset.samples[part]), []
    for user, item, position, label in zip(targets.user_B, targets.item_B, targets.position_B, targets.label_B, strict=True):
        past = dataset.item_N[dataset.log.rows_of(int(user), int(position))]
        ids = dataset.items.outside(past), dataset.users.outside([int(user)])[0], dataset.items.outside([int(item)])[0]
        found.append((ids[1], ids[2], bool(label), ids[0]))
    return found


LOG = """user,item,rating,part
u,5,1,test
u,3,1,train
v,9,0,Val
u,4,0,validation
u,1,0,
v,7,1,TRAINING
v,8,0,testing
u,2,1, train
"""


def test_every_row_is_a_sample_of_its_part(tmp_path: Path):
    """Without times: in the order of the file, train and what is only history before valid before test."""
    raw = read(tmp_path, LOG)
    assert raw.interactions.column("part").to_pylist() == ["test", "train", "valid", "valid", "", "train", "test", "train"]
    dataset = prepare(raw, RULES, tmp_path / "data", "split")
    assert samples(dataset, "train") == [("u", "3", True, []), ("v", "7", True, []), ("u", "2", True, ["3", "1"])]
    assert samples(dataset, "valid") == [("v", "9", False, ["7"]), ("u", "4", False, ["3", "1", "2"])]
    assert samples(dataset, "test") == [("u", "5", True, ["3", "1", "2", "4"]), ("v", "8", False, ["7", "9"])]
    assert dataset.notes == raw.notes
    assert "parts      3 of train, 2 of valid, 2 of test, 1 only history" in describe(raw, "split")


def test_rows_that_min_history_leaves_out_are_counted(tmp_path: Path):
    dataset = prepare(read(tmp_path, LOG), RULES.model_copy(update={"min_history": 2}), tmp_path / "data", "split")
    assert [len(dataset.samples[part]) for part in ("train", "valid", "test")] == [1, 1, 2]
    assert dataset.notes[-1] == (
        "rows of the given parts that are no samples, because their users have fewer than 2 earlier behaviours "
        "(data.rules.min_history): 2 of train, 1 of valid."
    )
    with pytest.raises(ConfigError, match="leave no samples for train, valid: there are 0 of train, 0 of valid, 1 of test with"):
        prepare(read(tmp_path, LOG), RULES.model_copy(update={"min_history": 4}), tmp_path / "other", "split")


def test_times_decide_and_parts_that_do_not_follow_them_are_told_of(tmp_path: Path):
    rows = [(1, 0, "train"), (2, 1, "test"), (3, 2, "train"), (4, -1, "valid"), (6, 2, "test"), (7, 2, "valid")]
    log = "user,item,rating,time,part\n" + "".join(f"u,{item},1,{2_000_000_000 + time},{part}\n" for item, time, part in rows)
    dataset = prepare(read(tmp_path, log, time=True), RULES, tmp_path / "data", "split")
    assert samples(dataset, "train") == [("u", "1", True, ["4"]), ("u", "3", True, ["4", "1", "2"])]
    # Of the same second: valid before test, whatever their numbers are.
    assert samples(dataset, "valid") == [("u", "4", True, []), ("u", "7", True, ["4", "1", "2", "3"])]
    assert samples(dataset, "test") == [("u", "2", True, ["4", "1"]), ("u", "6", True, ["4", "1", "2", "3", "7"])]
    # 1 and 3 (train) after 4 (valid) or 2 (test), 7 (valid) after 2.
    assert dataset.notes[-2].startswith("3 rows of the given parts come after a row of a later part of their user")


def test_another_word_is_refused_by_name(tmp_path: Path):
    with pytest.raises(
        DataError, match=r"log\.csv:10, column 'part', value 'holdout': no such part; write one of train, training,"
    ):
        read(tmp_path, LOG + "v,6,1,holdout\n")
    with pytest.raises(DataError, match="column 'part': there is no such column"):
        read(tmp_path, LOG.replace("part\n", "fold\n"))


def test_a_split_that_does_not_look_at_the_parts_says_so(tmp_path: Path):
    dataset = prepare(read(tmp_path, LOG), Rules(min_history=1, split=LeaveOneOut()), tmp_path / "data", "split")
    assert "data.rules.split.kind = 'leave-one-out' does not look at" in dataset.notes[-1]


def test_parts_that_nobody_named(tmp_path: Path):
    (tmp_path / "log.csv").write_text(LOG)
    (tmp_path / "split.toml").write_text('interactions = "log.csv"\n')
    raw = Tables.from_toml(tmp_path / "split.toml").read()
    with pytest.raises(ConfigError, match=r"name the column that does \(data\.source\.columns\.part\)"):
        prepare(raw, RULES, tmp_path / "data", "split")


def test_places_and_notes_by_hand():
    assert places(np.array([2, -1, 0, 1, -1, 0])).tolist() == [5, 0, 1, 4, 2, 3]
    user_N, part_N = np.array([0, 0, 0, 1, 1, 1]), np.array([2, -1, 1, 0, 1, 0])
    few_N = np.array([True, True, False, True, False, False])
    first, second = told(part_N, user_N, few_N, 1)
    assert first.endswith("1 of train, 1 of test.")
    assert second.startswith("2 rows")  # user 0's valid after test, user 1's train after valid
    assert told(part_N[[1, 2, 0, 3]], user_N[:4], np.zeros(4, np.bool_), 0) == []


def test_a_sample_may_have_no_history(tmp_path: Path):
    log = pa.table({"user": ["a"] * 3 + ["b"] * 3, "item": list("xyzzxy"), "rating": pa.array([1.0, 0] * 3, pa.float32())})
    raw = read(tmp_path, LOG)
    raw = RawTables(log, pa.table({"item": list("xyz"), "title": list("XYZ")}), pa.table({"user": ["a", "b"]}), raw.words)
    dataset = prepare(raw, Rules(min_history=0, label_above=0.5, split=LeaveOneOut()), tmp_path / "data", "all")
    assert dataset.samples["train"].tolist() == [0, 3]
    rows_BH, mask_BH = dataset.history(dataset.targets(dataset.samples["train"]), 4)
    assert not mask_BH.any()
    assert rows_BH.shape == (2, 4)
