"""What a run counts of its language models: tokens by those of their prompts, kept with the scores, told in the report."""

import json
from pathlib import Path

import numpy as np
import pytest

from lifelora.evaluation.costs import Cost
from lifelora.run import Options, Run
from lifelora.run.scorers.costs import COSTS, kept_costs
from run_world import tiny

WAYS = ["training", "scoring"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(tiny(), tmp_path_factory.mktemp("costs") / "run", Options(device="cpu", progress=False))
    run.all()
    return run


@pytest.mark.parametrize("name", ["lora", "personal"])
def test_tokens_are_those_of_the_prompts(run: Run, name: str):
    """Of prompts that share nothing: their own, and more for the padding beside them."""
    scorer, costs = run.scorers[name], run.task.costs(name)
    asked = {"training": scorer.requests_of_training(), "scoring": run.task.requests("test", run.context.test_samples)}
    assert list(costs) == list(asked)
    for way, requests in asked.items():
        own = np.mean(scorer.lengths(scorer.show(requests)))
        assert costs[way].own == pytest.approx(own)
        assert own <= costs[way].tokens < 2 * own
        assert costs[way].seconds > 0


def test_the_report_tells_them(run: Run):
    """In its table, its figures and its page; of language models alone."""
    told = json.loads((run.stages.report.require() / "evaluation.json").read_text())["costs"]
    assert {name: list(ways) for name, ways in told.items() if ways} == {"lora": WAYS, "personal": WAYS}
    assert told["lora"]["scoring"]["own"] == run.task.costs("lora")["scoring"].own
    assert "\nlora, training " in run.table()
    assert "What a sample costs" in (run.stages.report.require() / "report.html").read_text()


def test_what_earlier_versions_kept(tmp_path: Path):
    """Nothing of training or of yes and no; of titles, tokens and seconds, here of ten samples."""
    assert kept_costs(tmp_path) == {}
    (tmp_path / COSTS).write_text('{"answers": [], "rows": 10, "costs": {"chosen": [250, 5.0]}}')
    assert kept_costs(tmp_path) == {"chosen": Cost(25.0, 0.5)}


def test_histories_that_are_read_once_cost_less_than_their_prompts(tmp_path: Path):
    """In training and in scoring; by how much is what the builder says of the trees of these samples."""
    run = Run(tiny(history="growing", block=4), tmp_path / "run", Options(device="cpu", progress=False))
    run.all()
    scorer, cost = run.scorers["lora"], run.task.costs("lora")["scoring"]
    shown = scorer.show(run.task.requests("test", run.context.test_samples))
    trunk_R, branch_N, _ = scorer.builder.tree_lengths(shown.requests.targets, shown.chosen_NK, shown.mask_NK, shown.trunk_N)
    assert cost.tokens == pytest.approx((trunk_R.sum() + branch_N.sum()) / len(shown))
    assert cost.own == pytest.approx(scorer.lengths(shown).mean())
    assert cost.tokens < cost.own
    training = run.task.costs("lora")["training"]
    assert training.tokens < training.own
