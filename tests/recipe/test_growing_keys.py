"""What may be shared is said in a recipe by three keys, and what does not fit together is answered with the mend."""

from pathlib import Path
from typing import Any

import pytest

from lifelora.errors import ConfigError
from lifelora.recipe.files import dump, parse
from lifelora.recipe.recipe import Recipe
from lifelora.run.stages import Stages

FULL: dict[str, Any] = {"coupling": {"kind": "full"}, "representation": {"model": "din"}}


def made(system: dict[str, Any]) -> Recipe:
    return parse({"name": "mine", "conventional": {"din": {"model": {"kind": "din"}}}, "systems": {"one": system}}, "here")


@pytest.mark.parametrize(
    ("system", "said"),
    [
        ({"block": 8}, "systems.one: block = 8 says how many .* remove block, or set history = 'growing'"),
        (
            {"history": "growing", "behaviours": {"kind": "most-similar"}},
            "systems.one: history = 'growing' shows all behaviours of a stretch in time, and behaviours.kind = 'most-similar'",
        ),
        (
            {"history": "growing", "behaviours": {"kind": "most-recent", "liked": True}},
            "behaviours.kind = 'most-recent' with liked = true leaves some out; choose behaviours = .* without liked",
        ),
        ({"history": "growing", "mix_with": {"kind": "most-recent"}}, "systems.one: mix_with shows every sample a second time"),
        (
            {"coupling_on": "question"},
            "systems.one: coupling_on = 'question' is about C\\(u\\), and coupling 'identity'",
        ),
        ({"history": "growing", "block": 0}, "systems.one.block"),
        ({"history": "shared"}, "systems.one.history"),
        ({"coupling_on": "target"}, "systems.one.coupling_on"),
    ],
)
def test_what_does_not_fit_is_said(system: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        made(system)


def test_a_growing_history_has_a_block_and_its_dump_gives_it_back() -> None:
    recipe = made({"history": "growing"})
    assert recipe.systems["one"].block == 4
    assert "block = 4" in dump(recipe)
    assert made({"history": "growing", "block": "null"}) == recipe
    assert made({}).systems["one"].block is None


def test_systems_that_say_nothing_of_them_are_the_stages_that_they_were(tmp_path: Path) -> None:
    """Their key holds none of the three; and each of these makes another system."""
    default, *others = (
        Stages(made(FULL | {"behaviours": {"kind": "most-recent", "k": 5}} | some), tmp_path, "source").system("one")
        for some in ({}, {"history": "growing"}, {"history": "growing", "block": 16}, {"coupling_on": "question"})
    )
    assert not {"history", "block", "coupling_on"} & {*default.config}
    assert len({default.key, *(other.key for other in others)}) == 4
