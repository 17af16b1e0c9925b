"""The studies are whole: each has its recipe, its words and its figures, and today's lifelora reads what it names."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest

from lifelora.cli import _parser
from lifelora.recipe.files import load, parse

ROOT = Path(__file__).parents[1]
STUDIES = sorted(path for path in (ROOT / "studies").iterdir() if path.is_dir())
RECIPES = sorted((ROOT / "studies").glob("*/*.toml"))


def named(path: Path) -> str:
    return f"{path.parent.name}-{path.name}"


def commands(path: Path) -> list[list[str]]:
    """Words of the commands that a README or the head of a recipe tells, loops over seeds taken apart."""
    text = re.sub(r"\\\n#?", " ", path.read_text())
    found = re.findall(r"((?:lifelora (?:run|embed|seeds|demo)|python \S+\.py)\b[^;`\n]*)", text)
    return [shlex.split(command.replace("$seed", "0"), comments=True) for command in found]


@pytest.mark.parametrize("study", STUDIES, ids=lambda study: study.name)
def test_a_study_says_what_it_asked_and_found(study: Path):
    readme = (study / "README.md").read_text()
    assert "**Asked**" in readme
    assert "**Found**" in readme
    assert re.search(r"^20\d\d-\d\d-\d\d.* (n = [\d,]+|\d+ simulations)", readme, re.MULTILINE)
    assert f"({study.name}/README.md)" in (study.parent / "README.md").read_text()
    kept = [path for path in study.iterdir() if path.suffix == ".json"]
    for path in kept:
        assert json.loads(path.read_text())
        assert path.name in readme
    assert kept


@pytest.mark.parametrize("path", [*RECIPES, *(study / "README.md" for study in STUDIES)], ids=named)
def test_its_commands_are_commands(path: Path):
    for words in commands(path):
        if words[0] == "lifelora":
            recipe = getattr(_parser().parse_args(words[1:]), "recipe", "demo")
            assert load(str(ROOT / recipe) if "/" in recipe else recipe, None, [])
        for word in words:
            assert not word.startswith("studies/") or (ROOT / word).exists(), word


@pytest.mark.parametrize("path", RECIPES, ids=named)
def test_its_recipes_are_recipes(path: Path):
    values = tomllib.loads(path.read_text())
    if values.pop("study", None):  # laser.py makes its models, many of each
        values["conventional"] = {"popularity": {"model": {"kind": "popularity"}}}
    assert parse(values, str(path))
