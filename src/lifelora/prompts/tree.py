"""Prompt trees: a trunk (head and behaviours) that is read once, and branches (questions, titles) that hang on it.

    a prompt of branch g  =  the first place_g tokens of its trunk, then the branch

A branch stands at the positions that it would have in that prompt. Knows tokens and places, not what they say.

A behaviour's line carries its rating. So the branch that asks about an event hangs before that event's line, and sees neither
it nor what came later: of a trunk, a sample is shown a beginning.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lifelora.errors import LeakError
from lifelora.prompts.fill import Plan
from lifelora.prompts.lines.base import Lines


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
    asked_R: Int[Tensor, "R"] | None = None
    "How many of a trunk's last tokens are the question, where branches are its answers; None where each branch asks its own."

    def __len__(self) -> int:
        """G, the branches."""
        return len(self.branch_G)

    @property
    def starts(self) -> Int[Tensor, "G"]:
        """Where each branch begins in the row."""
        return self.trunk_R.sum() + self.branch_G.cumsum(0) - self.branch_G

    @property
    def firsts(self) -> Int[np.ndarray, "R"]:
        """The first branch of each trunk that has one."""
        return np.unique(self.tree_G.cpu().numpy(), return_index=True)[1]

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
        branch_E, next_E = self._read
        before_G = (self.trunk_R.cumsum(0) - self.trunk_R)[self.tree_G] + self.place_G - 1
        return torch.where(next_E == self.starts[branch_E], before_G[branch_E], next_E - 1)

    @property
    def answers(self) -> tuple[Int[Tensor, "E"], Int[Tensor, "E"]]:
        """What should be read, where there are answers: the branch of each of their tokens, and the token."""
        assert self.answer_G is not None
        branch_E, next_E = self._read
        return branch_E, self.tokens_L[next_E]

    @property
    def _read(self) -> tuple[Int[Tensor, "E"], Int[Tensor, "E"]]:
        """The branch of whatever is read, and the place in the row that it is about: an answer's, or the one after the branch."""
        count_G = torch.ones_like(self.branch_G) if self.answer_G is None else self.answer_G
        branch_E = torch.arange(len(count_G), device=count_G.device).repeat_interleave(count_G)
        first_G = self.starts + self.questions - (count_G.cumsum(0) - count_G)
        return branch_E, first_G[branch_E] + torch.arange(len(branch_E), device=branch_E.device)

    @property
    def questions(self) -> Int[Tensor, "G"]:
        """Tokens of each branch before its answer."""
        return self.branch_G if self.answer_G is None else self.branch_G - self.answer_G

    @property
    def asking(self) -> Int[Tensor, "L"]:
        """The branch of every token of a branch; or, where trunks hold the question, the tree of every token from there on.

        Tokens before all that have L.
        """
        L, R = len(self.tokens_L), len(self.trunk_R)
        if self.asked_R is not None:
            start_R = (self.trunk_R - self.asked_R)[self.trees]
            return torch.where(self.positions >= start_R, self.trees, L)
        branches_G = torch.arange(len(self), device=self.branch_G.device)
        trunk_R = torch.full((R,), L, device=self.branch_G.device)
        return torch.cat([trunk_R.repeat_interleave(self.trunk_R), branches_G.repeat_interleave(self.branch_G)])


