"""What scoring costs: CPU milliseconds for one user. Knows scorers, no model."""

import time
from collections.abc import Sequence

import numpy as np

from lifelora.run.run import Run
from lifelora.run.scorers.conventional import ConventionalScorer

WARM_UP = 5
"Users whose times do not count."


def served(run: Run, names: Sequence[str] = (), users: int = 100, items: int = 100) -> dict[str, list[float]]:
    """CPU milliseconds in which each scorer (of ``names``; else each conventional model) scores so many items for one user.

    Given are the median and the 95th percentile over users. The scorers take turns, so that what else the machine does befalls
    all of them.
    """
    dataset = run.context.dataset
    models = [run.scorers[name] for name in names] or [one for one in run.scorers.values() if isinstance(one, ConventionalScorer)]
    taken: dict[str, list[float]] = {scorer.name: [] for scorer in models}
    for user in range(users + WARM_UP):
        requests = run.task.now(user % dataset.n_users, np.arange(items) % dataset.n_items)
        for scorer in models:
            began = time.process_time()
            scorer.score(requests)
            taken[scorer.name].append((time.process_time() - began) * 1e3)
    return {name: [round(float(np.quantile(values[WARM_UP:], q)), 2) for q in (0.5, 0.95)] for name, values in taken.items()}
