"""The fully interactive coupling of ReLLaX. Knows representations, no layer and no model."""

from typing import Literal, final

import torch
from jaxtyping import Float
from pydantic import PositiveInt
from torch import Tensor

from lifelora.lora.coupling.base import Coupling, MLPGate
from lifelora.lora.structure import Dense


@final
class Full(Coupling):
    """Every entry of C(u) free and signed, from one MLP per layer: CFLoRA of ReLLaX (arXiv 2501.13344).

        g(u) = W2 · GELU(W1 · LayerNorm(u) + b1) + b2       W1: e·r² x D,   W2: r² x e·r²
        G(u) = reshape(g(u), r x r)                         the released code computes (A x)ᵀ G Bᵀ, hence C(u) = G(u)ᵀ

    No constraint on C. ``start="random"`` is the released code: C(u) = G(u)ᵀ with random weights, so a loaded LoRA
    starts scrambled. ``start="identity"``: C(u) = I + G(u)ᵀ with W2 = 0, so training starts from the plain LoRA.
    """

    class Config(Coupling.Config):
        """An MLP per layer from u to all entries of C(u)."""

        kind: Literal["full"] = "full"
        start: Literal["identity", "random"] = "identity"
        """C(u) before training: the identity, or random as in the authors' code."""
        expansion: PositiveInt = 2
        """Width of the hidden layer, in units of rank²."""

        def build(self, inputs: tuple[int, ...], user_width: int | None, generator: torch.Generator) -> "Full":
            return Full(self, len(inputs), self.users(user_width), generator)

    config: Config

    def __init__(self, config: Config, layers: int, user_width: int, generator: torch.Generator) -> None:
        super().__init__(config, user_width)
        X = config.rank**2
        self.gate = MLPGate(layers, user_width, config.expansion * X, X, "gelu", generator, zero=config.start == "identity")

    def structure(self, u_BD: Float[Tensor, "B D"]) -> Dense:
        """C(u) = I + G(u)ᵀ, or G(u)ᵀ; see the class."""
        R = self.config.rank
        C_SBQP = self.gate(u_BD).unflatten(2, (R, R)).mT
        if self.config.start == "identity":
            C_SBQP = C_SBQP + torch.eye(R, dtype=C_SBQP.dtype, device=C_SBQP.device)
        return Dense(C_SBQP)
