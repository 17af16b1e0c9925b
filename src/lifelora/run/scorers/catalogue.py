"""Scores of a whole catalogue: what the user has seen is left out, the first become a shortlist, which a second
stage puts in order. Knows no scorer.
"""

import numpy as np
from jaxtyping import Float, Int

from lifelora.data.dataset import Dataset, Targets


def leave_out_seen(score_BM: Float[np.ndarray, "B M"], dataset: Dataset, targets: Targets) -> None:
    """Put -inf, in place, for each item that the user had seen before; a target that comes again keeps its score."""
    own_B = score_BM[np.arange(len(targets)), targets.item_B].copy()
    number_P, event_P = dataset.log.past(targets.user_B, targets.position_B)
    score_BM[number_P, dataset.item_N[event_P]] = -np.inf
    score_BM[np.arange(len(targets)), targets.item_B] = own_B


def first(score_BM: Float[np.ndarray, "B M"], count: int) -> Int[np.ndarray, "B K"]:
    """The ``count`` items of each row with the highest scores, the best first (of equal ones the first); -1 in place of -inf."""
    count = min(count, score_BM.shape[1])
    least_B1 = -np.partition(-score_BM, count - 1, axis=1)[:, count - 1 : count]
    above_BM, tied_BM = score_BM > least_B1, score_BM == least_B1
    room_B1 = count - above_BM.sum(axis=1, keepdims=True, dtype=np.int32)
    kept_BM = above_BM | (tied_BM & (np.cumsum(tied_BM, axis=1, dtype=np.int32) <= room_B1))
    item_BK = np.nonzero(kept_BM)[1].reshape(len(score_BM), count)
    score_BK = np.take_along_axis(score_BM, item_BK, axis=1)
    order_BK = np.argsort(-score_BK, axis=1, kind="stable")
    best_BK: Int[np.ndarray, "B K"] = np.take_along_axis(np.where(np.isneginf(score_BK), -1, item_BK), order_BK, axis=1)
    return best_BK


def shortlisted(score_BM: Float[np.ndarray, "B M"], count: int) -> Int[np.ndarray, "B C"]:
    """The ``count`` items of each row with the highest scores (of equal ones the first), in the catalogue's order."""
    return np.sort(np.argsort(-score_BM, axis=1, kind="stable")[:, :count], axis=1)


def lifted(
    first_BM: Float[np.ndarray, "B M"], short_BC: Int[np.ndarray, "B C"], among_BC: Float[np.ndarray, "B C"]
) -> Float[np.ndarray, "B M"]:
    """Scores of a first stage, with those of a second above all others; a shortlist's item of -1, or with -inf, is none."""
    scores_BM = first_BM.astype(np.float64)
    above_B1 = np.where(np.isfinite(scores_BM), scores_BM, -np.inf).max(axis=1, keepdims=True)
    real_BC = np.isfinite(among_BC) & (short_BC >= 0)
    least_B1 = np.where(real_BC, among_BC, np.inf).min(axis=1, keepdims=True)
    row_P, column_P = np.nonzero(real_BC)
    scores_BM[row_P, short_BC[row_P, column_P]] = (above_B1 + 1 + among_BC - least_B1)[row_P, column_P]
    return scores_BM
