"""Keys of before are answered with today's, each of them, and today's keys exist."""

import tomllib
from typing import Any

import pytest

from lifelora.errors import ConfigError
from lifelora.recipe.files import load, parse
from lifelora.recipe.retired import RENAMED, REWRITTEN

VALUES: dict[str, Any] = {
    "shots": 5,
    "validation_rows": 5,
    "test_rows": 5,
    "min_people": 3,
    "listed": False,
    "per": "token",
    "course": "ids",
    "also": {"kind": "most-recent"},
    "adaptor": {"hidden": 8},
    "encoders": {"bert": {"path": "x", "shots": 3}},
}


def base() -> dict[str, Any]:
    """A recipe with nothing wrong in it, whose parts are called NAME where the table of old keys has them."""
    return {
        "name": "old",
        "conventional": {"NAME": {"model": {"kind": "din"}}},
        "two_towers": {},
        "systems": {},
        "evaluation": {},
    }


def with_key(place: str, value: Any) -> dict[str, Any]:
    """``base`` with one value more."""
    values = base()
    section, *parents, last = place.split(".") if "." in place else ("", place)
    if section in ("systems", "two_towers"):
        values["conventional"] = {"din": values["conventional"].pop("NAME")}
        values[section]["NAME"] = {"path": "x"} if section == "two_towers" else {}
    inner = values[section] if section else values
    for parent in parents:
        inner = inner[parent]
    inner[last] = value
    return values


def said_of(values: dict[str, Any]) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        parse(values, "here")
    head, *lines = str(caught.value).splitlines()
    assert head == f"here has {len(lines)} mistake{'s' * (len(lines) > 1)}:"
    return [line.strip() for line in lines]


@pytest.mark.parametrize("place", RENAMED)
def test_an_old_key_is_answered_with_the_new_one(place: str):
    value = VALUES.get(place.rpartition(".")[2], "din")
    what = "section" if "." not in place else "key"
    [said] = said_of(with_key(place, value))
    assert said.startswith(f"{place}: this {what} is now called {RENAMED[place]}")


@pytest.mark.parametrize("place", RENAMED)
def test_the_new_key_is_a_key(place: str):
    """It is taken, or refused for its value, but never for being unknown."""
    *parents, _ = place.split(".")
    first, *inner = RENAMED[place].split(".")
    values = with_key(".".join([*parents, first]), {inner[0]: object()} if inner else object())
    with pytest.raises(ConfigError) as caught:
        parse(values, "here")
    assert "there is no such key" not in str(caught.value)
    assert "is now called" not in str(caught.value)
    assert ".".join([*parents, RENAMED[place]]) in str(caught.value)


@pytest.mark.parametrize(("place", "value", "written"), [(*key, written) for key, written in REWRITTEN.items()])
def test_an_old_value_is_answered_with_what_to_write(place: str, value: str, written: str):
    [said] = said_of(with_key(place, value))
    assert said.endswith(f"; write {written}")
    system = {"coupling": {"kind": "experts"}} | tomllib.loads(written)
    base = {
        "name": "new",
        "task": "next-item",
        "data": {"rules": {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 5}}},
        "conventional": {"sasrec": {}},
    }
    parse(base | {"systems": {"p": {"representation": {"model": "sasrec"}} | system}}, "what is to be written is right")


def test_a_name_that_was_a_string_is_answered_with_its_table():
    system = {"coupling": {"kind": "full"}, "representation": "din", "soft": "sasrec"}
    values = {"name": "old", "conventional": {"din": {"model": {"kind": "din"}}, "sasrec": {}}, "systems": {"p": system}}
    assert said_of(values) == [
        'systems.p.representation: this is a table: representation = { model = "din" }',
        'systems.p.soft: this is a table: soft = { model = "sasrec" }',
    ]


def test_settings_are_answered_too():
    with pytest.raises(ConfigError, match="systems.lora.shots: this key is now called train_samples"):
        load("demo", settings=["systems.lora.shots=5"])


def test_an_old_key_is_told_once_for_all_that_are_like_its_part():
    values = {"name": "old", "systems": {"lora": {"shots": 5}, "other": {"like": "lora"}, "third": {"like": "other"}}}
    assert said_of(values) == ["systems.lora.shots: this key is now called train_samples"]
