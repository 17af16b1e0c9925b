"""What the simulation found, as it is kept: intervals hold and tests seldom err where they are given, and not below."""

import json
from pathlib import Path

import pytest

from lifelora.evaluation.metrics import HIGHER_IS_BETTER
from lifelora.evaluation.significance import ENOUGH_USERS

ROOT = Path(__file__).parents[2]
FOUND = json.loads((ROOT / "studies/intervals/results.json").read_text())
FIGURES = {*HIGHER_IS_BETTER, "ece off", "hr@1", "ndcg@10", "mrr", "rare hr@10"}
ERROR = FOUND["Monte Carlo error of .95 and of .05"]


def test_the_kept_result_says_how_it_was_made():
    assert {"command", "commit", "date", "seed", "sims", "code", "truth"} <= FOUND.keys()
    assert FOUND["sims"] >= 400
    assert FOUND["enough users"] == ENOUGH_USERS
    assert pytest.approx((0.95 * 0.05 / FOUND["sims"]) ** 0.5, abs=1e-4) == ERROR
    assert {int(name.split()[0]) for name in FOUND["cells"]} == {1, 2, 3, 5, 10, 20, 30, 100, 300, 1000}


@pytest.mark.parametrize("name", [name for name in FOUND["cells"] if int(name.split()[0]) >= ENOUGH_USERS])
def test_intervals_hold_and_tests_seldom_err(name: str):
    """At most four Monte Carlo errors short of .95, and two beyond .05; each figure is one of ten in each of twelve cells."""
    assert FOUND["cells"][name].keys() == FIGURES
    for metric, kept in FOUND["cells"][name].items():
        assert kept["new"]["covers"] >= 0.95 - 4 * ERROR, metric
        assert 1 - kept["new difference"]["covers"] <= 0.05 + 2 * ERROR, metric


def test_with_too_few_users_they_would_not():
    for users in (2, 3, 5):
        kept = FOUND["cells"][f"{users} users, light"]
        assert min(one["new"]["covers"] for one in kept.values() if one["new"]["given"]) < 0.95 - 3 * ERROR


@pytest.mark.parametrize("name", list(FOUND["seeds"]))
def test_over_seeds_they_hold_too(name: str):
    for metric, kept in FOUND["seeds"][name].items():
        assert kept["new"]["covers"] >= 0.95 - (5 if metric == "ece" else 2) * ERROR, metric
        assert 1 - kept["new difference"]["covers"] <= 0.05 + 2 * ERROR, metric
