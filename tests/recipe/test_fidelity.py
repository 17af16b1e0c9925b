"""docs/recipes-fidelity.md tells the truth: every key that it names has that value in the recipe, and it names them all."""

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from lifelora.recipe.files import load
from lifelora.recipe.like import expanded
from lifelora.recipe.shipped import built_in
from lifelora.recipe.system import System

PAGE = Path(__file__).parents[2] / "docs/recipes-fidelity.md"
FOLLOW_NOTHING = {"baselines", "conventional", "demo", "next-item"}
TABLES = ("conventional", "systems", "two_towers", "knowledge", "data", "backbone", "vectors", "evaluation", "task")
ALWAYS = {
    "optimiser",
    "learning_rate",
    "weight_decay",
    "schedule",
    "clip",
    "batch_size",
    "accumulation",
    "epochs",
    "precision",
    "patience",
    "select",
}
"""What of a training has a row even where the recipe leaves it at its default: a default of theirs may be another."""


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Leaves by their paths; a list and an empty table are leaves."""
    if isinstance(value, dict) and value:
        return {
            path: leaf for name, inner in value.items() for path, leaf in flat(inner, f"{key}.{name}" if key else name).items()
        }
    return {key: value}


def rows(text: str, columns: int) -> Iterator[list[str]]:
    """Of the tables with so many columns."""
    for line in text.splitlines():
        if line.startswith("|"):
            cells = [cell.strip() for cell in line.removeprefix("|").removesuffix("|").split("|")]
            assert len(cells) in (3, 4), f"a row of {len(cells)} cells: {line}"
            if len(cells) == columns and cells[0] not in ("what", "system", "---"):
                yield cells


@dataclass(frozen=True)
class Section:
    """A recipe's part of the page."""

    name: str
    main: str
    "The path of the system that keys without a table are of."
    rows: list[list[str]]
    likenesses: list[list[str]]

    def named(self) -> dict[str, Any]:
        """Key → value, as the page has them."""
        named = {}
        for _, _, ours, _ in self.rows:
            for span in re.findall(r"`([^`]+ = [^`]+)`", ours):
                key, _, value = span.partition(" = ")
                path = key if key.partition(".")[0] in TABLES else f"{self.main}.{key}"
                assert path not in named, f"{self.name}: {key} has two rows"
                parsed = tomllib.loads(f"value = {value}")["value"]
                named[path] = None if parsed == "null" else parsed
        return named


def sections() -> dict[str, Section]:
    _, *parts = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    found = {}
    for part in parts:
        name, _, text = part.partition("\n")
        main = re.search(r"Keys are of `([\w.-]+)`", text)
        assert main, f"{name} does not say which system its keys are of"
        found[name] = Section(name, main[1], list(rows(text, 4)), list(rows(text, 3)))
    return found


SECTIONS = sections()


def test_every_recipe_of_a_paper_has_a_section():
    assert set(SECTIONS) == set(built_in()) - FOLLOW_NOTHING


@pytest.mark.parametrize("name", SECTIONS)
def test_ours_is_the_recipes(name: str):
    values = flat(load(name).model_dump(mode="json"))
    for path, value in SECTIONS[name].named().items():
        assert path in values, f"{name} has no {path}"
        assert values[path] == value, f"{path}: the page has {value!r}, the recipe {values[path]!r}"


@pytest.mark.parametrize("name", SECTIONS)
def test_a_departure_says_why_and_only_a_departure(name: str):
    for what, theirs, ours, why in SECTIONS[name].rows:
        assert theirs, f"{name}: {what} is half told"
        assert ours, f"{name}: {what} is half told"
        assert bool(why) != theirs.startswith("the same"), f"{name}: {what}"


@pytest.mark.parametrize("name", SECTIONS)
def test_what_a_recipe_sets_has_a_row(name: str):
    """Every key of its file: by its own row, by another conventional model's of the same value, or by the likeness of a system;
    and of the main training all that decides it."""
    section, file = SECTIONS[name], expanded(tomllib.loads(built_in()[name]))
    named = section.named()
    elsewhere = {system.strip("`") for system, *_ in section.likenesses}
    systems = file.get("systems", {})
    elsewhere |= {system for system, values in systems.items() if values.get("train_samples") == 0}  # asked as it is
    models = list(file.get("conventional", {}))
    for path, value in flat({key: value for key, value in file.items() if key not in ("name", "about")}).items():
        table, _, rest = path.partition(".")
        owner, _, key = rest.partition(".")
        if path in named or (table == "systems" and owner in elsewhere) or (table == "conventional" and key == "model.kind"):
            continue
        value = None if value == "null" else value
        if table == "systems" and value is None and key in System.model_fields and System.model_fields[key].default is None:
            continue  # it takes back what `like` brings
        likes = [named.get(f"conventional.{model}.{key}", "absent") for model in models] if table == "conventional" else []
        assert value in likes, f"{name}: {path} = {value!r} has no row"
    decided = {path.removeprefix(f"{section.main}.training.") for path in named}
    assert decided >= ALWAYS
    assert decided & {"warmup", "warmup_steps"}


@pytest.mark.parametrize("name", [name for name, section in SECTIONS.items() if section.main.startswith("systems.")])
def test_other_systems_differ_where_the_page_says(name: str):
    section, recipe = SECTIONS[name], load(name)
    systems = {key: flat(system.model_dump(mode="json")) for key, system in recipe.systems.items()}
    told = {section.main.removeprefix("systems.")}
    for system, like, but in section.likenesses:
        one, other = systems[system.strip("`")], systems[like.strip("`")]
        keys = re.findall(r"`([^`]+)`", but)
        apart = {path for path in one.keys() | other.keys() if one.get(path, "absent") != other.get(path, "absent")}
        for key in keys:
            assert any(f"{path}.".startswith(f"{key}.") for path in apart), f"{name}: {system} does not differ in {key}"
        rest = {path for path in apart if not any(f"{path}.".startswith(f"{key}.") for key in keys)}
        assert not rest, f"{name}: {system} differs from {like} in {sorted(rest)}, too"
        told.add(system.strip("`"))
    assert told >= {key for key, system in recipe.systems.items() if system.train_samples != 0}
