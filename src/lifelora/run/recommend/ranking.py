"""The first k items for each of some users, by one scorer. Knows scorers, neither ids nor texts."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from lifelora.run.choice import best
from lifelora.run.run import Run
from lifelora.run.scorers.base import Scorer
from lifelora.run.scorers.conventional import ConventionalScorer

NONE = -1
"""Where a user's list is shorter than k."""
CELLS = 1 << 22
"""Scores that are held at a time, where they are made in one go; and pairs of a user and an item, where each is a request."""
PAIRS = 1 << 18
SHORTLISTED = 16
"""Users at a time whose shortlists a language model ranks."""


@dataclass(frozen=True)
class Ranked:
    """Lists of B users, the best item first; ``NONE``, with no score, behind the last one of a short list."""

    item_BK: Int[np.ndarray, "B K"]
    score_BK: Float[np.ndarray, "B K"]
    "nan also for an item that the scorer cannot know: it stands behind all others."
    among_BC: Int[np.ndarray, "B C"]
    "The items that the scorer was asked about, where it ranks a shortlist; else those of ``item_BK``."


class Ranking:
    """Ranks the items of a pool for users, with all that is the same for every user."""

    def __init__(self, run: Run, scorer: Scorer, pool_P: Int[np.ndarray, "P"], k: int, *, allow_seen: bool = False) -> None:
        """``pool_P`` are items in index order, each once. Raises ConfigError where the scorer needs a retriever and has none."""
        self.run, self.scorer, self.pool_P, self.k, self.allow_seen = run, scorer, pool_P, k, allow_seen
        dataset = run.context.dataset
        self._place_M = np.full(dataset.n_items, NONE)
        self._place_M[pool_P] = np.arange(len(pool_P))
        self._new_P = pool_P >= dataset.known_items
        self.retriever: Scorer | None = None
        self.shortlist: int | None = None
        if scorer.shortlist is not None and len(pool_P) > max(scorer.shortlist, k):
            models = [one for one in run.scorers.values() if isinstance(one, ConventionalScorer)]
            self.retriever = scorer.retriever or (best(run.task, models).scorer if models else None)
            if self.retriever is None:
                scorer.unaided(pool_P)
            else:
                self.shortlist = max(scorer.shortlist, k)

    @property
    def how(self) -> str:
        """Behind the number of items, in words: what has chosen among them."""
        if self.retriever is None:
            return ""
        new = int(self._new_P.sum())
        return f", of which '{self.retriever.name}' chose {self.shortlist:,}" + (f" beside {new:,} new ones" if new else "")

    @property
    def at_once(self) -> int:
        """How many users are ranked together. It depends on nothing but what is asked for, so a batch is always cut alike."""
        if self.shortlist is not None or not self.scorer.ids_alone:
            return SHORTLISTED
        return max(1, min(1024, CELLS // max(1, len(self.pool_P))))

    def allowed(self, user_B: Int[np.ndarray, "B"], exclude: Sequence[np.ndarray] = ()) -> Bool[np.ndarray, "B P"]:
        """Which items of the pool each user may be recommended: those that the user has not seen, or all; none of ``exclude``,
        which has the items of each user, or nothing.
        """
        allowed_BP = np.ones((len(user_B), len(self.pool_P)), np.bool_)
        if not self.allow_seen:
            dataset = self.run.context.dataset
            number_H, event_H = dataset.log.past(user_B, dataset.log.count(user_B))
            place_H = self._place_M[dataset.item_N[event_H]]
            allowed_BP[number_H[place_H >= 0], place_H[place_H >= 0]] = False
        for row, items in enumerate(exclude):
            place = self._place_M[items]
            allowed_BP[row, place[place >= 0]] = False
        return allowed_BP

    def of(self, user_B: Int[np.ndarray, "B"], exclude: Sequence[np.ndarray] = ()) -> Ranked:
        """The lists of some users, by their indices; ``exclude`` as of ``allowed``."""
        user_B, allowed_BP = np.asarray(user_B, np.int64), self.allowed(user_B, exclude)
        if self.scorer.shortlist is None:
            place_BK, score_BK = first(self._scores(self.scorer, user_B), allowed_BP, self.k)
            item_BK = np.where(place_BK >= 0, self.pool_P[place_BK], NONE)
            return Ranked(item_BK, score_BK, item_BK)
        if self.retriever is None or self.shortlist is None:
            return self._among(user_B, np.where(allowed_BP, self.pool_P, NONE))
        # What the retriever knows nothing of is put to the scorer all the same: it reads words.
        place_BC, _ = first(self._scores(self.retriever, user_B), allowed_BP & ~self._new_P, self.shortlist)
        new = np.flatnonzero(self._new_P)
        place_BC = np.column_stack([place_BC, np.where(allowed_BP[:, new], new, NONE)])
        return self._among(user_B, np.where(place_BC >= 0, self.pool_P[place_BC], NONE))

    def _among(self, user_B: Int[np.ndarray, "B"], among_BC: Int[np.ndarray, "B C"]) -> Ranked:
        """The scorer's order of a shortlist of each user; shorter ones are filled with ``NONE``."""
        last = np.iinfo(among_BC.dtype).max
        among_BC = np.sort(np.where(among_BC == NONE, last, among_BC), axis=1)
        count_B = (among_BC != last).sum(axis=1)
        scores_BC = np.full(among_BC.shape, np.nan)
        for count in np.unique(count_B[count_B > 0]).tolist():  # a request lists as many items as the others of its batch
            rows = np.flatnonzero(count_B == count)
            asked = self.run.task.asked(user_B[rows], among_BC[rows, :count])
            scores_BC[rows, :count] = self.scorer.probabilities(asked).reshape(len(rows), count)
        place_BK, score_BK = first(scores_BC, among_BC != last, self.k)
        among_BC = np.where(among_BC == last, NONE, among_BC)
        item_BK = np.where(place_BK >= 0, np.take_along_axis(among_BC, np.maximum(place_BK, 0), axis=1), NONE)
        return Ranked(item_BK, score_BK, among_BC)

    def _scores(self, scorer: Scorer, user_B: Int[np.ndarray, "B"]) -> Float[np.ndarray, "B P"]:
        """Of every item of the pool; nan for one that a scorer cannot know."""
        targets = self.run.context.dataset.candidates(user_B, np.full(len(user_B), self.pool_P[0]))
        made_BP = scorer.over(targets, self.pool_P)
        if made_BP is None:
            rows = max(1, PAIRS // len(self.pool_P))
            made_BP = np.concatenate([self._pairs(scorer, user_B[start : start + rows]) for start in range(0, len(user_B), rows)])
        if scorer.ids_alone and self._new_P.any():
            made_BP = np.where(self._new_P, np.nan, made_BP)
        return made_BP

    def _pairs(self, scorer: Scorer, user_B: Int[np.ndarray, "B"]) -> Float[np.ndarray, "B P"]:
        asked = self.run.task.asked(user_B, np.broadcast_to(self.pool_P, (len(user_B), len(self.pool_P))))
        return scorer.probabilities(asked).reshape(len(user_B), -1)


def first(
    score_BP: Float[np.ndarray, "B P"], allowed_BP: Bool[np.ndarray, "B P"], k: int
) -> tuple[Int[np.ndarray, "B K"], Float[np.ndarray, "B K"]]:
    """The places of the k highest scores of each row among those that are allowed, and the scores, the highest first.

    Of equal scores the first place comes first; what has no score (nan) stands behind all that have one. Where fewer are
    allowed, ``NONE`` and nan fill the row.
    """
    k = min(k, score_BP.shape[1])
    key_BP = np.where(np.isnan(score_BP), np.finfo(np.float64).min, score_BP)
    key_BP[~allowed_BP] = -np.inf
    # The k-th highest of each row, then all above it, and of those that equal it the first ones: no whole sort.
    least_B1 = np.partition(key_BP, -k, axis=1)[:, -k, None]
    above_BP, equal_BP = key_BP > least_B1, key_BP == least_B1
    room_B1 = k - above_BP.sum(axis=1, keepdims=True)
    place_BK = np.nonzero(above_BP | (equal_BP & (equal_BP.cumsum(axis=1) <= room_B1)))[1].reshape(-1, k)
    key_BK = np.take_along_axis(key_BP, place_BK, axis=1)
    order_BK = np.argsort(-key_BK, axis=1, kind="stable")
    place_BK, key_BK = (np.take_along_axis(each, order_BK, axis=1) for each in (place_BK, key_BK))
    none_BK = np.isneginf(key_BK)
    score_BK = np.where(none_BK, np.nan, np.take_along_axis(score_BP, place_BK, axis=1))
    return np.where(none_BK, NONE, place_BK), score_BK
