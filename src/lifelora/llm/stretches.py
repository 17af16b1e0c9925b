"""Tokens that are read after trunks: branches, or lines that go on. Knows lengths and places, not what they say."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifelora.llm.personal import PersonalBatch, PersonalLM
from lifelora.lora.structure import Structure
from lifelora.prompts.tree import PromptTrees


@final
@dataclass(frozen=True)
class Stretches:
    """N stretches of tokens in one row, each after the first so many tokens of a trunk."""

    tokens_X: Int[Tensor, "X"]
    length_N: Int[Tensor, "N"]
    tree_N: Int[Tensor, "N"]
    "The trunk of each; in rising order they are read in the fewest parts."
    place_N: Int[Tensor, "N"]
    soft_X: Int[Tensor, "X"] | None = None
    "The item of each soft token, or USER, and -1 at every other place; None for words alone."
    soft_user_NE: Float[Tensor, "_ E"] | None = None
    "What the user's soft token of each is made from; no rows where none has one."
    C: Structure | None = None
    "C(u) of each stretch; None where it is that of its trunk."

    def __len__(self) -> int:
        return len(self.length_N)

    @classmethod
    def of(cls, lm: PersonalLM, batch: PersonalBatch) -> "Stretches":
        """The branches of trees."""
        trees = batch.prompts
        assert isinstance(trees, PromptTrees)
        before, soft_user_BX = int(trees.trunk_R.sum()), batch.soft_user_BX
        if trees.asked_R is not None and soft_user_BX is not None:  # the user's soft token stands in the trunk
            soft_user_BX = soft_user_BX[:0]
        return cls(
            trees.tokens_L[before:],
            trees.branch_G,
            trees.tree_G,
            trees.place_G,
            None if trees.soft_L is None else trees.soft_L[before:],
            soft_user_BX,
            lm.couplings(batch) if lm.coupling_on == "question" and trees.asked_R is None else None,
        )

    @property
    def whose(self) -> Int[Tensor, "X"]:
        """The stretch of every token."""
        return torch.arange(len(self), device=self.length_N.device).repeat_interleave(self.length_N)

    @property
    def positions(self) -> Int[Tensor, "X"]:
        """Where every token stands in its prompt."""
        first_N = self.length_N.cumsum(0) - self.length_N - self.place_N
        return torch.arange(len(self.tokens_X), device=first_N.device) - first_N.repeat_interleave(self.length_N)

    @property
    def codes(self) -> Int[Tensor, "X 2"]:
        """What a token is: its number, and the item of a soft token or -1."""
        soft_X = torch.full_like(self.tokens_X, -1) if self.soft_X is None else self.soft_X
        return torch.stack([self.tokens_X, soft_X], dim=1)

    def some(self, rows_N: Int[Tensor, "N"]) -> "Stretches":
        """Some of them, in any order."""
        token_X, soft_user_NE = tokens_of(self.length_N, rows_N, self.length_N[rows_N]), self.soft_user_NE
        return Stretches(
            self.tokens_X[token_X],
            self.length_N[rows_N],
            self.tree_N[rows_N],
            self.place_N[rows_N],
            None if self.soft_X is None else self.soft_X[token_X],
            soft_user_NE if soft_user_NE is None or not len(soft_user_NE) else soft_user_NE[rows_N],
            None if self.C is None else self.C.at(rows_N),
        )

    def at(self, part: slice) -> "Stretches":
        """Some of them, one after another."""
        end_N = [0, *self.length_N.cumsum(0).tolist()]
        tokens = slice(end_N[part.start], end_N[part.stop])
        return Stretches(
            self.tokens_X[tokens],
            self.length_N[part],
            self.tree_N[part],
            self.place_N[part],
            None if self.soft_X is None else self.soft_X[tokens],
            None if self.soft_user_NE is None else self.soft_user_NE[part],
            None if self.C is None else self.C.at(torch.arange(part.start, part.stop, device=self.length_N.device)),
        )


def tokens_of(length_R: Int[Tensor, "R"], rows_N: Int[Tensor, "N"], length_N: Int[Tensor, "N"]) -> Int[Tensor, "T"]:
    """Where the first ``length_N`` tokens of some rows stand, of rows of ``length_R`` tokens one after another."""
    first_N = (length_R.cumsum(0) - length_R)[rows_N] - (length_N.cumsum(0) - length_N)
    return torch.arange(int(length_N.sum()), device=length_N.device) + first_N.repeat_interleave(length_N)
