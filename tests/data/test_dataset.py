"""Prepared data: order, offsets, histories that never see their target or its future, unknown fields, round trips."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lifelora.data.dataset import Dataset
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import LeaveOneOut, OneEach
from lifelora.errors import ConfigError


def raw(rows: list[tuple[str, str, float, int]], times: bool = True) -> RawTables:
    """Interactions in the given order, with two fields and a text for all but item 'c'."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    log = {"user": columns[0], "item": columns[1], "rating": pa.array(columns[2], pa.float32())}
    items = sorted({row[1] for row in rows} - {"c"})
    return RawTables(
        pa.table(log | ({"time": columns[3]} if times else {})),
        pa.table({"item": items, "title": [f"Title {i}" for i in items], "genre": ["odd" if i > "b" else "" for i in items]}),
        pa.table({"user": ["ann"], "gender": ["female"]}),
        Words(item="film", items="films", did="watched"),
    )


LOG = [
    ("bob", "b", 4, 30),
    ("ann", "b", 5, 20),
    ("ann", "a", 2, 20),
    ("bob", "a", 3, 10),
    ("ann", "c", 4, 10),
    ("bob", "d", 1, 40),
    ("ann", "d", 3, 50),
    ("bob", "c", 5, 60),
]
RULES = Rules(min_history=1, split=LeaveOneOut(), ties="item")


@pytest.fixture
def dataset(tmp_path: Path) -> Dataset:
    return prepare(raw(LOG), RULES, tmp_path, "hand-made")


def test_events_stand_by_user_time_and_item(dataset: Dataset) -> None:
    ids = [
        (dataset.users.outside([u])[0], dataset.items.outside([i])[0])
        for u, i in zip(dataset.user_N.tolist(), dataset.item_N.tolist(), strict=True)
    ]
    # ann's a and b are of the same second: by these rules item order decides
    assert ids == [("ann", "c"), ("ann", "a"), ("ann", "b"), ("ann", "d"), ("bob", "a"), ("bob", "b"), ("bob", "d"), ("bob", "c")]
    assert dataset.log.offsets.tolist() == [0, 4, 8]
    assert dataset.rating_levels == (1, 2, 3, 4, 5)
    assert dataset.label_N.tolist() == [True, False, True, False, False, True, False, True]  # above 3


def test_a_history_ends_before_its_target_and_inside_its_user(dataset: Dataset) -> None:
    rows_BH, mask_BH = dataset.history(dataset.targets(np.array([3, 5])), 3)
    assert rows_BH[mask_BH].tolist() == [0, 1, 2, 4]
    assert mask_BH.tolist() == [[True, True, True], [False, False, True]]
    now_BH, now_mask = dataset.history(dataset.candidates(0, np.array([1, 2])), 2)
    assert now_BH.tolist() == [[2, 3], [2, 3]]
    assert now_mask.all()


def test_gather_pads_on_the_left_with_the_next_free_codes(dataset: Dataset) -> None:
    batch = dataset.gather(dataset.targets(np.array([5])), 3)
    assert batch.history_BH.tolist() == [[4, 4, 0]]  # bob had seen item a; 4 items, so 4 is padding
    assert batch.rating_BH.tolist() == [[5, 5, 2]]  # three stars is the third of five levels
    assert (batch.user_B.item(), batch.item_B.item(), batch.label_B.item()) == (1, 1, 1.0)


def test_a_position_counts_all_earlier_events_however_few_are_read(dataset: Dataset) -> None:
    assert dataset.gather(dataset.targets(np.array([0, 3, 4, 6])), 1).position_B.tolist() == [0, 3, 0, 2]
    assert dataset.gather(dataset.candidates(1, np.array([0, 2])), 1).position_B.tolist() == [4, 4]  # after all of them
    targets = dataset.targets(np.array([3]))
    chosen = dataset.gather(targets, 1, (np.array([[1]]), np.array([[True]])))
    assert chosen.position_B.tolist() == [3]


