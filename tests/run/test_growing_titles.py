"""Next items learnt from histories that grow: what is learnt on trees is what is learnt from a prompt for each sample."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from lifelora.llm.cost import Cost
from lifelora.prompts.tree import PromptTrees
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.scorers.titles import Titles
from run_world import TRAINING, VALUES

OPTIONS = Options(device="cpu", progress=False)
FULL = {"coupling": {"kind": "full", "rank": 2}, "representation": {"model": "sasrec"}}
SYSTEMS: dict[str, dict[str, Any]] = {
    "words": FULL,
    "question": FULL | {"coupling_on": "question"},
    "unlisted": {"coupling": {"kind": "identity", "rank": 2}, "candidates_in_prompt": False},
    "soft": FULL | {"soft": {"model": "sasrec", "at": ["behaviours", "target", "user"]}, "item_form": "text-to-hybrid"},
    # Room for some of the behaviours: for fewer in a longer phrasing than in that of the evaluation, which numbers trunks.
    "cut": FULL | {"max_tokens": 165},
}
GROWING: dict[str, Any] = {
    "behaviours": {"kind": "most-recent", "k": 2},
    "history": "growing",
    "block": 4,
    "dropout": 0.0,
    "train_samples": 40,
    "validation_samples": 8,
    "training": TRAINING,
}
RECIPE: dict[str, Any] = {
    "name": "growing-titles",
    "task": "next-item",
    "evaluation": VALUES["evaluation"] | {"test_samples": 8, "written_tokens": 0, "beams": 2},
    "backbone": VALUES["backbone"] | {"template": {"kind": "next-item"}, "layers": 2},
    "data": VALUES["data"] | {"rules": {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 6}}},
    "conventional": {
        "sasrec": {
            "model": {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "history_length": 6},
            "training": TRAINING,
        }
    },
    "systems": {name: GROWING | system for name, system in SYSTEMS.items()},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Where all but the systems is trained."""
    run = Run(parse(RECIPE, "the tests' recipe"), tmp_path_factory.mktemp("runs") / "growing", OPTIONS)
    run.prepare()
    run.embed()
    run.fit()
    return run


@pytest.mark.parametrize(("name", "step"), [*((name, 0) for name in SYSTEMS), ("soft", 1)])
def test_trees_teach_what_prompts_teach(run: Run, name: str, step: int):
    """Loss and gradients of a micro-batch, at the first and, in the other form of the curriculum, at the last of two steps."""
    scorer, rows = run.scorers[name], np.arange(24)
    assert isinstance(scorer, Titles)
    lm = scorer.untrained()
    torch.manual_seed(1)
    for parameter in [*lm.adapters.parameters(), *(lm.soft.parameters() if lm.soft else ())]:
        torch.nn.init.normal_(parameter, std=0.3)
    shown = scorer.show(scorer.requests_of_training())
    trees = scorer.batches(shown, Cost()).at(step, 2, 0)(rows)
    assert isinstance(trees.prompts, PromptTrees)
    assert len(trees.prompts.trunk_R) < len(trees.prompts) == 24
    left_N = np.concatenate([trees.prompts.shown_G.numpy(), np.zeros(len(shown) - 24, np.int64)])
    assert (left_N[:24] < shown.mask_NK[:24].sum(axis=1)).any() == (name == "cut")
    width = shown.mask_NK.shape[1]
    each = replace(shown, trunk_N=None, mask_NK=np.arange(width) >= width - left_N[:, None])
    prompts = scorer.batches(each, Cost()).at(step, 2, 0)(rows)
    made = []
    for batch in (trees, prompts):
        with lm.adapters.loaded():
            with lm.scope(batch):
                loss = lm.loss(batch)
                loss.backward()
            made.append((loss.item(), [p.grad for p in lm.parameters() if p.grad is not None]))
            for parameter in lm.parameters():
                parameter.grad = None
    (loss, grads), (plain, due) = made
    assert loss == pytest.approx(plain, rel=1e-5)
    assert len(grads) == len(due) > 0
    for one, other in zip(grads, due, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * float(other.abs().max()) + 1e-9)
