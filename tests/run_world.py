"""A recipe as small as a run can be, with everything in it: shared by the tests of runs."""

import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from lifelora.data.dataset import Targets
from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.run import Run
from lifelora.run.scorers.base import Requests
from lifelora.run.scorers.shown import Shown
from lifelora.stage import MANIFEST, Stage

TRAINING = {"batch_size": 16, "epochs": 1, "learning_rate": 2e-3}
VALUES: dict[str, Any] = {
    "name": "tiny",
    "about": "As small as a run can be",
    "data": {"source": {"kind": "simulated", "users": 24, "items": 80, "events_per_user": 16}},
    "conventional": {
        "popular": {"model": {"kind": "popularity"}},
        "din": {
            "model": {"kind": "din", "embedding": 4, "hidden": 8, "layers": 1, "attention_hidden": 4, "history_length": 6},
            "training": TRAINING,
        },
    },
    "backbone": {
        "kind": "nano",
        "width": 16,
        "layers": 1,
        "heads": 2,
        "vocabulary": 500,
        "training": {"batch_size": 16, "epochs": 1, "learning_rate": 3e-3, "select": "-loss"},
    },
    "systems": {
        "lora": {
            "behaviours": {"kind": "most-recent", "k": 3},
            "coupling": {"kind": "identity", "rank": 2},
            "train_samples": 32,
            "validation_samples": 20,
            "training": TRAINING,
        },
        "personal": {
            "behaviours": {"kind": "most-similar", "k": 3},
            "coupling": {"kind": "full", "rank": 2},
            "representation": {"model": "din"},
            "train_samples": 32,
            "validation_samples": 20,
            "training": TRAINING,
        },
    },
    "evaluation": {"test_samples": 24, "resamples": 100},
}


def tiny(**systems_lora: Any) -> Recipe:
    """The recipe; values of its system 'lora' can be replaced."""
    systems = VALUES["systems"]
    return parse(VALUES | {"systems": systems | {"lora": systems["lora"] | systems_lora}}, "the tests' recipe")


def replace_array(stage: Stage, name: str, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Make a finished stage again with one of its arrays changed; the array as it was."""
    before: np.ndarray = np.load(stage.require() / name)
    with stage.making() as folder:
        shutil.copytree(stage.folder, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(MANIFEST))
        np.save(folder / name, change(before))
    return before


def scores(run: Run, name: str, targets: Targets) -> np.ndarray:
    """One score for each target."""
    return run.scorers[name].score(Requests(targets))[:, 0]


def show(run: Run, name: str, targets: Targets) -> Shown:
    """Targets as a language-model system sees them."""
    return run.scorers[name].show(Requests(targets))


def judged_on(run: Run) -> Targets:
    """What every scorer is judged on."""
    return run.context.dataset.targets(run.context.test_samples)


def next_items() -> Recipe:
    """A recipe of the task next-item, with conventional models only."""
    small = {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}
    rules = {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 12}}
    return parse(
        {
            "name": "next",
            "task": "next-item",
            "data": VALUES["data"] | {"rules": rules},
            "evaluation": VALUES["evaluation"],
            "conventional": {"popularity": {"model": {"kind": "popularity"}}, "sasrec": {"model": small, "training": TRAINING}},
        },
        "the tests' recipe",
    )
