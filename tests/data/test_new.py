"""New items and new users: worked by hand, against a log that never had them, and what their past may not change."""

import hashlib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from lifelora.data.candidates import Candidates, candidate_lists
from lifelora.data.dataset import Dataset
from lifelora.data.negatives import Negatives
from lifelora.data.new import drawn
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.sources.simulated import Simulated
from lifelora.data.split import GlobalTime, NewItems, NewUsers
from lifelora.errors import ConfigError
from lifelora.types import PARTS

Events = list[tuple[str, str, int]]


def log_of(events: Events, ratings: list[float] | None = None) -> RawTables:
    """A log of (user, item, time), all liked unless ``ratings`` say otherwise."""
    users, items, times = (list(column) for column in zip(*events, strict=True))
    rating = pa.array(ratings or [5.0] * len(events), pa.float32())
    log = pa.table({"user": users, "item": items, "rating": rating, "time": pa.array(times, pa.int64())})
    catalogue = pa.table({"item": sorted({*items}), "title": sorted({*items})})
    return RawTables(log, catalogue, pa.table({"user": sorted({*users})}), Words())


def told(dataset: Dataset, rows: np.ndarray) -> Events:
    """Rows of a prepared log as (user, item, time)."""
    users, items = dataset.users.outside(dataset.user_N[rows]), dataset.items.outside(dataset.item_N[rows])
    return list(zip(users, items, dataset.time_N[rows].tolist(), strict=True))


def in_training(dataset: Dataset) -> Events:
    return told(dataset, dataset.training_events())


# Users a and b, min_history = 1. Item z appears last (its first event is at 5), so with share = .25 of w, x, y, z it is new.
#   without z the samples are, in time:  a 2, b 3, a 4, b 8, a 9, b 12   -> train = .5: a 2, b 3, a 4; training ends at 4
#   z at 5 comes after that and stays; a's z would have left the log at 4 or before
HAND: Events = [
    ("a", "w", 0), ("a", "x", 2), ("a", "y", 4), ("a", "z", 5), ("a", "w", 9), ("a", "z", 13),
    ("b", "w", 1), ("b", "y", 3), ("b", "x", 8), ("b", "x", 12), ("b", "z", 14),
]  # fmt: skip
LATEST = {"by": "first-appearance", "share": 0.25, "train": 0.5, "valid": 0.25}


def with_new(item: str, events: Events, folder: Path) -> Dataset:
    """The log split by the first seed that draws this item."""
    items = sorted({i for _, i, _ in events})
    item_A, time_A = np.array([items.index(i) for _, i, _ in events]), np.array([t for _, _, t in events])
    for seed in range(50):
        split = NewItems(share=0.34, train=0.5, valid=0.25, seed=seed, min_events=3)
        if drawn(split, item_A, time_A, len(items))[0][items.index(item)]:
            return prepare(log_of(events), Rules(min_history=1, ties="file", split=split), folder, "hand")
    raise AssertionError(f"no seed draws {item}")


def test_the_items_that_appear_last_are_new_and_their_later_events_are_as_all_others(tmp_path: Path):
    dataset = prepare(log_of(HAND), Rules(min_history=1, split=NewItems(**LATEST)), tmp_path, "hand")
    assert dataset.items.outside(dataset.new_items) == ["z"]
    # After training: a 5, b 8, a 9, b 12, a 13, b 14; .25 / (1 - .5) of these six are for validation.
    assert {part: told(dataset, rows) for part, rows in dataset.samples.items()} == {
        "train": [("a", "x", 2), ("b", "y", 3), ("a", "y", 4)],
        "valid": [("a", "z", 5), ("b", "x", 8), ("a", "w", 9)],
        "test": [("b", "x", 12), ("a", "z", 13), ("b", "z", 14)],
    }
    assert in_training(dataset) == [("a", "w", 0), ("a", "x", 2), ("a", "y", 4), ("b", "w", 1), ("b", "y", 3)]
    (note,) = (note for note in dataset.notes if note.startswith("new items"))
    assert "1 of the 4 items are in no training event" in note
    assert "0 of their events, all until the last training sample, left the log; 1 samples of valid and 2 of test" in note


