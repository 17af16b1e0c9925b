"""What the reports of both tasks share: the figures of some systems, the sentence that compares two, curves. Knows no task."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lifelora.errors import ConfigError
from lifelora.evaluation.jackknife import Jackknifed
from lifelora.evaluation.significance import ENOUGH_USERS, Difference, Figure, paired_test
from lifelora.evaluation.tables import short


@dataclass(frozen=True)
class Curves:
    """How training went; ``loss`` and ``validation`` are (epoch, value) points, epochs counted as fractions."""

    loss: Sequence[tuple[float, float]]
    validation: Sequence[tuple[float, float]] = ()
    """AUC on the validation samples."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """The figures of a report, with their intervals; dictionaries are keyed by the system's name."""

    rows: int
    users: int
    rows_hash: str
    seed: int
    reference: str
    systems: dict[str, dict[str, Figure]]
    seconds: dict[str, float | None]
    against: dict[str, dict[str, Difference]]
    "Each other system minus the reference."


def check_names(names: Sequence[str], reference: str) -> None:
    """Raises ConfigError where two systems share a name, or where none is the reference."""
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"systems are called {[*names]}; a report needs at least one, each with a name of its own.")
    if reference not in names:
        raise ConfigError(f"reference = {reference!r} is none of the systems; choose one of {[*names]}.")


def against(found: Mapping[str, Jackknifed], reference: str) -> dict[str, dict[str, Difference]]:
    """Each other system minus the reference, by every metric that both have."""
    return {name: paired_test(one, found[reference]) for name, one in found.items() if name != reference}


def verdict(measured: Measured, name: str, metric: str, unit: str, *, higher_is_better: bool = True) -> str:
    """One sentence: is ``name`` better than the reference, worse, or not clearly either? ``unit`` names the metric."""
    difference, reference = measured.against[name][metric], measured.reference
    value, low, high = difference.value, difference.low, difference.high
    if math.isnan(value):
        return f"{name} and {reference} cannot be compared: {unit} is undefined on these samples."
    if math.isnan(low):
        few = difference.users < ENOUGH_USERS
        why = f"at least {ENOUGH_USERS} users are needed" if few else "the spread over users cannot be estimated"
        return (
            f"{name} and {reference} are not tested: {name} minus {reference} is {short(value, 3)} {unit} over "
            f"{difference.users:,} users, and {why}."
        )
    apart = not low <= 0 <= high
    if apart and value < 0:
        value, low, high = -value, -high, -low
    sure = f"95 % {short(low, 3)} to {short(high, 3)}, paired over {difference.users:,} users"
    found = f"{short(value, 3)} {unit} ({sure})"
    if not apart:
        return f"{name} and {reference} do not differ clearly: {name} minus {reference} is {found}."
    better = (difference.value > 0) == higher_is_better
    return f"{name} is {'better' if better else 'worse'} than {reference} by {found}."


def figures(measured: Measured) -> dict[str, Any]:
    """Everything measured as JSON values; a figure that does not exist is null."""
    values: dict[str, Any] = plain(asdict(measured))
    return values


def plain(value: Any) -> Any:
    """A value as JSON has it; what is not finite is null."""
    match value:
        case dict():
            return {key: plain(inner) for key, inner in value.items()}
        case list() | tuple():
            return [plain(inner) for inner in value]
        case np.ndarray():
            return plain(value.tolist())
        case float():
            return value if math.isfinite(value) else None
        case _:
            return value
