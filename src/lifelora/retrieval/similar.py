"""The behaviours whose items are most like the target, alone or before the last ones. Knows vectors, no model and no prompt."""

from copy import copy
from dataclasses import replace
from typing import ClassVar, Literal, final

import numpy as np
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from lifelora.data.dataset import Dataset, Targets
from lifelora.errors import ConfigError
from lifelora.retrieval.select import Chosen, Selector
from lifelora.retrieval.similarity import LEAST, Kind, Similarity

Order = Literal["time", "high", "low"]

CELLS = 1 << 17
"""Similarities held at a time; more would only leave the cache."""
ROWS = 128
"""Targets of a user that are compared at once: later ones see longer histories, so large blocks compute in vain."""


@final
class MostSimilar(Selector):
    """The k behaviours whose items are most like the target: SUBR of ReLLa (section 3.2), exactly and without a leak.

    Of equally similar ones the later behaviour wins. Only the user's own past is compared, in blocks, so memory stays flat
    however long the log.
    """

    class Config(Selector.Config):
        """The k behaviours before the target whose items are most similar to it."""

        needs_vectors: ClassVar[bool] = True
        kind: Literal["most-similar"] = "most-similar"
        k: int = Field(default=30, ge=1)
        similarity: Kind = "cosine"
        "Of the item vectors: their cosine (ReLLa), their dot product (its code on two data sets), or l2: the nearest first."
        order: Order = "time"
        "How they are shown: as they happened (ReLLa's `sequential`), or the most similar first (`high`) or last (`low`)."

        def build(self, vectors_ME: Float[Tensor, "M E"] | None = None) -> "MostSimilar":
            return MostSimilar(self, self.vectors(vectors_ME))

        def in_words(self) -> str:
            how = {"cosine": "", "dot": " (dot product)", "l2": " (distance)"}[self.similarity]
            order = {"time": "", "high": ", the most similar first", "low": ", the most similar last"}[self.order]
            return f"the {self.k} behaviours most like the target{how}{order}"

    def __init__(self, config: Config, vectors_ME: Float[Tensor, "M E"]) -> None:
        self.config = config
        self._similarity = Similarity(config.similarity, vectors_ME.detach().cpu().float().numpy())

    @property
    def similarity(self) -> Similarity:
        """How alike items are to it."""
        return self._similarity

    def extended(self, vectors_NE: Float[Tensor, "N E"]) -> "MostSimilar":
        """This selector with vectors of the next items, made as the others were; those are shared. An item of an extended data
        set that has no vector yet is like nothing, as one without words.
        """
        other = copy(self)
        other._similarity = self._similarity.extended(vectors_NE.detach().cpu().float().numpy())
        return other

    def _choose(self, dataset: Dataset, targets: Targets) -> Chosen:
        if not dataset.known_items <= self._similarity.n_items <= dataset.n_items:
            raise ConfigError(
                f"there are vectors of {self._similarity.n_items:,} items and the data set has {dataset.n_items:,}; make "
                "the vectors from this data set."
            )
        k, order, similarity = self.config.k, self.config.order, self._similarity
        rows_BK, mask_BK = dataset.history(targets, k)
        length_B = targets.position_B
        # A history of k or fewer is shown as a whole: only an order by similarity asks how alike they are.
        asking = np.flatnonzero(length_B > (k if order == "time" else 1))
        table_VV = similarity.table(products=int(length_B[asking].sum()))
        # All targets of one user together, the earliest first: blocks then need no more history than their last target.
        asking = asking[np.lexsort((length_B[asking], targets.user_B[asking]))]
        for mine in np.split(asking, np.flatnonzero(np.diff(targets.user_B[asking])) + 1) if len(asking) else []:
            length = int(length_B[mine[-1]])
            rows = dataset.log.rows_of(int(targets.user_B[mine[0]]), length)
            vector_H = similarity.numbers(dataset.item_N[rows])
            if table_VV is None:
                distinct, vector_H = _by_first_sight(vector_H)
                seen_VE = similarity.rows(distinct)
            step = max(1, min(ROWS, CELLS // length))
            for start in range(0, len(mine), step):
                block = mine[start : start + step]
                past_H = vector_H[: length_B[block[-1]]]
                target_B = similarity.numbers(targets.item_B[block])
                if table_VV is None:
                    earlier_VE = seen_VE[: past_H.max() + 1]
                    score_BH = similarity.between(similarity.rows(target_B), earlier_VE)
                    if len(earlier_VE) < len(past_H):  # something came more than once
                        score_BH = score_BH[:, past_H]
                else:
                    score_BH = table_VV.take(target_B[:, None] * len(table_VV) + past_H, mode="clip")  # all are inside
                shortest = length_B[block[0]]
                future = np.arange(shortest, len(past_H)) >= length_B[block, None]
                np.copyto(score_BH[:, shortest:], -np.inf, where=future)
                place_BK = _highest(score_BH, k, order)
                row_BK = place_BK + rows.start if isinstance(rows, slice) else rows[place_BK]
                rows_BK[block, -place_BK.shape[1] :] = np.where(place_BK < 0, 0, row_BK)
        return rows_BK, mask_BK


def _highest(score_BH: Float[np.ndarray, "B H"], k: int, order: Order) -> Int[np.ndarray, "B k"]:
    """Places of the k highest scores of each row, at the right end; of equal ones the later.

    Where a row has fewer than k, the rest is -1: -inf is no score. (The threshold first and then what reaches it: NumPy
    partitions values much faster than it, or torch, finds the indices of the highest.)
    """
    B, H = score_BH.shape
    k = min(k, H)
    least_B1 = np.partition(score_BH, H - k, axis=1)[:, H - k, None] if k < H else np.full((B, 1), LEAST)
    chosen_BH = score_BH >= np.maximum(least_B1, LEAST)
    count_B = np.count_nonzero(chosen_BH, axis=1)
    tied = np.flatnonzero(count_B > k)
    if len(tied):  # too many are as similar as the last one: the earliest of these go
        equal_NH = score_BH[tied] == least_B1[tied]
        chosen_BH[tied] &= ~(equal_NH & (equal_NH.cumsum(axis=1) <= (count_B[tied] - k)[:, None]))
        count_B[tied] = k
    place_BK = np.full((B, k), -1)
    place_BK[np.arange(k) >= k - count_B[:, None]] = np.flatnonzero(chosen_BH) % H
    if order == "time":
        return place_BK
    sign = 1 if order == "low" else -1
    place_BK = place_BK[:, ::sign]  # of equal ones the later is nearer to the most similar
    key_BK = np.where(place_BK < 0, -np.inf, sign * np.take_along_axis(score_BH, place_BK, axis=1))
    return np.take_along_axis(place_BK, key_BK.argsort(axis=1, kind="stable"), axis=1)


@final
class SimilarAndRecent(Selector):
    """The last behaviours, and before them those of all earlier ones that are most like the target; oldest first.

    The most alike tell what the user thinks of such items, the last ones how they rate at all and where they stand now: SIM
    (Pi et al., CIKM 2020) joins what it retrieves with the recent past in this way.
    """

    class Config(Selector.Config):
        """The last behaviours before the target, and the most similar ones among all before those."""

        needs_vectors: ClassVar[bool] = True
        kind: Literal["similar-and-recent"] = "similar-and-recent"
        similar: int = Field(default=30, ge=1)
        recent: int = Field(default=30, ge=1)
        similarity: Kind = "cosine"
        "As in `most-similar`."

        def build(self, vectors_ME: Float[Tensor, "M E"] | None = None) -> "SimilarAndRecent":
            return SimilarAndRecent(self, self.vectors(vectors_ME))

        def in_words(self) -> str:
            return f"the last {self.recent} behaviours and, of those before them, the {self.similar} most like the target"

    def __init__(self, config: Config, vectors_ME: Float[Tensor, "M E"]) -> None:
        self.recent = config.recent
        self._similar = MostSimilar(MostSimilar.Config(k=config.similar, similarity=config.similarity), vectors_ME)

    def extended(self, vectors_NE: Float[Tensor, "N E"]) -> "SimilarAndRecent":
        """As of ``MostSimilar``."""
        other = copy(self)
        other._similar = self._similar.extended(vectors_NE)
        return other

    def _choose(self, dataset: Dataset, targets: Targets) -> Chosen:
        earlier = replace(targets, position_B=np.maximum(0, targets.position_B - self.recent))
        pair = self._similar.select(dataset, earlier), dataset.history(targets, self.recent)
        rows_BK, mask_BK = (np.concatenate(tables, axis=1) for tables in zip(*pair, strict=True))
        return rows_BK, mask_BK


def _by_first_sight(vector_H: Int[np.ndarray, "H"]) -> tuple[Int[np.ndarray, "V"], Int[np.ndarray, "H"]]:
    """Distinct values in the order in which they first come, and each value's number in that order."""
    distinct, first, inverse = np.unique(vector_H, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return distinct[order], np.argsort(order)[inverse]
