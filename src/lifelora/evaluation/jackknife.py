"""The figures of a system, and the same without each user in turn: the delete-one jackknife. Knows scores on rows, no model.

A user's rows depend on one another, so how sure a figure is depends on how much each user matters. All is exact and linear in the
rows, but for one sorting of the scores: nothing is drawn, and nothing is sorted again.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from lifelora.errors import ConfigError
from lifelora.evaluation import metrics as M
from lifelora.evaluation.calibration import Calibration
from lifelora.evaluation.lists import K

METRICS = tuple(M.HIGHER_IS_BETTER)
DRAWS = 1000
UNBOUNDED = ("log_loss", f"novelty@{K}")
"""Metrics of 0 and more; all others are between 0 and 1."""


@dataclass(frozen=True, eq=False)
class Scored:
    """One system's scores on the test samples; users and items are inner indices."""

    user_N: Int[np.ndarray, "N"]
    item_N: Int[np.ndarray, "N"]
    label_N: Shaped[np.ndarray, "N"]
    score_N: Float[np.ndarray, "N"]

    def __post_init__(self) -> None:
        M.checked(self.label_N, self.score_N, probability=True)
        if not len(self.user_N) == len(self.item_N) == len(self.label_N):
            raise ConfigError(
                f"{len(self.user_N)} users, {len(self.item_N)} items, {len(self.label_N)} labels: "
                "these are columns of the same samples and must be equally long."
            )

    def rows_hash(self) -> str:
        """16 hexadecimal digits that stand for the rows (user, item, label) in their order; scores play no part."""
        columns = np.stack([column.astype("<i8") for column in (self.user_N, self.item_N, self.label_N)], axis=1)
        return hashlib.sha256(columns.tobytes()).hexdigest()[:16]

    def where(self, keep_N: Shaped[np.ndarray, "N"]) -> "Scored":
        """The rows for which ``keep_N`` holds."""
        return Scored(self.user_N[keep_N], self.item_N[keep_N], self.label_N[keep_N], self.score_N[keep_N])


@dataclass(frozen=True, eq=False)
class Rows:
    """One system's value of each metric on each test sample, where the metric is a mean over samples.

    Values are in [0, 1], but those of ``UNBOUNDED`` metrics, which are 0 and more.
    """

    user_N: Int[np.ndarray, "N"]
    values: Mapping[str, Float[np.ndarray, "N"]]
    rows_hash: str
    "Stands for the rows, in their order."

    def __post_init__(self) -> None:
        for metric, value_N in self.values.items():
            most = np.finfo(np.float64).max if metric in UNBOUNDED else 1
            if bad := int((~((value_N >= 0) & (value_N <= most))).sum()):
                allowed = "0 and more" if metric in UNBOUNDED else "[0, 1]"
                raise ConfigError(f"{metric} is outside {allowed} on {bad:,} of {len(value_N):,} samples; scale it.")


@dataclass(frozen=True, eq=False)
class Jackknifed:
    """The metrics of one system, on its rows and without each user; of several runs, their mean."""

    rows_hash: str
    by_run: dict[str, list[float]]
    """Each metric on the rows of each run, by its formula: ECE as it is found, chance and all."""
    counted: dict[str, tuple[int, int]]
    """Rows and users that each metric stands on (GAUC cannot use a user with one class)."""
    without: dict[str, Float[np.ndarray, "U"]]
    """Each metric but ECE, when the rows of one user are left out of every run."""
    calibration: Calibration | None = None
    """What ECE is made of, where it was asked for."""


def jackknife(
    scored: Scored | Sequence[Scored], metrics: Sequence[str] = METRICS, *, draws: int = DRAWS, seed: int = 0
) -> Jackknifed:
    """Metrics of ``scored``, and again without each user; ``draws`` and ``seed`` are those of chance behind ECE's interval.

    Several ``scored`` are one system in several runs (of other seeds, maybe on other rows): their mean, and a user is left
    out of all runs at once.
    """
    if unknown := [metric for metric in metrics if metric not in METRICS]:
        raise ConfigError(f"no metric called {unknown[0]!r}; there are {', '.join(METRICS)}.")
    if draws < 1:
        raise ConfigError(f"draws = {draws}; use at least 1, and 1,000 for two sure digits of an interval.")
    runs = [scored] if isinstance(scored, Scored) else list(scored)
    users, users_of = _numbered([run.user_N for run in runs])
    by_run: dict[str, list[float]] = {metric: [] for metric in metrics}
    without: dict[str, list[Float[np.ndarray, "U"]]] = {metric: [] for metric in metrics if metric != "ece"}
    both_U, both_rows, columns = np.zeros(users, dtype=bool), 0, []
    for run, user_N in zip(runs, users_of, strict=True):
        label_N, score_N = M.checked(run.label_N, run.score_N, probability=True)
        rows_U = np.bincount(user_N, minlength=users).astype(np.float64)
        auc_U = np.full(users, np.nan)
        auc_U[rows_U > 0], _ = M.auc_by_user(user_N, label_N, score_N)
        both_U |= ~np.isnan(auc_U)
        both_rows += int(rows_U[~np.isnan(auc_U)].sum())
        columns.append((user_N, label_N, score_N))
        for metric in metrics:
            match metric:
                case "auc":
                    found = _auc(user_N, label_N, score_N, auc_U)
                case "gauc":
                    found = _mean(np.nan_to_num(auc_U) * rows_U, np.where(np.isnan(auc_U), 0.0, rows_U))
                case "ece":
                    by_run[metric].append(M.expected_calibration_error(label_N, score_N))
                    continue
                case _:
                    row_N = {"log_loss": M.row_losses, "accuracy": M.row_hits}[metric](label_N, score_N)
                    found = _mean(np.bincount(user_N, weights=row_N, minlength=users), rows_U)
            by_run[metric].append(found[0])
            without[metric].append(found[1])
    counted = {
        metric: (both_rows, int(both_U.sum())) if metric == "gauc" else (sum(map(len, users_of)), users) for metric in metrics
    }
    return Jackknifed(
        "+".join(run.rows_hash() for run in runs),
        by_run,
        counted,
        {metric: np.mean(values, axis=0) for metric, values in without.items()},
        Calibration.of(columns, users, draws, seed) if "ece" in metrics else None,
    )


