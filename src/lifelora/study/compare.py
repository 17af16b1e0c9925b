"""What is set against what: a run against another, all systems with something against the same without. Knows stored results."""

from collections.abc import Sequence

import numpy as np

from lifelora.errors import ConfigError
from lifelora.evaluation.evaluate import Differences
from lifelora.evaluation.jackknife import Jackknifed
from lifelora.evaluation.significance import paired_test
from lifelora.evaluation.tables import p_value, sureness, with_span
from lifelora.run import Run
from lifelora.study.seeds import NAMES, together

SHOWN = ("auc", "gauc", "log_loss", "hr@1", "ndcg@10", "catalogue ndcg@10")
"""As far as both runs have them."""


def compare(ours: Run, theirs: Run) -> str:
    """This run minus the other for each system that both have, with 95 % intervals and p where there are users enough.

    Raises ConfigError where the runs share no system, or were judged on different rows.
    """
    shared = [name for name in ours.stages.names if name in theirs.stages.names]
    if not shared:
        raise ConfigError(
            f"{ours.folder} has {', '.join(ours.stages.names)} and {theirs.folder} has "
            f"{', '.join(theirs.stages.names)}: no system is in both."
        )
    lines = [f"{ours.folder} minus {theirs.folder}, paired over users:"]
    differences = {name: paired_test(together([ours], name), together([theirs], name)) for name in shared}
    width = max(len(NAMES[metric]) for difference in differences.values() for metric in SHOWN if metric in difference)
    for name, difference in differences.items():
        for metric, d in ((metric, difference[metric]) for metric in SHOWN if metric in difference):
            lines.append(f"  {name:<16} {NAMES[metric]:<{width}}  {with_span(d)}  {p_value(d.p)}")
    user_N = ours.context.dataset.targets(ours.context.test_samples).user_B
    users = len(np.unique(user_N))
    lines.append(
        f"n = {len(user_N):,} test samples of {users:,} users; {sureness(users, tested=True)}; "
        "p is not corrected for several comparisons."
    )
    return "\n".join(lines)


def minus(run: Run, name: str) -> Differences:
    """Each other system of a finished run minus ``name``.

    Raises ConfigError where the run has no such system, or no other.
    """
    names = run.stages.names
    if name not in names:
        raise ConfigError(f"{run.folder} has no system '{name}'; it has {', '.join(names)}.")
    if len(names) == 1:
        raise ConfigError(f"{run.folder} has no other system than {name}, so there is nothing to subtract it from.")
    reference = together([run], name)
    return Differences(name, {other: paired_test(together([run], other), reference) for other in names if other != name})


def mean_of(systems: Sequence[Jackknifed]) -> Jackknifed:
    """The mean over systems that were judged on the same rows, user by user, by the metrics that all have (ECE is no mean).

    So a factor's effect is paired: the mean over all systems that have it, minus the mean over the same systems without it.
    """
    first = systems[0]
    if any(one.rows_hash != first.rows_hash for one in systems):
        raise ConfigError("the systems were judged on different test samples, so they have no mean.")
    metrics = [metric for metric in first.without if all(metric in one.without for one in systems)]
    return Jackknifed(
        first.rows_hash,
        {metric: np.mean([one.by_run[metric] for one in systems], axis=0).tolist() for metric in metrics},
        first.counted,
        {metric: np.mean([one.without[metric] for one in systems], axis=0) for metric in metrics},
    )
