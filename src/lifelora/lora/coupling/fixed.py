"""Couplings that are the same for all users: plain LoRA, and a learned mixer as a control. Know no representation."""

from typing import Literal, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifelora.lora.coupling.base import Coupling
from lifelora.lora.structure import Shared


@final
class Identity(Coupling):
    """C = I: plain LoRA (Hu et al., ICLR 2022), as in ReLLa, TALLRec and Laser's few-shot recommender.

    As a constraint on C: c_ij = 1 for i = j and else 0. No parameters, no scope.
    """

    class Config(Coupling.Config):
        """Plain LoRA."""

        kind: Literal["identity"] = "identity"

        @property
        def needs_user(self) -> bool:
            return False

        def build(self, inputs: tuple[int, ...], user_width: int | None, generator: torch.Generator) -> "Identity":
            return Identity(self)

    config: Config

    def structure(self, u_BD: Float[Tensor, "B D"]) -> None:
        """No C(u)."""


@final
class Static(Coupling):
    """C is learned, one per layer, the same for all users: full interaction without u.

    As a constraint on C: C(u) = C. It starts as the identity, so training starts from plain LoRA.
    """

    class Config(Coupling.Config):
        """A learned r x r matrix per layer."""

        kind: Literal["static"] = "static"

        @property
        def needs_user(self) -> bool:
            return False

        def build(self, inputs: tuple[int, ...], user_width: int | None, generator: torch.Generator) -> "Static":
            return Static(self, len(inputs))

    config: Config

    def __init__(self, config: Config, layers: int) -> None:
        super().__init__(config)
        self.C_SQP = nn.Parameter(torch.eye(config.rank).repeat(layers, 1, 1))

    def structure(self, u_BD: Float[Tensor, "B D"]) -> Shared:
        return Shared(self.C_SQP)