def test_missing_texts_and_fields_are_unknown_not_invented(dataset: Dataset) -> None:
    assert dataset.titles == ["Title a", "Title b", "", "Title d"]
    schema = dataset.schema()
    assert schema.item_fields_MF.tolist() == [[0], [0], [0], [1]] or schema.item_fields_MF[3].item() > 0
    assert schema.item_fields_MF[:3].eq(0).all()
    assert schema.user_fields_UF[1].tolist() == [0]  # bob has no profile
    assert schema.user_fields_UF[0].item() > 0


def test_training_rows_end_with_each_users_training(dataset: Dataset) -> None:
    # leave-one-out on ann's samples (rows 1, 2, 3): row 1 trains; bob's (5, 6, 7): row 5 trains
    assert dataset.samples["train"].tolist() == [1, 5]
    assert dataset.training_events().tolist() == [0, 1, 4, 5]


def test_opening_again_gives_the_same(dataset: Dataset) -> None:
    again = Dataset(dataset.folder)
    assert again.item_N.tolist() == dataset.item_N.tolist()
    assert again.words == dataset.words
    assert again.name == "hand-made"
    assert isinstance(again.item_N, np.memmap)


def test_a_log_without_times_keeps_its_order_and_refuses_a_split_by_time(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="leave-one-out"):
        prepare(raw(LOG, times=False), Rules(min_history=1), tmp_path, "x")
    dataset = prepare(raw(LOG, times=False), RULES, tmp_path, "x")
    assert dataset.items.outside(dataset.item_N[:4]) == ["b", "a", "c", "d"]  # ann's rows as in the file
    assert not dataset.has_times


def books(users: int = 30, each: int = 8) -> list[tuple[str, str, float, int]]:
    return [(f"p{u:02d}", f"i{(u * 7 + k * k) % 40:02d}", float((u + k) % 5 + 1), 0) for u in range(users) for k in range(each)]


def ids(dataset: Dataset, rows: np.ndarray) -> list[tuple[str, str]]:
    """User and item of event rows."""
    return list(zip(dataset.users.outside(dataset.user_N[rows]), dataset.items.outside(dataset.item_N[rows]), strict=True))


def test_one_sample_each_of_a_log_without_times_does_not_ask_how_the_file_is_ordered(tmp_path: Path) -> None:
    rules, log = Rules(split=OneEach()), list(dict.fromkeys(books()))
    first = prepare(raw(log, times=False), rules, tmp_path / "1", "x")
    turned = prepare(raw(log[::-1], times=False), rules, tmp_path / "2", "x")
    other = prepare(raw(log, times=False), Rules(split=OneEach(seed=7)), tmp_path / "3", "x")
    everything = np.arange(len(first))
    assert ids(first, everything) == ids(turned, everything) != ids(other, everything)
    assert sorted(ids(first, everything)) == sorted(ids(other, everything))
    for part, rows in first.samples.items():
        assert ids(first, rows) == ids(turned, turned.samples[part])
    rows = np.concatenate(list(first.samples.values()))
    assert sorted(rows.tolist()) == (first.log.offsets[1:] - 1).tolist()  # all users' last, once
    # where a user's events stand in the file says nothing about where they stand now: the last of the file is rarely last
    last_of_file = {user: item for user, item, _, _ in log}
    assert sum(last_of_file[user] == item for user, item in ids(first, rows)) < 15


def test_one_sample_each_trains_on_nothing_of_the_users_of_other_parts(tmp_path: Path) -> None:
    dataset = prepare(raw(list(dict.fromkeys(books())), times=False), Rules(split=OneEach()), tmp_path, "x")
    trained = set(dataset.user_N[dataset.training_events()].tolist())
    assert trained == set(dataset.user_N[dataset.samples["train"]].tolist())
    assert not trained & set(dataset.user_N[dataset.samples["test"]].tolist())


