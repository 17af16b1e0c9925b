"""What a recipe may say of blends: members that exist, two or more, each once, no blend among them."""

import tomllib
from typing import Any

import pytest

from lifelora.errors import ConfigError
from lifelora.recipe.files import dump, load, parse

RECIPE: dict[str, Any] = {
    "name": "mine",
    "conventional": {"din": {"model": {"kind": "din"}}, "sasrec": {}},
    "systems": {"lora": {}},
}


def test_members_are_models_encoders_and_systems_and_a_thousand_validation_samples_by_default():
    recipe = parse(RECIPE | {"blends": {"both": {"of": ["din", "lora"]}}}, "here")
    assert (recipe.blends["both"].of, recipe.blends["both"].validation_samples) == (("din", "lora"), 1000)
    assert parse(tomllib.loads(dump(recipe)), "here", kept=True) == recipe
    assert (
        parse(RECIPE | {"blends": {"b": {"of": ["din", "lora"], "validation_samples": "null"}}}, "here")
        .blends["b"]
        .validation_samples
        is None
    )


@pytest.mark.parametrize(
    ("blends", "said"),
    [
        (
            {"b": {"of": ["din", "gru"]}},
            r"blends.b.of: 'gru' is none of this recipe's models, encoders and systems \(din, sasrec, lora\)",
        ),
        ({"b": {"of": ["din", "b"]}}, r"blends.b.of: 'b' is the blend itself; name its members"),
        ({"a": {"of": ["din", "lora"]}, "b": {"of": ["din", "a"]}}, r"blends.b.of: 'a' is a blend, too; name its members"),
        ({"b": {"of": ["din"]}}, r"blends.b: of names fewer than two members"),
        ({"b": {"of": []}}, r"blends.b: of names fewer than two members"),
        ({"b": {"of": ["din", "lora", "din"]}}, r"blends.b: of names 'din' twice; name each member once"),
        ({"din": {"of": ["sasrec", "lora"]}}, r"the name 'din' stands for a conventional model and a blend; rename one"),
        ({"Lora": {"of": ["din", "lora"]}}, r"the names 'lora' and 'Lora' are one folder"),
        ({"a/b": {"of": ["din", "lora"]}}, r"'a/b' cannot be the name of a folder"),
        ({"b": {"off": ["din", "lora"]}}, r"blends.b.off: there is no such key; allowed here: of, validation_samples"),
    ],
)
def test_what_does_not_fit_is_refused(blends: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        parse(RECIPE | {"blends": blends}, "here")


def test_rankings_need_candidates():
    recipe = {"name": "n", "task": "next-item", "conventional": {"sasrec": {}, "gru": {"model": {"kind": "gru4rec"}}}}
    blends = {"blends": {"b": {"of": ["sasrec", "gru"]}}}
    with pytest.raises(
        ConfigError, match=r"blends.b weighs scores of candidates, and there are none; give data.rules.candidates"
    ):
        parse(recipe | blends, "here")
    parse(recipe | blends | {"data": {"rules": {"candidates": {"count": 5}}}}, "here")


def test_a_setting_adds_one_and_leaves_one_out():
    added = load("demo", None, ['blends.both.of=["din", "lora"]'])
    assert added.blends["both"].of == ("din", "lora")
    assert load("demo", None, ['blends.both.of=["din", "lora"]', "blends.both=null"]).blends == {}
