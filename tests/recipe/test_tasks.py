"""What a system may say for either task: all that the papers allow for one is allowed for both."""

from typing import Any

import pytest

from lifelora.errors import ConfigError
from lifelora.recipe.files import parse
from lifelora.recipe.recipe import TASK_KEYS, Recipe
from lifelora.recipe.system import System

RULES = {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 8}}
NEXT: dict[str, Any] = {"name": "next", "task": "next-item", "data": {"rules": RULES}, "conventional": {"sasrec": {}}}
CTR: dict[str, Any] = {"name": "ctr", "conventional": {"sasrec": {}}}
FULL = {"coupling": {"kind": "full"}, "representation": {"model": "sasrec"}}
SOFT = {"soft": {"model": "sasrec"}, "item_form": "hybrid"}


def of(recipe: dict[str, Any], system: dict[str, Any]) -> Recipe:
    return parse(recipe | {"systems": {"s": system}}, "here")


@pytest.mark.parametrize(
    "system",
    [
        {"mix_with": {"kind": "most-recent", "k": 3}},
        FULL | {"representation": {"model": "sasrec", "train": "joint"}},
        FULL | {"representation": {"model": "sasrec", "train": "frozen-with-dropout", "layer": "user"}},
        FULL | {"representation": {"kind": "random", "width": 3}},
        SOFT | {"soft": {"model": "sasrec", "at": ["user"]}},
        SOFT | {"soft": {"model": "sasrec", "at": ["user", "target"], "layer": "random", "projector": "collm"}},
        {"init_from": "FOLDER", "train": "coupling"} | FULL,
    ],
)
def test_both_tasks_take_it(system: dict[str, Any]):
    ctr = of(CTR, {key: value for key, value in system.items() if key != "item_form"})
    next_item = of(NEXT, system)
    assert next_item.systems["s"] == ctr.systems["s"].model_copy(update={"item_form": system.get("item_form", "text")})


def test_what_one_task_alone_has_is_how_it_asks():
    assert {task: sorted(keys) for task, keys in TASK_KEYS.items()} == {
        "ctr": ["loss", "template"],
        "next-item": ["candidates_in_prompt", "item_form", "length_normalised", "phrasings", "retriever", "shortlist"],
    }
    assert set().union(*TASK_KEYS.values()) < set(System.model_fields)


@pytest.mark.parametrize(
    ("recipe", "system", "said"),
    [
        (CTR, {"retriever": "sasrec"}, "systems.s.retriever has no meaning where task = 'ctr'; remove it"),
        (NEXT, {"loss": "yes"}, "systems.s.loss has no meaning where task = 'next-item'; remove it"),
        (
            NEXT,
            FULL | {"representation": {"model": "sasrec", "layer": "fields"}},
            "systems.s.representation.layer = 'fields' holds the target, which task = 'next-item' asks for",
        ),
        (
            NEXT,
            SOFT | {"soft": {"model": "sasrec", "at": ["user"], "layer": "fields"}},
            "systems.s.soft.layer = 'fields' holds the target, which task = 'next-item' asks for",
        ),
        (
            NEXT,
            SOFT | {"soft": {"model": "sasrec", "at": ["target"]}, "candidates_in_prompt": False},
            "systems.s: soft.at = ['target'] is about the candidates in the prompt, and candidates_in_prompt = false",
        ),
        (
            NEXT,
            {"soft": {"model": "sasrec", "at": ["user"]}, "item_form": "ids"},
            "systems.s: item_form = 'ids' shows items by soft tokens alone",
        ),
        (
            NEXT,
            {"soft": {"model": "sasrec", "at": ["user", "target"]}, "item_form": "ids", "candidates_in_prompt": False},
            "soft.at names no items",
        ),
        (NEXT, {"mix_with": {"kind": "most-similar"}}, "systems.s.mix_with.kind = 'most-similar' chooses by the target"),
    ],
)
def test_what_a_task_cannot_have(recipe: dict[str, Any], system: dict[str, Any], said: str):
    with pytest.raises(ConfigError) as caught:
        of(recipe, system)
    assert said in str(caught.value)
