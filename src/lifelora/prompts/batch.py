"""Prompts of a batch as one left-padded array of token ids. Knows tokenised lines, not how behaviours were chosen.

A prompt that is too long loses its oldest behaviours, never a word of its question.
"""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora.data.dataset import Dataset, Targets
from lifelora.errors import ConfigError
from lifelora.prompts.segments import Segments
from lifelora.prompts.slots import ITEM, USER, Place
from lifelora.prompts.template import Template, marked
from lifelora.tokens import LineTokenizer


@dataclass(frozen=True)
class Answers:
    """Where the LM says yes or no: the first token in which the two answers differ."""

    yes: int
    no: int
    shared: tuple[int, ...] = ()
    "Tokens with which both answers begin (a lone space, with some tokenizers); they belong to the prompt."


def find_answers(tokenizer: Any, template: Template) -> Answers:
    """The answer tokens in their place after the cue, whatever the tokenizer is.

    Raises ConfigError where the two words begin with no different token, or change the tokens of the cue.
    """
    line_tokenizer = LineTokenizer(tokenizer)
    own = marked(template, line_tokenizer.marked)
    cue, yes, no = (line_tokenizer.whole(f"{own.history}\n{own.answer}{word}") for word in ("", own.yes, own.no))
    for word, ids in ((template.yes, yes), (template.no, no)):
        if ids[: len(cue)] != cue:
            raise ConfigError(
                f"the tokenizer joins the answer {word!r} to the end of the cue {template.answer!r}; change "
                "template.answer or the answer's first character so that a token ends between them."
            )
    place = next((i for i, (a, b) in enumerate(zip(yes, no, strict=False)) if a != b), None)
    if place is None:
        raise ConfigError(
            f"the tokenizer gives {yes[len(cue):]} for {template.yes!r} and {no[len(cue):]} for {template.no!r}: no "
            "token tells them apart. Choose other words for template.yes and template.no."
        )
    return Answers(yes[place], no[place], tuple(yes[len(cue) : place]))


@dataclass(frozen=True)
class PromptBatch:
    """Token ids with their padding (id 0) at the left; the answer comes right after the last column."""

    tokens_BL: Int[Tensor, "B L"]
    mask_BL: Bool[Tensor, "B L"]
    label_B: Float[Tensor, "B"]
    shown_B: Int[Tensor, "B"]
    "How many of the chosen behaviours found room."
    soft_BL: Int[Tensor, "B L"] | None = None
    "The item of each soft token, or USER, and -1 at every other place; None where the lines have no soft tokens."


def newest_that_fit(lengths_BK: Int[np.ndarray, "B K"], room_B: Int[np.ndarray, "B"]) -> Bool[np.ndarray, "B K"]:
    """Which behaviours find room: summed from the right, the most recent end, so what is cut off is the oldest."""
    return np.cumsum(lengths_BK[:, ::-1], axis=1)[:, ::-1] <= room_B[:, None]


