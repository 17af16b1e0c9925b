"""Figures of merit for a list in which one item is the right one, in float64 NumPy. Knows scores and ranks; no model.

Where the right item shares its score with others, its place is not known; each figure is then the mean over the places that
it could have. So a system that says the same of everything gets what guessing gets, and not the first place.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from lifelora.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where the right items stand: after ``better_N`` others, and among ``tied_N`` with the same score (1: it is alone)."""

    better_N: Int[np.ndarray, "N"]
    tied_N: Int[np.ndarray, "N"]

    @classmethod
    def of(cls, score_NC: Float[np.ndarray, "N C"], target_N: Int[np.ndarray, "N"]) -> "Ranks":
        """The ranks of the columns ``target_N``; ConfigError if a score is not a number."""
        if np.isnan(score_NC).any():
            row = int(np.isnan(score_NC).any(axis=1).argmax())
            raise ConfigError(f"sample {row:,} has a score that is not a number. Score every candidate.")
        own_N1 = np.take_along_axis(score_NC, target_N[:, None], axis=1)
        return cls((score_NC > own_N1).sum(axis=1), (score_NC == own_N1).sum(axis=1))

    def hit(self, k: int) -> Float[np.ndarray, "N"]:
        """HR@k of each row: 1 where the right item is among the first k."""
        return np.asarray(np.clip(k - self.better_N, 0, self.tied_N) / self.tied_N, np.float64)

    def ndcg(self, k: int) -> Float[np.ndarray, "N"]:
        """NDCG@k of each row: 1 / log2(1 + rank) if the rank is at most k (there is one right item, so IDCG = 1)."""
        return self._mean(np.concatenate([1 / np.log2(1 + np.arange(1.0, k + 1)), [0.0]]), k)

    def reciprocal(self) -> Float[np.ndarray, "N"]:
        """1 / rank of each row; their mean is MRR."""
        longest = int((self.better_N + self.tied_N).max(initial=1))
        return self._mean(np.concatenate([1 / np.arange(1.0, longest + 1), [0.0]]), longest)

    def _mean(self, gain_P: Float[np.ndarray, "P"], k: int) -> Float[np.ndarray, "N"]:
        """The mean gain over ranks better+1 … better+tied; ``gain_P`` ends with what all ranks after k get."""
        upto_P = np.concatenate([[0.0], np.cumsum(gain_P)])
        first_N, last_N = np.minimum(self.better_N, k), np.minimum(self.better_N + self.tied_N, k)
        mean_N: Float[np.ndarray, "N"] = (upto_P[last_N] - upto_P[first_N]) / self.tied_N
        return mean_N
