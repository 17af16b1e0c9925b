"""What the reports of both tasks share: the figures of some systems, the sentence that compares two, curves. Knows no task."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lifelora.errors import ConfigError
from lifelora.evaluation.costs import Cost
from lifelora.evaluation.jackknife import Jackknifed
from lifelora.evaluation.significance import ENOUGH_USERS, Difference, Figure, paired_test
from lifelora.evaluation.tables import short
from lifelora.evaluation.worth import Worth


@dataclass(frozen=True)
class Curves:
    """How training went; ``loss`` and ``validation`` are (epoch, value) points, epochs counted as fractions."""

    loss: Sequence[tuple[float, float]]
    validation: Sequence[tuple[float, float]] = ()
    """AUC on the validation samples."""


CONVENTIONAL, LANGUAGE_MODEL, TWO_TOWERS, CONTROL = "conventional", "language model", "two towers", "control"
"""Families; the deciding number compares the first two. Two towers are neither: they encode texts, and no language model is
asked. A control lacks something that its system has, so nobody would choose it."""


@dataclass(frozen=True)
class Validated:
    """AUC of each system on the same validation samples; nan where it is not known."""

    auc: Mapping[str, float]
    samples: int


@dataclass(frozen=True)
class Deciding:
    """The best language-model system minus the best conventional model, each the best on validation samples, not on test."""

    system: str
    conventional: str
    metric: str
    "What the sentence tells."
    validation_auc: dict[str, float]
    validation_samples: int
    differences: dict[str, Difference]


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
    costs: dict[str, dict[str, Cost]]
    "What a sample took a language model, by the way in which it was used."
    against: dict[str, dict[str, Difference]]
    "Each other system minus the reference."
    deciding: Deciding | None = None
    "None where there is no language-model system, or no conventional model."
    worth: tuple[Worth, ...] = ()
    "Of each control: its system minus it."


def check_names(names: Sequence[str], reference: str) -> None:
    """Raises ConfigError where two systems share a name, or where none is the reference."""
    if not names or len(set(names)) != len(names):
        raise ConfigError(f"systems are called {[*names]}; a report needs at least one, each with a name of its own.")
    if reference not in names:
        raise ConfigError(f"reference = {reference!r} is none of the systems; choose one of {[*names]}.")


def against(found: Mapping[str, Jackknifed], reference: str) -> dict[str, dict[str, Difference]]:
    """Each other system minus the reference, by every metric that both have."""
    return {name: paired_test(one, found[reference]) for name, one in found.items() if name != reference}


def deciding(
    found: Mapping[str, Jackknifed], families: Mapping[str, str], validated: Validated | None, metric: str
) -> Deciding | None:
    """What decides whether a language model pays; of equal ones the first is the best."""
    best = {}
    for family in (LANGUAGE_MODEL, CONVENTIONAL):
        names = [name for name in found if families[name] == family]
        known = {name: validated.auc.get(name, math.nan) for name in names} if validated else {}
        if len(names) > 1 and all(map(math.isnan, known.values())):
            return None  # nothing says which
        if not names:
            return None
        best[family] = max(names, key=lambda name: -1.0 if math.isnan(known.get(name, math.nan)) else known[name])
    system, conventional = best[LANGUAGE_MODEL], best[CONVENTIONAL]
    return Deciding(
        system,
        conventional,
        metric,
        dict(validated.auc) if validated else {},
        validated.samples if validated else 0,
        paired_test(found[system], found[conventional]),
    )


def decided(measured: Measured, unit: str) -> list[str]:
    """The deciding number in one sentence; nothing where there is none."""
    if (one := measured.deciding) is None:
        return []
    difference = one.differences[one.metric]
    best, other = "The best language-model system", "the best conventional model"
    gap = f"{one.system} minus {one.conventional} is {short(difference.value, 3)} {unit}"
    how = (
        f"each the best on the same {one.validation_samples:,} validation samples"
        if one.validation_samples
        else "each the only one"
    )
    if math.isnan(difference.value):
        return [
            f"{best} ({one.system}) and {other} ({one.conventional}) cannot be compared: {unit} is undefined on these samples."
        ]
    if math.isnan(difference.low):
        return [
            f"{best} and {other} are not tested: {gap} over {difference.users:,} users ({how}), and {why_untested(difference)}."
        ]
    sure = f"95 % {short(difference.low, 3)} to {short(difference.high, 3)}, paired over {difference.users:,} users; {how}"
    if difference.low <= 0 <= difference.high:
        return [f"{best} and {other} do not differ clearly: {gap} ({sure})."]
    return [f"{best} is {'better' if difference.value > 0 else 'worse'} than {other}: {gap} ({sure})."]


def why_untested(difference: Difference) -> str:
    """Why there is neither an interval nor a test."""
    few = difference.users < ENOUGH_USERS
    return f"at least {ENOUGH_USERS} users are needed" if few else "the spread over users cannot be estimated"


def verdict(measured: Measured, name: str, metric: str, unit: str, *, higher_is_better: bool = True) -> str:
    """One sentence: is ``name`` better than the reference, worse, or not clearly either? ``unit`` names the metric."""
    difference, reference = measured.against[name][metric], measured.reference
    value, low, high = difference.value, difference.low, difference.high
    if math.isnan(value):
        return f"{name} and {reference} cannot be compared: {unit} is undefined on these samples."
    if math.isnan(low):
        return (
            f"{name} and {reference} are not tested: {name} minus {reference} is {short(value, 3)} {unit} over "
            f"{difference.users:,} users, and {why_untested(difference)}."
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
