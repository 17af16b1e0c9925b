"""What stays of users from one request to the next: u, C(u) and trunks, under one budget. Knows neither scorers nor events.

u and C(u) are made again when there is an event that they know nothing of. What knows the target, too (u of DIN, say), is of a
request and not of a user: a scorer does not ask for it here. A conventional model has learnt nothing of items that came after its
training and leaves them out, so new items change no u.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifelora.llm.personal import PersonalBatch, PersonalLM
from lifelora.llm.trunk import Trunk
from lifelora.lora.structure import Structure
from lifelora.serving.engine.trunks import TRUNKS, Read, Trunks
from lifelora.serving.engine.warm import Key, Warm

Made = TypeVar("Made", Tensor, Structure)
Rows = Int[np.ndarray, "N"]
U, COUPLING = "representations", "couplings"
"""Kinds of what is kept, beside trunks."""


class Kept:
    """As ``run.scorers.keeper.Keeper`` has it. Not for several threads."""

    def __init__(self, budget: int) -> None:
        self.warm = Warm(budget)
        self._trunks = Trunks(self.warm)
        self.made = Counter[str]()
        "How often u and C(u) of a user were made, and how often they were there."

    def state(self) -> dict[str, int]:
        """What was done, and what is held."""
        trunks = {f"trunks read {how}": count for how, count in vars(self._trunks.read).items()}
        made = {f"{kind} {how}": self.made[f"{kind} {how}"] for kind in (U, COUPLING) for how in ("again", "made")}
        held = {kind: self.warm.count[kind] for kind in (TRUNKS, U, COUPLING)}
        return {**trunks, **made, **held, "warm bytes": self.warm.bytes}

    def trunk(self, system: str, lm: PersonalLM, batch: PersonalBatch, whose: Sequence[tuple[int, int]]) -> tuple[Trunk, int]:
        """The trunks of a batch, in their order, and how many of their tokens were not read now."""
        return self._trunks.trunk(system, lm, batch, whose)

    def represented(
        self, by: Hashable, whose: Sequence[tuple[int, int]], make: Callable[[Rows], Float[Tensor, "N D"]]
    ) -> Float[Tensor, "B D"]:
        """u of each of ``whose``."""
        place_B, found = self._of(U, by, whose, make, lambda u_ND, place: u_ND[place : place + 1].clone(), lambda u_1D: u_1D)
        return torch.cat(found)[place_B]

    def couplings(self, system: str, whose: Sequence[tuple[int, int]], make: Callable[[Rows], Structure]) -> Structure:
        """C(u) of each of ``whose``."""

        def one(C: Structure, place: int) -> Structure:
            return C.at(torch.tensor([place], device=C.tensor.device))

        place_B, found = self._of(COUPLING, system, whose, make, one, lambda C: C.tensor)
        return Structure.joined(found).at(place_B.to(found[0].tensor.device))

    def forget(self, user: int) -> None:
        """Drop all that is kept of a user."""
        self.warm.forget(user)

    def clear(self) -> None:
        """Drop all, and count anew."""
        self.warm.clear()
        self.made.clear()
        self._trunks.read = Read()

    def _of(
        self,
        kind: str,
        by: Hashable,
        whose: Sequence[tuple[int, int]],
        make: Callable[[Rows], Any],
        one: Callable[[Any, int], Made],
        tensor: Callable[[Made], Tensor],
    ) -> tuple[Int[Tensor, "B"], list[Made]]:
        """Each that is wanted once, and which of them is that of each of ``whose``."""
        first = dict[tuple[int, int], int]()
        for place, wanted in enumerate(whose):
            first.setdefault(wanted, place)
        found = dict[tuple[int, int], Made]()
        for user, as_of in first:
            held = self.warm.get(Key(kind, by, user))
            if held is not None and held.as_of == as_of:
                found[user, as_of] = held.value
        new = [wanted for wanted in first if wanted not in found]
        self.made[f"{kind} again"] += len(found)
        self.made[f"{kind} made"] += len(new)
        if new:
            made = make(np.array([first[wanted] for wanted in new]))
            for place, (user, as_of) in enumerate(new):
                found[user, as_of] = one(made, place)
                self.warm.keep(Key(kind, by, user), found[user, as_of], as_of, [tensor(found[user, as_of])])
        number = {wanted: place for place, wanted in enumerate(first)}
        return torch.tensor([number[wanted] for wanted in whose]), [found[wanted] for wanted in first]
