"""Figures of merit for yes/no predictions, in float64 NumPy. Knows users, labels and scores; no model and no data set.

No row is ever dropped in silence: what a figure cannot use (a user who only ever said yes has no AUC) is counted and
handed back, and a figure that does not exist (AUC with one class) is ``nan``. Columns may be Series of pandas or polars, arrays
of pyarrow or NumPy, tensors or lists; labels are 0 and 1 or bool, users any ids. ConfigError says which sample is wrong.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped

from lifelora.errors import ConfigError
from lifelora.evaluation.columns import codes, labels, numbers
from lifelora.frames import AnyColumn

CLIP = 1e-7
"""Probabilities are kept inside [CLIP, 1 - CLIP] by ``log_loss``: one sure mistake then costs 16.1, not infinity."""
THRESHOLD = 0.5
BINS = 15

HIGHER_IS_BETTER = {"auc": True, "gauc": True, "log_loss": False, "accuracy": True, "ece": False}
"""The figures, in the order of every table."""


@dataclass(frozen=True)
class Gauc:
    """Grouped AUC and what it stands on; ``users`` and ``rows`` counted, the ``idle`` ones have a single class."""

    value: float
    users: int
    rows: int
    idle_users: int
    idle_rows: int


@dataclass(frozen=True, eq=False)
class Reliability:
    """Calibration by bins of the score, G of them; the means of an empty bin are nan."""

    rows_G: Int[np.ndarray, "G"]
    score_G: Float[np.ndarray, "G"]
    label_G: Float[np.ndarray, "G"]
    edges: Float[np.ndarray, "G+1"]


def checked(
    label_N: AnyColumn, score_N: AnyColumn, *, probability: bool = False
) -> tuple[Bool[np.ndarray, "N"], Float[np.ndarray, "N"]]:
    """Labels as bool and scores as float64, or ConfigError with the first sample that is not allowed."""
    label_N, score_N = labels(label_N), numbers(score_N, "scores")
    if label_N.shape != score_N.shape or not len(label_N):
        raise ConfigError(f"labels {label_N.shape} and scores {score_N.shape} must be two equally long columns.")
    bad_N = ~np.isfinite(score_N) if not probability else ~((score_N >= 0) & (score_N <= 1))
    if bad_N.any():
        allowed = "a probability in [0, 1]" if probability else "a finite number"
        raise ConfigError(
            f"{bad_N.sum():,} scores are not {allowed}; the first is that of sample {bad_N.argmax():,}: "
            f"{score_N[bad_N.argmax()]}. Score every sample."
        )
    return label_N, score_N


def auc(label_N: AnyColumn, score_N: AnyColumn) -> float:
    """Area under the ROC curve: the probability that a random positive outscores a random negative; ties count half.

    AUC = (Σ_{i positive} rank_i - P(P+1)/2) / (P·Q), with P positives, Q negatives and the mean rank among ties.
    ``nan`` where one class is absent.
    """
    label_N, score_N = checked(label_N, score_N)
    order_N = np.argsort(score_N)
    score_N, label_N = score_N[order_N], label_N[order_N]
    rank_N = _middle_ranks(np.r_[True, score_N[1:] != score_N[:-1]])
    positives = int(label_N.sum())
    pairs = positives * (len(label_N) - positives)
    return float((rank_N[label_N].sum() - positives * (positives + 1) / 2) / pairs) if pairs else float("nan")


def auc_by_user(user_N: AnyColumn, label_N: AnyColumn, score_N: AnyColumn) -> tuple[Float[np.ndarray, "U"], Int[np.ndarray, "U"]]:
    """``auc`` inside each user and the user's number of rows, users ascending; ``nan`` for a user with one class."""
    user_N, (label_N, score_N) = codes(user_N, "users"), checked(label_N, score_N)
    if len(user_N) != len(label_N):
        raise ConfigError(f"users {user_N.shape} and labels {label_N.shape} must be two equally long columns.")
    order_N = np.lexsort((score_N, user_N))
    user_N, label_N, score_N = user_N[order_N], label_N[order_N], score_N[order_N]
    first_N = np.r_[True, user_N[1:] != user_N[:-1]]
    group_N = np.cumsum(first_N) - 1
    rank_N = _middle_ranks(first_N | np.r_[True, score_N[1:] != score_N[:-1]]) - np.flatnonzero(first_N)[group_N]
    rows_U = np.bincount(group_N)
    positives_U = np.bincount(group_N, weights=label_N)
    pairs_U = positives_U * (rows_U - positives_U)
    won_U = np.bincount(group_N, weights=rank_N * label_N) - positives_U * (positives_U + 1) / 2
    return np.divide(won_U, pairs_U, out=np.full(len(rows_U), np.nan), where=pairs_U > 0), rows_U


