"""A ranked list for one user out of a finished run, with the behaviours that the model was shown; and what scoring costs.

Knows parts, no stages.
"""

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lifelora.data.dataset import Targets
from lifelora.errors import ConfigError, on_one_line
from lifelora.evaluation.report import Behaviour
from lifelora.run import next_item
from lifelora.run.findings import behaviours
from lifelora.run.parts import Parts
from lifelora.training import HISTORY
from lifelora.training.curve import History

CANDIDATES = 100
"How many unmet items the conventional model hands to a language model that is asked yes or no."

WARM_UP = 5
"People whose times do not count."


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


def recommend(parts: Parts, user: str, items: Sequence[str] | None, k: int, system: str | None) -> Answer:
    """The ``k`` best of ``items`` for a user, or of what the user has not met.

    Without ``items`` a conventional model (the system's own, or the run's best) chooses ``CANDIDATES``, or the ``shortlist`` of a
    system that is asked what comes next, and the system ranks them. Raises ConfigError for a system or number that is not allowed
    and DataError for unknown ids.
    """
    dataset, recipe = parts.dataset, parts.recipe
    if k < 1:
        raise ConfigError(f"-k {k} is no length of a list; give 1 or more.")
    names = parts.stages.names
    if system is not None and system not in names:
        raise ConfigError(f"this run has no system '{system}'; it has {', '.join(names)}.")
    name = system or best(parts, list(recipe.systems) or list(recipe.two_towers) or list(recipe.conventional))
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
            raise ConfigError(f"user '{user}' has met every item of the catalogue.")
        how = f"{len(wanted):,} items not met yet"
        count, first = _first_stage(parts, name, k)
        if first is not None and len(wanted) > count:
            wanted = np.sort(wanted[np.argsort(-_scores(parts, first, user_index, wanted)[0], kind="stable")[:count]])
            how += f", of which '{first}' chose {count}"
    scores, seen_K = _scores(parts, name, user_index, wanted)
    order = np.argsort(-scores, kind="stable")[:k]
    shown = [tuple(behaviours(parts, seen_K))] * len(order)
    if recipe.task == "ctr":
        shown = _shown(parts, name, dataset.candidates(user_index, wanted), order)
    titles, ids = dataset.titles, dataset.items.outside(wanted[order])
    return Answer(user, name, how, tuple(
        Recommended(rank, ids[rank - 1], titles[int(wanted[place])], float(scores[place]), shown[rank - 1])
        for rank, place in enumerate(order, start=1)
    ))


def served(parts: Parts, names: Sequence[str], users: int = 100, items: int = 100) -> dict[str, list[float]]:
    """CPU milliseconds to score so many items for one person, median and 95th percentile over people, by model.

    The models take turns, so that what else the machine does befalls all of them.
    """
    dataset, models = parts.dataset, {name: parts.recommender(name) for name in names}
    taken: dict[str, list[float]] = {name: [] for name in names}
    for user_index in range(users + WARM_UP):
        targets = dataset.candidates(user_index % dataset.n_users, np.arange(items) % dataset.n_items)
        for name, model in models.items():
            began = time.process_time()
            parts.conventional_scores(name, model, targets)
            taken[name].append((time.process_time() - began) * 1e3)
    return {name: [round(float(np.quantile(values[WARM_UP:], q)), 2) for q in (0.5, 0.95)] for name, values in taken.items()}


def _first_stage(parts: Parts, name: str, k: int) -> tuple[int, str | None]:
    """How many unmet items a system can rank, and the conventional model that chooses so many; None where all are ranked."""
    recipe = parts.recipe
    if name not in recipe.systems:
        return 0, None
    system, ctr = recipe.systems[name], recipe.task == "ctr"
    first = system.retriever_name
    if first is None and recipe.conventional:
        first = best(parts, list(recipe.conventional))
    if first is None and not ctr:
        raise ConfigError(f"'{name}' ranks few items, and this run has no conventional model to choose them; give --items.")
    return (CANDIDATES if ctr else max(system.shortlist, k)), first


def _scores(parts: Parts, name: str, user_index: int, items_C: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """P(like) of each item; or the chance that it comes next, and the event rows that were shown for all."""
    if parts.recipe.task == "next-item":
        return next_item.probabilities(parts, name, user_index, items_C)
    return parts.scores(name, parts.dataset.candidates(user_index, items_C)), np.zeros(0, np.int64)


def _shown(parts: Parts, name: str, targets: Targets, order: np.ndarray) -> list[tuple[Behaviour, ...]]:
    if name in parts.recipe.conventional:
        return [()] * len(order)
    asked = parts.asked(name, targets.at(order))
    if name in parts.recipe.two_towers:
        kept = parts.encoder(name)[1].kept(asked.targets, asked.chosen_NK, asked.mask_NK).sum(axis=1).tolist()
    else:
        kept = parts.personal(name)[1].build(asked.targets, asked.chosen_NK, asked.mask_NK).shown_B.tolist()
    # Of those chosen, the oldest may have found no room in the prompt.
    return [tuple(behaviours(parts, asked.chosen_NK[i][asked.mask_NK[i]][-n:] if n else np.zeros(0, np.int64)))
            for i, n in enumerate(kept)]


def best(parts: Parts, names: list[str]) -> str:
    """The one with the best validation AUC; a model that was counted, not trained, has none."""
    if not names:
        raise ConfigError("this run has nothing that can rank.")

    def valid(name: str) -> float:
        path = parts.stages.made(name).require() / HISTORY
        if not path.exists():
            return 0.0
        history = History.model_validate_json(path.read_text())
        return history.evaluations[history.best].metrics["auc"]

    return max(names, key=valid)


def _listed(shown: Sequence[Behaviour]) -> str:
    return "; ".join(f"{on_one_line(behaviour.title)} ({behaviour.rating})" for behaviour in shown)
