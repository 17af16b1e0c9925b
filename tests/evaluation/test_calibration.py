"""ECE of the population: held by its interval where the truth is known, and not pushed up by chance."""

import math
from dataclasses import replace

import numpy as np
import pytest

from lifelora.evaluation.jackknife import Scored, jackknife
from lifelora.evaluation.significance import estimate, paired_test

approx = pytest.approx


def rows(seed, users, rows_each, lift):
    """Scores from .2 to .6; a label is 1 with the score's chance and ``lift``, so the population's ECE is ``lift``."""
    random = np.random.default_rng(seed)
    user_N = np.repeat(np.arange(users), rows_each)
    score_N = random.uniform(0.2, 0.6, len(user_N))
    return Scored(user_N, user_N, random.random(len(user_N)) < score_N + lift, score_N)


@pytest.mark.parametrize(("users", "each", "lift"), [(30, 5, 0.0), (30, 5, 0.15), (300, 5, 0.0), (300, 5, 0.02)])
def test_the_interval_of_ece_holds_the_truth(users, each, lift):
    """Where resampling moved back, as it was, held it in 8 of 100."""
    held, values, found = [], [], []
    for seed in range(120):
        one = jackknife(rows(seed, users, each, lift), ("ece",), draws=200)
        figure = estimate(one, "ece")
        held.append(figure.low <= lift <= figure.high)
        values.append(figure.value)
        found.append(one.by_run["ece"][0])
    assert np.mean(held) >= 0.89  # .95 less three standard errors of .02
    assert abs(np.median(values) - lift) < 0.025
    if lift == 0:
        assert np.median(found) > 2.5 * np.median(values)  # what chance alone makes of it


def test_with_many_users_the_value_is_the_ece_that_is_found():
    scored = rows(0, 4000, 20, 0.1)
    found = jackknife(scored, ("ece",))
    assert estimate(found, "ece").value == approx(found.by_run["ece"][0], abs=0.0005) == approx(0.1, abs=0.01)


def test_luck_does_not_make_the_interval_vanish():
    """Rows whose bins are right to the last digit: the upper end is what such rows usually show, not zero."""
    user_N = np.repeat(np.arange(40), 4)
    scored = Scored(user_N, user_N, np.tile([True, False, False, True], 40), np.full(160, 0.5))
    mixed = replace(scored, label_N=np.random.default_rng(0).permutation(scored.label_N))
    figure = estimate(jackknife(mixed), "ece")
    assert (figure.value, figure.low) == (0, 0)
    assert figure.high == approx(1.96 * math.sqrt(0.25 / 160) + 0.67 * math.sqrt(0.25 / 160), rel=0.25)


def test_chance_is_drawn_alike_for_every_system_and_by_seed():
    scored = rows(1, 50, 6, 0.05)
    first, again, other = (jackknife(scored, ("ece",), draws=100, seed=seed).calibration for seed in (1, 1, 2))
    assert first.chance.tolist() == again.chance.tolist() != other.chance.tolist()
    deviation_UB = first.without_UB - first.without_UB.mean(axis=0)
    many = jackknife(scored, ("ece",), draws=40_000).calibration.chance
    np.testing.assert_allclose(np.cov(many.T), 49 / 50 * deviation_UB.T @ deviation_UB, atol=1e-5)


def test_several_runs_have_the_mean_of_their_ece():
    runs = [rows(seed, 60, 10, 0.1) for seed in (0, 1)]
    found = jackknife(runs, ("ece",))
    assert np.abs(found.calibration.gap_B).sum() == approx(np.mean(found.by_run["ece"]))
    assert found.by_run["ece"] == [approx(jackknife(run, ("ece",)).by_run["ece"][0]) for run in runs]
    both, one = estimate(found, "ece"), estimate(jackknife(runs[0], ("ece",)), "ece")
    assert both.low <= 0.1 <= both.high
    assert abs(both.value - 0.1) < 0.05
    assert both.high - both.low < 1.3 * (one.high - one.low)


def test_a_run_that_stands_on_one_user_has_no_interval():
    runs = [rows(0, 12, 10, 0.1), rows(1, 1, 10, 0.1)]
    assert math.isnan(estimate(jackknife(runs, ("ece",)), "ece").low)


def test_a_difference_of_ece_is_found_where_there_is_one():
    good, bad = rows(0, 300, 20, 0.0), rows(0, 300, 20, 0.0)
    bad = replace(bad, score_N=bad.score_N + 0.15)
    found = paired_test(jackknife(bad), jackknife(good))["ece"]
    assert found.low <= 0.15 <= found.high
    assert found.low > 0
    assert found.p < 0.001
    itself = paired_test(jackknife(good), jackknife(good))["ece"]
    assert (itself.value, itself.p) == (0, 1)