def test_early_events_of_a_drawn_item_leave_the_log_and_the_histories(tmp_path: Path):
    # The same, but y is new: it has three events or more (as w, x and z), and the seed is one that draws it.
    dataset = with_new("y", [*HAND, ("b", "y", 15)], tmp_path)
    # Without y the samples are a 2, a 5, b 8, a 9, b 12, a 13, b 14; int(.5 * 7) = 3 of them train, until 8. y at 15 stays.
    assert told(dataset, dataset.samples["train"]) == [("a", "x", 2), ("a", "z", 5), ("b", "x", 8)]
    assert [event for event in told(dataset, np.arange(len(dataset))) if event[1] == "y"] == [("b", "y", 15)]
    assert told(dataset, dataset.samples["test"])[-1] == ("b", "y", 15)
    (note,) = (note for note in dataset.notes if note.startswith("new items"))
    assert "1 of the 4 items with 3 events or more are in no training event, drawn by seed" in note
    assert "2 of their events, all until the last training sample, left the log" in note


def test_an_event_at_the_very_time_of_the_last_training_sample_is_too_early(tmp_path: Path):
    # z at 4 stands at the time of a's last training sample: it leaves the log, for it might stand in that sample's history.
    events = [(u, i, 4 if (i, t) == ("z", 5) else t) for u, i, t in HAND]
    dataset = with_new("z", events, tmp_path)
    assert told(dataset, dataset.samples["train"])[-1] == ("a", "y", 4)
    assert [t for _, item, t in told(dataset, np.arange(len(dataset))) if item == "z"] == [13, 14]


def test_the_users_who_appear_last_are_new_with_all_their_samples(tmp_path: Path):
    events = [*HAND, ("c", "w", 2), ("c", "x", 3), ("c", "y", 6), ("d", "w", 3), ("d", "z", 4), ("e", "w", 1)]
    # e has no sample. Users by first event: a 0, b 1, c 2, d 3; half of four are new: c for validation, d for test (.25 / .5).
    dataset = prepare(log_of(events), Rules(min_history=1, split=NewUsers(**LATEST | {"share": 0.5})), tmp_path, "hand")
    # The other users' nine samples, in time: a 2, b 3, a 4, a 5, b 8, a 9, b 12, a 13, b 14; int(.5 * 9) = 4, int(.25 * 9) = 2.
    assert {part: told(dataset, rows) for part, rows in dataset.samples.items()} == {
        "train": [("a", "x", 2), ("b", "y", 3), ("a", "y", 4), ("a", "z", 5)],
        "valid": [("c", "x", 3), ("c", "y", 6), ("b", "x", 8), ("a", "w", 9)],
        "test": [("d", "z", 4), ("b", "x", 12), ("a", "z", 13), ("b", "z", 14)],
    }
    assert {user for user, _, _ in in_training(dataset)} == {"a", "b"}
    (note,) = (note for note in dataset.notes if note.startswith("new users"))
    assert "2 of the 4 users who have samples are in no training event, those whose first event is the latest" in note
    assert note.endswith(": 2 samples of valid are of 1 and 1 samples of test are of 1 of them.")
    assert dataset.targets(dataset.samples["test"]).position_B[0] == 1  # d's first event is behaviour


def test_new_users_are_drawn_by_seed(tmp_path: Path):
    raw = Simulated(users=40, items=120, events_per_user=20).read()
    found = []
    for seed in (0, 0, 1):
        split = NewUsers(share=0.3, seed=seed)
        dataset = prepare(raw, Rules(split=split), tmp_path / str(len(found)), "world")
        events_U, test_U, valid_U = (
            np.bincount(dataset.user_N[rows], minlength=dataset.n_users)
            for rows in (dataset.training_events(), dataset.samples["test"], dataset.samples["valid"])
        )
        new = split.drawn(np.arange(40), np.asarray(dataset.time_N[dataset.log.offsets[:-1]]))
        assert len(new) == 12
        assert not events_U[new].any()
        assert not (valid_U[new] & test_U[new]).any()  # a new user is validation's or test's
        assert ((valid_U + test_U)[new] == np.diff(dataset.log.offsets)[new] - 5).all()  # with all samples
        found.append(sorted(new.tolist()))
    assert found[0] == found[1] != found[2]


small_logs = st.lists(
    st.tuples(st.sampled_from("abcdef"), st.sampled_from("pqrstuvw"), st.integers(0, 30)), min_size=30, max_size=80, unique=True
)


def prepared(events: Events, rules: Rules, folder: Path) -> Dataset:
    """Where there are too few samples for three parts, of the log or of what is left of it, nothing can be compared."""
    try:
        return prepare(log_of(events), rules, folder, "log")
    except ConfigError:
        reject()


