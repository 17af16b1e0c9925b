"""What order and words are worth to a system: it minus its control, paired, as a table of text and as sentences.

A control is the same system with one thing taken away. Knows figures, no model and no recipe.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lifelora.evaluation.jackknife import Jackknifed
from lifelora.evaluation.significance import Difference, paired_test
from lifelora.evaluation.tables import in_blocks, p_value, short, with_span

TITLE = "What order and words are worth"


@dataclass(frozen=True)
class Control:
    """Two systems that are the same but for one thing, which the second lacks."""

    system: str
    control: str
    lacks: Literal["order", "words"]

    def __str__(self) -> str:
        return f"{self.lacks}: {self.system} minus {self.control}"


@dataclass(frozen=True)
class Worth(Control):
    """And what the first is better by; less is better of log loss and ECE."""

    differences: dict[str, Difference]


def worths(found: Mapping[str, Jackknifed], controls: Sequence[Control]) -> tuple[Worth, ...]:
    """The paired test of each system with its control, by every metric that both have."""
    return tuple(
        Worth(one.system, one.control, one.lacks, paired_test(found[one.system], found[one.control])) for one in controls
    )


def worth_table(found: Sequence[Worth], names: Mapping[str, str], width: int) -> list[str]:
    """As text, under its title; nothing where there is no control."""
    if not found:
        return []
    columns: list[list[str]] = [["", *map(str, found)]]
    for metric, name in names.items():
        cells = [_cell(one.differences[metric]) if metric in one.differences else "" for one in found]
        columns += [[f"Δ {name}", *cells]] if any(cells) else []
    first, *rest = in_blocks(columns, width)
    return [f"{TITLE}:\n{first}", *rest]


def worth_in_words(found: Sequence[Worth], metric: str, unit: str) -> list[str]:
    """A sentence for each control; ``unit`` names the metric, of which more is better."""
    told = []
    for one in found:
        if metric not in one.differences or math.isnan((by := one.differences[metric]).value):
            continue
        thing = one.lacks.capitalize()
        verb = "is" if one.lacks == "order" else "are"
        if math.isnan(by.low):
            told.append(f"{thing} {verb} worth {short(by.value, 3)} {unit} to {one.system}, over {by.users:,} users; not tested.")
            continue
        sure = f"95 % {short(by.low, 3)} to {short(by.high, 3)}, paired with {one.control} over {by.users:,} users"
        clear = "" if by.low > 0 else "nothing clear: " if by.high >= 0 else "less than nothing: "
        told.append(f"{thing} {verb} worth {clear}{short(by.value, 3)} {unit} to {one.system} ({sure}).")
    return told


def _cell(difference: Difference) -> str:
    return f"{with_span(difference)} {p_value(difference.p)}"
