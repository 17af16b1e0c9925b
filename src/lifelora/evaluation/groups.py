"""Test samples in groups by a number that each has: of earlier behaviours, of training events of its target, of its user.

It measures systems in each group and writes the groups as text. Knows arrays and figures; no report and no model.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Int

from lifelora.evaluation.added import Added
from lifelora.evaluation.jackknife import Jackknifed
from lifelora.evaluation.measured import against
from lifelora.evaluation.significance import ENOUGH_USERS, Difference, Figure, estimate
from lifelora.evaluation.tables import in_blocks, short, with_span

BUCKETS = 5
ENOUGH_SAMPLES = 50
"""A group by training events has at least so many samples, of at least ``ENOUGH_USERS`` users."""
Mask = Bool[np.ndarray, "N"]


@dataclass(frozen=True)
class Division:
    """A number of each test sample, in words."""

    of: str
    none: str = ""
    "What samples are called for which it is 0, a group of their own; empty: groups of about equal size, whatever the number."


DIVISIONS = {
    "history": Division("earlier behaviours of the user"),
    "popularity": Division("events of the target in training", "never seen"),
    "user": Division("events of the user in training", "new users"),
}


@dataclass(frozen=True)
class Group:
    """Test samples whose number is ``least`` to ``most``, and each system on them."""

    label: str
    least: int
    most: int
    rows: int
    users: int
    systems: dict[str, dict[str, Figure]]
    against: dict[str, dict[str, Difference]]
    "Each other system minus the reference, on the samples of this group."
    best_possible: dict[str, float] = field(default_factory=dict)
    "AUC and GAUC of the true probabilities, where they are known."
    added: tuple[Added, ...] = ()
    "What is made of others minus each of these, on the samples of this group."


@dataclass(frozen=True)
class Grouped:
    """Test samples divided by one number."""

    of: str
    "What is counted."
    groups: tuple[Group, ...]
    left_out: int
    "Samples in no group, for they would be one of too few."

    @property
    def tells(self) -> bool:
        """Whether there is anything to compare."""
        return len(self.groups) > 1


def grouped(
    numbers: Mapping[str, Int[np.ndarray, "N"] | None],
    user_N: Int[np.ndarray, "N"],
    found: Callable[[Mask], Mapping[str, Jackknifed]],
    reference: str,
    best: Callable[[Mask], dict[str, float]] = lambda keep_N: {},
    add: Callable[[Mapping[str, Jackknifed]], tuple[Added, ...]] = lambda found: (),
) -> dict[str, Grouped]:
    """The figures of every division whose ``numbers`` are known; ``found`` judges each system on some samples,
    and ``add`` sets what is made of others against these."""
    made = {}
    for name, number_N in numbers.items():
        if number_N is None:
            continue
        division = DIVISIONS[name]
        ranges = by_training_events(number_N, user_N) if division.none else history_buckets(number_N)
        groups = []
        for least, most in ranges:
            keep_N = np.asarray((number_N >= least) & (number_N <= most))
            one = found(keep_N)
            groups.append(
                Group(
                    _label(division, least, most, (least, most) == ranges[-1]),
                    least,
                    most,
                    int(keep_N.sum()),
                    len(np.unique(user_N[keep_N])),
                    {system: {metric: estimate(of, metric) for metric in of.by_run} for system, of in one.items()},
                    against(one, reference),
                    best(keep_N),
                    add(one),
                )
            )
        made[name] = Grouped(division.of, tuple(groups), len(user_N) - sum(group.rows for group in groups))
    return made


def history_buckets(history_N: Int[np.ndarray, "N"], count: int = BUCKETS) -> list[tuple[int, int]]:
    """At most ``count`` ranges (both ends included) of history length with about equally many samples each."""
    cuts = np.unique(np.quantile(history_N, np.arange(1, count) / count, method="lower"))
    starts = [int(history_N.min()), *(int(cut) + 1 for cut in cuts if cut < history_N.max())]
    return list(zip(starts, [*(start - 1 for start in starts[1:]), int(history_N.max())], strict=True))


def by_training_events(number_N: Int[np.ndarray, "N"], user_N: Int[np.ndarray, "N"]) -> list[tuple[int, int]]:
    """0, 1 to 9, 10 to 99 and so on, each with enough samples and users: one with fewer is joined with the next, and the last
    with the one before it. Zeros, and others, that are too few stand alone and are no group."""

    def held(least: int, most: int) -> tuple[int, int]:
        keep_N = (number_N >= least) & (number_N <= most)
        return int(keep_N.sum()), len(np.unique(user_N[keep_N]))

    def enough(rows: int, users: int) -> bool:
        return rows >= ENOUGH_SAMPLES and users >= ENOUGH_USERS

    ranges, start, power, top = [(0, 0)] if enough(*held(0, 0)) else [], 1, 10, int(number_N.max(initial=0))
    while start <= top:
        end = min(power - 1, top)
        rows, users = held(start, end)
        if not rows or enough(rows, users):
            ranges += [(start, end)] if rows else []
            start = end + 1
        elif end == top:
            if ranges and ranges[-1][0] > 0:
                ranges[-1] = (ranges[-1][0], top)
            break
        power *= 10
    return ranges


def _label(division: Division, least: int, most: int, last: bool) -> str:
    if division.none and most == 0:
        return division.none
    if division.none and last:
        return f"{least:,}+"
    return f"{least:,}" if least == most else f"{least:,}–{most:,}"


def group_tables(grouped: Mapping[str, Grouped], metric: str, said: str, width: int) -> list[str]:
    """A metric by the training events of target and user, as text: systems by groups, and what each group stands on."""
    tables = []
    for name, of in grouped.items():
        if not DIVISIONS[name].none or not of.tells:
            continue
        names = [system for system in of.groups[0].systems if any(metric in g.systems[system] for g in of.groups)]
        best = ["best possible"] if any(metric in group.best_possible for group in of.groups) else []
        columns = [["", *names, *best, "n", "users"]]
        for group in of.groups:
            cells = [with_span(group.systems[system][metric]) for system in names]
            cells += [] if not best else [short(group.best_possible.get(metric, math.nan))]
            columns.append([group.label, *cells, f"{group.rows:,}", f"{group.users:,}"])
        first, *others = in_blocks(columns, width)
        tables += [f"{said} by {of.of}:\n{first}", *others, *([left_out(of)] if of.left_out else [])]
    return tables


def added_tables(grouped: Mapping[str, Grouped], metric: str, said: str, width: int) -> list[str]:
    """The same of differences between what is made of others and these, by training events of the target."""
    of = grouped.get("popularity")
    if of is None or not of.tells or not of.groups[0].added:
        return []
    columns = [["", *(f"{one.name} minus {one.against}" for one in of.groups[0].added)]]
    for group in of.groups:
        columns.append(
            [group.label, *(with_span(one.differences[metric]) if metric in one.differences else "" for one in group.added)]
        )
    first, *others = in_blocks(columns, width)
    return [f"Δ {said} by {of.of}:\n{first}", *others]


def never_seen(grouped: Mapping[str, Grouped]) -> tuple[Added, ...]:
    """What the samples tell whose target has no event in training; nothing where they are no group."""
    of = grouped.get("popularity")
    return next((group.added for group in of.groups if group.most == 0), ()) if of is not None else ()


def left_out(of: Grouped) -> str:
    """Which samples are in no group."""
    return (
        f"{of.left_out:,} more samples, by {of.of}, are in no group: they would be fewer than {ENOUGH_SAMPLES} or of fewer than "
        f"{ENOUGH_USERS} users."
    )
