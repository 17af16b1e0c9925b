"""Intervals and tests against their formulas, DeLong's variance and known truths; and that few users get neither."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.special import logit
from scipy.stats import norm, t
from scored_world import taken, world

from lifelora.errors import ConfigError
from lifelora.evaluation.jackknife import METRICS, Jackknifed, Rows, Scored, jackknife, jackknife_means
from lifelora.evaluation.significance import ENOUGH_USERS, estimate, paired_test

approx = pytest.approx


def half_width(figure):
    """Of an interval on the log-odds, back on the figure's own scale at its value."""
    return (logit(figure.high) - logit(figure.low)) / 2 * figure.value * (1 - figure.value)


def delong_variance(label_N, score_N):
    """Var(V10)/P + Var(V01)/Q, where V10 and V01 are each positive's and each negative's share of pairs won."""
    yes, no = score_N[label_N], score_N[~label_N]
    won = (yes[:, None] > no) + 0.5 * (yes[:, None] == no)
    return won.mean(1).var(ddof=1) / len(yes) + won.mean(0).var(ddof=1) / len(no)


def test_with_one_row_per_user_the_spread_is_delongs():
    scored = replace(world(1, 800, 10), user_N=np.arange(800))
    figure = estimate(jackknife(scored, ("auc",)), "auc")
    error = half_width(figure) / t.ppf(0.975, figure.degrees)
    assert error == approx(math.sqrt(delong_variance(scored.label_N, scored.score_N)), rel=0.01)


def test_with_one_row_per_user_the_interval_of_a_mean_is_students_on_the_log_odds():
    value_N = np.random.default_rng(3).random(40)
    figure = estimate(jackknife_means(Rows(np.arange(40), {"mrr": value_N}, "")), "mrr")
    mean, error = value_N.mean(), value_N.std(ddof=1) / math.sqrt(40)
    deviation_N = value_N - mean
    degrees = (deviation_N**2).sum() ** 2 / (deviation_N**4).sum()
    reach = t.ppf(0.975, degrees) * error / (mean * (1 - mean))
    assert figure.value == approx(mean)
    assert figure.degrees == approx(degrees)
    assert logit([figure.low, figure.high]) == approx([logit(mean) - reach, logit(mean) + reach])


def test_where_one_user_has_most_rows_there_is_one_degree_of_freedom():
    user_N = np.repeat(np.arange(20), [2000] + [3] * 19)
    value_N = np.random.default_rng(0).random(len(user_N)) * 0.5 + 0.5 * (user_N == 0)
    figure = estimate(jackknife_means(Rows(user_N, {"mrr": value_N}, "")), "mrr")
    assert 1 <= figure.degrees < 1.2
    assert figure.high - figure.low > 0.5


def truth(seed, users):
    """AUC of N(1, 1) against N(0, 1) by users of one to ten rows, and log loss, whose truth is not needed."""
    random = np.random.default_rng(seed)
    user_N = np.repeat(np.arange(users), random.integers(1, 11, users))
    label_N = random.random(len(user_N)) < 0.5
    score_N = norm.cdf(random.normal(label_N, 1.0) - 0.5)
    return Scored(user_N, user_N, label_N, score_N)


@pytest.mark.parametrize("users", [ENOUGH_USERS, 40])
def test_the_interval_covers_the_truth_about_95_times_in_100(users):
    figures = [estimate(jackknife(truth(seed, users), ("auc",)), "auc") for seed in range(300)]
    covered = np.mean([figure.low <= norm.cdf(1.0 / math.sqrt(2)) <= figure.high for figure in figures])
    assert 0.92 <= covered <= 0.995  # .95 less three standard errors of .0126


