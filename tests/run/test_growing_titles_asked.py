"""Growing histories of the task next-item: trained and scored on trees they say what they say of plain prompts."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lifelora.llm.cost import Cost
from lifelora.prompts.fill import Prompts
from lifelora.prompts.tree import PromptTrees
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.scorers.base import Requests
from lifelora.run.scorers.titles import Titles
from run_world import TRAINING, VALUES

SASREC = {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}
GROWING: dict[str, Any] = {
    "behaviours": {"kind": "most-recent", "k": 2},
    "history": "growing",
    "block": 4,
    "train_samples": 32,
    "validation_samples": 16,
    "training": TRAINING | {"batch_size": 12},
    "dropout": 0.0,
}
U, QUESTION = {"representation": {"model": "sasrec"}}, {"coupling_on": "question"}
FULL = U | {"coupling": {"kind": "full", "rank": 2}}
SOFT = {"soft": {"model": "sasrec", "at": ["behaviours", "target", "user"]}}
SYSTEMS: dict[str, dict[str, Any]] = {
    "identity": {"coupling": {"kind": "identity", "rank": 2}},
    "experts": U | {"coupling": {"kind": "experts", "rank": 2, "experts": 2}},
    "meta": U | {"coupling": {"kind": "meta", "rank": 2}, "candidates_in_prompt": False},
    "full-question": FULL | QUESTION,
    "joint": {"coupling": {"kind": "hydra", "rank": 2}, "representation": {"model": "sasrec", "train": "joint"}},
    "hybrid": FULL | SOFT | {"item_form": "text-to-hybrid"},
    "hybrid-question": FULL | QUESTION | SOFT | {"item_form": "hybrid"},
}
RECIPE: dict[str, Any] = {
    "name": "growing-next",
    "task": "next-item",
    "evaluation": VALUES["evaluation"] | {"test_samples": 16, "written_tokens": 6, "beams": 2},
    "backbone": VALUES["backbone"] | {"template": {"kind": "next-item"}, "layers": 2},
    "data": VALUES["data"] | {"rules": {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 5}}},
    "conventional": {"sasrec": {"model": SASREC, "training": TRAINING}},
    "systems": {name: GROWING | system for name, system in SYSTEMS.items()},
}
OPTIONS = Options(device="cpu", progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Where all but the systems is trained."""
    run = Run(parse(RECIPE, "the tests' recipe"), tmp_path_factory.mktemp("runs") / "growing", OPTIONS)
    run.prepare()
    run.embed()
    run.fit()
    return run


def shaken(run: Run, name: str) -> Titles:
    """A system with drawn numbers in its adapters, so that its answers depend on all that it reads and on u."""
    scorer = run.scorers[name]
    assert isinstance(scorer, Titles)
    if "lm" not in vars(scorer):
        scorer.lm = scorer.untrained()
        torch.manual_seed(1)
        for parameter in [*scorer.lm.adapters.parameters(), *(scorer.lm.soft.parameters() if scorer.lm.soft else ())]:
            torch.nn.init.normal_(parameter, std=0.5)
    return scorer


def requests_of(run: Run) -> Requests:
    """The samples of training, in another order, with their candidates."""
    return shaken(run, "identity").requests_of_training().at(np.random.default_rng(1).permutation(32))


@pytest.mark.parametrize("name", SYSTEMS)
def test_scores_and_answers_of_trees_are_those_of_their_prompts(run: Run, name: str):
    requests, again = requests_of(run), Run.open(run.stages.folder, replace(OPTIONS, trees=False))
    scorer, plain = shaken(run, name), shaken(again, name)
    trunk_N = scorer.asked(requests).trunk_N
    assert trunk_N is not None
    assert len(np.unique(trunk_N)) < len(requests)
    assert plain.asked(requests).trunk_N is None
    scores_NC = scorer.score(requests)
    assert scores_NC.std(axis=1).min() > 0.01
    np.testing.assert_allclose(scores_NC, plain.score(requests), rtol=1e-4, atol=1e-4)
    mine, others = (s.answers(requests, beams=2, written_tokens=6) for s in (scorer, plain))
    for key, value_N in others.values.items():
        np.testing.assert_array_equal(mine.values[key], value_N)
    # The rest of a block's samples do not count.
    one = requests.at(np.array([7]))
    np.testing.assert_allclose(scorer.score(one)[0], scores_NC[7], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("step", [0, 9])
@pytest.mark.parametrize("name", SYSTEMS)
def test_losses_and_gradients_of_trees_are_those_of_their_prompts(run: Run, name: str, step: int):
    """At the beginning and at the end of a curriculum of forms."""
    again = Run.open(run.stages.folder, replace(OPTIONS, trees=False))
    found = []
    for scorer in (shaken(run, name), shaken(again, name)):
        lm, cost = scorer.lm, Cost()
        shown = scorer.show(scorer.requests_of_training())
        batch = scorer.batches(shown, cost).at(step, 10, 0)(np.arange(len(shown)))
        with lm.adapters.loaded(), lm.scope(batch):
            loss = lm.loss(batch)
            loss.backward()
            grads = [p.grad.clone() for p in lm.parameters() if p.grad is not None]
            lm.zero_grad(set_to_none=True)
        found.append((batch.prompts, loss.item(), grads, cost))
    (trees, mine, my_grads, my_cost), (prompts, other, grads, its_cost) = found
    assert isinstance(trees, PromptTrees)
    assert isinstance(prompts, Prompts)
    assert len(trees.trunk_R) < len(trees)
    assert my_cost.alone == its_cost.alone
    assert my_cost.tokens < its_cost.alone
    assert mine == pytest.approx(other, rel=1e-5)
    assert len(my_grads) == len(grads) >= len(scorer.lm.adapters.layers)
    for one, other_grad in zip(my_grads, grads, strict=True):
        assert (one - other_grad).abs().max() <= 1e-3 * other_grad.abs().max() + 1e-7


def test_a_block_has_one_phrasing(run: Run):
    """That of the event where it begins, so a sample reads the same with and without trees; others are drawn, too."""
    scorer = shaken(run, "identity")
    shown = scorer.show(scorer.requests_of_training())
    assert shown.trunk_N is not None
    apart = replace(shown, trunk_N=None)
    rows = np.arange(len(shown))
    trees, plain = (scorer.batches(s, Cost()).at(0, 10, 0)(rows).prompts for s in (shown, apart))
    assert isinstance(trees, PromptTrees)
    assert isinstance(plain, Prompts)
    for row in rows:
        start = int(trees.starts[row])
        branch = trees.tokens_L[start : start + int(trees.branch_G[row])]
        assert torch.equal(branch, plain.tokens_BL[row, -len(branch) :])
