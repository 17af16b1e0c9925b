"""The levels of a data set, its distinct ratings: what they are called, and whether there are too many or too few. Knows no row.

A level is a number. It has a name of its own where it stands for a kind of event (purchase) or for counts (2 to 9 times).
"""

from collections.abc import Mapping, Sequence

import pyarrow as pa
import pyarrow.compute as pc

from lifelora.data.raw import Words
from lifelora.errors import ConfigError, on_one_line
from lifelora.types import Part

MAX_LEVELS = 100
"""Each has a vector, and a line in prompts for every item that got it."""
SHOWN = 10
"""Levels that a message lists."""


def levels_of(log: pa.Table) -> list[float]:
    """The distinct ratings of a log, in order; ConfigError where they are too many for levels, as counts are."""
    found = pc.unique(log.column("rating"))
    if len(found) > MAX_LEVELS:
        low, high = (pc.min_max(found)[end].as_py() for end in ("min", "max"))
        raise ConfigError(
            f"the ratings have {len(found):,} distinct values, from {low:g} to {high:g} (lifelora allows {MAX_LEVELS}). "
            "If they are counts (plays, clicks), name their column in data.source.columns.count in the place of columns.rating, "
            "and a rule that makes a few levels of them: data.source.counts = { rule = 'log' }; else round them first."
        )
    return sorted(float(level) for level in found.to_pylist())


def listed(level: float, names: Mapping[float, str]) -> str:
    """A rating as messages list it: ``3``, or ``3 (purchase)``."""
    return f"{level:g} ({on_one_line(names[level])})" if names.get(level) else f"{level:g}"


def for_templates(names: Mapping[float, str]) -> tuple[float | str, ...]:
    """What templates read of each level: its number, or its name where it has one; "" where there is nothing to tell."""
    told = len(names) > 1 and not any(names.values())
    return tuple(level if told else name for level, name in names.items())


def for_readers(names: Mapping[float, str], words: Words) -> tuple[str, ...]:
    """What a reader is told of each level: ``4 stars``, ``purchase``, or nothing."""
    return tuple(
        level if isinstance(level, str) else f"{level:g} {words.star if level == 1 else words.stars}"
        for level in for_templates(names)
    )


def one_class(names: Mapping[float, str] | None, label_above: float, part: Part, count: int, *, likes: bool) -> str:
    """Why ``ctr`` learns nothing from ``count`` samples of one label, and the mend; ``names`` is None without ratings."""
    samples = f"{'all' if likes else 'none'} of the {count:,} {part} samples are likes"
    said = f"task = 'ctr' tells likes from others, and {samples}"
    draw = (
        "Draw items that users did not choose: data.rules.negatives = { count = 1 } "
        "(--set 'data.rules.negatives={count=1}'); task = 'next-item' needs none"
    )
    if names is None:
        return f"{said}, for the log has no ratings. {draw}."
    levels: Sequence[float] = list(names)
    there = ", ".join(listed(level, names) for level in levels[:SHOWN]) + (", …" if len(levels) > SHOWN else "")
    choose = [f"Choose one from {levels[0]:g} to below {levels[-1]:g}"] if len(levels) > 1 else []
    mends = ". Or: ".join([*choose, *([draw] if likes else [])]) or "Lower it"
    return f"{said}: data.rules.label_above = {label_above:g}, and the ratings are {there}. {mends}."