@pytest.mark.parametrize("rows", [2.0, 1.2])
def test_equal_systems_differ_by_chance_about_5_times_in_100(rows):
    """Each is a noise of users and rows; rows per user are Pareto, with a heavy tail where the index is small."""
    found = 0
    for seed in range(300):
        random = np.random.default_rng(seed)
        rows_U = np.minimum(1 + random.pareto(rows, ENOUGH_USERS) * 3, 500).astype(int)
        user_N = np.repeat(np.arange(ENOUGH_USERS), rows_U)
        a, b = (
            jackknife_means(
                Rows(user_N, {"mrr": norm.cdf(random.normal(0, 1, ENOUGH_USERS)[user_N] + random.normal(0, 1, len(user_N)))}, "")
            )
            for _ in range(2)
        )
        found += paired_test(a, b)["mrr"].p < 0.05
    assert found / 300 <= 0.085  # .05 and three standard errors; resampling ten users gave .10


def test_few_users_get_neither_interval_nor_p():
    few = world(4, 400, ENOUGH_USERS - 1)
    enough = world(4, 400, ENOUGH_USERS)
    assert len(np.unique(few.user_N)) == ENOUGH_USERS - 1
    for metric in METRICS:
        figure = estimate(jackknife(few), metric)
        assert math.isnan(figure.low)
        assert math.isnan(figure.high)
        assert figure.value == approx(jackknife(few).by_run[metric][0])  # ECE as it is found, for chance cannot be told
        assert estimate(jackknife(enough), metric).low < estimate(jackknife(enough), metric).high
    worse = replace(few, score_N=few.score_N * 0.5)
    assert all(math.isnan(d.p) and math.isnan(d.low) for d in paired_test(jackknife(few), jackknife(worse)).values())


def test_gauc_needs_enough_users_with_both_answers():
    scored = world(4, 400, 20)
    one_class_N = scored.user_N > np.unique(scored.user_N)[8]
    found = jackknife(replace(scored, label_N=scored.label_N | one_class_N))
    assert found.counted["gauc"][1] == 9
    assert math.isnan(estimate(found, "gauc").low)
    assert not math.isnan(estimate(found, "auc").low)


def test_where_all_users_agree_there_is_no_interval():
    never = jackknife_means(Rows(np.arange(50), {"hr": np.zeros(50)}, ""))
    figure = estimate(never, "hr")
    assert figure.value == 0
    assert math.isnan(figure.low)
    always = jackknife_means(Rows(np.arange(50), {"hr": np.ones(50)}, ""))
    difference = paired_test(always, never)["hr"]
    assert difference.value == 1
    assert math.isnan(difference.p)


def test_rare_hits_have_an_interval_inside_0_and_1():
    hit_N = np.zeros(100)
    hit_N[:2] = 1
    figure = estimate(jackknife_means(Rows(np.arange(100), {"hr": hit_N}, "")), "hr")
    assert 0 < figure.low < 0.02 < figure.high < 1
    assert figure.degrees == approx((2 * 0.98**2 + 98 * 0.02**2) ** 2 / (2 * 0.98**4 + 98 * 0.02**4))  # about two: the two hits


def test_one_class_is_nan_and_nothing_falls_over():
    scored = Scored(np.arange(12), np.zeros(12, int), np.ones(12, bool), np.linspace(0.1, 0.9, 12))
    figure = estimate(jackknife(scored), "auc")
    assert math.isnan(figure.value)
    assert math.isnan(figure.low)
    assert math.isnan(paired_test(jackknife(scored), jackknife(scored))["auc"].p)


def means(by_run, without_U):
    return Jackknifed("r", {"auc": by_run}, {"auc": (100, len(without_U))}, {"auc": np.array(without_U)})


