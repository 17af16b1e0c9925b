"""What keeps trunks from one request to the next, as a language model's scorer asks for it; and whose they are. Keeps none.

``serving.engine.trunks`` has the one that a live service needs.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from jaxtyping import Int

from lifelora.llm.personal import PersonalBatch, PersonalLM
from lifelora.llm.trunk import Trunk
from lifelora.prompts.fill import Prompts
from lifelora.prompts.tree import PromptTrees
from lifelora.recipe.system import System
from lifelora.run.scorers.shown import Shown

Whose = tuple[int, int]
"""A user, and as of which of the user's events u is with which a trunk is read; 0 where u has no part in it."""


class Keeper(Protocol):
    """Keeps trunks that were read, by system and user."""

    def trunk(self, system: str, lm: PersonalLM, batch: PersonalBatch, whose: Sequence[Whose]) -> tuple[Trunk, int]:
        """The trunks of a batch, in their order, and how many of their tokens were not read now."""


def whose(system: System, shown: Shown, index_B: Int[np.ndarray, "B"], prompts: Prompts | PromptTrees) -> list[Whose]:
    """Of each trunk of some requests' trees, or of each of their prompts, which are trunks of titles."""
    of_R, still = index_B, False
    if isinstance(prompts, PromptTrees):
        of_R = index_B[np.unique(prompts.tree_G.cpu().numpy(), return_index=True)[1]]
        still = system.coupling_on == "question" or not system.coupling.needs_user
    known = (shown.known or shown.requests.targets).at(of_R)
    as_of_R = np.zeros_like(known.position_B) if still else known.position_B
    return list(zip(known.user_B.tolist(), as_of_R.tolist(), strict=True))