def _middle_ranks(first_N: Shaped[np.ndarray, "N"]) -> Float[np.ndarray, "N"]:
    """Ranks from 1 of sorted rows, the mean rank for each run of equals; ``first_N`` marks where a run begins."""
    start_T = np.flatnonzero(first_N)
    end_T = np.r_[start_T[1:], len(first_N)]
    rank_N: Float[np.ndarray, "N"] = np.repeat((start_T + 1 + end_T) / 2, end_T - start_T)
    return rank_N


def gauc(user_N: AnyColumn, label_N: AnyColumn, score_N: AnyColumn) -> Gauc:
    """Grouped AUC: Σ_u n_u·AUC_u / Σ_u n_u over the users who have both classes, n_u being a user's rows."""
    auc_U, rows_U = auc_by_user(user_N, label_N, score_N)
    both_U = ~np.isnan(auc_U)
    rows = int(rows_U[both_U].sum())
    value = float((auc_U[both_U] * rows_U[both_U]).sum() / rows) if rows else float("nan")
    return Gauc(value, int(both_U.sum()), rows, int((~both_U).sum()), int(rows_U.sum()) - rows)


def row_losses(label_N: AnyColumn, score_N: AnyColumn) -> Float[np.ndarray, "N"]:
    """-log p where the label is 1 and -log(1 - p) where it is 0, with p clipped to [CLIP, 1 - CLIP]."""
    label_N, score_N = checked(label_N, score_N, probability=True)
    p_N = np.clip(score_N, CLIP, 1 - CLIP)
    loss_N: Float[np.ndarray, "N"] = -np.log(np.where(label_N, p_N, 1 - p_N))
    return loss_N


def log_loss(label_N: AnyColumn, score_N: AnyColumn) -> float:
    """Mean of ``row_losses``: -1/N Σ [y log p + (1-y) log(1-p)], natural logarithm."""
    return float(row_losses(label_N, score_N).mean())


def row_hits(label_N: AnyColumn, score_N: AnyColumn) -> Shaped[np.ndarray, "N"]:
    """Whether (score > THRESHOLD) is the label."""
    label_N, score_N = checked(label_N, score_N, probability=True)
    hit_N: Shaped[np.ndarray, "N"] = (score_N > THRESHOLD) == label_N
    return hit_N


def accuracy(label_N: AnyColumn, score_N: AnyColumn) -> float:
    """Share of rows where (score > THRESHOLD) is the label."""
    return float(row_hits(label_N, score_N).mean())


def bin_of(score_N: Float[np.ndarray, "N"], bins: int = BINS) -> Int[np.ndarray, "N"]:
    """The equal-width bin of a probability: bin g holds [g/bins, (g+1)/bins), and the last one also 1."""
    return np.minimum((score_N.astype(np.float64) * bins).astype(np.int64), bins - 1)


def reliability(label_N: AnyColumn, score_N: AnyColumn, bins: int = BINS) -> Reliability:
    """Rows, mean score and share of positives in each of ``bins`` equal-width bins of the score."""
    label_N, score_N = checked(label_N, score_N, probability=True)
    bin_N = bin_of(score_N, bins)
    rows_G = np.bincount(bin_N, minlength=bins)
    empty_G = np.full(bins, np.nan)
    score_G, label_G = (
        np.divide(np.bincount(bin_N, weights=weight_N, minlength=bins), rows_G, out=empty_G.copy(), where=rows_G > 0)
        for weight_N in (score_N, label_N)
    )
    return Reliability(rows_G, score_G, label_G, np.linspace(0, 1, bins + 1))


def expected_calibration_error(label_N: AnyColumn, score_N: AnyColumn, bins: int = BINS) -> float:
    """ECE = Σ_g n_g/N · |share of positives in g - mean score in g|, over equal-width bins of the score."""
    table = reliability(label_N, score_N, bins)
    gap_G = np.abs(table.label_G - table.score_G)
    return float(np.nansum(gap_G * table.rows_G) / table.rows_G.sum())
