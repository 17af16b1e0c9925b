"""Numbers of a scorer as an answer: ids, ranks, reasons, notes. Knows a run; asks no scorer for scores."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from lifelora.data.dataset import Dataset
from lifelora.run.recommend.answer import fewer, unscored
from lifelora.run.recommend.cold import POPULARITY, most_popular
from lifelora.run.run import Run
from lifelora.run.scorers.base import Requests, Scorer
from lifelora.serving.engine.answer import Answer, Past, Placed, pasts
from lifelora.serving.engine.ask import Ask
from lifelora.serving.engine.reasons import Reasons, same

NO_SUCH_USER = "The log has no such user: items stand by their share of the training events."


class Teller:
    """Of one run."""

    def __init__(self, run: Run) -> None:
        self.run, self.reasons = run, Reasons(run)
        self._keys: dict[str, tuple[tuple[str, str], ...]] = {}

    @property
    def dataset(self) -> Dataset:
        """As it is now."""
        return self.run.context.dataset

    def user(self, ask: Ask) -> int | None:
        """The user's number; None for an unknown one who gets the most popular items. DataError for one who is to be refused."""
        if ask.cold == POPULARITY and ask.user not in self.dataset.users:
            return None
        return int(self.dataset.users.inside([ask.user])[0])

    def answer(
        self,
        ask: Ask,
        scorer: Scorer,
        items_C: Int[np.ndarray, "C"],
        score_C: Float[np.ndarray, "C"],
        why: str,
        asked: tuple[Requests, int] | None = None,
        rows: Sequence[Int[np.ndarray, "_"]] = (),
        wanted: int | None = None,
    ) -> Answer:
        """Items and their scores, nan where there are none.

        ``asked`` are the requests that the scorer was asked last, and the first of those that are about this answer, where
        reasons are wanted; ``rows`` are the event rows that were shown for each of these. ``wanted`` is how many items a
        recommendation should have had.
        """
        rank_C, ids = ranks(score_C), self.dataset.items.outside(items_C)
        unknown = int(np.isnan(score_C).sum())
        alike: tuple[Past, ...] = ()
        weights, shown, near = None, list(rows), list[int | None]()
        if asked is not None:
            requests, first = asked
            weights = self.reasons.weights(scorer, requests, first + (int(rank_C.argmin()) if len(shown) == len(items_C) else 0))
            alike = pasts(self.dataset, shown[0]) if shown and same(shown) else ()
            near = self.reasons.nearest(items_C, shown[0]) if shown and same(shown) else []
        placed = []
        for place, (item, number, rank, score) in enumerate(
            zip(ids, items_C.tolist(), rank_C.tolist(), score_C.tolist(), strict=True)
        ):
            own, nearest = None, None
            if near:
                nearest = _at(alike, near[place])
            elif shown:
                own = pasts(self.dataset, shown[place])
                nearest = _at(own, self.reasons.nearest(items_C[place : place + 1], shown[place])[0])
            placed.append(Placed(item, self.dataset.titles[number], rank, None if np.isnan(score) else score, nearest, own))
        notes = [unscored(unknown, scorer)] if unknown else []
        notes += [fewer(len(placed), wanted)] if wanted is not None and len(placed) < wanted else []
        return Answer(
            ask.user,
            scorer.name,
            ask.system,
            tuple(placed),
            alike,
            weights,
            scorer.name != ask.system,
            why or ask.why,
            " ".join(notes),
            self.identity(scorer),
        )

    def popular(self, ask: Ask, items_P: Int[np.ndarray, "P"], k: int | None = None) -> Answer:
        """The most popular of some items, or all of them as they came, for a user whom the log lacks."""
        item_K, share_K = most_popular(self.run.context, items_P, len(items_P) if k is None else k)
        if k is None:
            place = {int(item): share for item, share in zip(item_K, share_K, strict=True)}
            item_K, share_K = items_P, np.array([place[int(item)] for item in items_P])
        ids, rank_K = self.dataset.items.outside(item_K), ranks(share_K)
        placed = [
            Placed(one, self.dataset.titles[int(item)], int(rank), float(share))
            for one, item, rank, share in zip(ids, item_K, rank_K, share_K, strict=True)
        ]
        notes = [NO_SUCH_USER, *([fewer(len(placed), k)] if k is not None and len(placed) < k else [])]
        return Answer(
            ask.user, POPULARITY, ask.system, tuple(placed), fallback=True, why="the user is unknown", note=" ".join(notes)
        )

    def identity(self, scorer: Scorer) -> tuple[tuple[str, str], ...]:
        """What answers, to the last digit."""
        if scorer.name not in self._keys:
            stages = self.run.stages
            self._keys[scorer.name] = (
                ("recipe", self.run.recipe.name),
                ("data", stages.data.key),
                ("system", scorer.stage.key),
            )
        return self._keys[scorer.name]


def _at(shown: Sequence[Past], place: int | None) -> Past | None:
    return None if place is None else shown[place]


def ranks(score_C: Float[np.ndarray, "C"]) -> Int[np.ndarray, "C"]:
    """From 1 for the highest; of equal scores the first comes first, and what has none (nan) last."""
    order_C = np.argsort(-np.where(np.isnan(score_C), -np.inf, score_C), kind="stable")
    rank_C = np.empty(len(score_C), np.int64)
    rank_C[order_C] = np.arange(1, len(score_C) + 1)
    return rank_C