def test_one_sample_each_keeps_the_times_that_there_are(tmp_path: Path) -> None:
    log = [(f"p{u}", f"i{k}", 3.0, 100 - k) for u in range(12) for k in range(8)]
    dataset = prepare(raw(log), Rules(split=OneEach()), tmp_path, "x")
    rows = np.concatenate(list(dataset.samples.values()))
    assert {item for _, item in ids(dataset, rows)} == {"i0"}  # the youngest
    assert (np.diff(dataset.time_N)[np.diff(dataset.user_N) == 0] > 0).all()


def test_a_core_leaves_a_smaller_world_and_says_so(tmp_path: Path) -> None:
    log = [(f"p{u}", f"i{k}", 3.0, u + 10 * k) for u in range(6) for k in range(6)]
    log += [("lonely", "i0", 5.0, 1), ("p0", "rare", 5.0, 2)]
    dataset = prepare(raw(log), Rules(min_history=1, core=5, split=LeaveOneOut()), tmp_path, "x")
    assert (len(dataset), dataset.n_users, dataset.n_items) == (36, 6, 6)
    assert dataset.rating_levels == (3.0,)
    assert dataset.titles == [f"Title i{k}" for k in range(6)]
    assert dataset.notes == ("5-core: 36 of 38 interactions are left, in which every user and item has at least 5.",)
    with pytest.raises(ConfigError, match="core = 7 leaves nothing of 38 interactions"):
        prepare(raw(log), Rules(core=7), tmp_path / "none", "x")


def test_ratings_without_levels_are_refused(tmp_path: Path) -> None:
    many = [("u", f"i{n}", n / 7, n) for n in range(120)]
    with pytest.raises(ConfigError, match="120 distinct values"):
        prepare(raw(many), RULES, tmp_path, "x")


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 8), st.integers(1, 5), st.integers(0, 20)), min_size=40, max_size=80),
    st.integers(1, 12),
)
def test_nothing_of_the_future_is_ever_in_a_history(
    tmp_path_factory: pytest.TempPathFactory, log: list[tuple[int, int, int, int]], length: int
) -> None:
    rows = [(str(u), str(i), float(r), t) for u, i, r, t in log] + [("0", "0", 5.0, 21 + k) for k in range(4)]
    dataset = prepare(raw(rows), Rules(min_history=1, split=LeaveOneOut()), tmp_path_factory.mktemp("d"), "x")
    for chosen in dataset.samples.values():
        targets = dataset.targets(np.asarray(chosen))
        rows_BH, mask_BH = dataset.history(targets, length)
        before = np.broadcast_to(np.asarray(chosen)[:, None], rows_BH.shape)
        assert (rows_BH[mask_BH] < before[mask_BH]).all()
        assert (dataset.time_N[rows_BH[mask_BH]] <= dataset.time_N[before[mask_BH]]).all()
        assert (dataset.user_N[rows_BH[mask_BH]] == dataset.user_N[before[mask_BH]]).all()
        counts = np.minimum(targets.position_B, length)
        assert (mask_BH.sum(axis=1) == counts).all()


@pytest.mark.realdata
def test_movielens_1m_comes_out_as_the_protocol_says(ml_1m: Path, tmp_path: Path) -> None:
    from lifelora.data.sources.movielens import Movielens

    dataset = prepare(Movielens(path=str(ml_1m)).read(), Rules(), tmp_path, "ML-1M")
    # ReLLa's published counts: at least 5 earlier behaviours, label above 3, 8:1:1 by global time
    assert {part: len(rows) for part, rows in dataset.samples.items()} == {"train": 776_007, "valid": 97_000, "test": 97_002}
    assert len(dataset) == 1_000_209
    assert dataset.label_N.sum() == 348_971 + 226_310  # the fours and fives
    times = [np.asarray(dataset.time_N[dataset.samples[part]]) for part in ("train", "valid", "test")]
    assert times[0].max() <= times[1].min()
    assert times[1].max() <= times[2].min()
    assert torch.equal(
        dataset.gather(dataset.targets(dataset.samples["test"][:1]), 1).item_B,
        torch.tensor([int(dataset.item_N[dataset.samples["test"][0]])]),
    )
