"""Events of one user and time: an order that tells nothing, the file's, or that of item ids, which tells the next one."""

import hashlib
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from scipy.stats import chisquare

from lifelora.data.candidates import Candidates
from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import Given, GlobalTime, LeaveOneOut, Split
from lifelora.data.ties import Ties, by_run_and_key, keys
from lifelora.seeds import derive

Row = tuple[str, str, float, int]


def tables(rows: list[Row]) -> RawTables:
    user, item, rating, time = zip(*rows, strict=True)
    log = pa.table({"user": user, "item": item, "rating": pa.array(rating, pa.float32()), "time": pa.array(time, pa.int64())})
    items = sorted(set(item))
    return RawTables(log, pa.table({"item": items, "title": items}), pa.table({"user": sorted(set(user))}), Words())


def events(dataset: Dataset) -> list[tuple[str, str]]:
    return list(zip(dataset.users.outside(dataset.user_N[:]), dataset.items.outside(dataset.item_N[:]), strict=True))


def history(dataset: Dataset, user: str) -> list[str]:
    return dataset.items.outside(dataset.item_N[dataset.log.rows_of(int(dataset.users.inside([user])[0]))])


def batches(tie: bool, users: int = 400, size: int = 7, times: int = 3, items: int = 300) -> list[Row]:
    """Each user's items are drawn blindly; in ``tie`` they come seven at a time, as when a page is rated and sent at once."""
    draw = random.Random(0)
    rows = [
        (f"{u}", f"{i}", float(draw.randrange(1, 6)), u * 10**5 + (k // size * 1000 if tie else k * 10))
        for u in range(users)
        for k, i in enumerate(draw.sample(range(items), times * size))
    ]
    draw.shuffle(rows)
    return rows


def hits_of_the_next_larger_id(dataset: Dataset) -> tuple[float, int]:
    """How often the least candidate above the last item that was seen is the target; and of how many."""
    hits = []
    for row, candidates in zip(dataset.samples["test"].tolist(), dataset.lists["test"].tolist(), strict=True):
        larger = [item for item in candidates if item > dataset.item_N[row - 1]]
        hits.append(bool(larger) and min(larger) == dataset.item_N[row])
    return float(np.mean(hits)), len(hits)


@pytest.mark.parametrize("split", [LeaveOneOut(), GlobalTime()], ids=lambda split: split.kind)
@pytest.mark.parametrize(("ties", "tells"), [("drawn", False), ("file", False), ("item", True)])
def test_the_next_larger_id_is_right_as_often_as_any_other(ties: str, tells: bool, split: Split, tmp_path: Path):
    rules = Rules(min_history=3, split=split, candidates=Candidates(count=20, seed=0), ties=ties)
    share, n = hits_of_the_next_larger_id(prepare(tables(batches(True)), rules, tmp_path, "x"))
    four_errors = 4 * (0.05 * 0.95 / n) ** 0.5
    assert (share > 0.15) if tells else abs(share - 0.05) < four_errors


def test_where_times_differ_the_rule_changes_nothing(tmp_path: Path):
    rows = batches(False, users=40)
    prepared = [
        prepare(tables(rows), Rules(min_history=3, split=LeaveOneOut(), ties=ties), tmp_path / ties, "x")
        for ties in ("drawn", "file", "item")
    ]
    assert events(prepared[0]) == events(prepared[1]) == events(prepared[2])
    assert [dataset.notes for dataset in prepared] == [()] * 3


def test_a_drawn_order_does_not_ask_where_an_event_stands_or_what_else_there_is(tmp_path: Path):
    rows, rules = batches(True, users=30), Rules(min_history=3, split=LeaveOneOut())
    first = events(prepare(tables(rows), rules, tmp_path / "1", "x"))
    assert first == events(prepare(tables(sorted(rows)), rules, tmp_path / "2", "x"))
    others = [(f"other{user}", f"new{item}", rating, time) for user, item, rating, time in rows]
    beside = events(prepare(tables(rows + others), rules, tmp_path / "3", "x"))
    assert sorted(beside, key=lambda event: event[0])[: len(first)] == sorted(first, key=lambda event: event[0])
    other_seed = events(prepare(tables(rows), rules.model_copy(update={"ties_seed": 1}), tmp_path / "4", "x"))
    assert other_seed != first
    assert sorted(other_seed) == sorted(first)


def test_the_order_is_that_of_the_formula(tmp_path: Path):
    """In whole numbers of Python, event by event."""
    secret, low = derive(5, "ties").to_bytes(8, "big"), 2**64 - 1

    def hashed(name: str) -> int:
        return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8, key=secret).digest(), "big")

    def mix(bits: int) -> int:
        bits = (bits ^ bits >> 30) * 0xBF58476D1CE4E5B9 & low
        bits = (bits ^ bits >> 27) * 0x94D049BB133111EB & low
        return bits ^ bits >> 31

    rows = [(f"ü{u}", f"i{(7 * u + k) % 23}", 3.0, 1_700_000_000 - 5 * (k // 4)) for u in range(6) for k in range(12)]
    expected = sorted(rows, key=lambda row: (row[0], row[3], mix(mix(hashed(row[0]) ^ row[3]) ^ hashed(row[1]))))
    made = prepare(tables(rows), Rules(min_history=1, split=LeaveOneOut(), ties_seed=5), tmp_path, "x")
    assert events(made) == [(user, item) for user, item, _, _ in expected]


def test_every_order_is_as_likely_as_any_other(tmp_path: Path):
    """Of three items that 1,200 users chose at one time, the same three or others."""
    rows = [(f"u{u}", f"i{k}", 3.0, 10 * u) for u in range(600) for k in (0, 10, 200)]
    rows += [(f"w{u}", f"i{3 * u + k}", 3.0, 10) for u in range(600) for k in range(3)]
    rows += [("long", f"i{k}", 3.0, k) for k in range(5)]
    made = events(prepare(tables(rows), Rules(min_history=1, split=LeaveOneOut()), tmp_path, "x"))
    for letter in ("u", "w"):
        of_users: dict[str, list[int]] = {}
        for user, item in made:
            if user.startswith(letter):
                of_users.setdefault(user, []).append(int(item[1:]))
        counts = Counter(tuple(np.argsort(items).tolist()) for items in of_users.values())
        assert len(counts) == 6
        assert chisquare(list(counts.values())).pvalue > 0.01


def test_the_order_of_the_file_and_that_of_items(tmp_path: Path):
    rows = [("u", item, 3.0, 100 + (item in "cx")) for item in "dxbcae"] + [("v", item, 3.0, 7) for item in "fadg"]
    wanted = {"file": "dbaexc" + "fadg", "item": "abdecx" + "adfg"}
    for ties, order in wanted.items():
        made = prepare(tables(rows), Rules(min_history=1, split=LeaveOneOut(), ties=ties), tmp_path / ties, "x")
        assert "".join(item for _, item in events(made)) == order


def test_a_note_says_how_many_targets_are_tied(tmp_path: Path):
    draw = random.Random(3)
    rows = list({(f"u{u}", f"i{draw.randrange(60)}", 3.0, draw.randrange(25)) for u in range(20) for _ in range(20)})
    made = prepare(tables(rows), Rules(min_history=2, split=LeaveOneOut()), tmp_path, "x")
    times = Counter(zip(made.user_N.tolist(), made.time_N.tolist(), strict=True))
    shares = {
        part: np.mean([times[made.user_N[row], made.time_N[row]] > 1 for row in made.samples[part].tolist()])
        for part in ("train", "valid", "test")
    }
    assert 0.2 < shares["test"] < 0.9
    (note,) = made.notes
    assert note == (
        f"clock ties: {shares['train']:.0%} of train, {shares['valid']:.0%} of valid, {shares['test']:.0%} of test targets have "
        "another event of their user at the same time; their order is drawn (data.rules.ties = 'drawn')."
    )


@pytest.mark.parametrize("ties", ["drawn", "file", "item"])
def test_events_that_come_later_are_ordered_as_prepare_orders_them(ties: str, tmp_path: Path):
    draw = random.Random(4)
    rows = [("u", f"i{k}", 3.0, k) for k in range(4)] + [("w", f"i{k}", 3.0, k) for k in range(8)]
    later = [("u", f"i{k}", 3.0, 100) for k in draw.sample(range(8), 6)] + [("new", f"i{k}", 3.0, 50) for k in (5, 2, 7)]
    rules = Rules(min_history=1, split=LeaveOneOut(), ties=ties)
    whole = prepare(tables(rows + later), rules, tmp_path / "whole", "x")
    part = prepare(tables(rows), rules, tmp_path / "part", "x")
    for dataset in (part, Dataset(part.folder)):
        grown = dataset.extended([Event(*row) for row in later])
        for user in ("u", "new", "w"):
            assert history(grown, user) == history(whole, user)


def test_a_folder_that_was_made_before_there_was_a_rule_goes_on_by_item(tmp_path: Path):
    import json

    rows = [("u", item, 3.0, 1) for item in "bca"]
    prepare(tables(rows * 1 + [("u", "d", 3.0, 2), ("u", "e", 3.0, 3)]), Rules(min_history=1, split=LeaveOneOut()), tmp_path, "x")
    facts = json.loads((tmp_path / "dataset.json").read_text())
    del facts["ties"], facts["ties_seed"]
    (tmp_path / "dataset.json").write_text(json.dumps(facts))
    grown = Dataset(tmp_path).extended([Event("u", item, 3.0, 9) for item in "cab"])
    assert [item for _, item in events(grown)][-3:] == ["a", "b", "c"]


def test_only_events_that_are_tied_are_hashed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    rows, hashed = batches(False, users=30), list[np.ndarray]()

    def watched(rule: Ties, user_N: np.ndarray, item_N: np.ndarray, *others: Any) -> np.ndarray:
        hashed.append(item_N)
        return keys(rule, user_N, item_N, *others)

    monkeypatch.setattr("lifelora.data.ties.keys", watched)
    rules = Rules(min_history=3, split=LeaveOneOut())
    prepare(tables(rows), rules, tmp_path / "none", "x")
    assert not hashed
    user, item, rating, time = rows[0]
    made = prepare(tables([*rows, (user, "new", rating, time)]), rules, tmp_path / "two", "x")
    assert [sorted(made.items.outside(item_T)) for item_T in hashed] == [sorted([item, "new"])]


@pytest.mark.parametrize("runs", [1, 2, 700])
@pytest.mark.parametrize("bits", [64, 3])
def test_runs_are_sorted_as_by_run_and_by_key_even_where_keys_differ_in_their_last_bits(runs: int, bits: int):
    random = np.random.default_rng(runs)
    run_T = np.sort(np.append(np.arange(runs), random.integers(0, runs, 2000)))
    key_T = random.integers(0, 2**bits, len(run_T), np.uint64) + np.uint64(2**63 * (bits < 64))
    expected = sorted(range(len(run_T)), key=lambda at: (run_T[at], int(key_T[at]), at))
    assert by_run_and_key(run_T, key_T).tolist() == expected


def test_a_drawn_order_puts_no_row_of_test_before_one_of_train(tmp_path: Path):
    rows = [("u", f"i{k:02}", 3.0, 5) for k in range(60)]
    raw, parts = tables(rows), ["test", "train", "valid"] * 20
    raw = replace(raw, interactions=raw.interactions.append_column("part", pa.array(parts)))
    items = [item for _, item in events(prepare(raw, Rules(min_history=1, split=Given()), tmp_path, "x"))]
    of_parts = [items[:20], items[20:40], items[40:]]
    assert [{int(item[1:]) % 3 for item in some} for some in of_parts] == [{1}, {2}, {0}]
    assert all(some != sorted(some) for some in of_parts)
