"""Coverage and novelty of recommended lists, by hand; and that they are in every output and are neither good nor bad."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lifelora.errors import ConfigError
from lifelora.evaluation.jackknife import Rows
from lifelora.evaluation.lists import Lists, bits
from lifelora.evaluation.page import write_ranking
from lifelora.evaluation.ranking_report import RankedSystem, RankingReport, measure, plain_table, row_values
from lifelora.evaluation.ranks import Ranks

ROWS = 60


def test_self_information_by_hand():
    """Four users: item 0 with all of them, item 1 with two (one of them twice), item 2 with one, item 3 with nobody."""
    user_N, item_N = np.array([7, 8, 9, 10, 7, 8, 8, 10]), np.array([0, 0, 0, 0, 1, 1, 1, 2])
    assert bits(user_N, item_N, 4).tolist() == [0.0, 1.0, 2.0, 2.0]  # log2 of 4/4, 4/2, 4/1, and as if one had it


def test_coverage_and_novelty_by_hand():
    lists = Lists(np.array([[0, 1], [1, -1], [-1, -1]]), np.array([0.0, 1.0, 2.0, 2.0]))
    assert lists.coverage == 2 / 4
    assert lists.novelty().tolist() == [(0 + 1) / 2, 1.0, 0.0]


def test_a_list_of_another_catalogue_is_refused():
    with pytest.raises(ConfigError, match="a list has item 4, and the catalogue 4 items"):
        Lists(np.array([[4]]), np.zeros(4))


def test_novelty_may_be_above_one_and_nothing_may_be_below_zero():
    Rows(np.arange(2), {"novelty@10": np.array([0.0, 7.5])}, "rows")
    with pytest.raises(ConfigError, match=r"novelty@10 is outside 0 and more on 1 of 2 samples"):
        Rows(np.arange(2), {"novelty@10": np.array([-0.1, 7.5])}, "rows")
    with pytest.raises(ConfigError, match=r"hr@1 is outside \[0, 1\] on 1 of 2 samples"):
        Rows(np.arange(2), {"hr@1": np.array([1.1, 0.0])}, "rows")


@pytest.fixture
def report() -> RankingReport:
    random = np.random.default_rng(0)
    bits_M = random.random(300) * 6
    systems = [
        RankedSystem(name, "conventional", "", None, Ranks(random.integers(0, 40, ROWS), np.ones(ROWS, np.int64)))
        for name in ("narrow", "wide")
    ]
    tops = [np.tile(np.arange(10), (ROWS, 1)), random.permutation(300)[:ROWS, None] * np.ones((1, 10), np.int64)]
    systems = [replace(one, lists=Lists(top_NK.astype(np.int64), bits_M)) for one, top_NK in zip(systems, tops, strict=True)]
    return RankingReport("Lists", [], systems, np.arange(ROWS), "abc", 0, 300, "narrow")


def test_they_are_measured_tabled_and_on_the_page_and_never_called_best(report: RankingReport, tmp_path: Path):
    measured = measure(report)
    narrow, wide = measured.systems["narrow"], measured.systems["wide"]
    assert narrow["coverage@10"].value == 10 / 300
    assert wide["coverage@10"].value == ROWS / 300
    assert np.isnan(wide["coverage@10"].low)
    assert wide["novelty@10"].value == pytest.approx(row_values(report.systems[1])["novelty@10"].mean())
    assert wide["novelty@10"].value > 1
    assert wide["novelty@10"].low < wide["novelty@10"].value < wide["novelty@10"].high
    assert "coverage@10" not in measured.against["wide"]
    assert measured.against["wide"]["novelty@10"].value == pytest.approx(wide["novelty@10"].value - narrow["novelty@10"].value)
    table, page = plain_table(measured), write_ranking(tmp_path, report).read_text()
    for text in (table, page):
        assert "Coverage@10" in text
        assert "Novelty@10 (bits)" in text
    assert f"<b>{wide['novelty@10'].value:.4f}</b>" not in page
    assert "recall@k, and MRR is MAP" in page
