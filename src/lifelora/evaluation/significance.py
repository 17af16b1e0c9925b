"""How sure a figure is: intervals over users, and paired tests. Knows figures without each user; no rows and no model.

Some users have many rows and matter more than others, so Student's t has as many degrees of freedom as such a spread leaves; a
figure between 0 and 1 has its interval on the log-odds. ``studies/intervals`` shows how often intervals hold the truth and
how often tests err; docs/figures.md tells it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import expit, logit, ndtr, ndtri, stdtr, stdtrit

from lifelora.errors import ConfigError
from lifelora.evaluation.jackknife import UNBOUNDED, Jackknifed

LEVEL = 0.95
ENOUGH_USERS = 10
"""With fewer there is neither an interval nor a test: what so few say of all others was found wrong too often."""
NOTHING = 1e-12
"""A standard error up to this is a rounding error: the users do not differ."""
Z = float(ndtri((1 + LEVEL) / 2))
NONE = (float("nan"), float("nan"))


@dataclass(frozen=True)
class Figure:
    """A value, its 95 % interval, and what it stands on; nan where there is no interval.

    ``degrees`` are those of Student's t: few where few users decide, nan for ECE, whose interval is another.
    """

    value: float
    low: float
    high: float
    n: int
    users: int
    degrees: float


@dataclass(frozen=True)
class Difference(Figure):
    """First system minus second on the same rows; ``p`` is two-sided, and below .05 if the interval does not contain 0."""

    p: float


def value_of(found: Jackknifed, metric: str) -> float:
    """The metric, of several runs the mean; ECE without what chance adds to it, where users are enough to tell."""
    if metric == "ece" and found.calibration is not None and found.counted[metric][1] >= ENOUGH_USERS:
        return found.calibration.limits[0]
    return float(np.mean(found.by_run[metric]))


def estimate(found: Jackknifed, metric: str) -> Figure:
    """The value and its interval, over users and, of several runs, over the runs' seeds as well.

    There is no interval with fewer than ENOUGH_USERS users, where all users agree, and where the figure does not exist
    without some user.
    """
    value, (rows, users) = value_of(found, metric), found.counted[metric]
    if users < ENOUGH_USERS or math.isnan(value):
        return Figure(value, *NONE, rows, users, float("nan"))
    if metric == "ece" and found.calibration is not None:
        _, low, high = found.calibration.limits
        wider = _wider((high - low) / (2 * Z), found.by_run[metric])
        return Figure(value, max(value - wider * (value - low), 0.0), value + wider * (high - value), rows, users, float("nan"))
    error, degrees = _error(found.without[metric], found.by_run[metric])
    if not error > NOTHING or not value > 0:
        return Figure(value, *NONE, rows, users, degrees)
    reach = float(stdtrit(degrees, (1 + LEVEL) / 2)) * error
    if metric in UNBOUNDED:
        low, high = value * math.exp(-reach / value), value * math.exp(min(reach / value, 700.0))
    elif value < 1:
        low, high = (float(expit(logit(value) + way * reach / (value * (1 - value)))) for way in (-1, 1))
    else:
        low, high = NONE
    return Figure(value, low, high, rows, users, degrees)


def paired_test(a: Jackknifed, b: Jackknifed) -> dict[str, Difference]:
    """a minus b for each metric that both have: value, 95 % interval, and two-sided p that the difference is zero.

    Value and interval are of what leaving out each user does to the *difference*, so what both systems share falls away. Of ECE
    they are put together from the two systems' intervals (Zou and Donner, Statistics in Medicine 27, 2008) as if the systems had
    nothing in common, which is cautious. The rows must be the same, or ConfigError.
    """
    if a.rows_hash != b.rows_hash:
        raise ConfigError(
            f"the two systems were scored on different samples ({a.rows_hash} and {b.rows_hash}). A paired "
            "test needs the same samples (user, item, label) in the same order. Score both on one split."
        )
    return {metric: _difference(a, b, metric) for metric in a.by_run if metric in b.by_run}


def _difference(a: Jackknifed, b: Jackknifed, metric: str) -> Difference:
    value, (rows, users) = value_of(a, metric) - value_of(b, metric), a.counted[metric]
    by_run = np.subtract(a.by_run[metric], b.by_run[metric]).tolist()
    nothing = Difference(value, *NONE, rows, users, float("nan"), float("nan"))
    if users < ENOUGH_USERS or math.isnan(value):
        return nothing
    if a.calibration is not None and b.calibration is not None and metric == "ece":
        (own, low, high), (other, other_low, other_high) = a.calibration.limits, b.calibration.limits
        down, up = math.hypot(own - low, other_high - other), math.hypot(high - own, other - other_low)
        wider = _wider((down + up) / (2 * Z), by_run)
        reach = wider * (down if value > 0 else up)
        p = 1.0 if value == 0 else float(2 * ndtr(-Z * abs(value) / reach))
        return Difference(value, value - wider * down, value + wider * up, rows, users, float("nan"), p)
    error, degrees = _error(a.without[metric] - b.without[metric], by_run)
    if math.isnan(error) or (error <= NOTHING < abs(value)):
        return nothing
    if error <= NOTHING:
        return Difference(value, value, value, rows, users, degrees, 1.0)
    reach = float(stdtrit(degrees, (1 + LEVEL) / 2)) * error
    return Difference(value, value - reach, value + reach, rows, users, degrees, float(2 * stdtr(degrees, -abs(value) / error)))


def _error(without_U: Float[np.ndarray, "U"], by_run: Sequence[float]) -> tuple[float, float]:
    """The standard error of a figure, and the degrees of freedom with which it is known; nan where a user cannot be left out.

    Over users s² = (U-1)/U · Σ d², d being what is left without a user minus the mean of that. Its degrees of freedom are
    (Σ d²)² / Σ d⁴ (Satterthwaite's, with half of what he gives, for the d are few, too): U/3 where the d are normal, and down
    to 1 where one user decides. Over K runs their variance / K with K - 1 degrees is added.
    """
    square_U = (without_U - without_U.mean()) ** 2
    users = len(square_U)
    total = float(square_U.sum())
    variance = (users - 1) / users * total
    if math.isnan(variance) or variance <= NOTHING**2:
        variance, degrees = (variance, 1.0) if math.isnan(variance) else (0.0, 1.0)
    else:
        degrees = 1 / float(((square_U / total) ** 2).sum())
    return _with_runs(variance, degrees, by_run)


def _with_runs(variance: float, degrees: float, by_run: Sequence[float]) -> tuple[float, float]:
    """The standard error and its degrees of freedom (Welch and Satterthwaite's), with what the runs differ by added."""
    runs = len(by_run)
    between = float(np.var(by_run, ddof=1)) / runs if runs > 1 else 0.0
    if between <= NOTHING**2:
        return math.sqrt(variance), degrees
    both = variance + between
    return math.sqrt(both), both**2 / (variance**2 / degrees + between**2 / (runs - 1))


def _wider(error: float, by_run: Sequence[float]) -> float:
    """How many times as wide an interval over users becomes, whose standard error is ``error``, with what the runs differ by."""
    if error <= NOTHING:
        return 1.0
    both, degrees = _with_runs(error**2, math.inf, by_run)
    return float(both / error * stdtrit(degrees, (1 + LEVEL) / 2) / Z) if both > error else 1.0
