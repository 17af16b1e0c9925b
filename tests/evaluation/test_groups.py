"""Figures by what training knew: groups worked by hand, figures by scikit-learn on masks made by hand, text, page, JSON."""

import json
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import log_loss, roc_auc_score

from lifelora.evaluation.groups import ENOUGH_SAMPLES, by_training_events, group_tables
from lifelora.evaluation.jackknife import Scored, jackknife
from lifelora.evaluation.measured import figures
from lifelora.evaluation.page import write_ranking, write_report
from lifelora.evaluation.ranking_report import RankedSystem, RankingReport
from lifelora.evaluation.ranking_report import measure as measure_ranking
from lifelora.evaluation.ranking_report import plain_table as ranking_table
from lifelora.evaluation.ranks import Ranks
from lifelora.evaluation.report import Report, SystemResult, measure, plain_table
from lifelora.evaluation.significance import ENOUGH_USERS, paired_test

N, USERS = 900, 60


@pytest.fixture(scope="module")
def report() -> Report:
    """Two systems: one of ids, which guesses where the target was never seen, and one of words. Users 0 to 19 are new."""
    random = np.random.default_rng(0)
    user_N = np.sort(random.integers(0, USERS, N))
    events_N = np.array([0, 5, 40, 300])[random.integers(0, 4, N)]
    truth_N = random.random(N)
    label_N = random.random(N) < truth_N
    guess_N = np.clip(truth_N + random.normal(0, 0.3, N), 0.01, 0.99)
    ids_N = np.where(events_N == 0, random.random(N), guess_N)
    words_N = np.clip(truth_N + random.normal(0, 0.4, N), 0.01, 0.99)
    return Report(
        "Groups",
        [],
        [SystemResult("ids", "conventional", "ids", ids_N), SystemResult("words", "language model", "words", words_N)],
        user_N,
        random.integers(0, 30, N),
        label_N,
        random.integers(5, 90, N),
        "ids",
        target_events_N=events_N,
        user_events_N=np.where(user_N < 20, 0, 10 + user_N),
        truth_N=truth_N,
        draws=20,
    )


# 60 samples each of 12 users
MANY = np.tile(np.arange(12), 5)


@pytest.mark.parametrize(
    ("numbers", "ranges"),
    [
        ([0, 3, 30, 300], [(0, 0), (1, 9), (10, 99), (100, 300)]),
        ([3, 30, 300], [(1, 9), (10, 99), (100, 300)]),  # nothing was never seen
        ([0], [(0, 0)]),
        ([9, 10, 99, 100, 999, 1000], [(1, 9), (10, 99), (100, 999), (1000, 1000)]),  # where decades end
        ([0, 2000], [(0, 0), (1000, 2000)]),  # decades without a sample are no groups
    ],
)
def test_groups_are_never_seen_and_decades(numbers: list[int], ranges: list[tuple[int, int]]):
    number_N, user_N = np.repeat(numbers, 60), np.tile(MANY, len(numbers))
    assert by_training_events(number_N, user_N) == ranges


def test_groups_of_too_few_are_joined_and_never_seen_ones_left_out():
    user = np.resize(MANY, ENOUGH_SAMPLES - 1)

    def ranges(*groups: tuple[int, np.ndarray]) -> list[tuple[int, int]]:
        return by_training_events(
            np.repeat([n for n, _ in groups], [len(u) for _, u in groups]), np.concatenate([u for _, u in groups])
        )

    assert ranges((5, user), (50, MANY), (500, MANY)) == [(1, 99), (100, 500)]  # with the next
    assert ranges((5, MANY), (50, MANY), (500, user)) == [(1, 9), (10, 500)]  # the last with the one before
    assert ranges((0, user), (5, MANY), (50, MANY)) == [(1, 9), (10, 50)]  # zeros with none
    assert ranges((0, MANY), (5, user)) == [(0, 0)]
    assert ranges((0, np.resize(np.arange(ENOUGH_USERS - 1), 200)), (5, MANY)) == [(1, 5)]  # many samples of few users
    assert ranges((5, user), (50, user[:1])) == [(1, 50)]  # both together are enough


@given(st.lists(st.tuples(st.integers(0, 3000), st.integers(0, 20)), min_size=1, max_size=400))
def test_ranges_are_apart_and_each_has_enough(samples: list[tuple[int, int]]):
    number_N, user_N = np.array(samples).T
    ranges = by_training_events(number_N, user_N)
    for least, most in ranges:
        keep_N = (number_N >= least) & (number_N <= most)
        assert keep_N.sum() >= ENOUGH_SAMPLES
        assert len({*user_N[keep_N]}) >= ENOUGH_USERS
    assert all(before[1] < after[0] for before, after in pairwise(ranges))
    known = [r for r in ranges if r[0] > 0]
    if known:  # every sample that is not of zero is in one
        assert sum(((number_N >= a) & (number_N <= b)).sum() for a, b in known) == (number_N > 0).sum()


