"""Systems with a growing history: trained and scored on trees they say what they say of plain prompts, sample by sample."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from run_world import TRAINING, VALUES

from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.run import Options, Run
from lifelora.run.scorers.base import Requests
from lifelora.run.scorers.language import LanguageScorer

GROWING: dict[str, Any] = {
    "behaviours": {"kind": "most-recent", "k": 2},
    "history": "growing",
    "block": 4,
    "train_samples": 32,
    "validation_samples": 20,
    "training": TRAINING | {"batch_size": 12, "learning_rate": 5e-2},
}
SASREC = {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}
OPTIONS = Options(device="cpu", progress=False)
U, QUESTION = {"representation": {"model": "sasrec"}}, {"coupling_on": "question"}
SYSTEMS: dict[str, dict[str, Any]] = {
    "identity": {"coupling": {"kind": "identity", "rank": 2}},
    "static": {"coupling": {"kind": "static", "rank": 2}},
    "experts": U | {"coupling": {"kind": "experts", "rank": 2, "experts": 2}},
    "meta": U | {"coupling": {"kind": "meta", "rank": 2}},
    "hydra": U | {"coupling": {"kind": "hydra", "rank": 2}},
    "full": U | {"coupling": {"kind": "full", "rank": 2}},
    "random": {"coupling": {"kind": "full", "rank": 2}, "representation": {"kind": "random", "width": 4}},
    "joint": {"coupling": {"kind": "full", "rank": 2}, "representation": {"model": "sasrec", "train": "joint"}},
    "experts-question": U | QUESTION | {"coupling": {"kind": "experts", "rank": 2, "experts": 2}},
    "meta-question": U | QUESTION | {"coupling": {"kind": "meta", "rank": 2}},
    "full-question": U | QUESTION | {"coupling": {"kind": "full", "rank": 2}},
    "din-question": QUESTION | {"coupling": {"kind": "full", "rank": 2}, "representation": {"model": "din"}},
    "joint-din-question": QUESTION
    | {"coupling": {"kind": "hydra", "rank": 2}, "representation": {"model": "din", "train": "joint"}},
    "din-prompt": {"coupling": {"kind": "full", "rank": 2}, "representation": {"model": "din"}},
    "yes": U | {"coupling": {"kind": "full", "rank": 2}, "loss": "yes"},
    "soft": U | {"coupling": {"kind": "full", "rank": 2}, "soft": {"model": "sasrec", "at": ["behaviours", "target", "user"]}},
    "cut": U | {"coupling": {"kind": "full", "rank": 2}, "max_tokens": 60},
}


def recipe(**changes: Any) -> Recipe:
    """All of them beside one another; values of all can be replaced."""
    systems = {name: GROWING | {"dropout": 0.0} | system | changes for name, system in SYSTEMS.items()}
    conventional = {"din": VALUES["conventional"]["din"], "sasrec": {"model": SASREC, "training": TRAINING}}
    values = VALUES | {"conventional": conventional, "systems": systems, "backbone": VALUES["backbone"] | {"layers": 2}}
    return parse(values, "the tests' recipe")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Where all but the systems is trained."""
    run = Run(recipe(), tmp_path_factory.mktemp("runs") / "growing", OPTIONS)
    run.prepare()
    run.embed()
    run.fit()
    return run


def shaken(run: Run, name: str) -> LanguageScorer[Any]:
    """A system with drawn numbers in its adapters, so that its answers depend on all that it reads and on u."""
    scorer = run.scorers[name]
    assert isinstance(scorer, LanguageScorer)
    if "lm" not in vars(scorer):
        scorer.lm = scorer.untrained()
        torch.manual_seed(1)
        for parameter in [*scorer.lm.adapters.parameters(), *(scorer.lm.soft.parameters() if scorer.lm.soft else ())]:
            torch.nn.init.normal_(parameter, std=0.7)
    return scorer


def everything(run: Run) -> Requests:
    """All events as requests: left and right neighbours in whole blocks, users' first events, with nothing to show."""
    return Requests(run.context.dataset.targets(np.random.default_rng(1).permutation(len(run.context.dataset))))


@pytest.mark.parametrize("name", SYSTEMS)
def test_scores_of_trees_are_those_of_their_prompts(run: Run, name: str):
    requests, again = everything(run), Run.open(run.stages.folder, replace(OPTIONS, trees=False))
    scorer, plain = shaken(run, name), shaken(again, name)
    assert (scorer.asked(requests).trunk_N is None) == (name == "din-prompt")
    assert plain.asked(requests).trunk_N is None
    scores_N, plain_N = scorer.score(requests), plain.score(requests)
    assert scores_N.std() > 0.005
    np.testing.assert_allclose(scores_N, plain_N, rtol=1e-4, atol=1e-5)
    some = np.arange(0, len(requests), 37)
    alone = np.concatenate([scorer.score(requests.at(np.array([one]))) for one in some])
    np.testing.assert_allclose(scores_N[some], alone, rtol=1e-4, atol=1e-5)
