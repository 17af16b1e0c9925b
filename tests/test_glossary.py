"""docs/glossary.md has every term of a recipe and every axis, so that no word of lifelora stands unexplained."""

import re
from pathlib import Path

import pytest

from lifelora import types
from lifelora.recipe.recipe import Recipe
from lifelora.recipe.sections import Conventional, Data, Evaluation
from lifelora.recipe.system import System

GLOSSARY = (Path(__file__).parents[1] / "docs/glossary.md").read_text()
IN_CODE = set(re.findall(r"`([^`]+)`", GLOSSARY))
PLAIN = {
    "name",
    "about",
    "like",
    "model",
    "source",
    "rules",
    "loss",
    "max_tokens",
    "resamples",
    "dropout",
    "train",
    "beams",
    "written_tokens",
}
"Keys that need no explanation beyond their own, in docs/recipes.md."


@pytest.mark.parametrize("section", [Recipe, Data, Conventional, System, Evaluation])
def test_every_section_and_key_of_a_recipe_is_a_term_or_plain(section: type[types.Frozen]):
    missing = set(section.model_fields) - IN_CODE - PLAIN - set(re.findall(r"\*([^*]+)\*", GLOSSARY))
    assert not missing


def test_every_axis_of_the_legend_is_there():
    legend = (types.__doc__ or "").split("\n====", 1)[1]
    axes = set(re.findall(r"\b[A-Z]\b", legend)) - {"A"}  # "rows of A" names a matrix
    assert axes >= set("BLTHKMUNEDIOPQRSVF")
    assert axes <= IN_CODE


def test_every_term_is_said_once():
    terms = re.findall(r"^\| ([*`].*?) \|", GLOSSARY, re.MULTILINE)
    assert len(terms) == len(set(terms))
    assert len(terms) > 40


def test_the_readme_leads_to_it():
    assert "(docs/glossary.md)" in (Path(__file__).parents[1] / "README.md").read_text()
