"""Trunks that were read and are kept, branches that are read against them, and lines read on. Knows a personal LM, no question.

Of a trunk every layer's keys and values are kept, which is all that a branch sees of it. So

    ask(branches)      gives what a tree of both gives
    extended(lines)    is the trunk that had these lines from the beginning

Nothing learns here: what is kept has no graph. C(u) of what is kept stays as it was.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifelora.errors import ConfigError
from lifelora.llm.head import full_precision
from lifelora.llm.personal import PersonalBatch, PersonalLM, grouped
from lifelora.llm.stretches import Stretches, tokens_of
from lifelora.llm.trees.reading import Kept, read_row
from lifelora.llm.trees.room import Room
from lifelora.lora.placed import Placed
from lifelora.lora.structure import Structure
from lifelora.prompts.tree import PromptTrees

MEMORY = 1 << 30
"""Bytes that branches take together by default: more is not faster on a CPU."""


@final
@dataclass(frozen=True)
class Trunk:
    """R trunks, one after another, as a personal LM read them."""

    lm: PersonalLM
    code_T2: Int[Tensor, "T 2"]
    "What the tokens are (``Stretches.codes``)."
    length_R: Int[Tensor, "R"]
    kept: Kept
    C: Structure | None
    "C(u) of each trunk; None where none is needed."
    coupled: bool
    "Whether it acts on what is read after the trunk; else branches bring their own, and lines are read without."
    logits_RV: Float[Tensor, "R V"] | None
    "What comes after each trunk, in full precision; None of what was cut."

    def __len__(self) -> int:
        return len(self.length_R)

    @classmethod
    @torch.no_grad()
    def of(cls, lm: PersonalLM, batch: PersonalBatch, rows_N: Int[Tensor, "N"] | None = None) -> "Trunk":
        """Reads the trunks of trees, or whole prompts, all together; or those at ``rows_N`` alone."""
        prompts, row, C = batch.prompts, beginnings(batch), lm.couplings(batch)
        asked_R = prompts.asked_R if isinstance(prompts, PromptTrees) else prompts.question_B
        by_question = lm.coupling_on == "question"
        apart = by_question and isinstance(prompts, PromptTrees) and asked_R is None
        if rows_N is not None:
            row, asked_R = row.some(rows_N), None if asked_R is None else asked_R[rows_N]
            C = C if apart or C is None else C.at(rows_N)
        length_R, with_X, found = row.length_N, row.whose, Kept()
        if by_question:
            asked_R = torch.zeros_like(length_R) if asked_R is None else asked_R
            with_X = torch.where(row.positions >= (length_R - asked_R)[with_X], with_X, _most(C))
        logits_RV = _read(lm, row, None, C, with_X, length_R.cumsum(0) - 1, found)
        kept = {layer: (k.contiguous(), v.contiguous()) for layer, (k, v) in found.items()}
        return cls(lm, row.codes, length_R, kept, C, not apart, logits_RV)

    @classmethod
    def joined(cls, trunks: Sequence["Trunk"], C: Structure | None) -> "Trunk":
        """Trunks of one LM, one after another; ``C`` is C(u) of them all. Of one alone nothing is copied."""
        first, *others = trunks
        if not others:
            return replace(first, C=C)
        logits = [one.logits_RV for one in trunks if one.logits_RV is not None]
        return cls(
            first.lm,
            torch.cat([one.code_T2 for one in trunks]),
            torch.cat([one.length_R for one in trunks]),
            {
                layer: (
                    torch.cat([one.kept[layer][0] for one in trunks], 1),
                    torch.cat([one.kept[layer][1] for one in trunks], 1),
                )
                for layer in first.kept
            },
            C,
            first.coupled,
            torch.cat(logits) if len(logits) == len(trunks) else None,
        )

    @torch.no_grad()
    def ask(
        self, branches: Stretches, *, every: bool = False, memory: int = MEMORY
    ) -> Iterator[tuple[slice, Float[Tensor, "E V"]]]:
        """The logits after each branch, or after ``every`` one of its tokens, in full precision, part by part of the branches.

        As many are read together as ``memory`` bytes bear beside what is kept (``llm.trees.room``); one always is.
        """
        room, read_N = Room.of(self.lm.model, *next(iter(self.kept.values()))), torch.ones_like(branches.length_N)
        lengths = (self.length_R, branches.length_N, branches.tree_N, branches.length_N if every else read_N)
        trunk_R, branch_N, tree_N, count_N = (x_N.tolist() for x_N in lengths)
        for part in room.slices(trunk_R, branch_N, tree_N, count_N, memory):
            some = branches.at(part)
            first, last = int(some.tree_N.min()), int(some.tree_N.max()) + 1
            some = replace(some, tree_N=some.tree_N - first)
            end_N = some.length_N.cumsum(0) - 1
            yield part, self._between(first, last)._read_on(some, torch.arange(len(some.tokens_X)).to(end_N) if every else end_N)

    @torch.no_grad()
    def extended(self, lines: Stretches) -> "Trunk":
        """With a stretch more at the end of each trunk, in their order; it may be empty."""
        found, some_R = Kept(), lines.length_N > 0
        logits_RV = self.logits_RV
        new_NV = self._read_on(lines, (lines.length_N.cumsum(0) - 1)[some_R], found)
        if bool(some_R.all()):
            logits_RV = new_NV
        elif logits_RV is not None:
            logits_RV = logits_RV.index_copy(0, some_R.nonzero()[:, 0], new_NV)
        rows_R = torch.arange(len(self), device=some_R.device)
        order_T = torch.cat([rows_R.repeat_interleave(self.length_R), lines.whose]).argsort(stable=True)
        kept = Kept()
        for layer, (k, v) in found.items():
            k_before, v_before = self.kept[layer]
            kept[layer] = torch.cat([k_before, k], dim=1)[:, order_T], torch.cat([v_before, v], dim=1)[:, order_T]
        code_T2, length_R = torch.cat([self.code_T2, lines.codes])[order_T], self.length_R + lines.length_N
        C = self.C if lines.C is None else lines.C
        return Trunk(self.lm, code_T2, length_R, kept, C, self.coupled or lines.C is not None, logits_RV)

    def beyond(self, batch: PersonalBatch, rows_N: Int[Tensor, "N"] | None = None) -> Stretches:
        """What the trunks of trees have more than these, for ``extended``; ConfigError where these are no beginnings of them.

        ``rows_N`` says which of the trees' trunks these are the beginnings of; None: all of them.
        """
        whole = beginnings(batch)
        whole = whole if rows_N is None else whole.some(rows_N)
        if len(whole) != len(self):
            raise ConfigError(f"{len(whole)} trunks came, and {len(self)} are kept; give each its own, in their order.")
        old_T = whole.positions < self.length_R[whole.whose]
        if not torch.equal(whole.codes[old_T], self.code_T2):
            raise ConfigError(
                "a kept trunk is no beginning of the one that came: its oldest behaviours went, or it is another user's. "
                "Read it anew with Trunk.of."
            )
        new_T = ~old_T
        return Stretches(
            whole.tokens_X[new_T],
            whole.length_N - self.length_R,
            torch.arange(len(self), device=self.length_R.device),
            self.length_R,
            None if whole.soft_X is None else whole.soft_X[new_T],
            _no_rows(batch.soft_user_BX),
        )

    def at(self, rows_N: Int[Tensor, "N"], place_N: Int[Tensor, "N"] | None = None) -> "Trunk":
        """Copies of some, in any order and also several times; with ``place_N`` the first so many tokens of each."""
        length_N = self.length_R[rows_N] if place_N is None else place_N
        token_T = tokens_of(self.length_R, rows_N, length_N)
        return replace(
            self,
            code_T2=self.code_T2[token_T],
            length_R=length_N,
            kept={layer: (k[:, token_T], v[:, token_T]) for layer, (k, v) in self.kept.items()},
            C=None if self.C is None else self.C.at(rows_N),
            logits_RV=None if place_N is not None or self.logits_RV is None else self.logits_RV[rows_N],
        )

    def _between(self, first: int, last: int) -> "Trunk":
        """Those from one to before another; nothing is copied."""
        if last - first == len(self):
            return self
        before, until = int(self.length_R[:first].sum()), int(self.length_R[:last].sum())
        rows_N = torch.arange(first, last, device=self.length_R.device)
        return replace(
            self,
            code_T2=self.code_T2[before:until],
            length_R=self.length_R[first:last],
            kept={layer: (k[:, before:until], v[:, before:until]) for layer, (k, v) in self.kept.items()},
            C=None if self.C is None else self.C.at(rows_N),
            logits_RV=None,
        )

    def _read_on(self, row: Stretches, read_E: Int[Tensor, "E"], found: Kept | None = None) -> Float[Tensor, "E V"]:
        """Against these trunks; with C(u) of the stretches where they bring one, else of their trunks."""
        if row.C is not None:
            return _read(self.lm, row, self, row.C, row.whose, read_E, found)
        with_X = row.tree_N.repeat_interleave(row.length_N)
        return _read(
            self.lm, row, self, self.C, with_X if self.coupled else torch.full_like(with_X, _most(self.C)), read_E, found
        )


def beginnings(batch: PersonalBatch) -> Stretches:
    """The trunks of trees, or whole prompts, as stretches after nothing."""
    prompts, soft_user_RE = batch.prompts, batch.soft_user_BX
    if isinstance(prompts, PromptTrees):
        count, length_R = int(prompts.trunk_R.sum()), prompts.trunk_R
        tokens_T, soft_T = prompts.tokens_L[:count], None if prompts.soft_L is None else prompts.soft_L[:count]
        soft_user_RE = soft_user_RE if prompts.asked_R is not None else _no_rows(soft_user_RE)
    else:
        length_R, tokens_T = prompts.mask_BL.sum(dim=1), prompts.tokens_BL[prompts.mask_BL]
        soft_T = None if prompts.soft_BL is None else prompts.soft_BL[prompts.mask_BL]
    rows_R = torch.arange(len(length_R), device=length_R.device)
    return Stretches(tokens_T, length_R, rows_R, torch.zeros_like(length_R), soft_T, soft_user_RE)


def _most(C: Structure | None) -> int:
    """A number that no row of C has: nobody's."""
    return 0 if C is None or C.batch is None else C.batch


