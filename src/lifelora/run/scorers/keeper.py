"""What keeps what was made of users from one request to the next, as a language model's scorer asks for it. Keeps nothing itself.

``serving.engine.warm`` has the one that a live service needs.
"""

from collections.abc import Callable, Hashable, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from lifelora.data.dataset import Targets
from lifelora.llm.personal import PersonalBatch, PersonalLM
from lifelora.llm.trunk import Trunk
from lifelora.lora.structure import Structure
from lifelora.prompts.fill import Prompts
from lifelora.prompts.tree import PromptTrees
from lifelora.recipe.system import System
from lifelora.run.scorers.shown import Shown

Whose = tuple[int, int]
"""A user, and as of which of the user's events something was made; 0 for what no event changes."""
Rows = Int[np.ndarray, "N"]


@runtime_checkable
class Keeper(Protocol):
    """Keeps what was made of users. What it does not have, or has as of another event, is made, once for each user."""

    def trunk(self, system: str, lm: PersonalLM, batch: PersonalBatch, whose: Sequence[Whose]) -> tuple[Trunk, int]:
        """The trunks of a batch, in their order, and how many of their tokens were not read now."""

    def represented(
        self, by: Hashable, whose: Sequence[Whose], make: Callable[[Rows], Float[Tensor, "N D"]]
    ) -> Float[Tensor, "B D"]:
        """u of each of ``whose``, ``by`` what makes it; ``make`` gives those at some places of ``whose``."""

    def couplings(self, system: str, whose: Sequence[Whose], make: Callable[[Rows], Structure]) -> Structure:
        """C(u) of each of ``whose``, as of ``represented``."""


def as_of(targets: Targets) -> list[Whose]:
    """Of what is made of all that a target may see of its user."""
    return list(zip(targets.user_B.tolist(), targets.position_B.tolist(), strict=True))


def of_trunks(system: System, shown: Shown, index_B: Int[np.ndarray, "B"], prompts: Prompts | PromptTrees) -> list[Whose]:
    """Of each trunk of some requests' trees, or of each of their prompts, which are trunks of titles: as of when u is made with
    which it is read; 0 where u has no part in it.
    """
    of_R, still = index_B, False
    if isinstance(prompts, PromptTrees):
        of_R = index_B[prompts.firsts]
        still = system.coupling_on == "question" or not system.coupling.needs_user
    found = as_of((shown.known or shown.requests.targets).at(of_R))
    return [(user, 0) for user, _ in found] if still else found