@final
@dataclass(frozen=True)
class TreePlan:
    """The segments of trunks and of branches, and where these hang."""

    trunks: Plan
    branches: Plan
    tree_G: Int[np.ndarray, "G"]
    place_G: Int[np.ndarray, "G"]

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
        item_BS: Int[np.ndarray, "B S"] | None,
        event_BK: Int[np.ndarray, "B K"],
        trunk_B: Int[np.ndarray, "B"],
    ) -> "TreePlan":
        """As ``Plan.of``; samples with one number in ``trunk_B`` hang on one trunk, which shows the longest of their histories.

        ``event_BK`` are the event rows that are shown. Where there is no room for all, the oldest go, as many for all branches of
        a tree as the one needs that has the least room. A sample that is shown none has a tree of its own or with others such,
        for its head is another. Trees stand in the order of ``trunk_B``. Raises LeakError for a history that is no beginning of
        its trunk's, and for a head that is not its trunk's.
        """
        B, K = mask_BK.shape
        _, tree_B = np.unique(trunk_B, return_inverse=True)
        count_B = mask_BK.sum(axis=1)
        # From left to right, the oldest first: cells of a row that hold nothing now stand at its end.
        left_BK = np.argsort(~mask_BK, axis=1, kind="stable")
        by_count = np.lexsort((-count_B, tree_B))
        longest_B = by_count[np.searchsorted(tree_B[by_count], tree_B)]
        real_BK = np.arange(K) < count_B[:, None]
        event_BK = np.take_along_axis(event_BK, left_BK, axis=1)
        _check_trunks(head_B2, event_BK, real_BK, longest_B)
        behaviour_BK = np.take_along_axis(behaviour_BK, left_BK, axis=1)
        lengths_N = lines.lengths
        length_BK = np.where(real_BK, lengths_N[np.where(real_BK, behaviour_BK, 0)], 0)
        before_BK = np.concatenate([np.zeros((B, 1), np.int64), np.cumsum(length_BK, axis=1)], axis=1)
        shown_B = np.take_along_axis(before_BK, count_B[:, None], axis=1)[:, 0]
        needed_B2 = lengths_N[head_B2] + lengths_N[rest_BS].sum(axis=1)[:, None]
        # Tokens of the oldest behaviours that have to go; those with no room even for the head that announces some show none.
        gone_B = shown_B - (room_B - needed_B2[:, 1])
        bare_B = (count_B == 0) | (gone_B > shown_B)
        most_R = np.zeros(int(tree_B.max(initial=-1)) + 1, np.int64)
        np.maximum.at(most_R, tree_B[~bare_B], gone_B[~bare_B])
        first_B = (before_BK[longest_B] < most_R[tree_B][:, None]).sum(axis=1)
        bare_B |= first_B >= count_B
        over_B = bare_B & (needed_B2[:, 0] > room_B)
        if over_B.any():
            row = int(over_B.argmax())
            refuse(row, int(needed_B2[row, 0]))
        # Trees anew: those that show none apart, and the longest of those that show some.
        _, tree_B = np.unique(2 * tree_B + ~bare_B, return_inverse=True)
        by_count = np.lexsort((-count_B, tree_B))
        row_R = by_count[np.searchsorted(tree_B[by_count], np.arange(int(tree_B.max(initial=-1)) + 1))]
        head_B = np.where(bare_B, head_B2[:, 0], head_B2[:, 1])
        kept_RK = real_BK[row_R] & (np.arange(K) >= first_B[row_R][:, None]) & ~bare_B[row_R][:, None]
        trunk_RS = np.column_stack([head_B[row_R], behaviour_BK[row_R]])
        length_RS = np.where(np.column_stack([np.ones(len(row_R), np.bool_), kept_RK]), lengths_N[trunk_RS], 0)
        item_RS, item_BX = None, None
        if item_BS is not None:
            item_BX = item_BS[:, 1 + K :]
            item_RS = np.column_stack([item_BS[:, 0], np.take_along_axis(item_BS[:, 1 : 1 + K], left_BK, axis=1)])[row_R]
        first_B = np.where(bare_B, 0, first_B)
        kept_B = np.where(bare_B, 0, shown_B - np.take_along_axis(before_BK, first_B[:, None], axis=1)[:, 0])
        left_B = np.where(bare_B, 0, count_B - first_B)
        return cls(
            Plan(lines, trunk_RS, length_RS, kept_RK.sum(axis=1), item_RS, K),
            Plan(lines, rest_BS, lengths_N[rest_BS], left_B, item_BX),
            tree_B,
            lengths_N[head_B] + kept_B,
        )

    def then(self, part_G: Int[np.ndarray, "G"]) -> "TreePlan":
        """With one segment more at the end of each branch."""
        return replace(self, branches=self.branches.then(part_G))

    @property
    def lengths(self) -> tuple[Int[np.ndarray, "R"], Int[np.ndarray, "G"], Int[np.ndarray, "G"]]:
        """The tokens of each trunk and of each branch, and the tree of each branch."""
        return self.trunks.lengths, self.branches.lengths, self.tree_G

    def fill(self, answer_G: Int[np.ndarray, "G"] | None = None) -> PromptTrees:
        """The trees; ``answer_G`` says how many of each branch's last tokens are its answer."""
        (trunk_T, soft_T), (branch_X, soft_X) = self.trunks.codes, self.branches.codes
        soft_L = None if soft_T is None or soft_X is None else torch.from_numpy(np.concatenate([soft_T, soft_X]).astype(np.int64))
        return PromptTrees(
            torch.from_numpy(np.concatenate([trunk_T, branch_X]).astype(np.int64)),
            torch.from_numpy(self.trunks.lengths),
            torch.from_numpy(self.branches.lengths),
            torch.from_numpy(self.tree_G),
            torch.from_numpy(self.place_G),
            torch.from_numpy(self.branches.shown_B),
            soft_L,
            None if answer_G is None else torch.from_numpy(answer_G),
        )


def _check_trunks(
    head_B2: Int[np.ndarray, "B 2"],
    event_BK: Int[np.ndarray, "B K"],
    real_BK: Bool[np.ndarray, "B K"],
    longest_B: Int[np.ndarray, "B"],
) -> None:
    others_B = ((event_BK != event_BK[longest_B]) & real_BK).any(axis=1)
    headed_B = (head_B2 != head_B2[longest_B]).any(axis=1)
    for wrong_B, what in (
        (others_B, "is shown events that are no beginning of its trunk's, so its branch would see others"),
        (headed_B, "begins otherwise than its trunk: it is about another user, or in another phrasing"),
    ):
        if wrong_B.any():
            raise LeakError(
                f"sample {int(wrong_B.argmax())} of the batch {what}; "
                "this is a fault in how samples were grouped (trunk_B), not in the data."
            )
