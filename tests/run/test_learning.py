"""What training costs, as studies tell it: tokens counted in prompts built one by one, and time of steps that leave no trace."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lifelora.errors import ConfigError
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.scorers.yes_no import YesNo
from lifelora.study.learning import milliseconds, tokens
from run_world import VALUES

BLOCK = 4


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    systems: dict[str, Any] = {"own": VALUES["systems"]["lora"]}
    systems["growing"] = systems["own"] | {"history": "growing", "block": BLOCK}
    folder: Path = tmp_path_factory.mktemp("learning")
    run = Run(parse(VALUES | {"systems": systems}, "the tests' recipe"), folder, Options(device="cpu", progress=False))
    run.prepare()
    run.embed()
    return run


def test_tokens_of_trees_are_those_of_the_longest_trunks_and_all_questions(run: Run):
    """A block's trunk is its last sample's prompt without the question."""
    scorer = run.scorers["growing"]
    assert isinstance(scorer, YesNo)
    shown = scorer.show(scorer.requests_of_training())
    prompts, targets = scorer.prompts(shown, np.arange(len(shown))), shown.requests.targets
    assert prompts.question_B is not None
    length_B, question_B = prompts.mask_BL.sum(dim=1).tolist(), prompts.question_B.tolist()
    trunks: dict[tuple[int, int], int] = {}
    for row, (user, position) in enumerate(zip(targets.user_B.tolist(), targets.position_B.tolist(), strict=True)):
        place = user, position // BLOCK
        trunks[place] = max(trunks.get(place, 0), length_B[row] - question_B[row])
    found = tokens(run, "growing")
    assert found.read == sum(trunks.values()) + sum(question_B)
    assert found.alone == sum(length_B) > found.read


def test_prompts_of_own_histories_share_nothing(run: Run):
    found = tokens(run, "own")
    assert found.read == found.alone > 0


def test_timing_leaves_the_model_as_it_was(run: Run):
    before = {name: value.clone() for name, value in run.context.backbone.model.state_dict().items()}
    took = milliseconds(run, ["own", "growing"], rounds=1)
    assert took.keys() == {"own", "growing"}
    assert min(took.values()) > 0
    after = run.context.backbone.model.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_a_conventional_model_has_no_tokens(run: Run):
    with pytest.raises(ConfigError, match="din is not asked yes or no"):
        tokens(run, "din")
