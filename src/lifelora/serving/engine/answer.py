"""What an engine answers: items with scores and ranks, who said so, and why. Plain values; knows no model.

A number that no system could know is None, never nan, so that every answer can be written as JSON.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lifelora.data.dataset import Dataset
from lifelora.data.levels import for_readers


@dataclass(frozen=True)
class Past:
    """An event of a user's history."""

    item: str
    title: str
    rating: str
    "As a reader is told of it: ``4 stars``, ``purchase``, or nothing."
    time: int | None
    "Unix seconds; None where the data set has no times."


@dataclass(frozen=True)
class Placed:
    """An item and its place."""

    item: str
    title: str
    rank: int
    "From 1; of equal scores the item that came first stands first."
    score: float | None
    "None where the system cannot know the item, which then stands behind all others."
    nearest: Past | None = None
    "Of the behaviours that were shown, the one most like the item by the run's item vectors."
    shown: tuple[Past, ...] | None = None
    "The behaviours that were shown for this item alone; None where those of the answer were."


@dataclass(frozen=True)
class Weights:
    """What C(u) of the user is made of, or a blend of its members."""

    of: str
    "The coupling's kind, or 'blend'."
    names: tuple[str, ...]
    values: tuple[float, ...]
    "Experts' or LoRAs' weights, as the mean over the layers; of a full C(u) the size of what it adds to I, by layer of the LM."


@dataclass(frozen=True)
class Answer:
    """Items for a user, by which system and why."""

    user: str
    system: str
    "Which answered."
    asked: str
    "Which was asked."
    items: tuple[Placed, ...]
    "A recommendation's in order; those that were to be scored as they came."
    shown: tuple[Past, ...] = ()
    "The behaviours that were shown for all of them, oldest first."
    weights: Weights | None = None
    fallback: bool = False
    "Whether another system answered than the one that was asked."
    why: str = ""
    "Why, if so; or why this system was chosen where none was named."
    note: str = ""
    "What else a reader should know."
    run: tuple[tuple[str, str], ...] = ()
    "What answered, to the last digit: the recipe's name, the keys of its data and of the system."

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "run": dict(self.run)}


def pasts(dataset: Dataset, rows: np.ndarray | Sequence[int]) -> tuple[Past, ...]:
    """Event rows as a reader sees them."""
    rows = np.asarray(rows, np.int64)
    items, said = np.asarray(dataset.item_N[rows], np.int64), for_readers(dataset.level_names, dataset.words)
    codes, times = np.asarray(dataset.rating_N[rows]).tolist(), np.asarray(dataset.time_N[rows]).tolist()
    return tuple(
        Past(item, dataset.titles[number], said[code], int(time) if dataset.has_times else None)
        for item, number, code, time in zip(dataset.items.outside(items), items.tolist(), codes, times, strict=True)
    )