def test_figures_of_groups_are_those_of_scikit_learn_on_the_samples(report: Report):
    measured = measure(report)
    by_target, by_user = measured.groups["popularity"], measured.groups["user"]
    assert [group.label for group in by_target.groups] == ["never seen", "1–9", "10–99", "100+"]
    assert [group.label for group in by_user.groups] == ["new users", "10+"]
    assert by_target.left_out == by_user.left_out == 0
    for of, number_N, value in ((by_target, report.target_events_N, (0, 5, 40, 300)), (by_user, report.user_events_N, (0, None))):
        for group, number in zip(of.groups, value, strict=True):
            keep_N = number_N == number if number is not None else number_N > 0
            label_N, user_N = report.label_N[keep_N], report.user_N[keep_N]
            assert (group.rows, group.users) == (keep_N.sum(), len({*user_N}))
            users = [u for u in {*user_N} if 0 < label_N[user_N == u].mean() < 1]
            weights = [(user_N == u).sum() for u in users]
            truth = [roc_auc_score(label_N[user_N == u], report.truth_N[keep_N][user_N == u]) for u in users]
            assert group.best_possible["auc"] == pytest.approx(roc_auc_score(label_N, report.truth_N[keep_N]))
            assert group.best_possible["gauc"] == pytest.approx(np.average(truth, weights=weights))
            for system in report.systems:
                found, score_N = group.systems[system.name], system.score_N[keep_N]
                assert found["auc"].value == pytest.approx(roc_auc_score(label_N, score_N))
                assert found["log_loss"].value == pytest.approx(log_loss(label_N, score_N))
                own = [roc_auc_score(label_N[user_N == u], score_N[user_N == u]) for u in users]
                assert found["gauc"].value == pytest.approx(np.average(own, weights=weights))
                assert found["auc"].low < found["auc"].value < found["auc"].high


def test_the_difference_in_a_group_is_paired_on_its_samples_alone(report: Report):
    group = measure(report).groups["popularity"].groups[0]
    keep_N = report.target_events_N == 0
    columns = (report.user_N[keep_N], report.item_N[keep_N], report.label_N[keep_N])
    ids, words = (jackknife(Scored(*columns, system.score_N[keep_N]), ("auc",)) for system in report.systems)
    assert group.against["words"]["auc"] == paired_test(words, ids)["auc"]
    assert group.against["words"]["auc"].p < 0.001
    assert group.against["words"]["auc"].low > 0.1  # ids guess
    assert "ids" not in group.against


def test_the_table_has_the_groups_and_what_they_stand_on(report: Report):
    text = plain_table(measure(report))
    block = text[text.index("AUC by events of the target in training:") :].splitlines()
    assert [re.split(r"  +", line)[0] for line in block[1:7]] == ["", "ids", "words", "best possible", "n", "users"]
    assert re.split(r"  +", block[1])[1:] == ["never seen", "1–9", "10–99", "100+"]
    rows = [int((report.target_events_N == n).sum()) for n in (0, 5, 40, 300)]
    assert [int(n) for n in re.split(r"  +", block[5])[1:]] == rows
    assert "AUC by events of the user in training:" in text
    assert all(len(line) <= 110 for line in text.split("\n\nn = ")[0].splitlines())


def test_nothing_is_said_where_all_samples_are_alike_and_what_is_left_out_is_said(report: Report, tmp_path: Path):
    alike = replace(report, target_events_N=np.full(N, 7), user_events_N=None)
    measured = measure(alike)
    assert not measured.groups["popularity"].tells
    assert "user" not in measured.groups
    assert "in training:" not in plain_table(measured)
    assert "How well known" not in write_report(tmp_path / "alike", alike, measured).read_text()
    some_N = report.target_events_N.copy()
    some_N[np.flatnonzero(some_N == 0)[10:]] = 5
    few = replace(report, target_events_N=some_N)
    said = "10 more samples, by events of the target in training, are in no group: they would be fewer than 50"
    assert said in plain_table(measure(few))
    assert said in write_report(tmp_path / "few", few).read_text()


def test_one_class_in_a_group_is_undefined_and_no_error(report: Report):
    likes = replace(report, label_N=report.label_N | (report.target_events_N == 0))  # as popularity draws negatives
    measured = measure(likes)
    assert np.isnan(measured.groups["popularity"].groups[0].systems["ids"]["auc"].value)
    assert figures(measured)["groups"]["popularity"]["groups"][0]["systems"]["ids"]["auc"]["value"] is None
    assert "–" in next(line for line in plain_table(measured).splitlines() if line.startswith("ids") and "–" in line)


