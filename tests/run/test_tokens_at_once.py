"""Language models are asked so many tokens at a time as the budget allows, whatever the length of the prompts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kills_world import asked_next
from torch import nn

from lifelora.cli import main
from lifelora.run import Options, Run
from lifelora.run.scorers.titles import SHARES
from run_world import tiny

RECIPES = {"ctr": ("lora", tiny), "next-item": ("text", asked_next)}


def asked(run: Run, name: str) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """The scores of the test samples, and how many texts of how many tokens the backbone had at a time."""
    shapes: list[tuple[int, int]] = []

    def seen(model: nn.Module, words: Any, named: dict[str, Any]) -> None:
        # Prompts, as many rows, or prompts and titles one after another in one row.
        shapes.append(tuple(named["input_ids"].shape))

    _ = run.scorers[name].lm  # type: ignore[attr-defined]  # what is loaded is probed with a few short texts
    with run.context.backbone.model.register_forward_pre_hook(seen, with_kwargs=True):
        scores_NC = run.scorers[name].score(run.task.requests("test", run.context.test_samples))
    return scores_NC, shapes


@pytest.mark.parametrize("task", RECIPES)
def test_no_batch_is_over_the_budget_and_no_score_depends_on_it(task: str, tmp_path: Path):
    name, recipe = RECIPES[task]
    run = Run(recipe(), tmp_path / "run", Options(device="cpu", progress=False))
    run.prepare()
    run.embed()
    run.fit()
    run.train()
    free_NC, whole = asked(run, name)
    scorer = run.scorers[name]
    shown = scorer.show(run.task.requests("test", run.context.test_samples))  # type: ignore[attr-defined]
    longest = int(scorer.lengths(shown).max())  # type: ignore[attr-defined]
    # Titles are read beside their prompts: these have a share, and titles have bytes for fewer tokens than all shares.
    shares = SHARES if task == "next-item" else 1
    for budget in (1, 3 * longest * shares):
        small = Run.open(tmp_path / "run", Options(device="cpu", progress=False, tokens_at_once=budget))
        scores_NC, shapes = asked(small, name)
        assert all(texts * tokens <= max(budget, longest) for texts, tokens in shapes), shapes
        assert len(shapes) > len(whole)
        assert budget == 1 or max(texts * tokens for texts, tokens in shapes) > 2 * longest
        np.testing.assert_allclose(scores_NC, free_NC, rtol=1e-6)


def test_the_option_is_a_whole_number(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["recommend", "RUN", "--user", "1", "--tokens-at-once", "0"])
    assert "'0' is not a whole number from 1" in capsys.readouterr().err
