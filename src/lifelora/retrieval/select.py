"""Which past behaviours are worth showing: the contract, and those that need no vectors. Knows no model and no prompt.

Whatever the choice, only what happened before the target is chosen.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Annotated, ClassVar, Literal, final

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor

from lifelora.data.dataset import Dataset, Targets
from lifelora.errors import ConfigError, LeakError
from lifelora.kinds import SELECTORS, Variant

Chosen = tuple[Int[np.ndarray, "B K"], Bool[np.ndarray, "B K"]]

EVENTS = 1 << 20
"""Events that are sorted at a time."""


class Selector(ABC):
    """Chooses behaviours by ``_choose``; ``select`` checks that nothing of the future is among them."""

    class Config(Variant):
        """What a recipe says of a selector, and what makes it."""

        needs_vectors: ClassVar[bool] = False
        "Whether it asks how alike items are."
        needs_target: ClassVar[bool] = True
        "Whether it looks at the target's item: then it cannot choose where that item is what is asked for."

        @abstractmethod
        def build(self, vectors_ME: Float[Tensor, "M E"] | None = None) -> "Selector":
            """The selector; item vectors, one row per item, where it needs them."""

        def in_words(self) -> str:
            """Which behaviours are chosen, for a reader of the report."""
            return f"the behaviours that '{self.kind}' chooses"

        @final
        def vectors(self, vectors_ME: Float[Tensor, "M E"] | None) -> Float[Tensor, "M E"]:
            """``vectors_ME``, which this selector cannot do without."""
            if vectors_ME is None:
                raise ConfigError(f"behaviours.kind = '{self.kind}' needs item vectors and got none; run `lifelora embed`.")
            return vectors_ME

    def extended(self, vectors_NE: Float[Tensor, "N E"]) -> "Selector":
        """This selector with vectors of the next items of an extended data set; itself where it needs none."""
        return self

    @abstractmethod
    def _choose(self, dataset: Dataset, targets: Targets) -> Chosen:
        """Event rows and which cells hold one, as ``select`` gives them."""

    @final
    def select(self, dataset: Dataset, targets: Targets) -> Chosen:
        """Event rows for each target, at the right end, and which cells hold one: all of a history shorter than k.

        Raises LeakError if a row is not the same user's or not before its target.
        """
        rows_BK, mask_BK = self._choose(dataset, targets)
        wrong = np.argwhere(mask_BK & ~dataset.log.holds(targets.user_B, targets.position_B, rows_BK))
        if len(wrong):
            place, k = wrong[0]
            raise LeakError(
                f"{type(self).__name__} chose event {rows_BK[place, k]} for target {place}, which may see the first "
                f"{targets.position_B[place]} events of its user only; this is a fault in the selector, not in the data."
            )
        return rows_BK, mask_BK


@final
class MostRecent(Selector):
    """The last k behaviours, or the last k that the user liked."""

    class Config(Selector.Config):
        """The last k behaviours before the target."""

        needs_target: ClassVar[bool] = False
        kind: Literal["most-recent"] = "most-recent"
        k: int = Field(default=30, ge=1)
        liked: bool = False
        "Only those with a positive label, as in CoLLM's prompts."

        def build(self, vectors_ME: Float[Tensor, "M E"] | None = None) -> "MostRecent":
            return MostRecent(self)

        def in_words(self) -> str:
            return f"the last {self.k} liked behaviours" if self.liked else f"the {self.k} behaviours before the target"

    def __init__(self, config: Config) -> None:
        self.k, self.liked = config.k, config.liked

    def _choose(self, dataset: Dataset, targets: Targets) -> Chosen:
        if not self.liked:
            return dataset.history(targets, self.k)
        return _latest(dataset, targets, self.k, lambda rows_P: dataset.label_N[rows_P][:, None], np.ones(len(targets), np.int64))


@final
class SameField(Selector):
    """The last k behaviours whose items share a field's value with the target: SIM's hard search (Pi et al., CIKM 2020).

    Where a field may have several values, one that both items have is enough, whatever else they have. Where the target's value
    is unknown nothing is like it, and nothing is chosen.
    """

    class Config(Selector.Config):
        """The last k behaviours with the target's value of a field of the catalogue."""

        kind: Literal["same-field"] = "same-field"
        k: int = Field(default=30, ge=1)
        field: str = "genre"

        def build(self, vectors_ME: Float[Tensor, "M E"] | None = None) -> "SameField":
            return SameField(self)

        def in_words(self) -> str:
            return f"the last {self.k} behaviours with the target's {self.field}"

    def __init__(self, config: Config) -> None:
        self.k, self.field = config.k, config.field

    def _choose(self, dataset: Dataset, targets: Targets) -> Chosen:
        if self.field not in dataset.item_field_names:
            raise ConfigError(
                f"behaviours.field = '{self.field}' is no field of this catalogue; it has "
                f"{', '.join(dataset.item_field_names) or 'none'}."
            )
        codes_MV = dataset.item_codes(self.field)
        codes_BV = codes_MV[targets.item_B]
        chosen: Chosen | None = None
        for (
            code_B
        ) in codes_BV.T:  # the last k with either of two values are among the last k with one and the last k with the other
            rows_BK, mask_BK = _latest(dataset, targets, self.k, lambda rows_P: codes_MV[dataset.item_N[rows_P]], code_B)
            mask_BK &= (code_B > 0)[:, None]  # 0 is unknown
            chosen = (rows_BK, mask_BK) if chosen is None else _either(chosen, (rows_BK, mask_BK))
        assert chosen is not None, "a field has a column of codes at least"
        return chosen


