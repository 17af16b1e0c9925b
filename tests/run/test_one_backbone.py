"""A run loads its language model once, and tokenises the lines of each layout of prompts once, however many systems it has."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import lifelora.llm.backbone
from lifelora.prompts.lines.titles import TitleLines
from lifelora.prompts.lines.yes_no import YesNoLines
from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.run import Options, Run
from lifelora.run.recommend import recommend
from run_world import TRAINING, VALUES, judged_on, scores

QUIET = Options(device="cpu", progress=False)
LORA = VALUES["systems"]["lora"]


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often a model is read, and lines are tokenised."""
    counts = Counter[str]()

    def counted(owner: Any, name: str, what: str) -> None:
        inner = getattr(owner, name)

        def call(*words: Any, **named: Any) -> Any:
            counts[what] += 1
            return inner(*words, **named)

        monkeypatch.setattr(owner, name, call)

    counted(lifelora.llm.backbone, "read", "loads")
    counted(YesNoLines, "build", "tokenisations")
    counted(TitleLines, "build", "tokenisations")
    return counts


def recipe(**changes: Any) -> Recipe:
    systems = {
        "one": LORA,
        "two": LORA | {"coupling": {"kind": "full", "rank": 2}, "representation": {"model": "din"}},
        "later": LORA | {"init_from": "one"},
    }
    return parse(VALUES | {"systems": systems} | changes, "the tests' recipe")


def made(recipe: Recipe, folder: Path, counts: Counter[str]) -> None:
    """A whole run, whose nano LM is in the cache: to pre-train one is to read lines of another sort."""
    first = Run(recipe, folder.with_name("first"), QUIET)
    first.prepare(), first.embed()
    counts.clear()
    Run(recipe, folder, QUIET).all()


def test_a_run_loads_and_tokenises_once(counts: Counter[str], tmp_path: Path):
    made(recipe(), tmp_path / "run", counts)
    assert counts == {"loads": 1, "tokenisations": 1}
    counts.clear()
    Run.open(tmp_path / "run", QUIET).all()  # nothing is to be done, and the report's label lies in a file
    assert counts == {}
    run = Run.open(tmp_path / "run", QUIET)
    for name in ("one", "two", "later", "din"):
        recommend(run, "u00003", None, 3, name)
    assert counts == {"loads": 1, "tokenisations": 1}
    counts.clear()
    recommend(Run.open(tmp_path / "run", QUIET), "u00003", None, 3, "din")
    assert counts == {}


def test_a_layout_of_its_own_is_tokenised_on_its_own(counts: Counter[str], tmp_path: Path):
    template = {"kind": "plain", "history": "Once they {did}:"}
    systems = {"plain": LORA, "other-words": LORA | {"template": template}}
    made(recipe(systems=systems), tmp_path / "run", counts)
    assert counts == {"loads": 1, "tokenisations": 2}


def test_next_items_too(counts: Counter[str], tmp_path: Path):
    """Words alone and LLaRA's curriculum share their lines: the curriculum's first form is words alone."""
    system = {"behaviours": {"kind": "most-recent", "k": 4}, "train_samples": 16, "validation_samples": 8, "training": TRAINING}
    sasrec = {"model": {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}, "training": TRAINING}
    rules = {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 6}}
    made(
        recipe(
            task="next-item",
            data=VALUES["data"] | {"rules": rules},
            conventional={"sasrec": sasrec},
            backbone=VALUES["backbone"] | {"template": {"kind": "next-item"}},
            evaluation=VALUES["evaluation"] | {"test_samples": 8, "written_tokens": 4},
            systems={"words": system, "llara": system | {"soft": {"model": "sasrec"}, "item_form": "text-to-hybrid"}},
        ),
        tmp_path / "run",
        counts,
    )
    assert counts == {"loads": 1, "tokenisations": 1}


def test_systems_that_share_a_backbone_score_as_if_they_had_it_alone(tmp_path: Path):
    """Asked in turn, twice, with the other's adapters taken out each time."""
    Run(recipe(), tmp_path / "run", QUIET).all()
    together = Run.open(tmp_path / "run", QUIET)
    for _ in range(2):
        for name in ("one", "two", "later"):
            alone = Run.open(tmp_path / "run", QUIET)
            np.testing.assert_array_equal(scores(together, name, judged_on(together)), scores(alone, name, judged_on(alone)))
            assert not any("lora" in type(module).__module__ for module in together.context.backbone.model.modules())
