"""Intervals against the naive bootstrap, DeLong's variance and a known truth; the paired test against its formula."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import norm

from lifelora.errors import ConfigError
from lifelora.evaluation import metrics as M
from lifelora.evaluation.significance import METRICS, Resampled, Rows, Scored, bootstrap, bootstrap_means, paired_test
from lifelora.seeds import generator

approx = pytest.approx


def world(seed, n, users, signal=1.0, decimals=9):
    """Rows of users who differ in how much they like everything; scores in (0, 1), tied when rounded."""
    random = np.random.default_rng(seed)
    user_N = random.integers(0, users, n) * 3 + 5
    label_N = random.random(n) < 0.3 + 0.4 * (user_N % 2)
    score_N = norm.cdf(random.normal(signal * label_N, 1.0) - signal / 2).round(decimals)
    return Scored(user_N, random.integers(0, 50, n), label_N, score_N)


def taken(scored, index_N):
    return Scored(*(column[index_N] for column in (scored.user_N, scored.item_N, scored.label_N, scored.score_N)))


def test_each_draw_is_the_metric_on_the_rows_of_the_drawn_users():
    scored = world(0, 160, 25, decimals=1)  # many ties
    found = bootstrap(scored, resamples=12, seed=4)
    random = generator(4, "evaluation", "bootstrap")
    users_U = np.unique(scored.user_N)
    for r in range(12):
        drawn = users_U[random.integers(0, len(users_U), len(users_U))]
        parts = [np.flatnonzero(scored.user_N == user) for user in drawn]
        naive = taken(scored, np.concatenate(parts))
        copy_N = np.repeat(np.arange(len(drawn)), [len(part) for part in parts])  # a user drawn twice is two people
        label_N, score_N = naive.label_N, naive.score_N
        assert found.draws["auc"][r] == approx(M.auc(label_N, score_N), abs=1e-12)
        assert found.draws["gauc"][r] == approx(M.gauc(copy_N, label_N, score_N).value, abs=1e-12)
        assert found.draws["log_loss"][r] == approx(M.log_loss(label_N, score_N), abs=1e-12)
        assert found.draws["accuracy"][r] == approx(M.accuracy(label_N, score_N), abs=1e-12)
        assert found.draws["ece"][r] == approx(M.expected_calibration_error(label_N, score_N), abs=1e-12)


def test_several_runs_are_drawn_together():
    runs = [world(seed, 120, 25, decimals=1) for seed in (0, 1)]
    runs[1] = taken(runs[1], np.flatnonzero(runs[1].user_N > 11))  # some users have rows in the first run only
    found = bootstrap(runs, resamples=12, seed=4)
    random = generator(4, "evaluation", "bootstrap")
    users_U = np.union1d(runs[0].user_N, runs[1].user_N)
    for r in range(12):
        drawn = users_U[random.integers(0, len(users_U), len(users_U))]
        expected = []
        for run in runs:
            rows = np.concatenate([np.flatnonzero(run.user_N == user) for user in drawn])
            expected.append(M.auc(run.label_N[rows], run.score_N[rows]))
        assert found.draws["auc"][r] == approx(np.mean(expected), abs=1e-12)
    for metric in METRICS:
        assert found.value[metric] == approx(np.mean([bootstrap(run, resamples=1).value[metric] for run in runs]))
    assert found.figure("auc").n == len(runs[0].user_N) + len(runs[1].user_N)
    assert bootstrap(runs[:1], resamples=5).draws["gauc"].tolist() == bootstrap(runs[0], resamples=5).draws["gauc"].tolist()


def test_means_of_several_runs_are_drawn_together():
    random = np.random.default_rng(1)
    runs = []
    for users in ([3, 3, 5, 8, 8, 8], [5, 5, 9, 3]):  # 8 has rows in the first run only, 9 in the second
        runs.append(Rows(np.array(users), {"hr": random.random(len(users)), "mrr": random.random(len(users))}, f"rows {users}"))
    found = bootstrap_means(runs, resamples=30, seed=4)
    draw = generator(4, "evaluation", "bootstrap")
    for r in range(30):
        drawn = np.array([3, 5, 8, 9])[draw.integers(0, 4, 4)]
        for metric in ("hr", "mrr"):
            means = []
            for run in runs:
                values = [value for user in drawn for value in run.values[metric][run.user_N == user]]
                means.append(sum(values) / len(values) if values else math.nan)
            assert found.draws[metric][r] == approx(np.mean(means), abs=1e-12, nan_ok=True)
    figure = found.figure("hr")
    assert figure.value == approx((runs[0].values["hr"].mean() + runs[1].values["hr"].mean()) / 2)
    assert found.by_run["mrr"] == [run.values["mrr"].mean() for run in runs]
    assert (figure.n, figure.users, found.rows_hash) == (10, 4, "rows [3, 3, 5, 8, 8, 8]+rows [5, 5, 9, 3]")
    fewer = Rows(runs[1].user_N, {"mrr": runs[1].values["mrr"]}, "")
    assert list(bootstrap_means([runs[0], fewer], resamples=2).draws) == ["mrr"]


def test_one_run_alone_is_drawn_to_the_last_digit_as_in_a_list():
    scored = world(9, 90, 20)
    rows = Rows(scored.user_N, {"score": scored.score_N, "label": scored.label_N.astype(np.float64)}, "rows")
    alone, listed = bootstrap_means(rows, resamples=20, seed=2), bootstrap_means([rows], resamples=20, seed=2)
    assert {m: d.tolist() for m, d in alone.draws.items()} == {m: d.tolist() for m, d in listed.draws.items()}
    assert alone.value == {"score": scored.score_N.mean(), "label": scored.label_N.mean()}
    with pytest.raises(ConfigError, match="resamples = 0"):
        bootstrap_means(rows, resamples=0)


def delong_variance(label_N, score_N):
    """Var(V10)/P + Var(V01)/Q, where V10 and V01 are each positive's and each negative's share of pairs won."""
    yes, no = score_N[label_N], score_N[~label_N]
    won = (yes[:, None] > no) + 0.5 * (yes[:, None] == no)
    return won.mean(1).var(ddof=1) / len(yes) + won.mean(0).var(ddof=1) / len(no)


def test_with_one_row_per_user_the_spread_is_delongs():
    scored = replace(world(1, 800, 10), user_N=np.arange(800))
    draws = bootstrap(scored, ("auc",), resamples=600).draws["auc"]
    assert draws.std() == approx(math.sqrt(delong_variance(scored.label_N, scored.score_N)), rel=0.08)


def test_repeating_a_users_rows_adds_no_certainty():
    scored = world(2, 200, 30)
    once, five = bootstrap(scored, resamples=50), bootstrap(taken(scored, np.tile(np.arange(200), 5)), resamples=50)
    for metric in METRICS:
        np.testing.assert_allclose(five.draws[metric], once.draws[metric], rtol=1e-12)
    assert five.figure("auc").n == 5 * once.figure("auc").n


def test_the_interval_covers_the_truth_about_95_times_in_100():
    truth = norm.cdf(1.0 / math.sqrt(2))  # AUC of N(1, 1) against N(0, 1)
    figures = [bootstrap(world(seed, 240, 60), ("auc",), resamples=100, seed=seed).figure("auc") for seed in range(100)]
    covered = np.mean([figure.low <= truth <= figure.high for figure in figures])
    assert 0.89 <= covered <= 0.99


def test_a_figure_carries_what_it_stands_on():
    scored = Scored(np.array([1, 1, 2, 2, 3]), np.arange(5), np.array([1, 0, 1, 0, 1]),
                    np.array([0.9, 0.2, 0.6, 0.7, 0.5]))
    resampled = bootstrap(scored, resamples=200, seed=9)
    auc, gauc = resampled.figure("auc"), resampled.figure("gauc")
    assert (auc.value, auc.n, auc.users, auc.seed) == (4 / 6, 5, 3, 9)
    assert (gauc.value, gauc.n, gauc.users) == ((2 * 1 + 2 * 0) / 4, 4, 2)
    assert auc.low <= auc.value <= auc.high
    assert auc.resamples == 200 - np.isnan(resampled.draws["auc"]).sum() < 200  # user 3, thrice, has no AUC


def test_auc_of_one_class_is_nan_and_nothing_falls_over():
    scored = Scored(np.array([0, 1]), np.array([0, 0]), np.array([True, True]), np.array([0.4, 0.8]))
    figure = bootstrap(scored, resamples=10).figure("auc")
    assert math.isnan(figure.value)
    assert math.isnan(figure.low)
    assert figure.resamples == 0


def test_the_interval_of_ece_holds_its_value():
    scored = world(3, 300, 300)  # small and well calibrated: plain percentiles would lie above the value
    resampled = bootstrap(scored, ("ece",), resamples=300)
    figure = resampled.figure("ece")
    assert np.quantile(resampled.draws["ece"], 0.025) > figure.low
    assert 0 <= figure.low <= figure.value <= figure.high


def test_the_same_seed_gives_the_same_digits_and_another_seed_does_not():
    scored = world(5, 200, 30)
    first, again, other = (bootstrap(scored, resamples=30, seed=seed) for seed in (1, 1, 2))
    for metric in METRICS:
        assert first.draws[metric].tolist() == again.draws[metric].tolist()
        assert first.draws[metric].tolist() != other.draws[metric].tolist()


def resampled(auc, draws, rows_hash="r", seed=0):
    return Resampled(rows_hash, seed, {"auc": [auc]}, {"auc": (10, 4)}, {"auc": np.array(draws)})


def test_p_counts_the_draws_on_the_other_side_of_zero():
    a, b = resampled(0.8, [0.80, 0.82, 0.79, 0.81, 0.70]), resampled(0.75, [0.75, 0.77, 0.74, 0.80, 0.75])
    found = paired_test(a, b)["auc"]  # differences .05 .05 .05 .01 -.05: one is not above zero
    assert found.p == approx(2 * (1 + 1) / (5 + 1))
    assert found.value == approx(0.05)
    assert (found.n, found.users, found.resamples) == (10, 4, 5)
    assert found.low == approx(np.quantile([0.05, 0.05, 0.05, 0.01, -0.05], 0.025))


def test_a_system_is_no_better_than_itself_and_a_real_gain_is_found():
    good = world(6, 1500, 200, signal=1.2)
    noise_N = np.random.default_rng(0).normal(0, 1.0, 1500)
    worse = replace(good, score_N=norm.cdf(norm.ppf(good.score_N.clip(1e-6, 1 - 1e-6)) + noise_N))
    strong, weak = bootstrap(good, resamples=200), bootstrap(worse, resamples=200)
    itself = paired_test(strong, strong)["auc"]
    assert (itself.value, itself.low, itself.high, itself.p) == (0, 0, 0, 1)
    gain, loss = paired_test(strong, weak), paired_test(weak, strong)
    assert gain["auc"].low > 0
    assert gain["auc"].p == approx(2 / 201)
    assert loss["auc"].high == approx(-gain["auc"].low)
    assert gain["log_loss"].high < 0


def test_different_rows_are_refused():
    scored = world(7, 60, 9)
    draws = bootstrap(scored, resamples=5)
    changed = scored.label_N.copy()
    changed[0] = ~changed[0]
    for other in (replace(scored, label_N=changed), replace(scored, item_N=scored.item_N + 1),
                  taken(scored, np.arange(59)), taken(scored, np.arange(60)[::-1])):
        with pytest.raises(ConfigError, match=r"different rows .* same order"):
            paired_test(draws, bootstrap(other, resamples=5))
    paired_test(draws, bootstrap(replace(scored, score_N=1 - scored.score_N), resamples=5))


@pytest.mark.parametrize("options", [{"resamples": 6}, {"resamples": 5, "seed": 1}])
def test_different_resampling_is_refused(options):
    scored = world(7, 60, 9)
    with pytest.raises(ConfigError, match="same seed and resamples"):
        paired_test(bootstrap(scored, resamples=5), bootstrap(scored, **options))


def test_wrong_requests_are_answered_with_the_right_words():
    scored = world(7, 60, 9)
    with pytest.raises(ConfigError, match="'AUC'; there are auc, gauc, log_loss, accuracy, ece"):
        bootstrap(scored, ("AUC",))
    with pytest.raises(ConfigError, match="resamples = 0"):
        bootstrap(scored, resamples=0)
    with pytest.raises((ConfigError, TypeError)):  # TypeError where jaxtyping checks the axes first
        replace(scored, item_N=scored.item_N[1:])


def test_integer_widths_do_not_change_the_rows():
    scored = world(8, 40, 5)
    narrow = replace(scored, user_N=scored.user_N.astype(np.int32), label_N=scored.label_N.astype(np.float32))
    assert narrow.rows_hash() == scored.rows_hash()
