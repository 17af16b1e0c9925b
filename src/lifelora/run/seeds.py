"""Runs of one recipe under several seeds, told as one: means, their spread, paired differences. Knows stored scores.

What a seed decides (starts, batches, shots, test rows) and which users happen to be in the test are two different doubts,
so both are shown: the standard deviation over the runs, and an interval over users who are drawn for all runs together.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lifelora.errors import ConfigError
from lifelora.evaluation.report import NAMES, short, span
from lifelora.evaluation.significance import VALUE, Difference, Figure, Resampled, Scored, bootstrap, paired_test
from lifelora.run.parts import Parts

METRICS = ("auc", "log_loss", "accuracy")


@dataclass(frozen=True)
class OneSystem:
    """A system over all runs: the mean of each metric, the values behind it, and the reference taken away."""

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
        return asdict(self)

    def __str__(self) -> str:
        """A table, a row per system; ± is the standard deviation over the runs."""
        width = max(map(len, self.systems))
        head = "  ".join(f"{f'{NAMES[metric]} ± over seeds [users]':<28}" for metric in METRICS)
        lines = [f"{'':<{width}}  {head}  AUC minus {self.reference}"]
        for name, one in self.systems.items():
            cells = [f"{short(f.value)} ± {short(_spread(one.by_run[m]))} {span(f)}"
                     for m, f in one.mean.items()]
            d = one.minus["auc"]
            gap = "" if name == self.reference else f"{short(d.value)} {span(d)}  p = {short(d.p, 3)}"
            lines.append(f"{name:<{width}}  " + "  ".join(f"{cell:<28}" for cell in cells) + f"  {gap}")
        figure = next(iter(self.systems.values())).mean["auc"]
        seeds = ", ".join(map(str, self.seeds))
        return "\n".join([*(line.rstrip() for line in lines), "",
                          f"{len(self.seeds)} runs (seeds {seeds}), {figure.n:,} test rows of {figure.users:,} users in all; "
                          f"[95 % interval] and p from {figure.resamples:,} resamples of users, p not corrected for several "
                          "comparisons"])


def over_seeds(runs: Sequence[Parts], reference: str | None = None) -> OverSeeds:
    """The systems of finished ``runs``, and each minus ``reference`` (the first one when left out).

    Raises ConfigError where the runs are not of one recipe on the same data under different seeds.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.recipe.model_copy(update={"seed": first.recipe.seed}) != first.recipe:
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
    scored = {name: [run.scored(name) for run in runs] for name in names}
    drawn = {name: drawn_together(some, first.recipe.evaluation.resamples) for name, some in scored.items()}
    return OverSeeds(seeds, reference, {
        name: OneSystem({metric: drawn[name].figure(metric) for metric in METRICS},
                        {metric: [VALUE[metric](one) for one in scored[name]] for metric in METRICS},
                        paired_test(drawn[name], drawn[reference]))
        for name in names})


def drawn_together(scored: Sequence[Scored], resamples: int) -> Resampled:
    """One system in several runs; always by the same seed, for a pair needs the same draws of users."""
    return bootstrap(scored, METRICS, resamples=resamples, seed=0)


def _spread(values: Sequence[float]) -> float:
    return float(np.std(values, ddof=1)) if len(values) > 1 else float("nan")
