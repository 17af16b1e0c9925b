"""What a language model takes for a sample in each way that it is used, and as a table of text. Knows figures, no model."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from lifelora.evaluation.tables import amount, in_blocks


@dataclass(frozen=True)
class Cost:
    """Means over the samples for which it was counted."""

    tokens: float
    "Through the LM, padding among them; of what samples share, each one's part."
    seconds: float
    own: float | None = None
    "Tokens that the sample's prompts have where each is read by itself; None where that is not known."


Costs = Mapping[str, Mapping[str, Cost]]
"""Of each system by the way it is used."""


def rate(seconds: float) -> str:
    """Samples a second, of the seconds of one."""
    return amount(1 / seconds) if seconds > 0 else "–"


def cost_table(costs: Costs, width: int) -> list[str]:
    """As text, in as many blocks as keep the lines within ``width``; none where nothing was counted."""
    rows = list(_rows(costs))
    if not rows:
        return []
    columns: list[list[str]] = [["", *(f"{name}, {way}" for name, way, _ in rows)]]
    columns.append(["Tokens a sample", *(amount(cost.tokens) for *_, cost in rows)])
    columns.append(["of its own prompts", *("–" if cost.own is None else amount(cost.own) for *_, cost in rows)])
    columns.append(["Samples a second", *(rate(cost.seconds) for *_, cost in rows)])
    return in_blocks(columns, width)


def _rows(costs: Costs) -> Iterator[tuple[str, str, Cost]]:
    for name, ways in costs.items():
        for way, cost in ways.items():
            yield name, way, cost
