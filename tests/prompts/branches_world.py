"""Samples of histories that grow, and the prompt that a branch stands for."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from lifelora.data.dataset import Dataset, Targets
from lifelora.prompts.tree import PromptTrees

K = 4


def growing(
    dataset: Dataset, samples: Sequence[int], block: int
) -> tuple[Targets, Int[np.ndarray, "B N"], Bool[np.ndarray, "B N"], Int[np.ndarray, "B"], Int[np.ndarray, "B"]]:
    """Samples with K to K + block - 1 behaviours, the number of the trunk of each, and where its block starts."""
    targets = dataset.targets(np.asarray(samples, np.int64))
    start_B = targets.position_B - targets.position_B % block
    chosen_BK, mask_BK = dataset.history(targets, K + block - 1)
    mask_BK &= np.arange(mask_BK.shape[1]) >= mask_BK.shape[1] - (targets.position_B - np.maximum(0, start_B - K))[:, None]
    return targets, chosen_BK, mask_BK, targets.user_B * 1000 + start_B, start_B


def branch(trees: PromptTrees, number: int) -> tuple[list[int], list[int], list[int]]:
    """Tokens, positions and soft tokens of the prompt that a branch stands for."""
    trunk = int(trees.trunk_R[: trees.tree_G[number]].sum())
    start, length = int(trees.starts[number]), int(trees.branch_G[number])
    places = [*range(trunk, trunk + int(trees.place_G[number])), *range(start, start + length)]
    soft_L = None if trees.soft_L is None else trees.soft_L[places].tolist()
    return trees.tokens_L[places].tolist(), trees.positions[places].tolist(), soft_L or [-1] * len(places)


def left(trees: PromptTrees, number: int, width: int) -> Bool[np.ndarray, "1 K"]:
    """The behaviours that a tree has left to a branch, of ``width`` cells."""
    return (np.arange(width) >= width - int(trees.shown_G[number]))[None]
