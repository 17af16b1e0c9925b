"""Requests as a language model is asked about them: the behaviours chosen for each, and what is known of its user.

Knows no model.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora.data.dataset import Samples, Targets
from lifelora.llm.personal import CoupledOn, PersonalBatch, Users
from lifelora.prompts.fill import Prompts
from lifelora.prompts.tree import PromptTrees
from lifelora.retrieval.shuffled import newest, shuffled
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
    known: Targets | None = None
    "As of when u is made; None: as of the targets."
    prior_N: Float[Tensor, "N"] | None = None
    "The logit that the system's is added to; None where it stands alone."
    trunk_N: Int[np.ndarray, "N"] | None = None
    "Requests with one number hang on one trunk; None: every prompt is read by itself."
    coupling_on: CoupledOn = "prompt"

    def __len__(self) -> int:
        return len(self.requests)

    def mixed(self, other: "Shown") -> "Shown":
        """Every request twice: as here, and with the behaviours of ``other``; K is the larger one. None shares a trunk."""
        K = max(self.chosen_NK.shape[1], other.chosen_NK.shape[1])
        chosen_NK, mask_NK = (
            np.concatenate([np.pad(table, ((0, 0), (K - table.shape[1], 0))) for table in pair])
            for pair in ((self.chosen_NK, other.chosen_NK), (self.mask_NK, other.mask_NK))
        )
        soft_user_NX = None if self.soft_user_NX is None else self.soft_user_NX.repeat(2, 1)
        prior_N = None if self.prior_N is None else self.prior_N.repeat(2)
        return replace(
            self,
            requests=self.requests.at(np.tile(np.arange(len(self)), 2)),
            chosen_NK=chosen_NK,
            mask_NK=mask_NK,
            user_ND=self.user_ND.repeat(2, 1),
            soft_user_NX=soft_user_NX,
            prior_N=prior_N,
        )

    def shuffled(self, room_N: Int[np.ndarray, "N"], seed: int) -> "Shown":
        """In an order drawn for each request; what finds no room goes before, so that the same behaviours are shown."""
        kept_NK = newest(self.mask_NK, room_N)
        chosen_NK, mask_NK = shuffled((self.chosen_NK, kept_NK), self.requests.targets, seed)
        return replace(self, chosen_NK=chosen_NK, mask_NK=mask_NK)

    def users(self, index_B: Int[np.ndarray, "B"]) -> Users:
        """What u of some of them is made from."""
        gather, known = self.gather, self.known or self.requests.targets
        return Users(self.user_ND[torch.from_numpy(index_B)], None if gather is None else gather(known.at(index_B)))

    def coupled(self, prompts: Prompts | PromptTrees, index_B: Int[np.ndarray, "B"]) -> Int[np.ndarray, "_"]:
        """The requests whose C(u) a batch of these prompts has, one for each of its rows."""
        # Of the trees as they were made: samples for which nothing finds room stand apart from others of their trunk.
        return index_B[prompts.firsts] if isinstance(prompts, PromptTrees) and self.coupling_on == "prompt" else index_B

    def batch(self, prompts: Prompts | PromptTrees, index_B: Int[np.ndarray, "B"]) -> PersonalBatch:
        """The prompts of some of them, or trees of these, with what is known of their users and their labels."""
        targets, rows_B, users = self.requests.targets, torch.from_numpy(index_B), self.users(self.coupled(prompts, index_B))
        return PersonalBatch(
            prompts,
            users.user_BD,
            torch.from_numpy(targets.label_B[index_B].astype(np.float32)),
            samples=users.samples,
            soft_user_BX=None if self.soft_user_NX is None else self.soft_user_NX[rows_B],
            prior_B=None if self.prior_N is None else self.prior_N[rows_B],
        )
