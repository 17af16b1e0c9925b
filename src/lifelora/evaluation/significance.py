"""How sure a figure is: bootstrap intervals and paired tests that resample users. Knows scores on rows, no model.

A user's rows depend on one another, so users are drawn, with replacement, and each brings all its rows. Drawing is the
same for every system under one seed, hence the difference of two systems' draws *is* the paired bootstrap.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped

from lifelora.errors import ConfigError
from lifelora.evaluation import metrics as M
from lifelora.seeds import generator

METRICS = tuple(M.HIGHER_IS_BETTER)
RESAMPLES = 1000
LEVEL = 0.95

Draw = Callable[[Float[np.ndarray, "U"]], float]
"""A metric as a function of how often each user was drawn."""


@dataclass(frozen=True)
class Figure:
    """A value, its 95 % interval, and what it stands on. ``resamples`` counts those in which the figure exists."""

    value: float
    low: float
    high: float
    n: int
    users: int
    seed: int
    resamples: int


@dataclass(frozen=True)
class Difference(Figure):
    """First system minus second on the same rows; ``p`` is two-sided and never below 2 / (resamples + 1)."""

    p: float


@dataclass(frozen=True, eq=False)
class Scored:
    """One system's scores on the test rows; users and items are inner indices."""

    user_N: Int[np.ndarray, "N"]
    item_N: Int[np.ndarray, "N"]
    label_N: Shaped[np.ndarray, "N"]
    score_N: Float[np.ndarray, "N"]

    def __post_init__(self) -> None:
        M.checked(self.label_N, self.score_N, probability=True)
        if not len(self.user_N) == len(self.item_N) == len(self.label_N):
            raise ConfigError(f"{len(self.user_N)} users, {len(self.item_N)} items, {len(self.label_N)} labels: "
                              "these are columns of the same rows and must be equally long.")

    def rows_hash(self) -> str:
        """16 hexadecimal digits that stand for the rows (user, item, label) in their order; scores play no part."""
        columns = np.stack([column.astype("<i8") for column in (self.user_N, self.item_N, self.label_N)], axis=1)
        return hashlib.sha256(columns.tobytes()).hexdigest()[:16]

    def where(self, keep_N: Shaped[np.ndarray, "N"]) -> "Scored":
        """The rows for which ``keep_N`` holds."""
        return Scored(self.user_N[keep_N], self.item_N[keep_N], self.label_N[keep_N], self.score_N[keep_N])


@dataclass(frozen=True, eq=False)
class Rows:
    """One system's value of each metric on each test row, where the metric is a mean over rows."""

    user_N: Int[np.ndarray, "N"]
    values: Mapping[str, Float[np.ndarray, "N"]]
    rows_hash: str
    "Stands for the rows, in their order."


VALUE: dict[str, Callable[[Scored], float]] = {
    "auc": lambda run: M.auc(run.label_N, run.score_N),
    "gauc": lambda run: M.gauc(run.user_N, run.label_N, run.score_N).value,
    "log_loss": lambda run: M.log_loss(run.label_N, run.score_N),
    "accuracy": lambda run: M.accuracy(run.label_N, run.score_N),
    "ece": lambda run: M.expected_calibration_error(run.label_N, run.score_N),
}


@dataclass(frozen=True, eq=False)
class Resampled:
    """The metrics of one system, on its rows and on each resample of the users; of several runs, their mean."""

    rows_hash: str
    seed: int
    by_run: dict[str, list[float]]
    """Each metric on the rows of each run."""
    counted: dict[str, tuple[int, int]]
    """Rows and users that each metric stands on (GAUC cannot use a user with one class)."""
    draws: dict[str, Float[np.ndarray, "R"]]

    @property
    def value(self) -> dict[str, float]:
        """Each metric, of several runs the mean."""
        return {metric: float(np.mean(values)) for metric, values in self.by_run.items()}

    def figure(self, metric: str) -> Figure:
        """The percentile interval [2.5 %, 97.5 %] of the draws.

        ECE averages absolute values, so every resampling pushes it up; its interval is moved back by the mean push
        (and not below 0), or it would often lie wholly above the value.
        """
        value, draws_R = self.value[metric], self.draws[metric]
        draws_R = draws_R[~np.isnan(draws_R)]
        if metric == "ece":
            draws_R = np.maximum(draws_R - (draws_R.mean() - value), 0.0)
        return Figure(value, *_interval(draws_R), *self.counted[metric], self.seed, len(draws_R))


