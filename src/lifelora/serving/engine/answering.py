"""Requests that go together as one call of a scorer, and its numbers as the answer of each. Knows a run, no queue.

What is asked of a scorer is what evaluation and `recommend` ask, so its numbers are theirs.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from lifelora.errors import ConfigError, LifeloraError
from lifelora.run.recommend.cold import NEW_USER, told_events
from lifelora.run.recommend.pool import Pool, pool
from lifelora.run.recommend.ranking import NONE, Ranking
from lifelora.run.run import Run
from lifelora.run.scorers.base import Requests, Scorer
from lifelora.serving.engine.answer import Answer
from lifelora.serving.engine.ask import Ask, ListAsk, ScoreAsk, ToldAsk
from lifelora.serving.engine.kept import Kept
from lifelora.serving.engine.telling import Teller

RANKINGS = 16
"""Rankings that are kept, each of a pool; it holds a number for every item."""
Outcome = Answer | LifeloraError
Some = TypeVar("Some", bound=Ask)
Known = tuple[Some, int, np.ndarray]
"""A request, its user's number, and the items that it names."""


class Answering:
    """Of one run."""

    def __init__(self, run: Run, kept: Kept) -> None:
        self.run, self.kept, self.teller = run, kept, Teller(run)
        self._rankings: OrderedDict[Hashable, tuple[Pool, Ranking]] = OrderedDict()

    def of(self, asks: Sequence[Ask], scorer: Scorer, why: str = "") -> list[Outcome]:
        """Of requests with one key; ``why`` another scorer answers than the one that was asked."""
        told, lists = [one for one in asks if isinstance(one, ToldAsk)], [one for one in asks if isinstance(one, ListAsk)]
        if told:
            return self.told(told, scorer, why)
        return (
            self.lists(lists, scorer, why)
            if lists
            else self.scores([one for one in asks if isinstance(one, ScoreAsk)], scorer, why)
        )

    def scores(self, asks: Sequence[ScoreAsk], scorer: Scorer, why: str = "") -> list[Outcome]:
        """Of candidates."""

        def answered(known: Sequence[Known[ScoreAsk]]) -> list[Answer]:
            parts = [self.run.task.now(user, items_C) for _, user, items_C in known]
            requests = Requests.joined(parts)
            every = np.split(scorer.score(requests).ravel(), np.cumsum([len(items_C) for _, _, items_C in known])[:-1])
            row_N = scorer.shown(requests) if any(ask.reasons for ask, _, _ in known) else []
            made, row = [], 0
            for (ask, _, items_C), part, score_C in zip(known, parts, every, strict=True):
                shown, first = row_N[row : row + len(part)] if ask.reasons else [], row
                row += len(part)
                told_C = self._told(scorer, items_C, score_C)
                made.append(
                    self.teller.answer(ask, scorer, items_C, told_C, why, (requests, first) if ask.reasons else None, shown)
                )
            return made

        return self._outcomes(asks, lambda ask: ask.items, lambda ask, items: self.teller.popular(ask, items), answered)

    def lists(self, asks: Sequence[ListAsk], scorer: Scorer, why: str = "") -> list[Outcome]:
        """Recommendations, all from one pool."""
        if not asks:
            return []
        try:
            chosen, ranking = self._ranking(asks[0], scorer)
        except LifeloraError as error:
            return [error] * len(asks)

        def answered(known: Sequence[Known[ListAsk]]) -> list[Answer]:
            made = []
            for start in range(0, len(known), ranking.at_once):
                some = known[start : start + ranking.at_once]
                ranked = ranking.of(np.array([user for _, user, _ in some]), [items for _, _, items in some])
                for (ask, user, _), item_K, score_K, among_C in zip(
                    some, ranked.item_BK, ranked.score_BK, ranked.among_BC, strict=True
                ):
                    made.append(self._listed(ask, scorer, user, item_K, score_K, among_C[among_C != NONE], why))
            return made

        def popular(ask: ListAsk, items: np.ndarray) -> Answer:
            return self.teller.popular(ask, chosen.items_P[~np.isin(chosen.items_P, items)], ask.n)

        return self._outcomes(
            asks, lambda ask: [one for one in ask.exclude if one in self.run.context.dataset.items], popular, answered
        )

    def told(self, asks: Sequence[ToldAsk], scorer: Scorer, why: str = "") -> list[Outcome]:
        """Recommendations for new users, who have their histories until the answers are made."""
        context, found = self.run.context, dict[ToldAsk, Outcome]()
        with context.supposing():
            for ask in asks:
                try:
                    context.dataset.items.inside([item for item, _ in ask.history])
                    context.extend(told_events(context.dataset, ask.user, ask.history))
                except LifeloraError as error:
                    found[ask] = error
            known = [ask for ask in asks if ask not in found]
            try:
                found.update(zip(known, self.lists(known, scorer, why), strict=True))
            finally:  # the next new user gets the same number
                for user in context.dataset.users.known([ask.user for ask in known]).tolist():
                    self.kept.forget(user)
        return [replace(one, user=NEW_USER) if isinstance(one, Answer) else one for one in (found[ask] for ask in asks)]

    def _listed(
        self,
        ask: ListAsk,
        scorer: Scorer,
        user: int,
        item_K: np.ndarray,
        score_K: np.ndarray,
        among_C: np.ndarray,
        why: str,
    ) -> Answer:
        real_K = item_K != NONE
        item_K, score_K = item_K[real_K], score_K[real_K]
        if not len(item_K):
            raise ConfigError(f"user '{ask.user}' has seen every item that may be recommended; allow_seen recommends them again.")
        if not ask.reasons:
            return self.teller.answer(ask, scorer, item_K, score_K, why, wanted=ask.n)
        requests = self.run.task.now(user, among_C)
        if len(requests) > 1:  # a request for each item
            requests = requests.at(np.array([among_C.tolist().index(item) for item in item_K.tolist()]))
        return self.teller.answer(ask, scorer, item_K, score_K, why, (requests, 0), scorer.shown(requests), ask.n)

    def _outcomes(
        self,
        asks: Sequence[Some],
        named: Callable[[Some], Sequence[str]],
        popular: Callable[[Some, np.ndarray], Answer],
        answered: Callable[[Sequence[Known[Some]]], list[Answer]],
    ) -> list[Outcome]:
        """In their order. What is wrong with one, that alone is refused."""
        found, known, dataset = dict[Some, Outcome](), list[Known[Some]](), self.run.context.dataset
        for ask in asks:
            try:
                user, items = self.teller.user(ask), dataset.items.inside(list(named(ask))).astype(np.int64)
                if user is None:
                    found[ask] = popular(ask, items)
                else:
                    known.append((ask, user, items))
            except LifeloraError as error:
                found[ask] = error
        for part in [known] if known else []:
            try:
                found.update(zip([ask for ask, _, _ in part], answered(part), strict=True))
            except LifeloraError:
                for one in part:
                    try:
                        found[one[0]] = answered([one])[0]
                    except LifeloraError as error:
                        found[one[0]] = error
        return [found[ask] for ask in asks]

    def _told(self, scorer: Scorer, items_C: np.ndarray, score_C: np.ndarray) -> np.ndarray:
        """nan for what the scorer cannot know."""
        unknown_C = ~np.isfinite(score_C) | (scorer.ids_alone & (items_C >= self.run.context.dataset.known_items))
        return np.where(unknown_C, np.nan, score_C.astype(np.float64))

    def _ranking(self, ask: ListAsk, scorer: Scorer) -> tuple[Pool, Ranking]:
        """That of the pool that is asked for, as long as no item is new."""
        dataset = self.run.context.dataset
        key = (scorer.name, ask.n, ask.among, ask.where, ask.allow_seen, dataset.n_items)
        if key not in self._rankings:
            chosen = pool(dataset, ask.among, ask.where)
            self._rankings[key] = chosen, Ranking(self.run, scorer, chosen.items_P, ask.n, allow_seen=ask.allow_seen)
        self._rankings.move_to_end(key)
        while len(self._rankings) > RANKINGS:
            self._rankings.popitem(last=False)
        return self._rankings[key]