def jackknife_means(rows: Rows | Sequence[Rows]) -> Jackknifed:
    """The metrics of ``rows``, and again without each user; several ``rows`` are several runs, as for ``jackknife``.

    A metric that some run lacks is left out.
    """
    runs = [rows] if isinstance(rows, Rows) else list(rows)
    metrics = [metric for metric in runs[0].values if all(metric in run.values for run in runs)]
    users, users_of = _numbered([run.user_N for run in runs])
    found = {
        metric: [
            _mean(
                np.bincount(user_N, weights=run.values[metric], minlength=users),
                np.bincount(user_N, minlength=users).astype(np.float64),
            )
            for user_N, run in zip(users_of, runs, strict=True)
        ]
        for metric in metrics
    }
    return Jackknifed(
        "+".join(run.rows_hash for run in runs),
        {metric: [value for value, _ in of] for metric, of in found.items()},
        dict.fromkeys(metrics, (sum(map(len, users_of)), users)),
        {metric: np.mean([without_U for _, without_U in of], axis=0) for metric, of in found.items()},
    )


def _numbered(users_of: Sequence[Int[np.ndarray, "..."]]) -> tuple[int, list[Int[np.ndarray, "..."]]]:
    """How many users the rows of all runs have together, and each run's rows' users as numbers below that."""
    users_U, user_N = np.unique(np.concatenate(users_of), return_inverse=True)
    return len(users_U), np.split(user_N, np.cumsum([len(user_N) for user_N in users_of])[:-1])


def _without(all_rows: float, own_U: Float[np.ndarray, "U"], of: float, of_U: Float[np.ndarray, "U"]) -> Float[np.ndarray, "U"]:
    """(all - own) / (of - of_U), nan where nothing is left."""
    left_U = of - of_U
    left: Float[np.ndarray, "U"] = np.divide(all_rows - own_U, left_U, out=np.full(len(own_U), np.nan), where=left_U > 0.5)
    return left


def _mean(sum_U: Float[np.ndarray, "U"], rows_U: Float[np.ndarray, "U"]) -> tuple[float, Float[np.ndarray, "U"]]:
    """Σ sum / Σ rows over all users, and without each."""
    total, rows = float(sum_U.sum()), float(rows_U.sum())
    return total / rows if rows else float("nan"), _without(total, sum_U, rows, rows_U)


def _auc(
    user_N: Int[np.ndarray, "N"], label_N: Shaped[np.ndarray, "N"], score_N: Float[np.ndarray, "N"], auc_U: Float[np.ndarray, "U"]
) -> tuple[float, Float[np.ndarray, "U"]]:
    """AUC, and AUC without each user: pairs won of all, less those with the user's positives, less those with his negatives.

    The pairs inside a user are taken away twice, so they are put back once; ``auc_U`` says how many of them were won.
    """
    users = len(auc_U)
    yes_N, no_N = score_N[label_N], score_N[~label_N]
    won_N = np.empty(len(score_N))
    won_N[label_N] = _below(np.sort(no_N), yes_N)
    won_N[~label_N] = len(yes_N) - _below(np.sort(yes_N), no_N)
    won = float(won_N[label_N].sum())
    yes_U = np.bincount(user_N, weights=label_N, minlength=users)
    no_U = np.bincount(user_N, minlength=users) - yes_U
    lost_U = np.bincount(user_N, weights=won_N, minlength=users) - np.nan_to_num(auc_U) * yes_U * no_U
    pairs = float(len(yes_N) * len(no_N))
    left_U = (len(yes_N) - yes_U) * (len(no_N) - no_U)
    return won / pairs if pairs else float("nan"), _without(won, lost_U, pairs, pairs - left_U)


def _below(sorted_N: Float[np.ndarray, "..."], score_N: Float[np.ndarray, "..."]) -> Float[np.ndarray, "..."]:
    """How many of the sorted scores are below each score, equal ones counting half."""
    below_N, upto_N = (np.searchsorted(sorted_N, score_N, side) for side in ("left", "right"))
    half_N: Float[np.ndarray, "..."] = (below_N + upto_N) / 2
    return half_N
