"""Runs of one recipe under several seeds, told as one: means, their spread, paired differences. Knows stored results.

What a seed decides (starts, batches, shots, test rows) and which users happen to be in the test are two different doubts. The
standard deviation over the runs shows the first alone; intervals and p hold both, for a user is left out of all runs at once, and
what the runs differ by is added.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lifelora.errors import ConfigError
from lifelora.evaluation import ranking_report, report
from lifelora.evaluation.jackknife import Jackknifed, Rows, jackknife, jackknife_means
from lifelora.evaluation.measured import plain
from lifelora.evaluation.significance import ENOUGH_USERS, Difference, Figure, estimate, paired_test
from lifelora.evaluation.tables import p_value, short, span, with_span
from lifelora.run import next_item
from lifelora.run.parts import Parts

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
            cells = [f"{short(one.mean[metric].value)} ± {short(_spread(one.by_run[metric]))} {span(one.mean[metric])}".rstrip()
                     for one in self.systems.values()]
            columns.append([f"{NAMES[metric]} ± over seeds", *cells])
        gaps = {name: one.minus[metrics[0]] for name, one in self.systems.items()}
        columns.append([f"{NAMES[metrics[0]]} minus {self.reference}", *(
            "" if name == self.reference else f"{with_span(d)}  {p_value(d.p)}" for name, d in gaps.items())])
        widths = [max(map(len, column)) for column in columns]
        lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in zip(*columns, strict=True)]
        first = next(iter(self.systems.values())).mean[metrics[0]]
        sure = (f"no intervals and no tests: at least {ENOUGH_USERS} users are needed" if first.users < ENOUGH_USERS else
                "[95 % interval] and p over users and seeds, p not corrected for several comparisons")
        seeds = ", ".join(map(str, self.seeds))
        return "\n".join([*lines, "", f"{len(self.seeds)} runs (seeds {seeds}), {first.n:,} test rows of {first.users:,} users "
                          f"in all; {sure}"])


def over_seeds(runs: Sequence[Parts], reference: str | None = None) -> OverSeeds:
    """The systems of finished ``runs``, and each minus ``reference`` (the first one when left out).

    Raises ConfigError where the runs are not of one recipe on the same data under different seeds.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.recipe.model_dump(exclude={"seed"}) != first.recipe.model_dump(exclude={"seed"}):
            raise ConfigError(f"{run.stages.folder} has another recipe than {first.stages.folder}; only the seed may differ.")
        if run.stages.data.key != first.stages.data.key:
            raise ConfigError(f"{run.stages.folder} was made from other data than {first.stages.folder}.")
    seeds = [run.recipe.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"the runs have seeds {', '.join(map(str, seeds))}; a seed that comes twice is the same run twice.")
    names = first.stages.names
    reference = names[0] if reference is None else reference
    if reference not in names:
        raise ConfigError(f"the runs have no system '{reference}'; they have {', '.join(names)}.")
    found = {name: together(runs, name) for name in names}
    return OverSeeds(seeds, reference, {
        name: OneSystem({metric: estimate(one, metric) for metric in one.by_run}, one.by_run, paired_test(one, found[reference]))
        for name, one in found.items()})


def together(runs: Sequence[Parts], name: str) -> Jackknifed:
    """One system in several runs of one task, by all its metrics.

    Chance behind ECE is always drawn by the same seed, whatever the runs' own.
    """
    if runs[0].recipe.task == "ctr":
        return jackknife([run.scored(name) for run in runs], draws=runs[0].recipe.evaluation.resamples)
    return jackknife_means([
        Rows(run.dataset.targets(run.test_samples).user_B, ranking_report.row_values(next_item.ranked(run, name)),
             next_item.rows_hash(run)) for run in runs])


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
