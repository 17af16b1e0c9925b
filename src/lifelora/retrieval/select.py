"""Which past behaviours are worth showing: the most recent, or those most like the target. Knows no model, no prompt.

Whatever the choice, only what happened before the target is chosen, and it is shown in the order in which it happened.
"""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal, final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from lifelora.data.dataset import Dataset, Targets
from lifelora.errors import ConfigError, LeakError
from lifelora.types import Frozen

Chosen = tuple[Int[np.ndarray, "B K"], Bool[np.ndarray, "B K"]]

CELLS = 1 << 19
"""Similarities held at a time; more would only use more memory."""
ROWS = 512
"""Targets of a user that share one product: later ones see longer histories, so large blocks compute in vain."""
RECENCY = 2.0**-50
"""Added per place in the history to break ties: less than what float32 similarities can differ by (2^-25 and more)."""


class Selector(ABC):
    """Chooses behaviours by ``_choose``; ``select`` checks that nothing of the future is among them."""

    @abstractmethod
    def _choose(self, dataset: Dataset, targets: Targets) -> Chosen: ...

    @final
    def select(self, dataset: Dataset, targets: Targets) -> Chosen:
        """Event rows for each target, at the right end, and which cells hold one: all of a history shorter than k.

        Raises LeakError if a row is not the same user's or not before its target.
        """
        rows_BK, mask_BK = self._choose(dataset, targets)
        first_B, before_B = dataset.offsets[targets.user_B], targets.before_B
        wrong = np.argwhere(mask_BK & ((rows_BK < first_B[:, None]) | (rows_BK >= before_B[:, None])))
        if len(wrong):
            place, k = wrong[0]
            raise LeakError(
                f"{type(self).__name__} chose event {rows_BK[place, k]} for target {place}, which may see events "
                f"{first_B[place]} to {before_B[place] - 1} only; this is a fault in the selector, not in the data."
            )
        return rows_BK, mask_BK


@final
class MostRecent(Selector):
    """The last k behaviours."""

    class Config(Frozen):
        """The last k behaviours before the target."""

        needs_vectors: ClassVar[bool] = False
        kind: Literal["most-recent"] = "most-recent"
        k: int = Field(default=30, ge=1)

    def __init__(self, config: Config) -> None:
        self.k = config.k

    def _choose(self, dataset: Dataset, targets: Targets) -> Chosen:
        return dataset.history(targets, self.k)


