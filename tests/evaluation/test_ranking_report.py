"""The report of next items: its figures are those of the places, the page shows them, and no row may be dropped."""

from pathlib import Path

import numpy as np
import pytest

from lifelora.errors import ConfigError
from lifelora.evaluation.ranking import Places
from lifelora.evaluation.ranking_report import (
    RankedSystem,
    RankingReport,
    figures,
    measure,
    plain_table,
    summary,
    write_report,
)
from lifelora.evaluation.report import Curves

ROWS = 60


def places(seed: int, help_of: float, items: int) -> Places:
    random = np.random.default_rng(seed)
    score_NC = random.random((ROWS, items))
    score_NC[:, 0] += help_of
    return Places.of(score_NC, np.zeros(ROWS, np.int64))


@pytest.fixture
def report() -> RankingReport:
    curves = Curves([(0.5, 3.0), (1.0, 2.0)], [(1.0, 0.7)])
    return RankingReport(
        title="Next <items>", facts=[("data", "made up")], user_N=np.arange(ROWS), rows_hash="abc", candidates=20, n_items=300,
        reference="popularity", resamples=100, systems=[
            RankedSystem("popularity", "conventional", "no user", places(0, 0.0, 20), places(0, 0.0, 300)),
            RankedSystem("sasrec", "conventional", "ids", places(1, 0.8, 20), places(1, 0.8, 300), curves, 3.2),
            RankedSystem("lm", "language model", "words", places(2, 0.5, 20), curves=curves),
        ])


def test_figures_are_the_means_of_the_places(report: RankingReport):
    measured = measure(report)
    listed, whole = report.systems[1].places, report.systems[1].catalogue
    assert listed is not None
    assert whole is not None
    found = measured.systems["sasrec"]
    assert found["hr@1"].value == pytest.approx(listed.hit(1).mean())
    assert found["ndcg@5"].value == pytest.approx(listed.ndcg(5).mean())
    assert found["mrr"].value == pytest.approx(listed.reciprocal().mean())
    assert found["catalogue hr@50"].value == pytest.approx(whole.hit(50).mean())
    assert found["catalogue mrr"].value == pytest.approx(whole.reciprocal().mean())
    assert "catalogue mrr" not in measured.systems["lm"]
    assert measured.against["sasrec"]["hr@1"].low > 0
    assert figures(measured)["systems"]["lm"]["hr@1"]["n"] == ROWS


def test_table_and_words(report: RankingReport):
    measured = measure(report)
    table = plain_table(measured)
    assert "60 test rows of 60 users, 20 candidates each, catalogue of 300 items, lists abc" in table
    assert all(len(line) < 200 for line in table.splitlines())
    assert summary(measured)[0].startswith("sasrec has the highest HR@1 among 20: ")
    assert summary(measured)[1].startswith("sasrec is better than popularity")


def test_the_page_stands_alone_and_escapes(report: RankingReport, tmp_path: Path):
    page = write_report(tmp_path, report).read_text()
    assert "Next &lt;items&gt;" in page
    assert "Which of 20 comes next?" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {
        "ndcg-list", "ndcg-catalogue", "learning-loss", "learning-validation"}


def test_a_system_that_dropped_rows_is_refused(report: RankingReport):
    short = RankedSystem("short", "conventional", "ids", Places(np.zeros(5, np.int64), np.ones(5, np.int64)))
    with pytest.raises(ConfigError, match="places for 5 of 60 test rows; no row may be dropped"):
        RankingReport(title="t", facts=[], systems=[short], user_N=report.user_N, rows_hash="", candidates=20, n_items=9,
                      reference="short")