def test_runs_that_differ_widen_the_interval_and_equal_runs_do_not():
    without_U = 0.7 + np.array([0.01, -0.01] * 6)
    users = 11 / 12 * 12 * 0.01**2  # (U-1)/U · Σ d², with 12 degrees of freedom, for all d² are equal
    alone, equal = (estimate(means(by_run, without_U), "auc") for by_run in ([0.7], [0.7, 0.7, 0.7]))
    assert (alone.low, alone.high) == approx((equal.low, equal.high))
    assert half_width(alone) == approx(t.ppf(0.975, 12) * math.sqrt(users))
    spread = estimate(means([0.68, 0.70, 0.72], without_U), "auc")
    seeds = 0.02**2 / 3
    degrees = (users + seeds) ** 2 / (users**2 / 12 + seeds**2 / 2)
    assert spread.degrees == approx(degrees)
    assert half_width(spread) == approx(t.ppf(0.975, degrees) * math.sqrt(users + seeds))


def test_a_difference_over_runs_counts_what_the_differences_differ_by():
    without_U = np.array([0.01, -0.01] * 6)
    a, b = means([0.72, 0.70, 0.68], 0.7 + without_U), means([0.62, 0.60, 0.58], 0.6 + without_U / 2)
    found = paired_test(a, b)["auc"]  # .10 in each run: the runs' own ups and downs are shared
    error = math.sqrt(11 / 12 * 12 * 0.005**2)
    assert found.degrees == approx(12)
    assert found.p == approx(2 * t.sf(0.1 / error, 12))
    assert (found.low, found.high) == approx((0.1 - t.ppf(0.975, 12) * error, 0.1 + t.ppf(0.975, 12) * error))


def test_p_is_below_5_in_100_where_the_interval_leaves_0_out():
    crossed = 0
    for seed in range(20):
        good = world(seed, 300, 30, signal=1.2)
        noise_N = np.random.default_rng(seed).normal(0, seed / 20, 300)
        worse = replace(good, score_N=norm.cdf(norm.ppf(good.score_N.clip(1e-6, 1 - 1e-6)) * (1 + seed / 10) + noise_N))
        for found in paired_test(jackknife(good, draws=200), jackknife(worse, draws=200)).values():
            crossed += found.low <= 0 <= found.high
            assert (found.p < 0.05) == (not found.low <= 0 <= found.high) or abs(found.p - 0.05) < 1e-9
    assert 10 < crossed < 90  # of 100: both happen


def test_a_system_is_no_better_than_itself_and_a_real_gain_is_found():
    good = world(6, 1500, 200, signal=1.2)
    noise_N = np.random.default_rng(0).normal(0, 1.0, 1500)
    worse = replace(good, score_N=norm.cdf(norm.ppf(good.score_N.clip(1e-6, 1 - 1e-6)) + noise_N))
    strong, weak = jackknife(good), jackknife(worse)
    itself = paired_test(strong, strong)["auc"]
    assert (itself.value, itself.low, itself.high, itself.p) == (0, 0, 0, 1)
    gain, loss = paired_test(strong, weak), paired_test(weak, strong)
    assert gain["auc"].low > 0
    assert gain["auc"].p < 0.001
    assert loss["auc"].high == approx(-gain["auc"].low)
    assert gain["log_loss"].high < 0


def test_different_rows_are_refused():
    scored = world(7, 60, 9)
    found = jackknife(scored)
    changed = scored.label_N.copy()
    changed[0] = ~changed[0]
    for other in (
        replace(scored, label_N=changed),
        replace(scored, item_N=scored.item_N + 1),
        taken(scored, np.arange(59)),
        taken(scored, np.arange(60)[::-1]),
    ):
        with pytest.raises(ConfigError, match=r"different samples .* same order"):
            paired_test(found, jackknife(other))
    paired_test(found, jackknife(replace(scored, score_N=1 - scored.score_N)))


def test_a_figure_carries_what_it_stands_on():
    scored = Scored(np.array([1, 1, 2, 2, 3]), np.arange(5), np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.2, 0.6, 0.7, 0.5]))
    found = jackknife(scored)
    auc, gauc = estimate(found, "auc"), estimate(found, "gauc")
    assert (auc.value, auc.n, auc.users) == (4 / 6, 5, 3)
    assert (gauc.value, gauc.n, gauc.users) == ((2 * 1 + 2 * 0) / 4, 4, 2)
