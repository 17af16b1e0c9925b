"""Trunks that stay warm: what systems have read of users' histories, kept from one request to the next.

A kept trunk is used again where it is a beginning of the one that is wanted, token by token, and was read with the same u (as of
the same event); what the new one has more is read on. So an event makes a growing history longer by a line; a window of the last
k behaviours, which loses its oldest line, is read anew, and so is everything under a C(u) that knows the new event. C(u) itself
comes with the batch. Knows trunks, neither scorers nor events.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import torch
from jaxtyping import Int
from torch import Tensor

from lifelora.llm.personal import PersonalBatch, PersonalLM
from lifelora.llm.trunk import Trunk, beginnings
from lifelora.prompts.fill import Prompts
from lifelora.prompts.tree import PromptTrees
from lifelora.serving.engine.warm import Held, Key, Warm

TRUNKS = "trunks"


@dataclass
class Read:
    """How often what happened to a trunk that was wanted."""

    again: int = 0
    "It was there."
    on: int = 0
    "A beginning was there, and the rest was read on."
    anew: int = 0
    "Another one was there, and of no use."
    first: int = 0
    "None was there."


class Trunks:
    """Of users. Not for several threads."""

    def __init__(self, warm: Warm) -> None:
        self._warm, self.read = warm, Read()

    def trunk(self, system: str, lm: PersonalLM, batch: PersonalBatch, whose: Sequence[tuple[int, int]]) -> tuple[Trunk, int]:
        """As ``run.scorers.keeper.Keeper`` has it."""
        rows = beginnings(batch)
        codes = torch.split(rows.codes, rows.length_N.tolist())
        keys, warm = _keys(system, whose), dict[int, Held]()
        for row, (key, (_, as_of)) in enumerate(zip(keys, whose, strict=True)):
            found = self._warm.get(key)
            fits = found is not None and found.as_of == as_of and _begins(codes[row], found.value.code_T2)
            if found is not None and fits:
                warm[row] = found
            self._count(found, fits, len(codes[row]))
        old, new = list(warm), [row for row in range(len(keys)) if row not in warm]
        kept = sum(len(one.value.code_T2) for one in warm.values())
        whole = self._together(lm, batch, old, new, [warm[row].value for row in old])
        alone = isinstance(batch.prompts, Prompts)  # nothing else says what comes after these
        whole = whole if alone else replace(whole, logits_RV=None)
        for row in range(len(keys)):
            if row not in warm or len(warm[row].value.code_T2) < len(codes[row]):
                trunk = replace(whole.at(_rows([row], rows.length_N)), C=None)
                self._warm.keep(keys[row], trunk, whose[row][1], tensors_of(trunk))
        return whole, kept

    def _together(self, lm: PersonalLM, batch: PersonalBatch, old: list[int], new: list[int], kept: list[Trunk]) -> Trunk:
        """The trunks of all rows in their order: those of ``old`` are ``kept``, or beginnings of them."""
        C = lm.couplings(batch)
        by_branch = lm.coupling_on == "question" and isinstance(batch.prompts, PromptTrees) and batch.prompts.asked_R is None
        parts, lengths = list[Trunk](), beginnings(batch).length_N
        if old:
            rows_N = _rows(old, lengths)
            trunk = Trunk.joined(kept, C if C is None or by_branch else C.at(rows_N))
            if int(trunk.length_R.sum()) < int(lengths[rows_N].sum()):
                trunk = trunk.extended(trunk.beyond(batch, rows_N))
            parts.append(trunk)
        if new:
            parts.append(Trunk.of(lm, batch, _rows(new, lengths)))
        if len(parts) == 1:
            return parts[0]
        order = _rows(old + new, lengths)
        return Trunk.joined(parts, C if C is None or by_branch else C.at(order)).at(order.argsort())

    def _count(self, found: Held | None, fits: bool, tokens: int) -> None:
        if found is None:
            self.read.first += 1
        elif not fits:
            self.read.anew += 1
        elif len(found.value.code_T2) == tokens:
            self.read.again += 1
        else:
            self.read.on += 1


def tensors_of(trunk: Trunk) -> Iterator[Tensor]:
    """All that a trunk holds."""
    for one in fields(trunk):
        value = getattr(trunk, one.name)
        if isinstance(value, Tensor):
            yield value
    yield from (tensor for pair in trunk.kept.values() for tensor in pair)
    if trunk.C is not None:
        yield trunk.C.tensor


def _keys(system: str, whose: Sequence[tuple[int, int]]) -> list[Key]:
    seen, keys = dict[int, int](), list[Key]()
    for user, _ in whose:
        keys.append(Key(TRUNKS, system, user, seen.setdefault(user, 0)))
        seen[user] += 1
    return keys


def _begins(codes_T2: Int[Tensor, "T 2"], kept_T2: Int[Tensor, "U 2"]) -> bool:
    return len(kept_T2) <= len(codes_T2) and torch.equal(codes_T2[: len(kept_T2)], kept_T2)


def _rows(rows: list[int], like: Tensor) -> Int[Tensor, "N"]:
    return torch.tensor(rows, device=like.device)
