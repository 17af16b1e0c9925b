"""Prompt trees: a trunk (head and behaviours) that is read once, and branches (questions, titles) that hang on it.

    a prompt of branch g  =  the first place_g tokens of its trunk, then the branch

A branch stands at the positions that it would have in that prompt. Knows tokens and places, not what they say.
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Int
from torch import Tensor


@final
@dataclass(frozen=True)
class PromptTrees:
    """R trunks and G branches without padding: trunk after trunk, then branch after branch, in one row of L tokens."""

    tokens_L: Int[Tensor, "L"]
    trunk_R: Int[Tensor, "R"]
    "Tokens of each trunk."
    branch_G: Int[Tensor, "G"]
    "Tokens of each branch."
    tree_G: Int[Tensor, "G"]
    "The trunk that each branch hangs on."
    place_G: Int[Tensor, "G"]
    "How many of the trunk's tokens a branch sees: those before it."
    shown_G: Int[Tensor, "G"]
    "How many behaviours are among them."
    soft_L: Int[Tensor, "L"] | None = None
    "The item of each soft token, or USER, and -1 at every other place; None for trees of words alone."
    answer_G: Int[Tensor, "G"] | None = None
    "How many of a branch's last tokens are the answer; None where it is asked for."

    def __len__(self) -> int:
        """G, the branches."""
        return len(self.branch_G)

    @property
    def starts(self) -> Int[Tensor, "G"]:
        """Where each branch begins in the row."""
        return self.trunk_R.sum() + self.branch_G.cumsum(0) - self.branch_G

    @property
    def trees(self) -> Int[Tensor, "L"]:
        """The tree of every token."""
        trees_R = torch.arange(len(self.trunk_R), device=self.trunk_R.device)
        return torch.cat([trees_R.repeat_interleave(self.trunk_R), self.tree_G.repeat_interleave(self.branch_G)])

    @property
    def positions(self) -> Int[Tensor, "L"]:
        """Where every token stands in its prompt."""
        start_R = self.trunk_R.cumsum(0) - self.trunk_R
        first_L = torch.cat(
            [start_R.repeat_interleave(self.trunk_R), (self.starts - self.place_G).repeat_interleave(self.branch_G)]
        )
        return torch.arange(len(first_L), device=first_L.device) - first_L

    @property
    def reads(self) -> Int[Tensor, "E"]:
        """The tokens after which something is read: the last of each branch, or those before each token of its answer.

        Where that is the branch's first, it is the token of the trunk that the branch hangs after.
        """
        count_G = torch.ones_like(self.branch_G) if self.answer_G is None else self.answer_G
        first_G = self.branch_G - 1 if self.answer_G is None else self.questions - 1
        branch_E = torch.arange(len(count_G), device=count_G.device).repeat_interleave(count_G)
        own_E = first_G[branch_E] + torch.arange(len(branch_E), device=branch_E.device) - (count_G.cumsum(0) - count_G)[branch_E]
        before_G = (self.trunk_R.cumsum(0) - self.trunk_R)[self.tree_G] + self.place_G - 1
        return torch.where(own_E < 0, before_G[branch_E], self.starts[branch_E] + own_E)

    @property
    def questions(self) -> Int[Tensor, "G"]:
        """Tokens of each branch before its answer."""
        return self.branch_G if self.answer_G is None else self.branch_G - self.answer_G
