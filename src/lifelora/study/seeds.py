"""Runs of one recipe under several seeds, told as one: means, their spread, paired differences. Knows stored results.

A seed decides starts, batches, training samples and test samples. Which users are in the test is another source of doubt. The
standard deviation over the runs shows the first alone; intervals and p hold both, for a user is left out of all runs at once, and
what the runs differ by is added.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from lifelora.errors import ConfigError
from lifelora.evaluation import ranking_report, report
from lifelora.evaluation.jackknife import Jackknifed
from lifelora.evaluation.measured import plain
from lifelora.evaluation.significance import ENOUGH_USERS, Difference, Figure, estimate, paired_test
from lifelora.evaluation.tables import p_value, short, span, with_span
from lifelora.run import Run

SHOWN = (("auc", "log_loss", "accuracy"), ("hr@1", "ndcg@10", "mrr"), ("catalogue hr@10", "catalogue ndcg@10", "catalogue mrr"))
"""The table has the first of these that all systems have; differences are of the first metric in it."""
NAMES = report.NAMES | ranking_report.ALONE


@dataclass(frozen=True)
class OneSystem:
    """A system over all runs: the mean of each metric, the values behind it (ECE with what chance adds), the difference."""

    mean: dict[str, Figure]
    by_run: dict[str, list[float]]
    minus: dict[str, Difference]


@dataclass(frozen=True)
class OverSeeds:
    """All systems of the runs."""

    seeds: list[int]
    reference: str
    systems: dict[str, OneSystem]

    def as_json(self) -> dict[str, Any]:
        """Every figure."""
        values: dict[str, Any] = plain(asdict(self))
        return values

    def __str__(self) -> str:
        """A table, a row per system; ± is the standard deviation over the runs."""
        metrics = next(some for some in SHOWN if all(one.mean.keys() >= {*some} for one in self.systems.values()))
        columns = [["", *self.systems]]
        for metric in metrics:
            cells = [
                f"{short(one.mean[metric].value)} ± {short(_spread(one.by_run[metric]))} {span(one.mean[metric])}".rstrip()
                for one in self.systems.values()
            ]
            columns.append([f"{NAMES[metric]} ± over seeds", *cells])
        gaps = {name: one.minus[metrics[0]] for name, one in self.systems.items()}
        columns.append(
            [
                f"{NAMES[metrics[0]]} minus {self.reference}",
                *("" if name == self.reference else f"{with_span(d)}  {p_value(d.p)}" for name, d in gaps.items()),
            ]
        )
        widths = [max(map(len, column)) for column in columns]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in zip(*columns, strict=True)]
        first = next(iter(self.systems.values())).mean[metrics[0]]
        sure = (
            f"no intervals and no tests: at least {ENOUGH_USERS} users are needed"
            if first.users < ENOUGH_USERS
            else "[95 % interval] and p over users and seeds, p not corrected for several comparisons"
        )
        seeds = ", ".join(map(str, self.seeds))
        runs = f"{len(self.seeds)} runs (seeds {seeds})" if len(self.seeds) > 1 else f"1 run (seed {seeds})"
        return "\n".join(
            [
                *lines,
                "",
                f"{runs}, {first.n:,} test samples of {first.users:,} users in all; {sure}",
            ]
        )


class Several:
    """Finished runs of one recipe under several seeds; a system stands on those of them that have judged it."""

    def __init__(self, runs: Sequence[Run]) -> None:
        """Raises ConfigError where the runs are not of one recipe on the same data under different seeds."""
        first = runs[0]
        for run in runs[1:]:
            if run.recipe.model_dump(exclude={"seed"}) != first.recipe.model_dump(exclude={"seed"}):
                raise ConfigError(f"{run.folder} has another recipe than {first.folder}; only the seed can differ.")
            if run.stages.data.key != first.stages.data.key:
                raise ConfigError(f"{run.folder} has other data than {first.folder}.")
        self.runs, self.seeds = list(runs), [run.recipe.seed for run in runs]
        if len(set(self.seeds)) < len(self.seeds):
            seeds = ", ".join(map(str, self.seeds))
            raise ConfigError(f"the runs have seeds {seeds}; give each seed once.")
        self._told: dict[tuple[str, tuple[int, ...]], Jackknifed] = {}

    @cached_property
    def judged(self) -> dict[str, tuple[int, ...]]:
        """The seeds of the runs that have judged a system, by its name; a system that none has judged is left out."""
        done = {
            name: tuple(run.recipe.seed for run in self.runs if run.stages.scores(name).complete())
            for name in self.runs[0].stages.names
        }
        return {name: seeds for name, seeds in done.items() if seeds}

    def of(self, name: str, seeds: Sequence[int] | None = None) -> Jackknifed:
        """One system over its runs, or over those of some ``seeds``."""
        key = name, self.judged[name] if seeds is None else tuple(seeds)
        if key not in self._told:
            self._told[key] = together([run for run in self.runs if run.recipe.seed in key[1]], name)
        return self._told[key]

    def minus(self, name: str, other: str) -> dict[str, Difference]:
        """One system minus another by every metric, over the runs that have both."""
        both = [seed for seed in self.judged[name] if seed in self.judged[other]]
        if not both:
            raise ConfigError(f"no run has judged both {name} and {other}, so they have no difference.")
        return paired_test(self.of(name, both), self.of(other, both))

    def figures(self, metrics: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Every system's seeds, its mean of each metric with an interval, and the values of the seeds."""
        return {
            name: {"seeds": seeds}
            | {metric: asdict(estimate(self.of(name), metric)) | {"by seed": self.of(name).by_run[metric]} for metric in metrics}
            for name, seeds in self.judged.items()
        }


def over_seeds(runs: Sequence[Run], reference: str | None = None) -> OverSeeds:
    """Every system of finished ``runs``, and each minus ``reference`` (the first one when left out).

    Raises ConfigError where the runs are not of one recipe on the same data under different seeds, or have no such system.
    """
    several, names = Several(runs), runs[0].stages.names
    reference = names[0] if reference is None else reference
    if reference not in names:
        raise ConfigError(f"the runs have no system '{reference}'; they have {', '.join(names)}.")
    found = {name: several.of(name, several.seeds) for name in names}
    return OverSeeds(
        several.seeds,
        reference,
        {
            name: OneSystem(
                {metric: estimate(one, metric) for metric in one.by_run}, one.by_run, paired_test(one, found[reference])
            )
            for name, one in found.items()
        },
    )


def together(runs: Sequence[Run], name: str) -> Jackknifed:
    """One system in several runs of one task, by all its metrics.

    Chance behind ECE is always drawn by the same seed, whatever the runs' own.
    """
    first, *rest = [run.task for run in runs]
    return first.judged(name, rest)


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
