"""The papers' recipes run from end to end, made small: the same systems, histories and stages on a world of 24 users."""

from pathlib import Path
from typing import Any

import pytest

from lifelora.recipe.files import load, parse
from lifelora.recipe.recipe import Recipe
from lifelora.recipe.shipped import built_in
from lifelora.run import Options, Run
from run_world import TRAINING, VALUES
from tiny_bert import saved_bert

SIZES = {"embedding": 8, "hidden": 8, "layers": 1, "attention_hidden": 4, "history_length": 6, "heads": 1}


def small(recipe: Recipe, bert: Path) -> dict[str, Any]:
    """Small numbers everywhere; every choice of the recipe stays."""
    values = recipe.model_dump(mode="json")
    values |= {key: VALUES[key] for key in ("data", "backbone", "evaluation")}
    if recipe.task == "next-item":  # times of simulated users overlap too little to cut users by them
        rules = {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 8}}
        values["data"] = VALUES["data"] | {"rules": rules}
        values["evaluation"] = VALUES["evaluation"] | {"written_tokens": 8}
    for step in values["conventional"].values():
        step["model"] = {
            key: min(SIZES.get(key, value), value) if isinstance(value, int) and not isinstance(value, bool) else value
            for key, value in step["model"].items()
        }
        step["training"] = TRAINING
        step["behaviours"] = step["behaviours"] and step["behaviours"] | {"k": 6}
        step["train_samples"] = step["train_samples"] and 40
    for known in values["knowledge"].values():
        written = {"max_new_tokens": 6} if known["text"]["kind"] == "lm" else {}
        known |= {"every": 4, "behaviours": 4, "text": known["text"] | written}
    for encoder in values["two_towers"].values():
        encoder["behaviours"] |= {"k": 3}
        encoder |= {"path": str(bert), "training": TRAINING, "train_samples": 24, "validation_samples": 20}
    for system in values["systems"].values():
        for key in ("behaviours", "mix_with"):
            system[key] = system[key] and system[key] | {"k": 3}
        system |= {
            "training": TRAINING,
            "train_samples": system["train_samples"] and 24,
            "validation_samples": 20,
            "max_tokens": 400,
        }
        system["coupling"] |= {"rank": 2} | {"meta": {"loras": 3}, "experts": {"rank": 8}}.get(system["coupling"]["kind"], {})
    return values


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", sorted(set(built_in()) - {"demo", "conventional", "baselines"}))
def test_a_papers_recipe_runs(name: str, tmp_path: Path):
    recipe = parse(small(load(name), saved_bert(tmp_path / "bert")), name)
    run = Run(recipe, tmp_path / name, Options(device="cpu", progress=False))
    run.all()
    table = run.table()
    assert all(system in table for system in [*recipe.conventional, *recipe.two_towers, *recipe.systems])