class PromptBuilder:
    """Puts prompts together from tokenised lines, by array operations only."""

    def __init__(
        self, dataset: Dataset, segments: Segments, answers: Answers, max_tokens: int, soft: Collection[Place] = ()
    ) -> None:
        """``soft`` says whose soft tokens the segments have."""
        self.soft = soft
        self.dataset, self.segments, self.answers, self.max_tokens = dataset, segments, answers, max_tokens
        self._lengths_N = np.diff(segments.offsets_N)

    @classmethod
    def make(
        cls, dataset: Dataset, template: Template, tokenizer: Any, max_tokens: int, soft: Collection[Place] = ()
    ) -> "PromptBuilder":
        """Tokenise the lines and find the answers first."""
        segments = Segments.build(dataset, template, tokenizer, soft)
        return cls(dataset, segments, find_answers(tokenizer, template), max_tokens, soft)

    @property
    def highest(self) -> int:
        """The highest number of a token that a prompt or its answer can have."""
        return max(int(self.segments.tokens_T.max()), self.answers.yes, self.answers.no, *self.answers.shared)

    def build(
        self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]
    ) -> PromptBatch:
        """Prompts about ``targets`` that show the event rows ``chosen_BK``, from left to right.

        Raises ConfigError, naming the item, where a question has no room even with no behaviour shown.
        """
        segments, lengths = self.segments, self._lengths_N
        behaviour_BK = segments.behaviour_MR[self.dataset.item_N[chosen_BK], self.dataset.rating_N[chosen_BK]]
        assert not np.any(mask_BK & (behaviour_BK < 0)), "an event of the log has no line"
        head_B2, question_B = segments.head_U2[targets.user_B], segments.question_M[targets.item_B]

        room_B2 = self.max_tokens - len(self.answers.shared) - lengths[head_B2] - lengths[question_B][:, None]
        wanted_BK = np.where(mask_BK, lengths[behaviour_BK], 0)
        kept_BK = mask_BK & newest_that_fit(wanted_BK, room_B2[:, 1])
        shown_B = kept_BK.sum(axis=1)
        if np.any((shown_B == 0) & (room_B2[:, 0] < 0)):
            self._refuse(targets, int(np.flatnonzero((shown_B == 0) & (room_B2[:, 0] < 0))[0]), room_B2)

        head_B = np.where(shown_B > 0, head_B2[:, 1], head_B2[:, 0])
        parts_BS = np.concatenate([head_B[:, None], behaviour_BK, question_B[:, None]], axis=1)
        lengths_BS = lengths[parts_BS]
        lengths_BS[:, 1:-1] *= kept_BK
        total_B = lengths_BS.sum(axis=1)
        longest = int(total_B.max(initial=0))

        # Rows are filled from the right, so the true cells of the mask, read row by row, are all segments in order.
        shared = np.array(self.answers.shared, np.int64)
        mask_BL = np.ones((len(targets), longest + len(shared)), np.bool_)
        mask_BL[:, :longest] = np.arange(longest) >= (longest - total_B)[:, None]
        tokens_BL = np.zeros(mask_BL.shape, np.int64)
        token_T = segments.joined(parts_BS, lengths_BS)
        tokens_BL[:, :longest][mask_BL[:, :longest]] = np.maximum(token_T, 0)
        tokens_BL[:, longest:] = shared
        soft_BL = None
        if self.soft:
            # Read row by row, items' soft tokens come in the order of the parts: those of behaviours that are left, the target's.
            item_BS = np.column_stack([self.dataset.item_N[chosen_BK], targets.item_B])
            there_BS = np.column_stack([
                kept_BK & ("behaviours" in self.soft), np.full(len(targets), "target" in self.soft)])
            soft_T = np.where(token_T == USER, USER, -1)
            soft_T[token_T == ITEM] = item_BS[there_BS]
            soft_BL = np.full(mask_BL.shape, -1, np.int64)
            soft_BL[:, :longest][mask_BL[:, :longest]] = soft_T
        return PromptBatch(
            tokens_BL=torch.from_numpy(tokens_BL),
            mask_BL=torch.from_numpy(mask_BL),
            label_B=torch.from_numpy(targets.label_B.astype(np.float32)),
            shown_B=torch.from_numpy(shown_B),
            soft_BL=None if soft_BL is None else torch.from_numpy(soft_BL),
        )

    def _refuse(self, targets: Targets, place: int, room_B2: Int[np.ndarray, "B 2"]) -> None:
        item = int(targets.item_B[place])
        raise ConfigError(
            f"the question about item '{self.dataset.items.outside(np.array([item]))[0]}' "
            f"({self.dataset.titles[item]!r}) needs {self.max_tokens - room_B2[place, 0]} tokens with no behaviour, "
            f"and max_tokens = {self.max_tokens}; raise max_tokens or lower template.description_words."
        )
