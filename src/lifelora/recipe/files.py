"""Recipes as files: read from TOML, explained where they are wrong, written out in full."""

import math
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w
from pydantic import ValidationError

from lifelora import foreign
from lifelora.data.sources.base import Source
from lifelora.errors import ConfigError
from lifelora.recipe.explain import explain
from lifelora.recipe.like import SECTIONS, expanded, taken_from
from lifelora.recipe.recipe import Recipe
from lifelora.recipe.shipped import built_in
from lifelora.recipe.system import SYSTEMS
from lifelora.types import HERE, NULL

SHOWN = 20
"""Mistakes of a recipe that are listed."""
NAMED = (*SECTIONS, "knowledge", "blends")
"""Sections whose parts have names of the recipe's own."""


def load(name_or_path: str, source: Source | None = None, settings: Sequence[str] = ()) -> Recipe:
    """A built-in recipe by name, or one from a TOML file; then ``--data`` and ``--set KEY=VALUE`` on top.

    Raises ConfigError that names the file, the place of every wrong key or value, and what would be right.
    """
    ours = built_in()
    path = foreign.place(name_or_path)
    where = f"recipe '{name_or_path}'" if name_or_path in ours else str(path)
    if name_or_path not in ours and not foreign.is_file(path):
        raise ConfigError(
            f"there is no recipe '{name_or_path}': give the path of a TOML file or one of {', '.join(sorted(ours))}."
        )
    try:
        values = foreign.toml(ours[name_or_path] if name_or_path in ours else foreign.text(path))
    except foreign.Unreadable as error:
        raise ConfigError(f"{where} is not TOML: {error}") from error
    if source is not None:
        data = values.get("data", {})
        if not isinstance(data, dict):
            raise ConfigError(f"{where}: data = {foreign.shown(data)} is a value, not a table; --data cannot replace its source.")
        values["data"] = data | {"source": _here(source)}
    for setting in settings:  # last, so that one of data.source is not lost
        if not _leaves_out(setting):
            _set(values, setting)
    return parse(_without(values, settings), where, None if name_or_path in ours else path.parent)


def enhanced(model: str, knowledge: str, source: Source | None = None, settings: Sequence[str] = ()) -> Recipe:
    """A conventional model without and with knowledge, under the settings of 'laser'; then ``--set`` on top.

    ``knowledge`` is ``prompt`` (the backbone, a nano LM where none is set, reads the questions), ``lm`` (it answers them and
    reads its answers), or a sentence encoder (a folder, an installed package, a hub name) that reads the questions.
    """
    laser = expanded(tomllib.loads(built_in()["laser"]))
    knows = laser["conventional"]["din-knows"]
    plain = {"model": {"kind": model, "history_length": 30}, "training": knows["training"]}
    known: dict[str, Any] = {"text": {"kind": "lm" if knowledge == "lm" else "prompt"}}
    if knowledge not in ("prompt", "lm"):
        known["vectors"] = {"kind": "sentence-encoder", "model": knowledge}
    values: dict[str, Any] = {
        "name": f"enhance-{model}",
        "about": f"{model} without and with what a language model knows",
        "data": laser["data"],
        "knowledge": {"known": known},
        "conventional": {
            model: plain,
            f"{model}-knows": plain | {"knowledge": "known", "knowledge_experts": knows["knowledge_experts"]},
        },
    }
    if source is not None:
        values["data"] = {"source": _here(source)}
    for setting in settings:
        if not _leaves_out(setting):
            _set(values, setting)
    return parse(_without(values, settings), f"lifelora enhance --model {model} --knowledge {knowledge}")


def _here(source: Source) -> dict[str, Any]:
    """A source of the command line as a recipe writes it; its paths count from where the command is given."""
    whole = type(source).model_validate(source.model_dump(), context={HERE: None})
    values: dict[str, Any] = whole.model_dump(mode="json", exclude_none=True)
    return values


