"""``like = "NAME"``: a part of a recipe that takes another part's keys. Knows plain tables, before anything of them is checked.

    [systems.lora]                              [systems.personal]
    behaviours = { kind = "most-recent" }       like = "lora"
    training = { epochs = 5, patience = 2 }     training = { epochs = 1 }      # patience is lora's

What is written stands, and what is not comes from the part that is named. Tables are taken key by key, however deep; a table of
another ``kind`` than the one it would change takes its place as a whole.
"""

from collections.abc import Mapping
from typing import Any

from lifelora import foreign
from lifelora.errors import ConfigError

LIKE = "like"
SECTIONS = ("conventional", "two_towers", "systems")
"""Where parts can be like one another, each like one of its own section."""


def expanded(values: Mapping[str, Any]) -> dict[str, Any]:
    """The same recipe without ``like``. Raises ConfigError for a name that does not exist, and for parts in a circle."""
    return dict(values) | {
        section: {name: _whole(section, parts, name, ()) for name in parts}
        for section in SECTIONS
        if isinstance(parts := values.get(section), Mapping)
    }


def taken_from(values: Mapping[str, Any], place: tuple[int | str, ...]) -> tuple[int | str, ...] | None:
    """Where a part of the unexpanded ``values`` has what is at ``place`` from; None where it is its own."""
    if len(place) < 2 or place[0] not in SECTIONS:
        return None
    section, name, *inner = place
    part = values[str(section)][name]
    if not isinstance(part, Mapping) or LIKE not in part or any(key in part for key in inner[:1]):
        return None
    return section, part[LIKE], *inner


def _whole(section: str, parts: Mapping[str, Any], name: str, before: tuple[str, ...]) -> Any:
    part = parts[name]
    if not isinstance(part, Mapping) or LIKE not in part:
        return part
    other, way = part[LIKE], (*before, name)
    if not isinstance(other, str) or other not in parts:
        raise ConfigError(
            f"{section}.{name}.{LIKE} = {foreign.shown(other)} is none of this recipe's [{section}.NAME] "
            f"({', '.join(one for one in parts if one != name) or 'there is no other'})"
        )
    if other in way:
        circle = " → ".join([*way[way.index(other) :], other])
        raise ConfigError(f"{section}.{other}.{LIKE}: {circle} is a circle; remove one {LIKE}")
    taken = _whole(section, parts, other, way)
    own = {key: value for key, value in part.items() if key != LIKE}
    return _merged(taken, own) if isinstance(taken, Mapping) else own


def _merged(taken: Any, own: Any) -> Any:
    if not (isinstance(taken, Mapping) and isinstance(own, Mapping)) or own.get("kind", taken.get("kind")) != taken.get("kind"):
        return own
    return dict(taken) | {key: _merged(taken[key], value) if key in taken else value for key, value in own.items()}
