"""A ranked list for one user out of a finished run, with the behaviours that the model was shown; and what scoring costs.

Knows scorers, no model.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from lifelora.errors import ConfigError, on_one_line
from lifelora.evaluation.report import Behaviour
from lifelora.run.behaviours import behaviours
from lifelora.run.run import Run
from lifelora.run.scorers.base import Scorer
from lifelora.run.scorers.conventional import ConventionalScorer
from lifelora.run.tasks.base import best

WARM_UP = 5
"Users whose times do not count."


@dataclass(frozen=True)
class Recommended:
    """One item, its place and score, and the behaviours that were in its prompt, oldest first."""

    rank: int
    item: str
    title: str
    score: float
    shown: tuple[Behaviour, ...]


@dataclass(frozen=True)
class Answer:
    """A ranked list and how it was made."""

    user: str
    system: str
    how: str
    items: tuple[Recommended, ...]

    def as_json(self) -> dict[str, Any]:
        """Plain values, each as the data have it: what prints them keeps a terminal from obeying them."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"For user {on_one_line(self.user)}, by '{self.system}' ({self.how}):"]
        same = len({item.shown for item in self.items}) == 1
        for item in self.items:
            lines.append(f"{item.rank:>3}. {item.score:.3f}  {on_one_line(item.title)}  [{on_one_line(item.item)}]")
            if not same:
                lines.append(f"       shown: {_listed(item.shown)}")
        if same and self.items and self.items[0].shown:
            lines.append(f"Shown for all of them: {_listed(self.items[0].shown)}")
        return "\n".join(lines)


def recommend(run: Run, user: str, items: Sequence[str] | None, k: int, system: str | None) -> Answer:
    """The ``k`` best of ``items`` for a user, or of what the user has not seen.

    Without ``items`` a scorer that can rank few candidates gets them from its retriever, or from the run's best conventional
    model. Raises ConfigError for a system or number that is not allowed and DataError for unknown ids.
    """
    dataset, scorers = run.context.dataset, run.scorers
    if k < 1:
        raise ConfigError(f"-k {k} is not the length of a list; give 1 or more.")
    if system is not None and system not in scorers:
        raise ConfigError(f"this run has no system '{system}'; it has {', '.join(scorers)}.")
    # Conventional models stand first, language models last: of the last family there is, the best.
    last = list(scorers.values())[-1].family
    scorer = scorers[system] if system else best([one for one in scorers.values() if one.family == last])
    user_index = int(dataset.users.inside([user])[0])
    if items is not None:
        wanted = dataset.items.inside(list(items)).astype(np.int64)
        if len(np.unique(wanted)) < len(wanted):
            raise ConfigError("--items names an item twice; give each once.")
        how = f"{len(wanted)} items that were asked for"
    else:
        seen = np.asarray(dataset.item_N[dataset.log.rows_of(user_index)])
        wanted = np.setdiff1d(np.arange(dataset.n_items), seen)
        if not len(wanted):
            raise ConfigError(f"user '{user}' has seen every item of the catalogue.")
        how = f"{len(wanted):,} items not seen yet"
        wanted, chose = _shortlisted(run, scorer, user_index, wanted, k)
        how += chose
    requests = run.task.now(user_index, wanted)
    scores = scorer.probabilities(requests).ravel()
    order = np.argsort(-scores, kind="stable")[:k]
    # A request for each item, or one for all of them.
    rows = scorer.shown(requests if len(requests) == 1 else requests.at(order))
    shown = [tuple(behaviours(dataset, some)) for some in rows] * (len(order) if len(requests) == 1 else 1)
    titles, ids = dataset.titles, dataset.items.outside(wanted[order])
    return Answer(
        user,
        scorer.name,
        how,
        tuple(
            Recommended(rank, ids[rank - 1], titles[int(wanted[place])], float(scores[place]), shown[rank - 1])
            for rank, place in enumerate(order, start=1)
        ),
    )


def _shortlisted(run: Run, scorer: Scorer, user: int, items_C: Int[np.ndarray, "C"], k: int) -> tuple[Int[np.ndarray, "_"], str]:
    """As many items as the scorer can rank, and in words what has chosen them."""
    if scorer.shortlist is None or len(items_C) <= (count := max(scorer.shortlist, k)):
        return items_C, ""
    models = [one for one in run.scorers.values() if isinstance(one, ConventionalScorer)]
    retriever = scorer.retriever or (best(models) if models else None)
    if retriever is None:
        return scorer.unaided(items_C), ""
    scores = retriever.probabilities(run.task.now(user, items_C)).ravel()
    return np.sort(items_C[np.argsort(-scores, kind="stable")[:count]]), f", of which '{retriever.name}' chose {count}"


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


def _listed(shown: Sequence[Behaviour]) -> str:
    return "; ".join(on_one_line(f"{one.title} ({one.rating})" if one.rating else one.title) for one in shown)