@settings(max_examples=20, deadline=None)  # four logs are prepared for each
@given(small_logs, st.sampled_from(["seed", "first-appearance"]), st.integers(0, 3), st.integers(0, 2))
def test_training_is_that_of_a_log_without_what_is_new(events: Events, by: Any, seed: int, min_history: int):
    for split in (NewItems(share=0.3, by=by, seed=seed), NewUsers(share=0.4, by=by, seed=seed)):
        side = 1 if isinstance(split, NewItems) else 0
        with TemporaryDirectory() as folder:
            dataset = prepared(events, Rules(min_history=min_history, split=split), Path(folder) / "new")
            trained = in_training(dataset)
            if side:
                new = {*dataset.items.outside(dataset.new_items)}
            else:
                samples = {user for rows in dataset.samples.values() for user, _, _ in told(dataset, rows)}
                new = samples - {user for user, _, _ in told(dataset, dataset.samples["train"])}
            assert not {event[side] for event in trained} & new
            parts = [told(dataset, dataset.samples[part]) for part in PARTS]
            assert len({event for part in parts for event in part}) == sum(map(len, parts))  # disjoint
            if side or len(new) == int(0.4 * len(samples)):  # or some other user has no training sample either
                old = [event for event in events if event[side] not in new]
                reference = prepared(old, Rules(min_history=min_history, split=GlobalTime()), Path(folder) / "old")
                assert in_training(reference) == trained
                assert told(reference, reference.samples["train"]) == parts[0]
            if not side and len(new) == int(0.4 * len(samples)):  # the other users' parts are those of global time, too
                assert [told(reference, rows) for rows in reference.samples.values()] == [
                    [event for event in part if event[0] not in new] for part in parts
                ]
            if side:  # nothing of the other items has left the log, and nothing after the cut
                end = max(t for _, _, t in parts[0])
                there = told(dataset, np.arange(len(dataset)))
                assert sorted(there) == sorted(e for e in events if e[1] not in new or e[2] > end)


