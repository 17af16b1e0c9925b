"""Prompts of both tasks, put together from tokenised lines by array operations. Knows segments, not what they say.

    head, behaviours, what follows them        from left to right, ending in the same column

A prompt that is too long loses its oldest behaviours, never a word of what follows them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias, final

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lifelora.prompts.lines.base import Lines
from lifelora.prompts.slots import ITEM, USER


@final
@dataclass(frozen=True)
class Prompts:
    """Token ids with their padding (id 0) at the left; an answer is at the very end, or comes right after it."""

    tokens_BL: Int[Tensor, "B L"]
    mask_BL: Bool[Tensor, "B L"]
    shown_B: Int[Tensor, "B"]
    "How many of the chosen behaviours found room."
    soft_BL: Int[Tensor, "B L"] | None = None
    "The item of each soft token, or USER, and -1 at every other place; None for prompts of words alone."
    answer_BA: Bool[Tensor, "B A"] | None = None
    "Which of the last A tokens are the answer; None where it is asked for."
    question_B: Int[Tensor, "B"] | None = None
    "How many of the last tokens are not head or behaviours: the question, and the answer if it is there."


Segments: TypeAlias = tuple[
    Lines,
    Int[np.ndarray, "B 2"],
    Int[np.ndarray, "B K"],
    Bool[np.ndarray, "B K"],
    Int[np.ndarray, "B X"],
    Int[np.ndarray, "B"],
    Callable[[int, int], None],
    Int[np.ndarray, "B S"] | None,
]
"""What ``Plan.of`` takes, in its order."""


@final
@dataclass(frozen=True)
class Plan:
    """The segments of each row's prompt from left to right; one of length 0 is left out."""

    lines: Lines
    part_BS: Int[np.ndarray, "B S"]
    length_BS: Int[np.ndarray, "B S"]
    shown_B: Int[np.ndarray, "B"]
    item_BS: Int[np.ndarray, "B S"] | None = None
    "Whose soft token is in a segment that has an item's; None for words alone."
    behaviours: int = 0
    "K: so many segments after the first are behaviours."

    @classmethod
    def of(
        cls,
        lines: Lines,
        head_B2: Int[np.ndarray, "B 2"],
        behaviour_BK: Int[np.ndarray, "B K"],
        mask_BK: Bool[np.ndarray, "B K"],
        rest_BS: Int[np.ndarray, "B X"],
        room_B: Int[np.ndarray, "B"],
        refuse: Callable[[int, int], None],
        item_BS: Int[np.ndarray, "B S"] | None = None,
    ) -> "Plan":
        """The newest behaviours that find room, between a head (without behaviours, with) and the rest.

        ``refuse`` gets the first row that has no room even with no behaviour, and the tokens that it needs, and raises.
        """
        lengths_N = lines.lengths
        needed_B2 = lengths_N[head_B2] + lengths_N[rest_BS].sum(axis=1)[:, None]
        kept_BK = mask_BK & newest_that_fit(np.where(mask_BK, lengths_N[behaviour_BK], 0), room_B - needed_B2[:, 1])
        shown_B = kept_BK.sum(axis=1)
        over_B = (shown_B == 0) & (needed_B2[:, 0] > room_B)
        if over_B.any():
            row = int(over_B.argmax())
            refuse(row, int(needed_B2[row, 0]))
        head_B = np.where(shown_B > 0, head_B2[:, 1], head_B2[:, 0])
        part_BS = np.column_stack([head_B, behaviour_BK, rest_BS])
        length_BS = lengths_N[part_BS]
        length_BS[:, 1 : 1 + behaviour_BK.shape[1]] *= kept_BK
        return cls(lines, part_BS, length_BS, shown_B, item_BS, behaviour_BK.shape[1])

    def then(self, part_B: Int[np.ndarray, "B"]) -> "Plan":
        """With one segment more at the right."""
        part_BS, length_BS = (
            np.column_stack(pair) for pair in ((self.part_BS, part_B), (self.length_BS, self.lines.lengths[part_B]))
        )
        item_BS = None if self.item_BS is None else np.column_stack([self.item_BS, np.full(len(part_B), -1)])
        return Plan(self.lines, part_BS, length_BS, self.shown_B, item_BS, self.behaviours)

    @property
    def lengths(self) -> Int[np.ndarray, "B"]:
        """How many tokens each prompt has."""
        return np.asarray(self.length_BS.sum(axis=1))

    @property
    def codes(self) -> tuple[Int[np.ndarray, "T"], Int[np.ndarray, "T"] | None]:
        """The token ids of all rows, one after another, and the item or USER of each that is a soft token (-1: of none)."""
        code_T = self.lines.joined(self.part_BS, self.length_BS)
        if self.item_BS is None:
            return code_T, None
        # Read row by row, the items' soft tokens come in the order of the segments that have one.
        soft_T = np.where(code_T == USER, USER, -1)
        soft_T[code_T == ITEM] = self.item_BS[self.lines.slotted[self.part_BS] & (self.length_BS > 0)]
        return np.maximum(code_T, 0), soft_T

    def fill(self, answer_BA: Bool[np.ndarray, "B A"] | None = None) -> Prompts:
        """The prompts; ``answer_BA`` says which of their last tokens are an answer."""
        (token_T, soft_T), mask_BL = self.codes, aligned(self.lengths, "right")
        return Prompts(
            tokens_BL=torch.from_numpy(spread(token_T, mask_BL, 0)),
            mask_BL=torch.from_numpy(mask_BL),
            shown_B=torch.from_numpy(self.shown_B),
            soft_BL=None if soft_T is None else torch.from_numpy(spread(soft_T, mask_BL, -1)),
            answer_BA=None if answer_BA is None else torch.from_numpy(answer_BA),
            question_B=torch.from_numpy(np.asarray(self.length_BS[:, 1 + self.behaviours :].sum(axis=1))),
        )


def newest_that_fit(lengths_BK: Int[np.ndarray, "B K"], room_B: Int[np.ndarray, "B"]) -> Bool[np.ndarray, "B K"]:
    """Which behaviours find room: summed from the right, the most recent end, so what is cut off is the oldest."""
    return np.asarray(np.cumsum(lengths_BK[:, ::-1], axis=1)[:, ::-1] <= room_B[:, None])


def aligned(length_B: Int[np.ndarray, "*B"], side: Literal["left", "right"]) -> Bool[np.ndarray, "*B L"]:
    """Where rows of these lengths have their tokens: all begin in the first column, or end in the last."""
    longest = int(length_B.max(initial=0))
    column_L = np.arange(longest)
    return np.asarray(column_L < length_B[..., None] if side == "left" else column_L >= longest - length_B[..., None])


def spread(value_T: Int[np.ndarray, "T"], mask_BL: Bool[np.ndarray, "*B L"], pad: int) -> Int[np.ndarray, "*B L"]:
    """The values of all rows, one after another, in their places."""
    # The true cells of the mask, read row by row, are all segments in order.
    value_BL = np.full(mask_BL.shape, pad, np.int64)
    value_BL[mask_BL] = value_T
    return value_BL
