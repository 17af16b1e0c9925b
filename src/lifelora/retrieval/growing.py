"""Histories that grow: the samples of a block of a user's events are shown one history from the same event on. Knows no model.

A sample at position p of its user is shown the events from max(0, s - k) to p - 1, s = p - p mod block. So what it is shown
depends on it alone, not on which others are asked, and is a beginning of what every later sample of its block is shown.
"""

from typing import final

import numpy as np
from jaxtyping import Int

from lifelora.data.dataset import Dataset, Targets
from lifelora.retrieval.select import Chosen, Selector


def starts(targets: Targets, block: int) -> Int[np.ndarray, "B"]:
    """Where each target's block begins in its user's history."""
    return np.asarray(targets.position_B - targets.position_B % block)


def as_of_starts(targets: Targets, block: int) -> Targets:
    """The same items, asked about before anything of their blocks happened."""
    return Targets(targets.user_B, targets.item_B, starts(targets, block), targets.label_B)


def blocks(targets: Targets, block: int) -> Int[np.ndarray, "B"]:
    """A number for each target, the same for those of one block; they rise by user and time, and none is left out."""
    # One number for both, which sorts quicker than two columns.
    keys = targets.user_B.astype(np.int64) * (int(targets.position_B.max(initial=0)) // block + 1) + targets.position_B // block
    return np.asarray(np.unique(keys, return_inverse=True)[1])


@final
class Growing(Selector):
    """The k behaviours before a target's block, and those of the block before it."""

    def __init__(self, k: int, block: int) -> None:
        self.k, self.block = k, block

    def in_words(self) -> str:
        """Which behaviours are chosen, for a reader of the report."""
        return f"the behaviours before the target from the {self.k} before its block of {self.block} events on"

    def _choose(self, dataset: Dataset, targets: Targets) -> Chosen:
        first_B = np.maximum(0, starts(targets, self.block) - self.k)
        count_B = targets.position_B - first_B
        width = max(1, int(count_B.max(initial=0)))
        rows_BK, mask_BK = dataset.history(targets, width)
        mask_BK &= np.arange(width) >= width - count_B[:, None]
        return np.where(mask_BK, rows_BK, 0), mask_BK
