"""Texts of people and items for an encoder with two towers, as right-padded arrays. Knows tokenised lines, no model.

    user: start, head, behaviours, end          item: start, the question's lines, end

with the special tokens of the tokenizer, so that what is read is its own encoding of the text. Nobody is asked anything:
a template's answer, yes and no have no part in it. A person whose text is too long loses the oldest behaviours.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora.data.dataset import Dataset, Targets
from lifelora.errors import ConfigError
from lifelora.prompts.batch import newest_that_fit
from lifelora.prompts.segments import Segments, table_texts
from lifelora.prompts.template import Template, marked
from lifelora.tokens import LineTokenizer


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
        """Tokenise all lines; ConfigError where the longest text about a person has no room even without behaviours."""
        line_tokenizer, made = LineTokenizer(tokenizer), Segments.build(dataset, template, tokenizer)
        words, own = dataset.words.model_dump(), marked(template, line_tokenizer.marked)
        room = max_tokens - len(line_tokenizer.start) - len(line_tokenizer.end)
        items = [np.array([*line_tokenizer.start, *ids[:room], *line_tokenizer.end], np.int32)
                 for ids in line_tokenizer.many([own.item_text(words, row) for row in table_texts(dataset.catalogue)])]
        end = np.array(line_tokenizer.end, np.int32)
        self.dataset, self.max_tokens = dataset, max_tokens
        self.pad = int(getattr(tokenizer, "pad_token_id", None) or 0)
        self.end = len(made.offsets_N) - 1
        self.segments = replace(
            made, tokens_T=np.concatenate([made.tokens_T, end, *items]),
            offsets_N=np.append(made.offsets_N, made.offsets_N[-1] + np.cumsum([len(end), *map(len, items)])),
            question_M=(self.end + 1 + np.arange(len(items))).astype(np.int32),
        )
        self._lengths_N = np.diff(self.segments.offsets_N)
        longest = int(self._lengths_N[made.head_U2].max(initial=0)) + len(end)
        if longest > max_tokens:
            raise ConfigError(f"the longest text about a person needs {longest} tokens with no behaviour, and max_tokens = "
                              f"{max_tokens}; raise max_tokens or shorten the template's opening, profile and history.")

    @property
    def highest(self) -> int:
        """The highest number of a token that a text can have."""
        return max(int(self.segments.tokens_T.max()), self.pad)

    def batch(
        self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]
    ) -> TowerBatch:
        """Both texts of ``targets``, where people are shown with the event rows ``chosen_BK``, from left to right."""
        users, user_B = self.users(targets, chosen_BK, mask_BK)
        item_N, item_B = np.unique(targets.item_B, return_inverse=True)
        return TowerBatch(users, user_B, self.items(item_N), torch.from_numpy(item_B),
                          torch.from_numpy(targets.label_B.astype(np.float32)))

    def users(
        self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]
    ) -> tuple[TowerTexts, Int[Tensor, "B"]]:
        """The distinct texts about people, and which of them is each target's."""
        behaviour_BK = self.segments.behaviour_MR[self.dataset.item_N[chosen_BK], self.dataset.rating_N[chosen_BK]]
        kept_BK = self.kept(targets, chosen_BK, mask_BK)
        head_B = self.segments.head_U2[targets.user_B, kept_BK.any(axis=1).astype(np.int64)]
        parts_BS = np.column_stack([head_B, np.where(kept_BK, behaviour_BK, -1), np.full(len(targets), self.end)])
        parts_NS, which_B = np.unique(parts_BS, axis=0, return_inverse=True)
        return self._padded(parts_NS), torch.from_numpy(which_B.reshape(-1))

    def kept(
        self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"]
    ) -> Bool[np.ndarray, "B K"]:
        """Which of the chosen behaviours find room."""
        behaviour_BK = self.segments.behaviour_MR[self.dataset.item_N[chosen_BK], self.dataset.rating_N[chosen_BK]]
        room_B = self.max_tokens - self._lengths_N[self.segments.head_U2[targets.user_B, 1]] - self._lengths_N[self.end]
        wanted_BK = np.where(mask_BK, self._lengths_N[behaviour_BK], 0)
        kept_BK: Bool[np.ndarray, "B K"] = mask_BK & newest_that_fit(wanted_BK, room_B)
        return kept_BK

    def items(self, item_N: Int[np.ndarray, "N"]) -> TowerTexts:
        """The texts of items."""
        return self._padded(self.segments.question_M[item_N][:, None])

    def _padded(self, parts_NS: Int[np.ndarray, "N S"]) -> TowerTexts:
        """Segments one after another, row by row; -1 is none."""
        lengths_NS = np.where(parts_NS >= 0, self._lengths_N[parts_NS], 0)
        total_N = lengths_NS.sum(axis=1)
        mask_NL = np.arange(int(total_N.max(initial=0))) < total_N[:, None]
        tokens_NL = np.full(mask_NL.shape, self.pad, np.int64)
        tokens_NL[mask_NL] = self.segments.joined(parts_NS, lengths_NS)
        return TowerTexts(torch.from_numpy(tokens_NL), torch.from_numpy(mask_NL))
