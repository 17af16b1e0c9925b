"""The couplings: how a representation u becomes C(u), for all adapted layers at once. Knows no layer and no model.

A coupling is one class with its Config, and one member of ``AnyCoupling``; nothing else in the library changes.
"""

from abc import ABC, abstractmethod
from typing import Annotated, ClassVar, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.lora.layer import kaiming_uniform
from lifelora.types import Frozen


class Coupling(nn.Module, ABC):
    """What gives C(u): its parameters are all that is personal in a model, beside A and B, which all share."""

    class Config(Frozen):
        """What every coupling has."""

        needs_user: ClassVar[bool]
        """Whether there is a C(u) at all: then every forward needs a representation of somebody in scope."""
        rank: PositiveInt = 8
        """Rank r of the low-rank update."""
        alpha: PositiveFloat = 16.0
        """The update is scaled by alpha / rank."""

        @abstractmethod
        def build(self, layers: int, user_width: int | None, generator: torch.Generator) -> "Coupling":
            """For ``layers`` adapted layers and representations of ``user_width`` (None: there are none)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config

    @property
    @abstractmethod
    def rows(self) -> int:
        """P, the rows of A."""

    @property
    @abstractmethod
    def columns(self) -> int:
        """Q, the columns of B."""

    @abstractmethod
    def forward(self, u_BD: Float[Tensor, "B D"]) -> Float[Tensor, "S B Q P"] | None:
        """C(u) of every layer for every row; None when it is the identity for all."""

    @property
    def needs_user(self) -> bool:
        """See ``Config.needs_user``."""
        return self.config.needs_user

    @property
    def scaling(self) -> float:
        """s = alpha / r."""
        return self.config.alpha / self.config.rank

    @property
    def number_of_parameters(self) -> int:
        """Entries of all parameters, of all layers."""
        return sum(parameter.numel() for parameter in self.parameters())


@final
class Identity(Coupling):
    """C = I for everybody: plain LoRA (ReLLa, TALLRec, Laser). It has no parameters and needs no scope."""

    class Config(Coupling.Config):
        """Plain LoRA."""

        needs_user: ClassVar[bool] = False
        kind: Literal["identity"] = "identity"

        def build(self, layers: int, user_width: int | None, generator: torch.Generator) -> "Identity":
            """Needs none of these."""
            return Identity(self)

    @property
    def rows(self) -> int:
        """r"""
        return self.config.rank

    @property
    def columns(self) -> int:
        """r"""
        return self.config.rank

    def forward(self, u_BD: Float[Tensor, "B D"]) -> None:
        """No C(u)."""


@final
class Full(Coupling):
    """Every entry of C(u) free and signed, from one MLP per layer: CFLoRA of ReLLaX (arXiv 2501.13344).

        g(u) = W2 · GELU(W1 · LayerNorm(u) + b1) + b2       W1: e·r² x D,   W2: r² x e·r²
        G(u) = reshape(g(u), r x r)                         the released code computes (A x)ᵀ G Bᵀ, hence C(u) = G(u)ᵀ

    ``start="random"`` is the released code: C(u) = G(u)ᵀ with random weights, so a loaded LoRA starts scrambled.
    ``start="identity"``: C(u) = I + G(u)ᵀ with W2 = 0, so training starts from the plain LoRA. Each layer has its own
    parameters, stacked along S; Z is the width e·r² of the hidden layer, X = r².
    """

    class Config(Coupling.Config):
        """An MLP per layer from u to all entries of C(u)."""

        needs_user: ClassVar[bool] = True
        kind: Literal["full"] = "full"
        start: Literal["identity", "random"] = "identity"
        """C(u) before training: the identity, or random as in the authors' code."""
        expansion: PositiveInt = 2
        """Width of the hidden layer, in units of rank²."""

        def build(self, layers: int, user_width: int | None, generator: torch.Generator) -> "Full":
            """Needs representations."""
            if user_width is None:
                raise ConfigError(
                    "coupling 'full' makes C(u) from a representation u, and there is none; give the recipe a "
                    "conventional model, or choose coupling 'identity'."
                )
            return Full(self, layers, user_width, generator)

    config: Config

    def __init__(self, config: Config, layers: int, user_width: int, generator: torch.Generator) -> None:
        super().__init__(config)
        D, X = user_width, config.rank**2
        Z = config.expansion * X
        self.scale_SD = nn.Parameter(torch.ones(layers, D))
        self.shift_SD = nn.Parameter(torch.zeros(layers, D))
        self.W1_SZD = nn.Parameter(kaiming_uniform(layers, Z, D, generator=generator))
        self.b1_SZ = nn.Parameter(torch.zeros(layers, Z))
        W2_SXZ = kaiming_uniform(layers, X, Z, generator=generator)
        self.W2_SXZ = nn.Parameter(W2_SXZ if config.start == "random" else torch.zeros_like(W2_SXZ))
        self.b2_SX = nn.Parameter(torch.zeros(layers, X))

    @property
    def rows(self) -> int:
        """r"""
        return self.config.rank

    @property
    def columns(self) -> int:
        """r"""
        return self.config.rank

    def forward(self, u_BD: Float[Tensor, "B D"]) -> Float[Tensor, "S B Q P"]:
        """C(u) = I + G(u)ᵀ, or G(u)ᵀ; see the class."""
        layers, D = self.scale_SD.shape
        if u_BD.shape[1] != D:
            raise ConfigError(
                f"the representation u has width {u_BD.shape[1]}, but this coupling was made for {D}; use the "
                "conventional model that it was trained with."
            )
        R = self.config.rank
        # In full precision under autocast too: near the identity, bf16 rounds C(u) = I + small to I.
        with torch.autocast(u_BD.device.type, enabled=False):
            normed_BD = F.layer_norm(u_BD.to(self.W1_SZD), (D,))
            u_SBD = normed_BD * self.scale_SD[:, None] + self.shift_SD[:, None]
            hidden_SBZ = F.gelu(torch.einsum("sbd,szd->sbz", u_SBD, self.W1_SZD) + self.b1_SZ[:, None])
            g_SBX = torch.einsum("sbz,sxz->sbx", hidden_SBZ, self.W2_SXZ) + self.b2_SX[:, None]
            C_SBQP = g_SBX.reshape(layers, len(u_BD), R, R).mT
            if self.config.start == "identity":
                C_SBQP = C_SBQP + torch.eye(R, dtype=C_SBQP.dtype, device=C_SBQP.device)
            return C_SBQP


AnyCoupling = Annotated[Identity.Config | Full.Config, Field(discriminator="kind")]
