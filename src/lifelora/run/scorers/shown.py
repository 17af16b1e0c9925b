"""Requests as a language model is asked about them: the behaviours chosen for each, and what is known of its user.

Knows no model.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora.data.dataset import Samples, Targets
from lifelora.llm.personal import PersonalBatch
from lifelora.prompts.fill import Prompts
from lifelora.run.scorers.base import Requests


@dataclass(frozen=True)
class Shown:
    """Requests with the behaviours that were chosen for them and what is known of their users."""

    requests: Requests
    chosen_NK: Int[np.ndarray, "N K"]
    mask_NK: Bool[np.ndarray, "N K"]
    user_ND: Float[Tensor, "N D"]
    gather: Callable[[Targets], Samples] | None = None
    "What u is made from, where its maker stands beside the adapters: it learns, or its dropout is on."
    soft_user_NX: Float[Tensor, "N X"] | None = None
    "What the user's soft token is made from."

    def __len__(self) -> int:
        return len(self.requests)

    def mixed(self, other: "Shown") -> "Shown":
        """Every request twice: as here, and with the behaviours of ``other``; K is the larger one."""
        K = max(self.chosen_NK.shape[1], other.chosen_NK.shape[1])
        chosen_NK, mask_NK = (
            np.concatenate([np.pad(table, ((0, 0), (K - table.shape[1], 0))) for table in pair])
            for pair in ((self.chosen_NK, other.chosen_NK), (self.mask_NK, other.mask_NK))
        )
        soft_user_NX = None if self.soft_user_NX is None else self.soft_user_NX.repeat(2, 1)
        return Shown(
            self.requests.at(np.tile(np.arange(len(self)), 2)),
            chosen_NK,
            mask_NK,
            self.user_ND.repeat(2, 1),
            self.gather,
            soft_user_NX,
        )

    def batch(self, prompts: Prompts, index_B: Int[np.ndarray, "B"]) -> PersonalBatch:
        """The prompts of some of them, with what is known of their users and their labels."""
        targets, rows_B = self.requests.targets.at(index_B), torch.from_numpy(index_B)
        return PersonalBatch(
            prompts,
            self.user_ND[rows_B],
            torch.from_numpy(targets.label_B.astype(np.float32)),
            samples=None if self.gather is None else self.gather(targets),
            soft_user_BX=None if self.soft_user_NX is None else self.soft_user_NX[rows_B],
        )