@final
class MostSimilar(Selector):
    """The k behaviours whose items are most like the target: SUBR of ReLLa (section 3.2), exactly and without a leak.

        similarity(i, t) = <v_i, v_t>,  |v| = 1;  of equal ones the later behaviour wins

    Only the user's own past is compared, in blocks, so memory stays flat however long the log.
    """

    class Config(Frozen):
        """The k behaviours before the target whose items are most similar to it."""

        needs_vectors: ClassVar[bool] = True
        kind: Literal["most-similar"] = "most-similar"
        k: int = Field(default=30, ge=1)
        order: Literal["time", "similarity"] = "time"
        "How they are shown: oldest first, or the most similar last (nearest to the question)."

    def __init__(self, config: Config, vectors_ME: Float[Tensor, "M E"]) -> None:
        self.k, self.order, self.n_items = config.k, config.order, len(vectors_ME)
        # Products of equal vectors can differ in the last bit, by their place in a matrix. Each distinct vector is
        # multiplied once, so that behaviours which are equally similar are so to the last bit.
        rows_ME = np.ascontiguousarray(vectors_ME.cpu().float().numpy()) + np.float32(0)  # -0.0 becomes 0.0
        as_bytes = rows_ME.view(np.dtype((np.void, rows_ME.shape[1] * 4)))[:, 0]
        _, first, self._vector_M = np.unique(as_bytes, return_index=True, return_inverse=True)
        self._distinct_VE = torch.from_numpy(rows_ME[first]).to(vectors_ME.device)

    def _choose(self, dataset: Dataset, targets: Targets) -> Chosen:
        if self.n_items != dataset.n_items:
            raise ConfigError(
                f"there are vectors of {self.n_items:,} items and the data set has {dataset.n_items:,}; make "
                "the vectors from this data set."
            )
        places_BK = np.full((len(targets), self.k), -1, np.int64)
        # All targets of one user together, the earliest first: blocks then need no more history than their last target.
        by_user = np.lexsort((targets.before_B, targets.user_B))
        cuts = np.flatnonzero(np.diff(targets.user_B[by_user])) + 1
        for mine in np.split(by_user, cuts) if len(by_user) else []:
            first = int(dataset.offsets[targets.user_B[mine[0]]])
            last = int(targets.before_B[mine[-1]])
            distinct, vector_H = _by_first_sight(self._vector_M[dataset.item_N[first:last]])
            seen_VE = self._distinct_VE[self._there(distinct)]
            step = max(1, min(ROWS, CELLS // max(1, last - first)))
            for start in range(0, len(mine), step):
                block = mine[start : start + step]
                target_BE = self._distinct_VE[self._there(self._vector_M[targets.item_B[block]])]
                found_BK = self._nearest(target_BE, seen_VE, vector_H, targets.before_B[block] - first)
                if found_BK.shape[1]:
                    places_BK[block, -found_BK.shape[1] :] = found_BK.cpu().numpy()
        mask_BK = places_BK >= 0
        return np.where(mask_BK, places_BK + dataset.offsets[targets.user_B][:, None], 0), mask_BK

    def _nearest(
        self, target_BE: Float[Tensor, "B E"], seen_VE: Float[Tensor, "V E"], vector_H: Int[np.ndarray, "H"],
        length_B: Int[np.ndarray, "B"],
    ) -> Int[Tensor, "B k"]:
        shortest, longest = int(length_B[0]), int(length_B[-1])
        place_H = torch.arange(longest, device=seen_VE.device)
        met = int(vector_H[:longest].max(initial=-1)) + 1
        score_BH = target_BE @ seen_VE[:met].T
        if met < longest:  # something came more than once
            score_BH = score_BH[:, self._there(vector_H[:longest])]
        score_BH = score_BH.double()
        score_BH += place_H * RECENCY
        future = place_H[shortest:] >= self._there(length_B)[:, None]
        score_BH[:, shortest:].masked_fill_(future, -torch.inf)
        best = score_BH.topk(min(self.k, longest), dim=1)
        place_BK = best.indices.masked_fill(best.values == -torch.inf, -1)
        return place_BK.flip(1) if self.order == "similarity" else place_BK.sort(dim=1).values

    def _there(self, numbers_N: Int[np.ndarray, "N"]) -> Int[Tensor, "N"]:
        return torch.from_numpy(numbers_N).to(self._distinct_VE.device)


@final
class SameField(Selector):
    """The last k behaviours whose items share a field's value with the target: SIM's hard search (Pi et al., CIKM 2020).

    Where the target's value is unknown nothing is like it, and nothing is chosen.
    """

    class Config(Frozen):
        """The last k behaviours with the target's value of a field of the catalogue."""

        needs_vectors: ClassVar[bool] = False
        kind: Literal["same-field"] = "same-field"
        k: int = Field(default=30, ge=1)
        field: str = "genre"

    def __init__(self, config: Config) -> None:
        self.k, self.field = config.k, config.field

    def _choose(self, dataset: Dataset, targets: Targets) -> Chosen:
        if self.field not in dataset.item_field_names:
            raise ConfigError(f"behaviours.field = '{self.field}' is no field of this catalogue; it has "
                              f"{', '.join(dataset.item_field_names) or 'none'}.")
        code_M = dataset.schema().item_fields_MF[:, dataset.item_field_names.index(self.field)].numpy()  # 0 is unknown
        n_codes = int(code_M.max(initial=0)) + 1
        # All events by (user, value), in time order inside: a target's candidates lie side by side.
        users = np.unique(targets.user_B)
        spans = [np.arange(dataset.offsets[user], dataset.offsets[user + 1]) for user in users]
        row_N = np.concatenate(spans) if spans else np.zeros(0, np.int64)
        key_N = np.asarray(dataset.user_N[row_N], np.int64) * n_codes + code_M[dataset.item_N[row_N]]
        order = np.lexsort((row_N, key_N))
        row_N, key_N = row_N[order], key_N[order]
        code_B = code_M[targets.item_B]
        wanted_B = targets.user_B.astype(np.int64) * n_codes + code_B
        first_B = np.searchsorted(key_N, wanted_B)
        # How many of them happened before the target: rows grow with time inside (user, value).
        width = len(dataset) + 1
        before_B = np.searchsorted(key_N * width + row_N, wanted_B * width + targets.before_B)
        places_BK = before_B[:, None] - self.k + np.arange(self.k)
        mask_BK = (places_BK >= first_B[:, None]) & (code_B > 0)[:, None]
        rows_BK = np.where(mask_BK, row_N[np.where(mask_BK, places_BK, 0)] if len(row_N) else 0, 0)
        return rows_BK, mask_BK


def _by_first_sight(vector_H: Int[np.ndarray, "H"]) -> tuple[Int[np.ndarray, "V"], Int[np.ndarray, "H"]]:
    """Distinct values in the order in which they first come, and each value's number in that order."""
    distinct, first, inverse = np.unique(vector_H, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return distinct[order], np.argsort(order)[inverse]


AnyConfig = MostRecent.Config | MostSimilar.Config | SameField.Config
AnySelector = Annotated[AnyConfig, Field(discriminator="kind")]


def selector(config: AnyConfig, vectors_ME: Float[Tensor, "M E"] | None = None) -> Selector:
    """The selector that ``config`` describes; ``vectors_ME`` have unit length and one row per item."""
    if isinstance(config, MostRecent.Config):
        return MostRecent(config)
    if isinstance(config, SameField.Config):
        return SameField(config)
    if vectors_ME is None:
        raise ConfigError(f"behaviours.kind = '{config.kind}' needs item vectors and got none; run `lifelora embed`.")
    return MostSimilar(config, vectors_ME)
