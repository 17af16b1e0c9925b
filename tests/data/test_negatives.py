"""Negatives: items that their users never chose, drawn once, in the place of a like, and followed by nothing but their label."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event
from lifelora.data.negatives import Negatives, sampled
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import AnySplit, GlobalTime, LeaveOneOut, OneEach
from lifelora.errors import ConfigError
from lifelora.types import PARTS


def clicks(n_users: int = 30, n_items: int = 40, each: int = 8, seed: int = 0) -> RawTables:
    """Each user's clicks on some items, a few of them twice."""
    rng = np.random.default_rng(seed)
    user_N = np.repeat(np.arange(n_users), each)
    item_N = np.concatenate([rng.integers(0, n_items // 2, each) for _ in range(n_users)])  # the other half is never clicked
    log = {"user": [f"u{u:02}" for u in user_N], "item": [f"i{i:02}" for i in item_N]}
    log["time"] = pa.array(rng.permutation(len(user_N)) + 1_000, pa.int64())
    items = [f"i{i:02}" for i in range(n_items)]
    return RawTables(pa.table(log), pa.table({"item": items, "title": items}), pa.table({"user": ["u00"]}), Words())


LAST = LeaveOneOut()


def prepared(folder: Path, split: AnySplit = LAST, raw: RawTables | None = None, **negatives) -> Dataset:
    rules = Rules(min_history=2, split=split, negatives=Negatives(**negatives))
    return prepare(raw or clicks(), rules, folder, "clicks")


@pytest.mark.parametrize("split", [LeaveOneOut(), GlobalTime(), OneEach()], ids=lambda split: split.kind)
def test_a_negative_stands_right_behind_its_like_and_differs_in_item_and_label_alone(tmp_path: Path, split: AnySplit):
    dataset = prepared(tmp_path, split, count=2)
    for part in PARTS:
        samples = np.asarray(dataset.samples[part])
        assert len(samples) == 3 * (samples >= 0).sum()
        like, first, second = (dataset.targets(samples[start::3]) for start in range(3))
        assert (samples[::3] >= 0).all()
        for other in (first, second):
            assert (other.user_B == like.user_B).all()
            assert (other.position_B == like.position_B).all()
            assert not other.label_B.any()
        assert like.label_B.all()
        assert (first.item_B != second.item_B).all()
    numbers = np.concatenate([dataset.samples[part] for part in PARTS])
    assert np.sort(-1 - numbers[numbers < 0]).tolist() == list(range(len(dataset.negatives)))


@settings(max_examples=60)
@given(
    st.integers(1, 6),
    st.integers(4, 9),
    st.integers(1, 2),
    st.sampled_from(["uniform", "popularity"]),
    st.integers(0, 2**31),
    st.data(),
)
def test_no_negative_was_ever_seen_by_its_user(users: int, items: int, count: int, by: str, seed: int, data: st.DataObject):
    user_A = np.repeat(np.arange(users), 4)
    known = st.lists(st.integers(0, items - 3), min_size=4, max_size=4)
    item_A = np.array([data.draw(known) for _ in range(users)]).ravel()
    label_A = np.array([data.draw(st.booleans()) for _ in user_A])
    rows = np.flatnonzero(np.arange(len(user_A)) % 4 >= 1)
    parts = {"train": rows[rows % 4 == 1], "valid": rows[rows % 4 == 2], "test": rows[rows % 4 == 3]}
    log = user_A, item_A, label_A
    # every item is popular to somebody, so that something is left for all
    training = np.arange(len(user_A)) if by == "uniform" else np.flatnonzero(user_A == 0)
    try:
        made, drawn = sampled(Negatives(count=count, by=by, seed=seed), parts, *log, training, items)
    except ConfigError:
        assert by == "popularity"  # two items are never seen by anybody, which uniform draws can take
        return
    seen = set(zip(user_A.tolist(), item_A.tolist(), strict=True))
    assert not seen & set(zip(user_A[drawn.row_n].tolist(), drawn.item_n.tolist(), strict=True))
    assert len(drawn) == count * sum(label_A[rows].sum() for rows in parts.values())
    if by == "popularity":
        assert set(drawn.item_n.tolist()) <= set(item_A[training].tolist())
    for part, rows in parts.items():
        assert made[part][made[part] >= 0].tolist() == rows.tolist()


def test_they_are_drawn_once_by_seed_and_kept(tmp_path: Path):
    first, again, other = (prepared(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1)))
    assert first.negatives.item_n.tolist() == again.negatives.item_n.tolist() == Dataset(tmp_path / "a").negatives.item_n.tolist()
    assert first.negatives.item_n.tolist() != other.negatives.item_n.tolist()


@pytest.mark.parametrize("by", ["uniform", "popularity"])
def test_their_frequencies_are_numpys(by: str):
    # One user with one like, of item 0, asked 40,000 times; others chose items 1 … 5 in training 1 … 5 times, item 6 never.
    others = np.repeat(np.arange(1, 6), np.arange(1, 6))
    item_A = np.concatenate([np.zeros(40_000, np.int64), others])
    user_A = np.concatenate([np.zeros(40_000, np.int64), 1 + np.arange(len(others))])
    training = np.arange(40_000, len(item_A))
    parts = {"train": np.arange(40_000)}
    _, drawn = sampled(Negatives(by=by), parts, user_A, item_A, np.ones(len(item_A), np.bool_), training, 7)
    weight_M = np.array([0, 1, 1, 1, 1, 1, 1]) if by == "uniform" else np.arange(7) % 6
    theirs = np.random.default_rng(5).choice(7, 40_000, p=weight_M / weight_M.sum())
    ours_M, theirs_M = (np.bincount(drawn_N, minlength=7) / 40_000 for drawn_N in (drawn.item_n, theirs))
    # the standard error of a difference of two shares is below .0036; five of them
    assert np.abs(ours_M - theirs_M).max() < 5 * 0.0036
    assert (ours_M[weight_M == 0] == 0).all()


def test_the_last_items_left_are_found(tmp_path: Path):
    # 99 of 100 items were chosen: what is drawn at random is hardly ever the last one
    user_A, item_A = np.zeros(99, np.int64), np.arange(99)
    parts, log = {"train": np.arange(99)}, (user_A, item_A, np.ones(99, np.bool_), np.arange(99), 100)
    _, drawn = sampled(Negatives(), parts, *log)
    assert (drawn.item_n == 99).all()
    with pytest.raises(
        ConfigError, match=r"negatives\.count = 2: of 100 items only 1 are left for a user .* 99\. Lower it, or bring"
    ):
        sampled(Negatives(count=2), parts, *log)
    with pytest.raises(ConfigError, match="draw by = 'uniform'"):
        sampled(Negatives(by="popularity"), parts, *log)


def test_popularity_counts_events_of_training_alone(tmp_path: Path):
    raw = clicks()
    dataset = prepared(tmp_path / "a", raw=raw, by="popularity")
    last = [user[-1] for user in np.split(np.arange(len(dataset)), dataset.log.offsets[1:-1])]
    only_in_test = set(dataset.item_N[last].tolist()) - set(dataset.item_N[dataset.training_events()].tolist())
    assert not only_in_test & set(dataset.negatives.item_n.tolist())


def test_training_events_are_those_of_the_log(tmp_path: Path):
    with_them, without = (
        prepared(tmp_path / "a"),
        prepare(clicks(), Rules(min_history=2, split=LeaveOneOut()), tmp_path / "b", "clicks"),
    )
    assert with_them.training_events().tolist() == without.training_events().tolist()


def test_what_is_not_liked_gets_none(tmp_path: Path):
    raw = clicks()
    rating_N = pa.array(np.tile([5.0, 1.0], len(raw.interactions) // 2), pa.float32())
    rated = RawTables(raw.interactions.append_column("rating", rating_N), raw.catalogue, raw.profiles, raw.words)
    dataset = prepared(tmp_path, raw=rated)
    targets = dataset.targets(dataset.negatives.row_n)
    assert targets.label_B.all()
    for part in PARTS:
        rows = dataset.samples[part][dataset.samples[part] >= 0]
        assert (dataset.samples[part] < 0).sum() == dataset.label_N[rows].sum() < len(rows)


def test_a_grown_log_keeps_its_negatives(tmp_path: Path):
    dataset = prepared(tmp_path)
    grown = dataset.extended([Event("u00", "i05", time=10_000), Event("u01", "i06", time=10_001)])
    samples = np.asarray(dataset.samples["test"])
    before, after = dataset.targets(samples), grown.targets(samples)
    for name in ("user_B", "item_B", "position_B", "label_B"):
        assert np.array_equal(getattr(before, name), getattr(after, name))


def test_a_note_tells_what_auc_is_about(tmp_path: Path):
    dataset = prepared(tmp_path, by="popularity", seed=3)
    (note,) = (note for note in dataset.notes if note.startswith("negatives"))
    assert "beside each like 1 item with which the user has no event in the whole log, drawn once and in proportion" in note
    assert "(seed 3)" in note
    likes = dataset.negatives.row_n
    before = [dataset.item_N[row] in dataset.item_N[dataset.log.offsets[dataset.user_N[row]] : row] for row in likes.tolist()]
    assert f"{100 * np.mean(before):.1f} % of the likes are with an item that the user had before" in note


def test_candidates_and_negatives_are_of_two_tasks():
    with pytest.raises(ValueError, match="negatives are for task = 'ctr' and candidates for 'next-item'"):
        Rules(negatives={"count": 1}, candidates={"count": 5})


def seen_by(dataset: Dataset, user: str) -> set[str]:
    drawn = dataset.negatives
    return set(dataset.items.outside(drawn.item_n[dataset.user_N[drawn.row_n] == dataset.users.inside([user])[0]]))


def rated_log(**more: list[str] | pa.Array) -> pa.Table:
    """User a likes i0 … i5 and has six further events, with i6 … i11; b likes all of i0 … i13 but i12."""
    a, b = [f"i{i}" for i in range(12)], [f"i{i}" for i in (*range(12), 13)]
    log = {"user": ["a"] * 12 + ["b"] * 13, "item": a + b, "time": pa.array(range(25), pa.int64())}
    return pa.table(log | more)


def test_an_item_that_keep_from_left_out_was_seen(tmp_path: Path):
    rating = pa.array([5.0] * 6 + [1.0] * 6 + [5.0] * 13, pa.float32())
    items = [f"i{i}" for i in range(14)]
    raw = RawTables(rated_log(rating=rating), pa.table({"item": items, "title": items}), pa.table({"user": ["a", "b"]}), Words())
    rules = Rules(min_history=2, split=LAST, negatives=Negatives(), keep_from=3.0)
    dataset = prepare(raw, rules, tmp_path, "rated")
    assert len(dataset) == 19
    assert seen_by(dataset, "a") <= {"i12", "i13"}  # of i6 … i11, which are in the catalogue, it has seen all
    assert any("(nor one of the 6 that were left out of it)" in note for note in dataset.notes)


def test_so_was_one_of_a_kind_of_event_that_is_left_out(tmp_path: Path):
    kinds = ["buy"] * 6 + ["view"] * 6 + ["buy"] * 13
    items = [f"i{i}" for i in range(14)]
    layout = {"columns": {"event": "kind", "time": "at"}, "events": {"buy": 4}, "other_events": "drop"}
    log = rated_log(kind=kinds).append_column("at", pa.array([1_700_000_000 + t for t in range(25)], pa.int64())).drop(["time"])
    rules = {"min_history": 2, "split": {"kind": "leave-one-out"}, "negatives": {"count": 1}}
    frames = {"interactions": log, "items": pa.table({"item": items, "title": items})}
    dataset = Dataset.from_frames(**frames, folder=tmp_path / "data", rules=rules, **layout)
    assert seen_by(dataset, "a") <= {"i12", "i13"}
    assert any("(nor one of the 6 that were left out of it)" in note for note in dataset.notes)