def hash_of_training(dataset: Dataset) -> str:
    """Everything that a model is shown of training: batches with histories, lists, negatives, popularity; by outside ids."""
    digest, rows = hashlib.sha256(), np.asarray(dataset.samples["train"])
    targets = dataset.targets(rows)
    batch = dataset.gather(targets, 12)
    for ids, index in ((dataset.users, batch.user_B), (dataset.items, batch.item_B)):
        digest.update(repr(ids.outside(index.numpy())).encode())
    items = [*dataset.items.outside(np.arange(dataset.n_items)), "padding"]
    digest.update(repr([items[i] for i in batch.history_BH.flatten().tolist()]).encode())
    for tensor in (batch.label_B, batch.rating_BH, batch.mask_BH, batch.position_B):
        digest.update(tensor.numpy().tobytes())
    if "train" in dataset.lists:
        digest.update(repr(dataset.items.outside(np.asarray(dataset.lists["train"]).ravel())).encode())
    digest.update(repr(in_training(dataset)).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("more", [{}, {"candidates": Candidates(count=6)}, {"negatives": Negatives(count=2)}], ids=str)
def test_what_a_new_items_past_was_changes_nothing_in_training(tmp_path: Path, more: dict[str, Any]):
    raw = Simulated(users=40, items=160, events_per_user=20).read()
    rules = Rules(split=NewItems(share=0.2), **more)
    dataset = prepare(raw, rules, tmp_path / "as-it-was", "world")
    new, end = {*dataset.items.outside(dataset.new_items)}, int(dataset.time_N[dataset.samples["train"][-1]])
    columns = {name: raw.interactions.column(name).to_pylist() for name in raw.interactions.column_names}
    early = [n for n, item in enumerate(columns["item"]) if item in new and columns["time"][n] <= end]
    assert len(early) > 50
    rng = np.random.default_rng(0)
    for n in early:  # other ratings, times and users, all of it before the end of training
        columns["rating"][n] = 6.0 - columns["rating"][n]
        columns["time"][n] -= int(rng.integers(1, 1000))
        columns["user"][n] = f"u{rng.integers(40):05d}"
    changed = raw.interactions.schema
    other = prepare(
        RawTables(pa.table(columns, changed), raw.catalogue, raw.profiles, raw.words), rules, tmp_path / "changed", "world"
    )
    assert hash_of_training(other) == hash_of_training(dataset)
    ordinary = Rules(split=GlobalTime(), **more)  # which sees them
    seen = prepare(raw, ordinary, tmp_path / "seen", "world")
    seen_changed = prepare(
        RawTables(pa.table(columns, changed), raw.catalogue, raw.profiles, raw.words), ordinary, tmp_path / "both", "world"
    )
    assert hash_of_training(seen) != hash_of_training(seen_changed)


def test_training_draws_no_new_item_and_test_does(tmp_path: Path):
    raw = Simulated(users=40, items=160, events_per_user=20).read()
    split = NewItems(share=0.2)
    lists = prepare(raw, Rules(split=split, candidates=Candidates(count=12)), tmp_path / "lists", "world")
    assert not np.isin(lists.lists["train"], lists.new_items).any()
    assert all(np.isin(lists.lists[part], lists.new_items).mean() > 0.1 for part in ("valid", "test"))
    beside = prepare(raw, Rules(split=split, negatives=Negatives(count=3)), tmp_path / "negatives", "world")
    assert not np.isin(beside.targets(beside.samples["train"]).item_B, beside.new_items).any()
    for part in ("valid", "test"):
        negative = beside.samples[part][beside.samples[part] < 0]
        assert np.isin(beside.targets(negative).item_B, beside.new_items).any()


def test_an_item_that_a_user_had_early_is_no_candidate_later(tmp_path: Path):
    raw = Simulated(users=40, items=160, events_per_user=20).read()
    dataset = prepare(raw, Rules(split=NewItems(share=0.3), candidates=Candidates(count=60)), tmp_path, "world")
    had = set(zip(*(raw.interactions.column(c).to_pylist() for c in ("user", "item")), strict=True))
    there = {(user, item) for user, item, _ in told(dataset, np.arange(len(dataset)))}
    gone, targets = had - there, dataset.targets(dataset.samples["test"])
    users = dataset.users.outside(targets.user_B)
    shown = {(u, i) for u, row in zip(users, np.asarray(dataset.lists["test"]), strict=True) for i in dataset.items.outside(row)}
    assert gone
    assert not shown & gone


def test_lists_of_all_items_are_as_they_were():
    user, item = np.repeat(np.arange(6), 8), np.random.default_rng(0).integers(0, 30, 48)
    rows = np.arange(3, 48, 8)
    ordinary = candidate_lists(Candidates(count=5), "train", rows, user, item, 30)
    none = candidate_lists(Candidates(count=5), "train", rows, user, item, 30, np.zeros(0, np.int64), np.zeros((2, 0), np.int64))
    assert (ordinary == none).all()
    with pytest.raises(ConfigError, match="of 4 items too few"):
        candidate_lists(Candidates(count=8), "train", rows, user, item, 30, np.arange(26))


@pytest.mark.parametrize("kind", [NewItems, NewUsers], ids=lambda kind: kind.__name__)
def test_what_a_share_cannot_be(tmp_path: Path, kind: Any):
    for share in (0, 1, -0.1, 1.5):
        with pytest.raises(ValueError, match="share"):
            kind(share=share)
    with pytest.raises(ValueError, match="leaves nothing for test"):
        kind(train=0.9, valid=0.1)
    with pytest.raises(ConfigError, match=r"share = 0.01 of the \d+ .* is less than one"):
        prepare(log_of(HAND), Rules(min_history=1, split=kind(share=0.01)), tmp_path, "hand")
    raw = log_of(HAND)
    timeless = RawTables(raw.interactions.drop_columns("time"), raw.catalogue, raw.profiles, raw.words)
    with pytest.raises(ConfigError, match=rf"no times, so data.rules.split cannot be '{kind().kind}'"):
        prepare(timeless, Rules(min_history=1, split=kind()), tmp_path, "hand")


def test_new_items_without_a_test_sample_are_refused(tmp_path: Path):
    once = [event for event in HAND if event[1] != "z"] + [("a", "z", 5)]  # its one event is validation's
    with pytest.raises(ConfigError, match=r"none of the 1 new items has a test sample.*min_events"):
        prepare(log_of(once), Rules(min_history=1, split=NewItems(**LATEST)), tmp_path, "hand")
    with pytest.raises(ConfigError, match="which none is for training"):
        prepare(log_of(HAND), Rules(min_history=5, split=NewItems(**LATEST)), tmp_path, "hand")
    with pytest.raises(ConfigError, match=r"of the 0 items with 9 events or more is less than one item.*min_events"):
        prepare(log_of(HAND), Rules(min_history=1, split=NewItems(min_events=9)), tmp_path, "hand")