def test_groups_on_the_page_and_in_json(report: Report, tmp_path: Path):
    measured = measure(report)
    page = write_report(tmp_path, report, measured).read_text()
    section = page[page.index("How well known is the target?") : page.index("How well known is the user?")]
    assert section.count('data-label="never seen"') == 6  # two systems and the best possible, by AUC and by GAUC
    assert section.count("Δ ") == 2 * 4 + 1  # of words in each group by both metrics, and the note
    assert "p &lt; .001" in section
    assert {p.stem for p in (tmp_path / "figures").iterdir()} >= {"auc-by-history", "auc-by-popularity", "auc-by-user"}
    plain = json.loads(json.dumps(figures(measured), allow_nan=False))
    assert [*plain["groups"]] == ["history", "popularity", "user"]
    group = plain["groups"]["popularity"]["groups"][0]
    assert (group["label"], group["least"], group["most"]) == ("never seen", 0, 0)
    assert set(group["against"]["words"]["auc"]) >= {"value", "low", "high", "p", "n", "users"}
    assert sum(g["rows"] for g in plain["groups"]["history"]["groups"]) == N


@pytest.fixture(scope="module")
def ranking() -> RankingReport:
    random = np.random.default_rng(1)
    user_N = np.sort(random.integers(0, USERS, N))
    events_N = np.array([0, 5, 40])[random.integers(0, 3, N)]

    def ranks(items: int, never_seen_too: bool) -> Ranks:
        score_NC = random.random((N, items))
        score_NC[:, 0] += 0.6 * ((events_N > 0) | never_seen_too)
        return Ranks.of(score_NC, np.zeros(N, np.int64))

    systems = [
        RankedSystem("ids", "conventional", "ids", ranks(20, False), ranks(300, False)),
        RankedSystem("words", "language model", "words", ranks(20, True)),
    ]
    return RankingReport(
        "Next", [], systems, user_N, "abc", 20, 300, "ids", random.integers(3, 50, N), events_N, np.where(user_N < 30, 0, 20)
    )


def test_next_items_by_popularity_of_the_target(ranking: RankingReport, tmp_path: Path):
    measured = measure_ranking(ranking)
    never, *_ = measured.groups["popularity"].groups
    keep_N = ranking.target_events_N == 0
    for system in ranking.systems:
        rank_N = system.ranks.better_N[keep_N] + 1  # no two scores are equal
        found = never.systems[system.name]
        assert found["hr@1"].value == pytest.approx((rank_N == 1).mean())
        assert found["ndcg@10"].value == pytest.approx(np.where(rank_N <= 10, 1 / np.log2(1 + rank_N), 0).mean())
        assert found["hr@1"].n == keep_N.sum()
    assert "catalogue hr@10" in never.systems["ids"]
    assert "catalogue hr@10" not in never.systems["words"]
    difference = never.against["words"]["hr@1"]
    assert difference.value == pytest.approx(never.systems["words"]["hr@1"].value - never.systems["ids"]["hr@1"].value)
    assert difference.low > 0
    assert not never.best_possible
    text = ranking_table(measured)
    assert "HR@1 among 20 by events of the target in training:" in text
    assert "HR@1 among 20 by events of the user in training:" in text
    page = write_ranking(tmp_path, ranking, measured).read_text()
    section = page[page.index("How well known is the target?") : page.index("How well known is the user?")]
    assert section.count('data-label="never seen"') == 4  # two systems, HR@1 and NDCG@10
    assert {p.stem for p in (tmp_path / "figures").iterdir()} >= {"ndcg-by-history", "ndcg-by-popularity", "ndcg-by-user"}


def test_without_lists_the_catalogue_is_told(ranking: RankingReport, tmp_path: Path):
    whole = replace(ranking, candidates=0, systems=[replace(s, ranks=None) for s in ranking.systems[:1]])
    measured = measure_ranking(whole)
    assert "catalogue HR@10 by events of the target in training:" in ranking_table(measured)
    assert "How well known is the target?" in write_ranking(tmp_path, whole, measured).read_text()
    assert group_tables(measured.groups, "catalogue hr@10", "x", 110)


def test_reports_without_counts_have_no_such_groups(ranking: RankingReport, tmp_path: Path):
    bare = replace(ranking, history_N=None, target_events_N=None, user_events_N=None)
    measured = measure_ranking(bare)
    assert measured.groups == {}
    assert "in training:" not in ranking_table(measured)
    assert "How well known" not in write_ranking(tmp_path, bare, measured).read_text()
