"""Splits as CoLLM, TALLRec and PEARLM publish theirs, from files to a run: its samples are exactly the rows of the files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lifelora.data.dataset import Dataset
from lifelora.recipe.files import parse
from lifelora.run import Options, Run

STEP = {"batch_size": 16, "epochs": 1, "max_steps": 4, "evaluations_per_epoch": 1}
SMALL = {"embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}
SIZES = {"train": 60, "valid": 24, "test": 30}


def run(folder: Path, toml: str, task: str, kinds: list[str], rules: dict[str, Any]) -> Run:
    (folder / "split.toml").write_text(toml)
    values = {
        "name": "published",
        "task": task,
        "data": {
            "source": {"kind": "tables"} | read_toml(folder / "split.toml"),
            "rules": {"min_history": 0, "split": {"kind": "given"}} | rules,
        },
        "conventional": {kind: {"model": {"kind": kind, **SMALL}, "training": STEP} for kind in kinds}
        | {"popular": {"model": {"kind": "popularity"}}},
        "evaluation": {"resamples": 100},
    }
    made = Run(parse(values, "published"), folder / "run", Options(device="cpu", progress=False))
    made.all()
    return made


def read_toml(path: Path) -> dict[str, Any]:
    from lifelora.data.sources.tables import Tables

    return Tables.from_toml(path).model_dump(exclude_unset=True, exclude={"kind"})


def targets(dataset: Dataset, part: str) -> list[tuple[str, str, float, list[str]]]:
    """User, item, rating and history of each sample."""
    found = []
    for row in np.asarray(dataset.samples[part]):
        asked = dataset.targets(np.array([row]))
        past = dataset.items.outside(dataset.item_N[dataset.log.rows_of(int(asked.user_B[0]), int(asked.position_B[0]))])
        user, item = dataset.users.outside(asked.user_B)[0], dataset.items.outside(asked.item_B)[0]
        found.append((user, item, dataset.rating_levels[int(dataset.rating_N[row])], past))
    return found


def figures(made: Run) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(next(made.stages.folder.rglob("evaluation.json")).read_text())
    return found


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


def test_collm(tmp_path: Path, rng: np.random.Generator):
    """Three files of uid, iid, label, timestamp; all rows are samples, those of users and items that training lacks too."""
    rows, now, seen = dict[str, list[tuple[int, int, int, int]]](), 1_600_000_000, set()
    for part, size in SIZES.items():
        rows[part] = []
        while len(rows[part]) < size:
            user, item = int(rng.integers(12)), int(rng.integers(40))
            if (user, item) not in seen:
                seen.add((user, item))
                now += int(rng.integers(1, 1000))
                rows[part].append((user, item, int(rng.random() < 0.5), now))
        order = rng.permutation(size)  # a file need not stand in time order
        text = "".join("{},{},{},{}\n".format(*rows[part][place]) for place in order)
        (tmp_path / f"{part}.csv").write_text("uid,iid,label,timestamp\n" + text)
    columns = '[columns]\nuser = "uid"\nitem = "iid"\nrating = "label"\ntime = "timestamp"\n'
    toml = 'interactions = { train = "train.csv", valid = "valid.csv", test = "test.csv" }\n' + columns
    made = run(tmp_path, toml, "ctr", ["din", "deepfm"], {"label_above": 0.5})
    dataset, everything = made.context.dataset, [row for part in rows.values() for row in part]
    for part, wanted in rows.items():
        found = targets(dataset, part)
        assert [(int(user), int(item), int(label)) for user, item, label, _ in found] == [row[:3] for row in wanted]
        for row, (_, _, _, past) in zip(wanted, found, strict=True):
            assert [int(item) for item in past] == [r[1] for r in everything if r[0] == row[0] and r[3] < row[3]]
    assert figures(made)["rows"] == SIZES["test"]
    assert figures(made)["positives"] == sum(label for _, _, label, _ in rows["test"])


def test_tallrec(tmp_path: Path, rng: np.random.Generator):
    """Rows without users: a window of ten ratings and a target. Each is a user of its own, whose window is only history."""
    lines, windows = list[str](), dict[str, list[tuple[str, str, int, list[str]]]]()
    for part, size in SIZES.items():
        windows[part] = []
        for number in range(size):
            items = [str(item) for item in rng.permutation(40)[:11]]
            ratings = rng.integers(1, 6, 11)
            lines += [f"{part}{number},{item},{rating}," for item, rating in zip(items[:10], ratings[:10], strict=True)]
            lines.append(f"{part}{number},{items[10]},{ratings[10]},{part}")
            windows[part].append((f"{part}{number}", items[10], int(ratings[10]), items[:10]))
    (tmp_path / "log.csv").write_text("user,item,rating,part\n" + "".join(f"{line}\n" for line in lines))
    made = run(tmp_path, 'interactions = "log.csv"\n[columns]\npart = "part"\n', "ctr", ["sasrec"], {"min_history": 10})
    dataset = made.context.dataset
    for part, wanted in windows.items():
        assert targets(dataset, part) == wanted
        label_N = np.asarray(dataset.label_N)[dataset.samples[part]]
        assert label_N.tolist() == [rating > 3 for _, _, rating, _ in wanted]
    assert not [note for note in dataset.notes if "no samples" in note]


def test_pearlm(tmp_path: Path, rng: np.random.Generator):
    """Items of each user in three parts, without ratings and times, and lists of candidates for the test part."""
    train, valid, test, lists = list[str](), list[str](), list[str](), list[str]()
    for user in range(15):
        items = rng.permutation(40)
        train += [f"{user},{item}" for item in items[:6]]
        valid += [f"{user},{item}" for item in items[6:8]]
        test += [f"{user},{item}" for item in items[8:10]]
        for item in items[8:10]:
            listed = rng.permutation([int(item), *items[10:13].tolist()])
            lists.append(f"{user},{item},{'|'.join(map(str, listed))}")
    for name, rows in (("train", train), ("valid", valid), ("test", test)):
        (tmp_path / f"{name}.csv").write_text("user,item\n" + "".join(f"{row}\n" for row in rows))
    (tmp_path / "lists.csv").write_text("user,item,candidates\n" + "".join(f"{row}\n" for row in lists))
    toml = 'interactions = { train = "train.csv", valid = "valid.csv", test = "test.csv" }\ncandidates = "lists.csv"\n'
    made = run(tmp_path, toml, "next-item", ["sasrec"], {})
    dataset = made.context.dataset
    for part, rows in (("train", train), ("valid", valid), ("test", test)):
        found = targets(dataset, part)
        assert [f"{user},{item}" for user, item, _, _ in found] == rows
        before = {"train": [], "valid": train, "test": train + valid}[part]
        own = {"train": train, "valid": valid, "test": test}[part]
        for place, (user, _, _, past) in enumerate(found):
            assert past == [row.partition(",")[2] for row in [*before, *own[:place]] if row.startswith(f"{user},")]
    ids = [dataset.items.outside(list_C) for list_C in dataset.lists["test"]]
    assert [f"{row},{'|'.join(one)}" for row, one in zip(test, ids, strict=True)] == lists
    assert (figures(made)["rows"], figures(made)["candidates"]) == (len(test), 4)
    hashed = figures(made)["rows_hash"]
    assert f"4 candidates each, catalogue of 40 items, lists {hashed}" in next(made.stages.folder.rglob("table.txt")).read_text()


def test_a_language_model_is_asked_about_samples_without_a_history(tmp_path: Path, rng: np.random.Generator):
    """Of users whom no file but that of test has."""
    for part, users in (("train", range(20)), ("valid", range(20, 26)), ("test", range(30, 36))):
        rows = [f"{user},{item},{int(rng.random() < 0.5)}" for user in users for item in rng.permutation(30)[:2]]
        (tmp_path / f"{part}.csv").write_text("user,item,label\n" + "".join(f"{row}\n" for row in rows))
    toml = 'interactions = { train = "train.csv", valid = "valid.csv", test = "test.csv" }\n[columns]\nrating = "label"\n'
    (tmp_path / "split.toml").write_text(toml)
    nano = {"kind": "nano", "width": 16, "layers": 1, "heads": 2, "vocabulary": 300, "training": STEP | {"select": "-loss"}}
    values = {
        "name": "published",
        "data": {
            "source": {"kind": "tables"} | read_toml(tmp_path / "split.toml"),
            "rules": {"min_history": 0, "label_above": 0.5, "split": {"kind": "given"}},
        },
        "backbone": nano,
        "conventional": {"gru4rec": {"model": {"kind": "gru4rec", **SMALL}, "training": STEP}},
        "systems": {
            "lora": {
                "behaviours": {"kind": "most-recent", "k": 3},
                "coupling": {"kind": "full", "rank": 2},
                "representation": {"model": "gru4rec"},
                "train_samples": 32,
                "validation_samples": 12,
                "training": STEP,
            }
        },
        "evaluation": {"resamples": 100},
    }
    made = Run(parse(values, "published"), tmp_path / "run", Options(device="cpu", progress=False))
    made.all()
    assert [len(past) for _, _, _, past in targets(made.context.dataset, "test")] == [0, 1] * 6
    scores = np.load(next(made.stages.folder.glob("5-scores/lora/*.npy")))
    assert np.isfinite(scores).all()
    assert len(scores) == 12
