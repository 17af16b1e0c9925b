"""Behaviours in an order drawn by seed, as a control: what a system loses by it, the order was worth. Knows no model.

The order of a sample depends on the seed, its user and how much of the history it may see: not on the item in question, nor on
what else is asked. So candidates for one answer are shown one order, and training, evaluation and serving agree.
"""

import numpy as np
from jaxtyping import Bool, Int

from lifelora import seeds
from lifelora.data.dataset import Targets
from lifelora.retrieval.select import Chosen

SHUFFLED = "shuffled-history"
"""The control's name in a recipe."""
STREAM = "shuffled history"
IN_WORDS = "in an order drawn by seed"
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))


def shuffled(chosen: Chosen, targets: Targets, seed: int) -> Chosen:
    """The same event rows for each target, at the right end as before, in a drawn order."""
    rows_BK, mask_BK = chosen
    # From the newest on, so that a place has its number whatever stands before it.
    place_K = np.arange(rows_BK.shape[1], 0, -1, dtype=np.uint64)
    user_B = _mixed(np.uint64(seeds.derive(seed, STREAM)) ^ targets.user_B.astype(np.uint64))
    key_BK = _mixed(_mixed(user_B ^ targets.position_B.astype(np.uint64))[:, None] ^ place_K)
    order_BK = np.lexsort((key_BK, mask_BK))
    return np.take_along_axis(rows_BK, order_BK, axis=1), np.take_along_axis(mask_BK, order_BK, axis=1)


def newest(mask_BK: Bool[np.ndarray, "B K"], count_B: Int[np.ndarray, "B"]) -> Bool[np.ndarray, "B K"]:
    """The last ``count`` cells of each row that hold something."""
    return np.asarray(mask_BK & (np.cumsum(mask_BK[:, ::-1], axis=1)[:, ::-1] <= count_B[:, None]))


def _mixed(x_X: np.ndarray) -> np.ndarray:
    """SplitMix64: numbers beside one another become numbers that have nothing to do with one another."""
    x_X = x_X + GOLDEN
    for shift, factor in STEPS:
        x_X = (x_X ^ (x_X >> np.uint64(shift))) * np.uint64(factor)
    return np.asarray(x_X ^ (x_X >> np.uint64(31)))
