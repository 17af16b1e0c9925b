"""The report of next items: its figures are those of the places, the page shows them, and no row may be dropped."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lifelora.errors import ConfigError
from lifelora.evaluation.costs import Cost
from lifelora.evaluation.measured import Curves, figures
from lifelora.evaluation.page import write_ranking
from lifelora.evaluation.ranking_report import (
    ANSWERS,
    RankedSystem,
    RankingReport,
    measure,
    plain_table,
    row_values,
    summary,
)
from lifelora.evaluation.ranks import Ranks

ROWS = 60


def ranks(seed: int, help_of: float, items: int) -> Ranks:
    random = np.random.default_rng(seed)
    score_NC = random.random((ROWS, items))
    score_NC[:, 0] += help_of
    return Ranks.of(score_NC, np.zeros(ROWS, np.int64))


@pytest.fixture
def report() -> RankingReport:
    curves = Curves([(0.5, 3.0), (1.0, 2.0)], [(1.0, 0.7)])
    return RankingReport(
        title="Next <items>",
        facts=[("data", "made up")],
        user_N=np.arange(ROWS),
        rows_hash="abc",
        candidates=20,
        n_items=300,
        reference="popularity",
        systems=[
            RankedSystem("popularity", "conventional", "no user", ranks(0, 0.0, 20), ranks(0, 0.0, 300)),
            RankedSystem("sasrec", "conventional", "ids", ranks(1, 0.8, 20), ranks(1, 0.8, 300), curves, 3.2),
            RankedSystem("lm", "language model", "words", ranks(2, 0.5, 20), curves=curves),
        ],
    )


def test_figures_are_the_means_of_the_places(report: RankingReport):
    measured = measure(report)
    listed, whole = report.systems[1].ranks, report.systems[1].catalogue
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
    assert "60 test samples of 60 users, 20 candidates each, catalogue of 300 items, lists abc" in table
    assert all(len(line) < 200 for line in table.splitlines())
    assert summary(measured)[0].startswith("sasrec has the highest HR@1 among 20: ")
    assert summary(measured)[1].startswith("sasrec is better than popularity")


def test_the_page_stands_alone_and_escapes(report: RankingReport, tmp_path: Path):
    page = write_ranking(tmp_path, report).read_text()
    assert "Next &lt;items&gt;" in page
    assert "Which of 20 comes next?" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert {path.stem for path in (tmp_path / "figures").iterdir()} == {
        "ndcg-list",
        "ndcg-catalogue",
        "learning-loss",
        "learning-validation",
    }


@pytest.fixture
def answering(report: RankingReport) -> RankingReport:
    """The LM of the report answers with titles, too, and a second one does so only by choosing."""
    random = np.random.default_rng(5)
    answers = {
        metric: (random.random(ROWS) < share).astype(np.float64)
        for metric, share in zip(ANSWERS, (0.5, 0.4, 0.8, 0.3, 0.6), strict=True)
    }
    costs = {"likelihoods of 20 titles": Cost(1312.4, 0.0041, 4020.0), "chosen": Cost(8.31, 0.31), "written": Cost(40.0, 2.0)}
    popularity, sasrec, lm = report.systems
    lm = replace(lm, answers=answers, costs=costs)
    chooser = replace(lm, name="chooser", answers={"chosen hr@1": 1 - answers["chosen hr@1"]}, costs={"chosen": costs["chosen"]})
    return replace(report, systems=[popularity, sasrec, lm, chooser], reference="lm")


def test_answers_are_measured_with_the_rest(answering: RankingReport):
    measured, lm = measure(answering), answering.systems[2]
    assert lm.answers is not None
    for metric, value_N in lm.answers.items():
        assert measured.systems["lm"][metric].value == pytest.approx(value_N.mean())
    assert measured.systems["lm"]["valid ratio"].low < measured.systems["lm"]["valid ratio"].value
    assert "chosen hr@1" not in measured.systems["sasrec"]
    assert "written hr@1" not in measured.systems["chooser"]
    assert measured.against["chooser"]["chosen hr@1"].value == pytest.approx(1 - 2 * lm.answers["chosen hr@1"].mean())
    assert figures(measured)["costs"]["lm"]["chosen"] == {"tokens": 8.31, "seconds": 0.31, "own": None}
    assert list(row_values(lm)) == ["hr@1", "hr@5", "ndcg@5", "ndcg@10", "mrr", *ANSWERS]


def test_answers_and_costs_as_text(answering: RankingReport):
    table = plain_table(measure(answering))
    blocks = [block.splitlines() for block in table.split("\n\n")]
    chosen = next(block for block in blocks if "chosen HR@1" in block[0])
    assert [line.split()[0] for line in chosen[1:]] == ["lm", "chooser"]  # who gave no answer is left out
    assert [re.split(r"  +", line) for line in next(block for block in blocks if "Tokens a sample" in block[0])] == [
        ["", "Tokens a sample", "of its own prompts", "Samples a second"],
        ["lm, likelihoods of 20 titles", "1,312", "4,020", "244"],
        ["lm, chosen", "8.3", "–", "3.2"],
        ["lm, written", "40", "–", "0.5"],
        ["chooser, chosen", "8.3", "–", "3.2"],
    ]


def test_answers_and_costs_on_the_page(answering: RankingReport, report: RankingReport, tmp_path: Path):
    page = write_ranking(tmp_path / "with", answering).read_text()
    section = page[page.index("With one title for an answer") : page.index("What a sample costs")]
    assert section.count("<strong>") == 2
    assert 'data-label="ValidRatio, exact"' in section
    assert "Δ chosen HR@1" in page
    assert "Δ written HR@1" not in page  # the other LM has none, so there is nothing to compare
    assert "1,312 tokens" in page
    without = write_ranking(tmp_path / "without", report).read_text()
    assert "With one title" not in without
    assert "What a sample costs" not in without


def test_answers_for_some_rows_or_by_another_name_are_refused(report: RankingReport):
    lm = report.systems[0]
    with pytest.raises(ConfigError, match="popularity has chosen hr@1 for 5 of 60 test samples. Score every sample"):
        replace(report, systems=[replace(lm, answers={"chosen hr@1": np.zeros(5)})])
    with pytest.raises(ConfigError, match="answers called 'HR@1'; there are chosen hr@1, "):
        replace(report, systems=[replace(lm, answers={"HR@1": np.zeros(ROWS)})])


def test_a_system_that_dropped_rows_is_refused(report: RankingReport):
    short = RankedSystem("short", "conventional", "ids", Ranks(np.zeros(5, np.int64), np.ones(5, np.int64)))
    with pytest.raises(ConfigError, match="ranks for 5 of 60 test samples. Score every sample"):
        RankingReport(
            title="t", facts=[], systems=[short], user_N=report.user_N, rows_hash="", candidates=20, n_items=9, reference="short"
        )
