"""A world of two tastes and a model of ids alone in it: what a run's report shows of new items and new users, in both tasks."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.run import Options, Run

OPTIONS = Options(device="cpu", progress=False)
USERS, ITEMS, EACH = 60, 60, 30
NEW_ITEMS = {"kind": "new-items", "share": 0.3, "train": 0.7, "valid": 0.1}


def tastes(folder: Path) -> dict[str, Any]:
    """Half of the users like even items, half odd ones, and they rate 9 of 10 items by that; nothing but ids tells which."""
    random = np.random.default_rng(0)
    rows = []
    for user in range(USERS):
        for item in random.permutation(ITEMS)[:EACH].tolist():
            like = (item % 2 == user % 2) == (random.random() < 0.9)
            rows.append(f"u{user:02},i{item:02},{5 if like else 1},{random.integers(10**9, 10**9 + 10**6)}")
    folder.mkdir()
    (folder / "log.csv").write_text("\n".join(["user,item,rating,time", *rows]))
    (folder / "goods.csv").write_text("\n".join(["item,title", *(f"i{i:02},thing {i}" for i in range(ITEMS))]))
    return {
        "kind": "tables",
        "interactions": str(folder / "log.csv"),
        "catalogue": str(folder / "goods.csv"),
        "columns": {"time": "time"},
    }


def recipe(source: dict[str, Any], split: dict[str, Any], task: str = "ctr", **rules: Any) -> Recipe:
    """EASE, which counts what was chosen together, and popularity."""
    values = {
        "name": "tastes",
        "task": task,
        "data": {"source": source, "rules": {"split": split, **rules}},
        "conventional": {"popular": {"model": {"kind": "popularity"}}, "ease": {"model": {"kind": "ease"}}},
        "evaluation": {"resamples": 100},
    }
    return parse(values, "the tests' recipe")


def reported(run: Run) -> dict[str, Any]:
    run.prepare()
    run.fit()
    run.evaluate()
    found: dict[str, Any] = json.loads((run.stages.report.require() / "evaluation.json").read_text())
    return found


def counts_of(run: Run) -> tuple[list[int], list[int]]:
    """How many training events the item and the user of each test sample have, counted one by one."""
    dataset, targets = run.context.dataset, run.context.dataset.targets(run.context.test_samples)
    events = [(int(dataset.user_N[row]), int(dataset.item_N[row])) for row in dataset.training_events()]
    items, users = [item for _, item in events], [user for user, _ in events]
    return [items.count(item) for item in targets.item_B.tolist()], [users.count(user) for user in targets.user_B.tolist()]


def test_a_model_of_ids_guesses_where_the_target_was_never_seen(tmp_path: Path):
    run = Run(recipe(tastes(tmp_path / "log"), NEW_ITEMS), tmp_path / "run", OPTIONS)
    found, (of_item, _) = reported(run), counts_of(run)
    never, *known = found["groups"]["popularity"]["groups"]
    assert (never["label"], never["rows"]) == ("never seen", of_item.count(0))
    assert never["systems"]["ease"]["auc"]["value"] == 0.5  # no two of its scores differ
    assert known
    assert all(group["systems"]["ease"]["auc"]["value"] > 0.75 for group in known)  # .9 is the ceiling: 9 of 10 follow taste
    assert never["rows"] + sum(group["rows"] for group in known) == len(of_item)
    assert "AUC by events of the target in training:" in run.status()


def test_new_users_are_a_group_and_their_histories_are_read(tmp_path: Path):
    split = {"kind": "new-users", "share": 0.4, "train": 0.7, "valid": 0.1}
    run = Run(recipe(tastes(tmp_path / "log"), split), tmp_path / "run", OPTIONS)
    found = reported(run)
    _, of_user = counts_of(run)
    new, *others = found["groups"]["user"]["groups"]
    assert (new["label"], new["rows"]) == ("new users", of_user.count(0))
    assert others
    assert new["systems"]["ease"]["auc"]["value"] > 0.65  # which reads histories, and so knows new users by theirs


def test_the_ceiling_of_a_simulated_world_stands_in_every_group(tmp_path: Path):
    source = {"kind": "simulated", "users": 40, "items": 160, "events_per_user": 40}
    run = Run(recipe(source, {"kind": "new-items", "share": 0.3}), tmp_path, OPTIONS)
    found = reported(run)
    groups = [group for of in found["groups"].values() for group in of["groups"]]
    assert len(groups) > 4
    assert all(0.5 < group["best_possible"]["auc"] < 1 for group in groups)


def test_next_items_have_the_groups_too(tmp_path: Path):
    run = Run(recipe(tastes(tmp_path / "log"), NEW_ITEMS, "next-item", candidates={"count": 10}), tmp_path / "run", OPTIONS)
    found, (of_item, _) = reported(run), counts_of(run)
    never, *known = found["groups"]["popularity"]["groups"]
    assert never["rows"] == of_item.count(0)
    assert never["rows"] + sum(group["rows"] for group in known) == len(of_item)
    # What counts puts never-seen items last, where they tie.
    for name in ("popular", "ease"):
        assert never["systems"][name]["hr@1"]["value"] < 0.05
        assert known[-1]["systems"][name]["hr@1"]["value"] > 0.1
    assert "HR@1 among 10 by events of the target in training:" in run.status()
