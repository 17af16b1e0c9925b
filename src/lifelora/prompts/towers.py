"""Texts of users and items for an encoder with two towers, as right-padded arrays. Knows tokenised lines, no model.

    user: start, head, behaviours, end          item: start, the question's lines, end

with the special tokens of the tokenizer, so that what is read is its own encoding of the text. Nothing is asked:
a template's answer, yes and no have no part in it. A user whose text is too long loses the oldest behaviours.
"""

from copy import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora.data.column import longer
from lifelora.data.dataset import Dataset, Targets
from lifelora.errors import ConfigError
from lifelora.prompts.fill import Plan, aligned, spread
from lifelora.prompts.lines.base import table_texts
from lifelora.prompts.lines.yes_no import Writer, YesNoLines
from lifelora.prompts.wording.yes_no import Template


@dataclass(frozen=True)
class TowerTexts:
    """N texts, with their padding at the right."""

    tokens_NL: Int[Tensor, "N L"]
    mask_NL: Bool[Tensor, "N L"]


@dataclass(frozen=True)
class TowerBatch:
    """The distinct texts of a batch, which of them are each row's, and labels."""

    users: TowerTexts
    user_B: Int[Tensor, "B"]
    items: TowerTexts
    item_B: Int[Tensor, "B"]
    label_B: Float[Tensor, "B"]


class TowerBuilder:
    """Puts both texts together from tokenised lines, by array operations only."""

    def __init__(self, dataset: Dataset, template: Template, tokenizer: Any, max_tokens: int) -> None:
        """Tokenise all lines; ConfigError where the longest text about a user has no room even without behaviours."""
        made = YesNoLines.build(dataset, template, tokenizer)
        line_tokenizer = made.writer.by
        self.dataset, self.max_tokens = dataset, max_tokens
        items = self._item_texts(made.writer, dataset.catalogue)
        self.pad = int(getattr(tokenizer, "pad_token_id", None) or 0)
        self.end = len(made.lengths)
        question_M = (self.end + 1 + np.arange(len(items))).astype(np.int32)
        self.lines = replace(made.longer([np.array(line_tokenizer.end, np.int32), *items]), question_M=question_M)
        longest = int(made.lengths[made.head_U2].max(initial=0)) + len(line_tokenizer.end)
        if longest > max_tokens:
            self._refuse(0, longest)

    def extended(self, dataset: Dataset) -> "TowerBuilder":
        """This builder for the data set extended: its lines are shared, and what is new is tokenised."""
        other, lines = copy(self), self.lines.with_histories(dataset)
        items = self._item_texts(lines.writer, dataset.catalogue.slice(len(lines.question_M)))
        question_n = len(lines.lengths) + np.arange(len(items))
        other.dataset, other.lines = dataset, lines.grown(items, question_M=longer(lines.question_M, question_n))
        return other

    def _item_texts(self, writer: Writer, catalogue: pa.Table) -> list[Int[np.ndarray, "_"]]:
        start, end = writer.by.start, writer.by.end
        room = self.max_tokens - len(start) - len(end)
        texts = [writer.template.item_text(writer.words, row) for row in table_texts(catalogue)]
        return [np.array([*start, *ids[:room], *end], np.int32) for ids in writer.by.many(texts)]

    @property
    def highest(self) -> int:
        """The highest number of a token that a text can have."""
        return max(int(self.lines.tokens_T.max()), self.pad)

    def batch(self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]) -> TowerBatch:
        """Both texts of ``targets``, where users are shown with the event rows ``chosen_BK``, from left to right."""
        users, user_B = self.users(targets, chosen_BK, mask_BK)
        item_N, item_B = np.unique(targets.item_B, return_inverse=True)
        return TowerBatch(
            users, user_B, self.items(item_N), torch.from_numpy(item_B), torch.from_numpy(targets.label_B.astype(np.float32))
        )

    def users(
        self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]
    ) -> tuple[TowerTexts, Int[Tensor, "B"]]:
        """The distinct texts about users, and which of them is each target's."""
        plan = self._plan(targets, chosen_BK, mask_BK)
        parts_BS = np.where(plan.length_BS > 0, plan.part_BS, -1)
        parts_NS, which_B = np.unique(parts_BS, axis=0, return_inverse=True)
        return self._padded(parts_NS), torch.from_numpy(which_B.reshape(-1))

    def kept(
        self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]
    ) -> Bool[np.ndarray, "B K"]:
        """Which of the chosen behaviours find room."""
        return np.asarray(self._plan(targets, chosen_BK, mask_BK).length_BS[:, 1:-1] > 0)

    def lengths(
        self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]
    ) -> Int[np.ndarray, "B"]:
        """How many tokens each user's text has."""
        return self._plan(targets, chosen_BK, mask_BK).lengths

    def item_lengths(self, item_N: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """How many tokens each item's text has."""
        return np.asarray(self.lines.lengths[self.lines.question_M[item_N]])

    def items(self, item_N: Int[np.ndarray, "N"]) -> TowerTexts:
        """The texts of items."""
        return self._padded(self.lines.question_M[item_N][:, None])

    def _plan(self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]) -> Plan:
        lines, count = self.lines, len(targets)
        behaviour_BK = lines.behaviours(self.dataset.item_N[chosen_BK], self.dataset.rating_N[chosen_BK])
        return Plan.of(
            lines,
            lines.head_U2[targets.user_B],
            behaviour_BK,
            mask_BK,
            np.full((count, 1), self.end),
            np.full(count, self.max_tokens),
            self._refuse,
        )

    def _padded(self, parts_NS: Int[np.ndarray, "N S"]) -> TowerTexts:
        """Segments one after another, row by row; -1 is none."""
        lengths_NS = np.where(parts_NS >= 0, self.lines.lengths[parts_NS], 0)
        mask_NL = aligned(lengths_NS.sum(axis=1), "left")
        tokens_NL = spread(self.lines.joined(parts_NS, lengths_NS), mask_NL, self.pad)
        return TowerTexts(torch.from_numpy(tokens_NL), torch.from_numpy(mask_NL))

    def _refuse(self, row: int, needed: int) -> None:
        raise ConfigError(
            f"the longest text about a user needs {needed} tokens with no behaviour, and max_tokens = "
            f"{self.max_tokens}; raise max_tokens or shorten the template's opening, profile and history."
        )