def parse(values: Mapping[str, Any], where: str, here: Path | None = None, *, kept: bool = False) -> Recipe:
    """Check a recipe's values; ConfigError lists all that is wrong, each with its place.

    Its paths count from the folder ``here``, or else from where the command is given. In a recipe that a run has ``kept`` they
    are whole already, and need not lead anywhere any more.
    """
    if beyond := list(_beyond(values)):
        raise ConfigError(f"{where} has numbers that no key takes: {', '.join(beyond[:SHOWN])}.")
    try:
        whole = expanded(values)
        return Recipe.model_validate(whole, context=None if kept else {HERE: here, SYSTEMS: whole.get("systems")})
    except ValidationError as error:
        found = list(_at_its_source(error.errors(include_url=False), values))
        lines = [f"  {explain(detail, whole)}" for detail in found[:SHOWN]]
        raise ConfigError(f"{where} has {len(found)} mistake{'s' * (len(found) > 1)}:\n" + "\n".join(lines)) from error
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error
    except RecursionError:
        raise ConfigError(f"{where} has tables that are nested too deeply.") from None


def _at_its_source(found: Sequence[Any], values: Mapping[str, Any]) -> Iterator[Any]:
    """Mistakes without those that a part has only because it is like another one, which has them too."""
    told = {(detail["loc"], detail["msg"]) for detail in found}
    for detail in found:
        other = taken_from(values, detail["loc"])
        if other is None or (other, detail["msg"]) not in told:
            yield detail


def _beyond(values: Mapping[str, Any]) -> Iterator[str]:
    """The keys of numbers that are infinite, none (NaN) or beyond 64 bits, which can be written and no setting means."""
    todo: list[tuple[str, Any]] = [("", values)]
    while todo:
        key, value = todo.pop()
        if isinstance(value, float) and not math.isfinite(value):
            yield f"{key} = {value}"
        elif isinstance(value, int) and value.bit_length() > 63:
            yield f"{key} (an integer of {value.bit_length():,} bits)"
        elif isinstance(value, Mapping):
            todo += [(f"{key}.{name}" if key else str(name), inner) for name, inner in value.items()]
        elif isinstance(value, list | tuple):
            todo += [(key, inner) for inner in value]


def dump(recipe: Recipe) -> str:
    """The fully expanded recipe as TOML; ``parse`` gives the same recipe back."""
    return tomli_w.dumps(_with_null(recipe.model_dump(mode="json")))


def _with_null(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_null(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with_null(inner) for inner in value]
    return NULL if value is None else value


def _leaves_out(setting: str) -> tuple[str, str] | None:
    """The section and name of a part that ``--set SECTION.NAME=null`` leaves out."""
    key, _, value = setting.partition("=")
    section, _, name = key.partition(".")
    return (section, name) if section in NAMED and name and "." not in name and value.strip(" \"'") == NULL else None


def _without(values: Mapping[str, Any], settings: Sequence[str]) -> Mapping[str, Any]:
    """The recipe without the parts that settings leave out; another part may be like one of them."""
    out = [found for setting in settings if (found := _leaves_out(setting))]
    if not out:
        return values
    whole = expanded(values)
    for section, name in out:
        parts = whole.get(section)
        if not isinstance(parts, Mapping) or name not in parts:
            there = ", ".join(parts) if isinstance(parts, Mapping) and parts else "none"
            raise ConfigError(f"--set {section}.{name}=null: the recipe has no [{section}.{name}] to leave out; it has: {there}.")
        whole[section] = {other: part for other, part in parts.items() if other != name}
    return whole


def _set(values: dict[str, Any], setting: str) -> None:
    key, equals, text = setting.partition("=")
    if not equals or not key:
        raise ConfigError(f"--set {setting!r} is not KEY=VALUE; for example --set seed=1 or --set evaluation.test_samples=500.")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word: --set vectors.kind=sentence-encoder
    except (ValueError, RecursionError) as error:  # an integer of thousands of digits, nested brackets
        raise ConfigError(f"--set {key}: {text[:40]}… cannot be read ({str(error)[:80]}).") from None
    *parents, last = key.split(".")
    for parent in parents:
        values = values.setdefault(parent, {})
        if not isinstance(values, dict):
            raise ConfigError(f"--set {setting!r}: '{parent}' is a value, not a table.")
    values[last] = value
