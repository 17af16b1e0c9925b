"""ECE of the population, and how sure it is. Knows users and bins of scores; no model.

ECE adds up absolute values, so chance alone makes it rise: thirty users of a system that is right may show .05. What is asked is
the ECE that all users together would show. How much chance moves each bin is known from leaving out each user in turn; so for
any ECE of the population it is known how large the ECE of these rows would be. Those for which it would be as found are the
interval, and the one for which it would be larger as often as smaller is the value. That is hybrid resampling (Chuang and Lai,
Statistica Sinica 10, 2000), which holds at zero, where the plain bootstrap and the jackknife do not.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int, Shaped

from lifelora.evaluation import metrics as M
from lifelora.seeds import generator

USERS_AT_ONCE = 1024
"""Of whom chance is drawn at a time; 8 MB for 1,000 draws."""
STEPS = 50
"""Halvings of a range by which a solution is found."""


@dataclass(frozen=True, eq=False)
class Calibration:
    """Mean of (label - score) inside each bin, as a share of all rows, B bins; of several runs, the bins of all side by side.

    Σ |gap_B| is ECE (of several runs, their mean), and ``without_UB`` are the gaps when a user's rows are left out.
    """

    gap_B: Float[np.ndarray, "B"]
    without_UB: Float[np.ndarray, "U B"]
    draws: int
    seed: int

    @classmethod
    def of(
        cls,
        runs: list[tuple[Int[np.ndarray, "..."], Shaped[np.ndarray, "..."], Float[np.ndarray, "..."]]],
        users: int,
        draws: int,
        seed: int,
    ) -> "Calibration":
        """From the (user, label, score) columns of each run, users numbered from 0 to ``users`` - 1."""
        gaps, without = [], []
        for user_N, label_N, score_N in runs:
            cell_N = user_N * M.BINS + M.bin_of(score_N)
            gap_UG = np.bincount(cell_N, weights=label_N - score_N, minlength=users * M.BINS).reshape(-1, M.BINS)
            rows_U = np.bincount(user_N, minlength=users)
            sum_G, others_U1 = gap_UG.sum(axis=0), (len(user_N) - rows_U)[:, None]
            left_UG = np.full(gap_UG.shape, np.nan)
            gaps.append(sum_G / len(user_N) / len(runs))
            without.append(np.divide(sum_G - gap_UG, others_U1, out=left_UG, where=others_U1 > 0) / len(runs))
        return cls(np.concatenate(gaps), np.concatenate(without, axis=1), draws, seed)

    @cached_property
    def limits(self) -> tuple[float, float, float]:
        """The population's ECE: its value, and the lower and the upper end of its 95 % interval.

        Rows may by chance look better than those of a system that is right would. Such luck does not make the upper end smaller
        than what is usual for that system (as with limits in physics: Cowan and others, arXiv:1105.3166).
        """
        found = float(np.abs(self.gap_B).sum())
        if np.isnan(self.without_UB).any():  # a run stands on one user
            return found, float("nan"), float("nan")
        usual = float(np.median(np.abs(self.chance).sum(axis=1)))
        low, middle, high = self._ece(0.025, found), self._ece(0.5, found), self._ece(0.975, max(found, usual))
        return middle, min(low, middle), max(high, middle)

    @cached_property
    def chance(self) -> Float[np.ndarray, "R B"]:
        """Draws of what chance does to the gaps: normal, with the jackknife's covariance; the same users for every system."""
        deviation_UB = self.without_UB - self.without_UB.mean(axis=0)
        users = len(deviation_UB)
        random = generator(self.seed, "evaluation", "calibration")
        chance_RB = np.zeros((self.draws, deviation_UB.shape[1]))
        for start in range(0, users, USERS_AT_ONCE):
            some_UB = deviation_UB[start : start + USERS_AT_ONCE]
            chance_RB += random.standard_normal((self.draws, len(some_UB))) @ some_UB
        chance_RB *= np.sqrt((users - 1) / users)
        return chance_RB

    @cached_property
    def variance(self) -> Float[np.ndarray, "B"]:
        """Of each gap, by the jackknife."""
        users = len(self.without_UB)
        variance_B: Float[np.ndarray, "B"] = self.without_UB.var(axis=0) * (users - 1)
        return variance_B

    def _ece(self, share: float, found: float) -> float:
        """The population's ECE for which ``share`` of the draws have a larger one than ``found``.

        Of all gaps with that ECE they are the likeliest: the found ones, each moved by λ · its variance towards zero and not
        beyond it (λ ≥ 0), or away from it (λ < 0). The larger λ, the smaller ECE.
        """
        moving_B = self.variance > 0
        if not moving_B.any():
            return found

        def gaps(strength: float) -> Float[np.ndarray, "B"]:
            moved_B: Float[np.ndarray, "B"] = np.maximum(np.abs(self.gap_B) - strength * self.variance, 0.0)
            signed_B: Float[np.ndarray, "B"] = np.copysign(moved_B, self.gap_B)
            return signed_B

        def too_large(strength: float) -> bool:
            return bool(np.quantile(np.abs(gaps(strength) + self.chance).sum(axis=1), 1 - share) > found)

        most = float((np.abs(self.gap_B[moving_B]) / self.variance[moving_B]).max())  # here no gap is left
        if too_large(most):
            return float(np.abs(gaps(most)).sum())
        least = -1 / np.sqrt(float(self.variance.max()))
        while not too_large(least):
            least *= 2
        for _ in range(STEPS):
            middle = (least + most) / 2
            least, most = (middle, most) if too_large(middle) else (least, middle)
        return float(np.abs(gaps((least + most) / 2)).sum())