def bootstrap(
    scored: Scored | Sequence[Scored], metrics: Sequence[str] = METRICS, *, resamples: int = RESAMPLES, seed: int = 0
) -> Resampled:
    """Metrics of ``scored``, and again on ``resamples`` samples of as many users, drawn with replacement.

    Several ``scored`` are one system in several runs (of other seeds, maybe on other rows): their mean, with the users
    of all drawn together, so that somebody drawn w times counts w times in every run.

    Exact, and linear in the rows: nothing is sorted again. A user drawn w times counts w times, so AUC is a weighted
    count over one sorting of the scores, and the others are ratios of sums over users.
    """
    if unknown := [metric for metric in metrics if metric not in METRICS]:
        raise ConfigError(f"no metric called {unknown[0]!r}; there are {', '.join(METRICS)}.")
    runs = [scored] if isinstance(scored, Scored) else list(scored)
    users, users_of = _numbered([run.user_N for run in runs])
    drawn = {metric: [_drawn(metric, user_N, users, run) for user_N, run in zip(users_of, runs, strict=True)]
             for metric in metrics}
    draws = {metric: np.empty(resamples) for metric in metrics}
    for r, times_U in enumerate(_times(users, resamples, seed)):
        for metric in metrics:
            draws[metric][r] = np.mean([draw(times_U) for draw in drawn[metric]])
    rows = sum(map(len, users_of))
    return Resampled(
        "+".join(run.rows_hash() for run in runs), seed,
        {metric: [VALUE[metric](run) for run in runs] for metric in metrics},
        {metric: _counted(runs) if metric == "gauc" else (rows, users) for metric in metrics}, draws)


def _numbered(users_of: Sequence[Int[np.ndarray, "..."]]) -> tuple[int, list[Int[np.ndarray, "..."]]]:
    """How many users the rows of all runs have together, and each run's rows' users as numbers below that."""
    users_U, user_N = np.unique(np.concatenate(users_of), return_inverse=True)
    return len(users_U), np.split(user_N, np.cumsum([len(user_N) for user_N in users_of])[:-1])


def _times(users: int, resamples: int, seed: int) -> Iterator[Float[np.ndarray, "U"]]:
    """How often each user was drawn, resample by resample; the same for every system under one seed."""
    if resamples < 1:
        raise ConfigError(f"resamples = {resamples}; use at least 1, and 1,000 for two sure digits of an interval.")
    random = generator(seed, "evaluation", "bootstrap")
    for _ in range(resamples):
        yield np.bincount(random.integers(0, users, users), minlength=users).astype(np.float64)


def _counted(runs: Sequence[Scored]) -> tuple[int, int]:
    """Rows of users with both classes, and the users who have both in some run."""
    rows, users = 0, []
    for run in runs:
        auc_U, rows_U = M.auc_by_user(run.user_N, run.label_N, run.score_N)
        rows += int(rows_U[~np.isnan(auc_U)].sum())
        users.append(np.unique(run.user_N)[~np.isnan(auc_U)])
    return rows, len(np.unique(np.concatenate(users)))


def bootstrap_means(rows: Rows | Sequence[Rows], *, resamples: int = RESAMPLES, seed: int = 0) -> Resampled:
    """The metrics of ``rows``, and again on resamples of the users; several ``rows`` are several runs, as for ``bootstrap``.

    A metric that some run lacks is left out.
    """
    runs = [rows] if isinstance(rows, Rows) else list(rows)
    metrics = [metric for metric in runs[0].values if all(metric in run.values for run in runs)]
    users, users_of = _numbered([run.user_N for run in runs])
    sums = []
    for user_N, run in zip(users_of, runs, strict=True):
        rows_U = np.bincount(user_N, minlength=users).astype(np.float64)
        sums.append((np.stack([np.bincount(user_N, weights=run.values[m], minlength=users) for m in metrics], axis=1), rows_U))
    drawn_RX = np.empty((resamples, len(metrics)))
    for r, times_U in enumerate(_times(users, resamples, seed)):
        # Of a run none of whose users were drawn there is no mean.
        drawn_RX[r] = np.mean([times_U @ sum_UX / (times_U @ rows_U or np.nan) for sum_UX, rows_U in sums], axis=0)
    return Resampled("+".join(run.rows_hash for run in runs), seed,
                     {metric: [float(run.values[metric].mean()) for run in runs] for metric in metrics},
                     dict.fromkeys(metrics, (sum(map(len, users_of)), users)), dict(zip(metrics, drawn_RX.T, strict=True)))


def paired_test(a: Resampled, b: Resampled) -> dict[str, Difference]:
    """a minus b for each metric that both have: value, 95 % interval, and two-sided p that the difference is zero.

    p = 2·min(1 + #{d ≤ 0}, 1 + #{d ≥ 0}) / (R + 1), at most 1, over the paired draws d: p < .05 says what an interval
    without 0 says. Rows, seed and number of resamples must be the same, or ConfigError.
    """
    if a.rows_hash != b.rows_hash:
        raise ConfigError(f"the two systems were scored on different rows ({a.rows_hash} and {b.rows_hash}); a paired "
                          "test needs the same (user, item, label) rows in the same order: score both on one split.")
    shared = [metric for metric in a.draws if metric in b.draws]
    if a.seed != b.seed or any(len(a.draws[metric]) != len(b.draws[metric]) for metric in shared):
        raise ConfigError("the two systems were resampled differently; give bootstrap() the same seed and resamples.")
    return {metric: _difference(a, b, metric) for metric in shared}


