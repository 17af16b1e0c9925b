"""What every coupling is, and the small networks that couplings are made of. Knows no layer and no model."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.kinds import Variant
from lifelora.lora.layer import kaiming_uniform
from lifelora.lora.structure import Structure


class Coupling(nn.Module, ABC):
    """What makes C(u). All parameters that depend on the user are here; all users share A and B."""

    class Config(Variant):
        """What every coupling has."""

        rank: PositiveInt = 8
        """Rank r of the low-rank update."""
        alpha: PositiveFloat = 16.0
        """The update is scaled by s = alpha / rank (but see ``experts``)."""

        @property
        def needs_user(self) -> bool:
            """Whether C depends on the user. If so, every forward needs a scope with representations of its users."""
            return True

        @property
        def scaling(self) -> float:
            """s"""
            return self.alpha / self.rank

        @property
        def rows(self) -> int:
            """P, the rows of A."""
            return self.rank

        @property
        def columns(self) -> int:
            """Q, the columns of B."""
            return self.rank

        @property
        def max_rank(self) -> int:
            """The highest rank that one user's update can have."""
            return self.rank

        @property
        def even(self) -> float:
            """How much of a loaded LoRA comes through when all weights are even (see ``start_from``)."""
            return 1.0

        @abstractmethod
        def build(self, inputs: tuple[int, ...], user_width: int | None, generator: torch.Generator) -> "Coupling":
            """For adapted layers of so many input features each, and representations of ``user_width`` (None: none)."""

        @final
        def users(self, user_width: int | None) -> int:
            """``user_width``, which this coupling needs; ConfigError where it is None."""
            if user_width is None:
                raise ConfigError(
                    f"coupling '{self.kind}' makes C(u) from a representation u, and there is none. "
                    "Set `representation`, or choose coupling 'identity'."
                )
            return user_width

    def __init__(self, config: Config, user_width: int | None = None) -> None:
        super().__init__()
        self.config, self.user_width = config, user_width

    @abstractmethod
    def structure(self, u_BD: Float[Tensor, "B D"]) -> Structure | None:
        """C(u) of every layer for every row (for all rows at once if no user is needed); None if it is the identity."""

    def forward(self, u_BD: Float[Tensor, "B D"] | None = None) -> Structure | None:
        """C(u), in full precision under autocast too: near the identity, bf16 rounds C(u) = I + small to I."""
        if self.user_width is None:
            return self.structure(torch.empty(0, 0))
        if u_BD is None:
            raise ConfigError("this coupling makes C(u) from a representation u, and none was given. Give one row per user.")
        if u_BD.shape[1] != self.user_width:
            raise ConfigError(
                f"the representation u has width {u_BD.shape[1]}, but this coupling was made for width {self.user_width}. "
                "Use the conventional model that it was trained with."
            )
        with torch.autocast(u_BD.device.type, enabled=False):
            first = next(self.parameters())
            return self.structure(u_BD.to(first.device, first.dtype))

    @final
    @property
    def number_of_parameters(self) -> int:
        """Entries of all parameters, of all layers."""
        return sum(parameter.numel() for parameter in self.parameters())


@final
class LinearGate(nn.Module):
    """W u for each layer, without bias; the axis X is what a layer asks for."""

    def __init__(self, layers: int, width: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.W_SXD = nn.Parameter(kaiming_uniform(layers, outputs, width, generator=generator))

    def forward(self, u_BD: Float[Tensor, "B D"]) -> Float[Tensor, "S B X"]:
        return torch.einsum("sxd,bd->sbx", self.W_SXD, u_BD)


@final
class MLPGate(nn.Module):
    """W2 · Dropout(act(W1 · LayerNorm(u) + b1)) + b2 for each layer, all layers at once; Z is the hidden width."""

    def __init__(
        self,
        layers: int,
        width: int,
        hidden: int,
        outputs: int,
        activation: Literal["relu", "gelu"],
        generator: torch.Generator,
        *,
        dropout: float = 0.0,
        zero: bool = False,
    ) -> None:
        """With ``zero`` the last layer starts at zero, and so does what comes out; else Kaiming-uniform, zero biases."""
        super().__init__()
        self.activation: Callable[[Tensor], Tensor] = {"relu": torch.relu, "gelu": F.gelu}[activation]
        self.dropout = dropout
        self.scale_SD = nn.Parameter(torch.ones(layers, width))
        self.shift_SD = nn.Parameter(torch.zeros(layers, width))
        self.W1_SZD = nn.Parameter(kaiming_uniform(layers, hidden, width, generator=generator))
        self.b1_SZ = nn.Parameter(torch.zeros(layers, hidden))
        W2_SXZ = kaiming_uniform(layers, outputs, hidden, generator=generator)
        self.W2_SXZ = nn.Parameter(torch.zeros_like(W2_SXZ) if zero else W2_SXZ)
        self.b2_SX = nn.Parameter(torch.zeros(layers, outputs))

    def forward(self, u_BD: Float[Tensor, "B D"]) -> Float[Tensor, "S B X"]:
        D = self.scale_SD.shape[1]
        u_SBD = F.layer_norm(u_BD, (D,)) * self.scale_SD[:, None] + self.shift_SD[:, None]
        hidden_SBZ = self.activation(torch.baddbmm(self.b1_SZ[:, None], u_SBD, self.W1_SZD.mT))
        return torch.baddbmm(self.b2_SX[:, None], F.dropout(hidden_SBZ, self.dropout, self.training), self.W2_SXZ.mT)


@final
class NormGate(nn.Module):
    """W · LayerNorm(v) + b of one layer, of the width of what comes into it; Kaiming-uniform, zero bias."""

    def __init__(self, width: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        self.scale_D, self.shift_D = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.W_XD = nn.Parameter(kaiming_uniform(outputs, width, generator=generator))
        self.b_X = nn.Parameter(torch.zeros(outputs))

    def forward(self, v_BD: Float[Tensor, "B D"]) -> Float[Tensor, "B X"]:
        return F.linear(F.layer_norm(v_BD, self.scale_D.shape, self.scale_D, self.shift_D), self.W_XD, self.b_X)