def _either(one: Chosen, other: Chosen) -> Chosen:
    """The last k rows, each once, of those that are in one of two choices of k."""
    rows_BC, mask_BC = (np.concatenate(pair, axis=1) for pair in zip(one, other, strict=True))
    rows_BC = np.where(mask_BC, rows_BC, -1)
    rows_BC.sort(axis=1)  # a user's rows grow with time
    rows_BC[:, 1:][rows_BC[:, 1:] == rows_BC[:, :-1]] = -1
    rows_BC.sort(axis=1)
    rows_BK = rows_BC[:, -one[0].shape[1] :]
    return np.maximum(rows_BK, 0), rows_BK >= 0


def _latest(
    dataset: Dataset,
    targets: Targets,
    k: int,
    codes_of: Callable[[Int[np.ndarray, "P"]], Int[np.ndarray, "P V"]],
    wanted_B: Int[np.ndarray, "B"],
) -> Chosen:
    """The last k rows before each target that have the wanted code among theirs; a code is not negative, 0 fills up."""
    user_U, place_B = np.unique(targets.user_B, return_inverse=True)
    count_U = dataset.log.count(user_U)
    rows_BK, mask_BK = np.zeros((len(targets), k), np.int64), np.zeros((len(targets), k), np.bool_)
    # Some users at a time, so that memory stays flat however many are asked about.
    block_U = np.cumsum(count_U) // EVENTS
    order = np.argsort(block_U[place_B], kind="stable")
    for block in np.split(order, np.flatnonzero(np.diff(block_U[place_B][order])) + 1) if len(order) else []:
        first, end = int(place_B[block].min()), int(place_B[block].max()) + 1
        place_P, row_P = dataset.log.past(user_U[first:end], count_U[first:end])
        codes_PV, place_b, wanted_b = np.asarray(codes_of(row_P), np.int64), place_B[block] - first, wanted_B[block]
        real_PV = codes_PV > 0
        real_PV[:, 0] = True
        p, code_P = np.nonzero(real_PV)[0], codes_PV[real_PV]
        place_P, row_P = place_P[p], row_P[p]
        n_codes = 1 + max(int(code_P.max(initial=0)), int(wanted_b.max()))
        # All events by (user, code), in time order inside: a target's are side by side, and rows grow with time.
        key_P, key_b, width = place_P * n_codes + code_P, place_b * n_codes + wanted_b, len(dataset) + 1
        by_key = np.argsort(key_P, kind="stable")
        row_P, key_P = row_P[by_key], key_P[by_key]
        user_b, position_b = targets.user_B[block], targets.position_B[block]
        seen_b = np.where(position_b > 0, dataset.log.rows(user_b, position_b - 1) + 1, 0)
        end_b = np.searchsorted(key_P * width + row_P, key_b * width + seen_b)
        places_bK = end_b[:, None] - k + np.arange(k)
        mask_BK[block] = places_bK >= np.searchsorted(key_P, key_b)[:, None]
        rows_BK[block] = np.where(mask_BK[block], row_P[np.where(mask_BK[block], places_bK, 0)] if len(row_P) else 0, 0)
    return rows_BK, mask_BK


AnySelector = Annotated[Selector.Config, SELECTORS]
