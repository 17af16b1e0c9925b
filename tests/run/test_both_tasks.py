"""Next items with what the papers have for yes-or-no questions: mixed behaviours, a u that learns, the user's soft token."""

from typing import Any

import numpy as np
import pytest
import torch

from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.scorers.base import Requests
from lifelora.run.tasks.next_item import RANKS
from lifelora.training import HISTORY, History
from run_world import TRAINING, VALUES

SYSTEM = {
    "behaviours": {"kind": "most-recent", "k": 4},
    "train_samples": 32,
    "validation_samples": 8,
    "training": TRAINING,
    "dropout": 0.0,
}
META = {"coupling": {"kind": "meta", "rank": 2, "loras": 2}}
RECIPE: dict[str, Any] = {
    "name": "both",
    "task": "next-item",
    "evaluation": VALUES["evaluation"] | {"test_samples": 8, "written_tokens": 0},
    "backbone": VALUES["backbone"] | {"template": {"kind": "next-item"}},
    "data": VALUES["data"] | {"rules": {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 5}}},
    "conventional": {
        "sasrec": {
            "model": {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "history_length": 6},
            "training": TRAINING,
        }
    },
    "systems": {
        "plain": SYSTEM | {"coupling": {"kind": "identity", "rank": 2}},
        "mixed": {"like": "plain", "mix_with": {"kind": "most-recent", "k": 1}},
        "joint": SYSTEM | META | {"representation": {"model": "sasrec", "train": "joint"}},
        "frozen": {"like": "joint", "representation": {"train": "frozen"}},
        "user": {"like": "plain", "item_form": "hybrid", "soft": {"model": "sasrec", "at": ["user", "behaviours"]}},
        "user-alone": {"like": "user", "soft": {"at": ["user"], "layer": "random"}},
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(parse(RECIPE, "the tests' recipe"), tmp_path_factory.mktemp("both") / "run", Options(device="cpu", progress=False))
    run.all()
    return run


def steps(run: Run, name: str) -> int:
    path = run.stages.system(name).require() / HISTORY
    return History.model_validate_json(path.read_text()).steps


def asked(run: Run, name: str, count: int = 4) -> tuple[Any, Any]:
    """A scorer, and some test samples with all their candidates as it is asked about them."""
    context, scorer = run.context, run.scorers[name]
    rows = context.test_samples[:count]
    shown = scorer.show(Requests(context.dataset.targets(rows), context.candidates("test", rows)))
    return scorer, scorer.batch(shown, np.arange(count))


def test_mixed_samples_come_twice_in_training_and_once_in_the_test(run: Run):
    assert (steps(run, "plain"), steps(run, "mixed")) == (2, 4)  # 32 samples in batches of 16
    assert len(np.load(run.stages.scores("mixed").folder / RANKS)) == 8
    scorer, batch = asked(run, "mixed")
    assert batch.prompts.shown_B.tolist() == asked(run, "plain")[1].prompts.shown_B.tolist()
    assert "each also with" in scorer.reads()


def test_a_representation_learns_with_the_adapters(run: Run):
    trained = dict(run.scorers["sasrec"].recommender.named_parameters())
    joint, frozen = run.scorers["joint"].lm, run.scorers["frozen"].lm
    assert frozen.representer is None
    moved = [name for name, p in joint.representer.named_parameters() if not torch.equal(p.cpu(), trained[name].cpu())]
    assert moved
    _, batch = asked(run, "joint")
    with torch.no_grad():
        u_BD = joint.represented(batch)
        torch.testing.assert_close(u_BD, joint.representer.representation(batch.samples, "final"))
        assert not torch.allclose(u_BD, frozen.represented(asked(run, "frozen")[1]))


@pytest.mark.parametrize(("name", "items"), [("user", True), ("user-alone", False)])
def test_the_users_soft_token_stands_once_in_a_prompt(run: Run, name: str, items: bool):
    scorer, batch = asked(run, name)
    assert ((batch.prompts.soft_BL == -2).sum(dim=1) == 1).all()
    assert bool((batch.prompts.soft_BL >= 0).any()) == items
    fresh = scorer.untrained().soft
    for (part, a), b in zip(fresh.named_parameters(), scorer.lm.soft.parameters(), strict=True):
        assert not torch.equal(a.cpu(), b.cpu()), part
    assert {part.partition(".")[0] for part, _ in fresh.named_parameters()} == ({"user", "item"} if items else {"user"})
    whose = "user and behaviours from sasrec" if items else "user drawn at random"
    assert f"; hybrid with soft tokens of {whose}" in scorer.reads()
