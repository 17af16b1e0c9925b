"""Lists of recommended items: how much of a catalogue they show, how little known it is. Knows items by number, no model.

    coverage@k = |items in some list's first k| / M                        (Ge and others, RecSys 2010: catalogue coverage)
    novelty@k  = mean over a list's first k of log2(U / max(u_i, 1))       (Zhou and others, PNAS 2010: self-information)

M is the number of items, U that of users with training events, u_i that of those who had item i. An item that no one had counts
as one that one user had. Neither says that a list is good: drawn at random, lists have much of both.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from lifelora.errors import ConfigError

K = 10
"""The length of the lists that are kept."""
LISTS = {f"coverage@{K}": f"Coverage@{K}", f"novelty@{K}": f"Novelty@{K} (bits)"}


@dataclass(frozen=True, eq=False)
class Lists:
    """What a system would recommend for each sample, the best first; -1 where a list has no more items."""

    top_NK: Int[np.ndarray, "N K"]
    bits_M: Float[np.ndarray, "M"]
    "The self-information of each item: ``bits``."

    def __post_init__(self) -> None:
        if len(self.top_NK) and int(self.top_NK.max()) >= len(self.bits_M):
            raise ConfigError(f"a list has item {int(self.top_NK.max()):,}, and the catalogue {len(self.bits_M):,} items.")

    @property
    def coverage(self) -> float:
        """The share of the catalogue that is in some list. More samples have more, so compare systems on the same ones alone."""
        return len(np.unique(self.top_NK[self.top_NK >= 0])) / len(self.bits_M)

    def novelty(self) -> Float[np.ndarray, "N"]:
        """The mean self-information of each list's items; 0 of an empty list."""
        real_NK = self.top_NK >= 0
        bits_NK = np.where(real_NK, self.bits_M[np.where(real_NK, self.top_NK, 0)], 0.0)
        mean_N: Float[np.ndarray, "N"] = bits_NK.sum(axis=1) / np.maximum(real_NK.sum(axis=1), 1)
        return mean_N


def bits(user_N: Int[np.ndarray, "N"], item_N: Int[np.ndarray, "N"], n_items: int) -> Float[np.ndarray, "M"]:
    """log2(U / max(u_i, 1)) of each item, from the users and items of training events; an event that comes twice is one."""
    pair_P = np.unique(user_N.astype(np.int64) * n_items + item_N)
    users_M = np.bincount(pair_P % n_items, minlength=n_items)
    bits_M: Float[np.ndarray, "M"] = np.log2(len(np.unique(user_N)) / np.maximum(users_M, 1))
    return bits_M