def _no_rows(soft_user_BX: Tensor | None) -> Tensor | None:
    """The user's soft token is part of a branch, not of a trunk."""
    return None if soft_user_BX is None else soft_user_BX[:0]


def _read(
    lm: PersonalLM,
    row: Stretches,
    before: Trunk | None,
    C: Structure | None,
    with_X: Int[Tensor, "X"],
    read_E: Int[Tensor, "E"],
    found: Kept | None,
) -> Float[Tensor, "E V"]:
    """The logits after some tokens of a row of trunks, or of stretches after others; ``with_X`` says whose C(u) a token has."""
    none_N = row.length_N[:0]
    parts = (row.length_N, none_N, none_N, none_N)
    if before is not None:
        parts = (before.length_R, row.length_N, row.tree_N, row.place_N)
    if C is not None and C.personal:
        count = _most(C)
        C = Placed.of(C, {len(of_X): grouped(of_X, count) for of_X in (with_X[read_E], with_X)})
    inputs = lm.inputs(row.tokens_X[None], None if row.soft_X is None else row.soft_X[None], row.soft_user_NE)
    kept = None if before is None else before.kept
    with lm.adapters.holding(C), full_precision(lm.model, when=lm.head):
        logits_EV = read_row(lm.model, parts, row.positions, read_E, inputs, early=lm.early, kept=kept, found=found)
    return logits_EV.to(torch.promote_types(logits_EV.dtype, torch.float32))
