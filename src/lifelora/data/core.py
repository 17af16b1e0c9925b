"""The k-core of a log: what is left when rare users and rare items go. Knows pairs of numbers, not what they stand for."""

import numpy as np
from jaxtyping import Bool, Int


def k_core(user_N: Int[np.ndarray, "N"], item_N: Int[np.ndarray, "N"], k: int) -> Bool[np.ndarray, "N"]:
    """Which events are left when every user and every item has at least ``k`` of them.

    Events of users or items with fewer go, again and again until none has fewer. What is left is the largest such part of
    the log, whatever the order in which they go.
    """
    left = np.arange(len(user_N))
    while len(left):
        enough = np.ones(len(left), np.bool_)
        for code_N in (user_N[left], item_N[left]):
            enough &= np.bincount(code_N)[code_N] >= k
        if enough.all():
            break
        left = left[enough]
    kept_N = np.zeros(len(user_N), np.bool_)
    kept_N[left] = True
    return kept_N
