"""``evaluation.test_users``: all test samples of some users."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lifelora.errors import ConfigError
from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.run import Options, Run
from run_world import VALUES


def recipe(**evaluation: Any) -> Recipe:
    """Conventional models alone."""
    return parse({k: v for k, v in VALUES.items() if k not in ("systems", "backbone")} | {"evaluation": evaluation}, "a test")


def test_all_samples_of_the_drawn_users_and_of_no_others(tmp_path: Path):
    run = Run(recipe(test_users=4), tmp_path / "run", Options(device="cpu", progress=False))
    run.prepare()
    dataset, rows = run.context.dataset, run.context.test_samples
    of_all = np.asarray(dataset.samples["test"])
    drawn = set(dataset.targets(rows).user_B.tolist())
    assert len(drawn) == 4 < len(set(dataset.targets(of_all).user_B.tolist()))
    assert rows.tolist() == [row for row, user in zip(of_all, dataset.targets(of_all).user_B, strict=True) if user in drawn]
    more = Run(recipe(test_users=6), tmp_path / "run", Options(device="cpu", progress=False)).context
    assert drawn < set(dataset.targets(more.test_samples).user_B.tolist())  # fewer users are the first of more
    run.fit()
    run.evaluate()
    assert len(run.task.scores("din")) == len(rows)


def test_samples_or_users():
    with pytest.raises(ConfigError, match="test_samples = 24 draws samples and test_users = 4 draws users"):
        recipe(test_samples=24, test_users=4)


def test_keys_without_it_are_as_before(tmp_path: Path):
    kept = Run(recipe(test_samples=24), tmp_path, Options(device="cpu")).stages.scores("din").config
    assert kept == {"test_samples": 24, "seed": 0}
