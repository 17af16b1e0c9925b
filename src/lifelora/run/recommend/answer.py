"""A ranked list for one user out of a finished run, with the behaviours that the model was shown. Knows scorers, no model."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lifelora.errors import ConfigError, on_one_line
from lifelora.evaluation.report import Behaviour
from lifelora.run.behaviours import behaviours
from lifelora.run.choice import best
from lifelora.run.recommend.cold import COLD, POPULARITY, Cold, most_popular
from lifelora.run.recommend.pool import Pool, pool
from lifelora.run.recommend.ranking import NONE, Ranking
from lifelora.run.run import Run
from lifelora.run.scorers.base import Scorer


@dataclass(frozen=True)
class Recommended:
    """One item, its place and score, and the behaviours that were in its prompt, oldest first."""

    rank: int
    item: str
    title: str
    score: float | None
    "None where the system cannot know the item."
    shown: tuple[Behaviour, ...]


@dataclass(frozen=True)
class Answer:
    """A ranked list and how it was made."""

    user: str
    system: str
    how: str
    items: tuple[Recommended, ...]
    why: str = ""
    "Why this system was taken; empty where it was asked for."
    note: str = ""
    "What else a reader should know."

    def as_json(self) -> dict[str, Any]:
        """Plain values, each as the data have it: what prints them keeps a terminal from obeying them."""
        return asdict(self)

    def __str__(self) -> str:
        lines = [f"For user {on_one_line(self.user)}, by '{self.system}' ({self.how}):"]
        same = len({item.shown for item in self.items}) == 1
        for item in self.items:
            score = "  –  " if item.score is None else f"{item.score:.3f}" if item.score >= 0.001 else f"{item.score:.1e}"
            lines.append(f"{item.rank:>3}. {score}  {on_one_line(item.title)}  [{on_one_line(item.item)}]")
            if not same:
                lines.append(f"       shown: {_listed(item.shown)}")
        if same and self.items and self.items[0].shown:
            lines.append(f"Shown for all of them: {_listed(self.items[0].shown)}")
        lines += [self.note] if self.note else []
        lines += [f"Why '{self.system}': {self.why}."] if self.why else []
        return "\n".join(lines)


def recommend(
    run: Run,
    user: str,
    items: Sequence[str] | None = None,
    k: int = 10,
    system: str | None = None,
    *,
    among: Sequence[str] | None = None,
    where: Sequence[str] = (),
    allow_seen: bool = False,
    cold: Cold = "refuse",
) -> Answer:
    """The ``k`` best items for a user, out of those that the user has not seen.

    ``items`` are ranked whether the user has seen them or not; ``among`` are the only ones that may be recommended; ``where``
    is as of ``pool``. A scorer that can rank few candidates gets them from its retriever, or from the run's best conventional
    model. Without a ``system`` the best scorer on the validation samples is taken. Raises ConfigError for a system or number
    that is not allowed and DataError for unknown ids; with ``cold = "popularity"`` an unknown user gets the most popular items.
    """
    dataset, (scorer, why) = run.context.dataset, scorer_of(run, system)
    check(k, cold)
    if items is not None and len(set(items)) < len(items):
        raise ConfigError("--items names an item twice; give each once.")
    if items is not None and among is not None:
        raise ConfigError("items to rank and items that may be recommended are named; give one of both.")
    chosen = pool(dataset, among if items is None else items, where)
    if cold == POPULARITY and user not in dataset.users:
        return _popular(run, user, chosen, k)
    ranking = Ranking(run, scorer, chosen.items_P, k, allow_seen=allow_seen or items is not None)
    user_1 = dataset.users.inside([user]).astype(np.int64)
    ranked = ranking.of(user_1)
    item_K, among_C = ranked.item_BK[0], ranked.among_BC[0]
    item_K, among_C = item_K[item_K != NONE], among_C[among_C != NONE]
    if not len(item_K):
        raise ConfigError(
            f"user '{user}' has seen every item{chosen.said or ' of the catalogue'}; --allow-seen recommends them all the same."
        )
    # A request for each item, or one for all of them.
    requests = run.task.asked(user_1, among_C[None])
    rows = scorer.shown(
        requests if len(requests) == 1 else requests.at(np.array([among_C.tolist().index(item) for item in item_K]))
    )
    shown = [tuple(behaviours(dataset, some)) for some in rows] * (len(item_K) if len(requests) == 1 else 1)
    scores = [None if np.isnan(score) else float(score) for score in ranked.score_BK[0, : len(item_K)]]
    ids, titles = dataset.items.outside(item_K), dataset.titles
    if items is not None:
        how = f"{len(chosen.items_P):,} items that were asked for"
    else:
        unseen = "" if allow_seen else " not seen yet"
        how = f"{int(ranking.allowed(user_1).sum()):,} items{chosen.said}{unseen}{ranking.how}"
    notes = [fewer(len(item_K), k)] if len(item_K) < k and items is None else []
    notes += [] if not (unknown := scores.count(None)) else [unscored(unknown, scorer)]
    if scorer.ids_alone and user_1[0] >= dataset.known_users:
        told = dataset.profiles.drop_columns("user").slice(int(user_1[0]), 1).to_pylist()[0]
        notes += [f"'{scorer.name}' reads no profile of a user who came after training."] if any(told.values()) else []
    made = [Recommended(n, ids[n - 1], titles[int(item)], scores[n - 1], shown[n - 1]) for n, item in enumerate(item_K, start=1)]
    return Answer(user, scorer.name, how, tuple(made), why, " ".join(notes))


def scorer_of(run: Run, system: str | None) -> tuple[Scorer, str]:
    """The scorer that is asked for, or the best one, and why it is."""
    scorers = run.scorers
    if system is None:
        choice = best(run.task, list(scorers.values()))
        return choice.scorer, choice.why
    if system not in scorers:
        raise ConfigError(f"this run has no system '{system}'; it has {', '.join(scorers)}.")
    return scorers[system], ""


def check(k: int, cold: str) -> None:
    """Raise ConfigError for a number or a word that is not allowed."""
    if k < 1:
        raise ConfigError(f"-k {k} is not the length of a list; give 1 or more.")
    if cold not in COLD:
        raise ConfigError(f"--cold {cold} is none of {', '.join(COLD)}.")


def fewer(count: int, k: int) -> str:
    return f"These are all {count:,}: fewer than the {k:,} that were asked for."


def unscored(count: int, scorer: Scorer) -> str:
    """Of items that came after training."""
    return f"{count:,} new items stand last and have no score: '{scorer.name}' reads ids, and has learnt nothing of them."


def _popular(run: Run, user: str, chosen: Pool, k: int) -> Answer:
    dataset = run.context.dataset
    item_K, score_K = most_popular(run.context, chosen.items_P, k)
    ids, titles = dataset.items.outside(item_K), dataset.titles
    scores = score_K.tolist()
    made = [Recommended(n, ids[n - 1], titles[item], scores[n - 1], ()) for n, item in enumerate(item_K.tolist(), start=1)]
    how = f"{len(chosen.items_P):,} items{chosen.said}, by their share of the training events: the log has no such user"
    return Answer(user, POPULARITY, how, tuple(made), "", fewer(len(made), k) if len(made) < k else "")


def _listed(shown: Sequence[Behaviour]) -> str:
    return "; ".join(on_one_line(f"{one.title} ({one.rating})" if one.rating else one.title) for one in shown)