def _difference(a: Resampled, b: Resampled, metric: str) -> Difference:
    d_R = a.draws[metric] - b.draws[metric]
    d_R = d_R[~np.isnan(d_R)]
    tails = min(int((d_R <= 0).sum()), int((d_R >= 0).sum()))
    p = min(1.0, 2 * (1 + tails) / (len(d_R) + 1)) if len(d_R) else float("nan")
    return Difference(a.value[metric] - b.value[metric], *_interval(d_R), *a.counted[metric], a.seed, len(d_R), p)


def _interval(draws_R: Float[np.ndarray, "R"]) -> tuple[float, float]:
    if not len(draws_R):
        return float("nan"), float("nan")
    low, high = np.quantile(draws_R, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def _drawn(metric: str, user_N: Int[np.ndarray, "N"], users: int, scored: Scored) -> Draw:
    """``user_N`` numbers the rows' users from 0 to ``users`` - 1, some of whom may have no row."""
    label_N, score_N = M.checked(scored.label_N, scored.score_N, probability=True)
    rows_U = np.bincount(user_N, minlength=users).astype(np.float64)
    match metric:
        case "auc":
            return _auc_drawn(user_N, label_N, score_N)
        case "gauc":
            auc_U = np.full(users, np.nan)
            auc_U[rows_U > 0], _ = M.auc_by_user(user_N, label_N, score_N)
            return _mean_drawn(np.nan_to_num(auc_U) * rows_U, np.where(np.isnan(auc_U), 0.0, rows_U))
        case "ece":
            return _ece_drawn(user_N, label_N, score_N, rows_U)
        case _:
            row_N = {"log_loss": M.row_losses, "accuracy": M.row_hits}[metric](label_N, score_N)
            return _mean_drawn(np.bincount(user_N, weights=row_N, minlength=users), rows_U)


def _mean_drawn(sum_U: Float[np.ndarray, "U"], rows_U: Float[np.ndarray, "U"]) -> Draw:
    def draw(times_U: Float[np.ndarray, "U"]) -> float:
        rows = times_U @ rows_U
        return float(times_U @ sum_U / rows) if rows else float("nan")

    return draw


def _ece_drawn(
    user_N: Int[np.ndarray, "N"], label_N: Shaped[np.ndarray, "N"], score_N: Float[np.ndarray, "N"],
    rows_U: Float[np.ndarray, "U"],
) -> Draw:
    """n_g·|mean label - mean score| is |Σ (label - score)| over bin g, so each user's part of that sum is enough."""
    cell_N = user_N * M.BINS + M.bin_of(score_N)
    gap_UG = np.bincount(cell_N, weights=label_N - score_N, minlength=len(rows_U) * M.BINS).reshape(-1, M.BINS)

    def draw(times_U: Float[np.ndarray, "U"]) -> float:
        rows = times_U @ rows_U
        return float(np.abs(times_U @ gap_UG).sum() / rows) if rows else float("nan")

    return draw


def _auc_drawn(
    user_N: Int[np.ndarray, "N"], label_N: Shaped[np.ndarray, "N"], score_N: Float[np.ndarray, "N"]
) -> Draw:
    """AUC(w) = Σ_i w_i · ½ (W(scores < s_i) + W(scores ≤ s_i)) / (Σ_i w_i · W(all)), i positive, W over negatives.

    With the negatives sorted once, W is a cumulative sum and both places of s_i in it never change. Weights are whole
    numbers, so the sums are exact.
    """
    positive_N, negative_N = np.flatnonzero(label_N), np.flatnonzero(~label_N)
    positive_N = positive_N[np.argsort(score_N[positive_N])]
    negative_N = negative_N[np.argsort(score_N[negative_N])]
    below = np.searchsorted(score_N[negative_N], score_N[positive_N], side="left")
    up_to = np.searchsorted(score_N[negative_N], score_N[positive_N], side="right")
    positive_user, negative_user = user_N[positive_N], user_N[negative_N]
    total = np.zeros(len(negative_N) + 1)

    def draw(times_U: Float[np.ndarray, "U"]) -> float:
        np.cumsum(times_U[negative_user], out=total[1:])
        weight = times_U[positive_user]
        pairs = weight.sum() * total[-1]
        return float(weight @ (total[below] + total[up_to]) / (2 * pairs)) if pairs else float("nan")

    return draw
