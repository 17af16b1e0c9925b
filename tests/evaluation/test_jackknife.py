"""Figures without each user, against the same figures computed on the rows that are left."""

from dataclasses import replace

import numpy as np
import pytest
from scored_world import taken, world

from lifelora.errors import ConfigError
from lifelora.evaluation import metrics as M
from lifelora.evaluation.jackknife import METRICS, Rows, Scored, jackknife, jackknife_means

approx = pytest.approx
FORMULA = {
    "auc": lambda rows: M.auc(rows.label_N, rows.score_N),
    "gauc": lambda rows: M.gauc(rows.user_N, rows.label_N, rows.score_N).value,
    "log_loss": lambda rows: M.log_loss(rows.label_N, rows.score_N),
    "accuracy": lambda rows: M.accuracy(rows.label_N, rows.score_N),
    "ece": lambda rows: M.expected_calibration_error(rows.label_N, rows.score_N),
}


def without(found, metric):
    """The metric without each user; ECE is the sum of its gaps' sizes."""
    return np.abs(found.calibration.without_UB).sum(axis=1) if metric == "ece" else found.without[metric]


@pytest.mark.parametrize("metric", METRICS)
def test_each_value_is_the_metric_on_the_rows_of_the_others(metric):
    scored = world(0, 160, 25, decimals=1)  # many ties
    found = jackknife(scored)
    assert found.by_run[metric] == [approx(FORMULA[metric](scored), abs=1e-12)]
    for place, user in enumerate(np.unique(scored.user_N)):
        others = taken(scored, np.flatnonzero(scored.user_N != user))
        assert without(found, metric)[place] == approx(FORMULA[metric](others), abs=1e-12)


@pytest.mark.parametrize("metric", [metric for metric in METRICS if metric != "ece"])
def test_a_user_is_left_out_of_all_runs_at_once(metric):
    runs = [world(seed, 120, 25, decimals=1) for seed in (0, 1)]
    runs[1] = taken(runs[1], np.flatnonzero(runs[1].user_N > 11))  # some users have rows in the first run only
    found = jackknife(runs)
    for place, user in enumerate(np.union1d(runs[0].user_N, runs[1].user_N)):
        left = [FORMULA[metric](taken(run, np.flatnonzero(run.user_N != user))) for run in runs]
        assert found.without[metric][place] == approx(np.mean(left), abs=1e-12)
    assert found.by_run[metric] == [approx(FORMULA[metric](run), abs=1e-12) for run in runs]
    assert found.counted["auc"] == (len(runs[0].user_N) + len(runs[1].user_N), len(np.unique(runs[0].user_N)))


def test_a_user_who_alone_said_yes_cannot_be_left_out():
    scored = Scored(np.array([4, 5, 5, 6]), np.arange(4), np.array([1, 0, 0, 0]), np.array([0.9, 0.4, 0.3, 0.2]))
    found = jackknife(scored)
    assert np.isnan(found.without["auc"]).tolist() == [True, False, False]
    assert found.counted["gauc"] == (0, 0)
    assert np.isnan(found.by_run["gauc"][0])


def test_means_are_those_of_the_others():
    random = np.random.default_rng(1)
    runs = []
    for users in ([3, 3, 5, 8, 8, 8], [5, 5, 9, 3]):  # 8 has rows in the first run only, 9 in the second
        runs.append(Rows(np.array(users), {"hr": random.random(len(users)), "mrr": random.random(len(users))}, f"rows {users}"))
    found = jackknife_means(runs)
    for place, user in enumerate([3, 5, 8, 9]):
        for metric in ("hr", "mrr"):
            left = [run.values[metric][run.user_N != user].mean() for run in runs]
            assert found.without[metric][place] == approx(np.mean(left), abs=1e-12)
    assert found.by_run["mrr"] == [approx(run.values["mrr"].mean()) for run in runs]
    assert (found.counted["hr"], found.rows_hash) == ((10, 4), "rows [3, 3, 5, 8, 8, 8]+rows [5, 5, 9, 3]")
    fewer = Rows(runs[1].user_N, {"mrr": runs[1].values["mrr"]}, "")
    assert list(jackknife_means([runs[0], fewer]).without) == ["mrr"]


def test_repeating_a_users_rows_adds_no_certainty():
    scored = world(2, 200, 30)
    once, five = jackknife(scored), jackknife(taken(scored, np.tile(np.arange(200), 5)))
    for metric in METRICS:
        np.testing.assert_allclose(without(five, metric), without(once, metric), rtol=1e-12)
    assert five.counted["auc"][0] == 5 * once.counted["auc"][0]


def test_wrong_requests_are_answered_with_the_right_words():
    scored = world(7, 60, 9)
    with pytest.raises(ConfigError, match="'AUC'; there are auc, gauc, log_loss, accuracy, ece"):
        jackknife(scored, ("AUC",))
    with pytest.raises(ConfigError, match="draws = 0"):
        jackknife(scored, draws=0)
    with pytest.raises((ConfigError, TypeError)):  # TypeError where jaxtyping checks the axes first
        replace(scored, item_N=scored.item_N[1:])
    with pytest.raises(ConfigError, match=r"hr is outside \[0, 1\] on 1 of 3 samples"):
        Rows(np.arange(3), {"hr": np.array([0.0, 1.0, 2.0])}, "")


def test_integer_widths_do_not_change_the_rows():
    scored = world(8, 40, 5)
    narrow = replace(scored, user_N=scored.user_N.astype(np.int32), label_N=scored.label_N.astype(np.float32))
    assert narrow.rows_hash() == scored.rows_hash()
