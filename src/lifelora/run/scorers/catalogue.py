"""Scores of a whole catalogue: what the user has seen is left out, and the first become a shortlist. Knows no scorer."""

import numpy as np
from jaxtyping import Float, Int

from lifelora.data.dataset import Dataset, Targets


def leave_out_seen(score_BM: Float[np.ndarray, "B M"], dataset: Dataset, targets: Targets) -> None:
    """Put -inf, in place, for each item that the user had seen before; a target that comes again keeps its score."""
    own_B = score_BM[np.arange(len(targets)), targets.item_B].copy()
    number_P, event_P = dataset.log.past(targets.user_B, targets.position_B)
    score_BM[number_P, dataset.item_N[event_P]] = -np.inf
    score_BM[np.arange(len(targets)), targets.item_B] = own_B


def shortlisted(score_BM: Float[np.ndarray, "B M"], count: int) -> Int[np.ndarray, "B C"]:
    """The ``count`` items of each row with the highest scores (of equal ones the first), in the catalogue's order."""
    return np.sort(np.argsort(-score_BM, axis=1, kind="stable")[:, :count], axis=1)
