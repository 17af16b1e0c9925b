"""Keys of a recipe that have another name now: an old one is answered with the new one. Knows names, checks no value."""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

_SAMPLES = {"shots": "train_samples", "validation_rows": "validation_samples"}
RENAMED: Mapping[str, str] = MappingProxyType(
    {
        "encoders": "two_towers",
        **{
            f"{section}.NAME.{old}": new for section in ("conventional", "two_towers", "systems") for old, new in _SAMPLES.items()
        },
        "conventional.NAME.adaptor": "knowledge_experts",
        "conventional.NAME.model.min_people": "min_users",
        "systems.NAME.representation_layer": "representation.layer",
        "systems.NAME.representation_training": "representation.train",
        "systems.NAME.soft_at": "soft.at",
        "systems.NAME.soft_layer": "soft.layer",
        "systems.NAME.soft_projector": "soft.projector",
        "systems.NAME.course": "item_form",
        "systems.NAME.listed": "candidates_in_prompt",
        "systems.NAME.per": "length_normalised",
        "systems.NAME.start": "init_from",
        "systems.NAME.also": "mix_with",
        "evaluation.test_rows": "test_samples",
    }
)
"""The place of an old key, NAME for any name, and what it is called there."""
REWRITTEN: Mapping[tuple[str, Any], str] = MappingProxyType(
    {
        ("systems.NAME.per", "title"): "length_normalised = false",
        ("systems.NAME.per", "token"): "length_normalised = true",
        ("systems.NAME.representation_layer", "random"): 'representation = { kind = "random" }',
    }
)
"""Old values that are written in another way, too."""


def new_name(place: Sequence[str], value: Any) -> str | None:
    """What to say of a key at ``place`` that no recipe has any more; None where none ever had it."""
    for old, new in RENAMED.items():
        steps = old.split(".")
        if len(steps) == len(place) and all(step in ("NAME", came) for step, came in zip(steps, place, strict=True)):
            what = "section" if len(steps) == 1 else "key"
            written = REWRITTEN.get((old, value)) if isinstance(value, str) else None
            return f"this {what} is now called {new}" + (f"; write {written}" if written else "")
    return None
