"""C(u) of one batch, kept as small as its structure allows. Knows tensors; no layer, no user, no parameter.

Every class is one shape of C(u) (Q x P, for S layers and B rows) and multiplies by it without writing it out:

=============  ====================================  ==========================  ======================
class          C(u)                                  kept per row and layer      coupling
=============  ====================================  ==========================  ======================
``Dense``      every entry                           Q·P numbers                 full
``Shared``     every entry, the same for all rows    nothing                     static
``Diagonal``   diag(w) ⊗ I(block)                    N weights                   experts; meta, outputs
``RankOne``    (w wᵀ) ⊗ I(block)                     N weights                   meta, weights
``Column``     w ⊗ I(block)                          N weights                   hydra
``Routed``     column or diagonal of w(x), by token  nothing                     hydra, experts; token
``Gated``      of w(x, u), another per token         u                           meta, token
=============  ====================================  ==========================  ======================

⊗ is Kronecker's product with the block inside: entry ((k, i), (l, j)) of M ⊗ I is M_kl where i = j, and else 0.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lifelora.errors import ConfigError


@dataclass(frozen=True, eq=False)
class Structure(ABC):
    """C(u) of S layers for B rows; ``tensor`` is all there is to it, with axes S, B and then the structure's own."""

    tensor: Tensor

    personal: ClassVar[bool] = True
    "Whether there is a C for each row."

    @property
    def layers(self) -> int:
        """S"""
        return self.tensor.shape[0]

    @property
    def batch(self) -> int | None:
        """B; None when all rows share C."""
        return self.tensor.shape[1] if self.personal else None

    @property
    @abstractmethod
    def rows(self) -> int:
        """P"""

    @property
    @abstractmethod
    def columns(self) -> int:
        """Q"""

    @abstractmethod
    def couple(self, layer: int, h_BPL: Float[Tensor, "B P L"], x_BLI: Float[Tensor, "B L I"]) -> Float[Tensor, "B Q L"]:
        """C(u) h for every token; x is what came into the layer, for couplings that look at it."""

    @abstractmethod
    def split(self, layer: int, row: int) -> tuple[Float[Tensor, "Q R"], Float[Tensor, "R P"] | None]:
        """(left, right) with C(u) = left · right and R as small as the structure promises; None is the identity."""

    @final
    def dense(self, layer: int, row: int = 0) -> Float[Tensor, "Q P"]:
        """One row's C(u), written out."""
        left_QR, right_RP = self.split(layer, row)
        return left_QR if right_RP is None else left_QR @ right_RP

    @final
    def repeated(self, times: int) -> "Structure":
        """Every row ``times`` times, one after the other, as beam search lays out its beams."""
        return replace(self, tensor=self.tensor.repeat_interleave(times, dim=1)) if self.personal else self

    @final
    def at(self, rows_N: Int[Tensor, "N"]) -> "Structure":
        """Some of the rows."""
        return replace(self, tensor=self.tensor[:, rows_N]) if self.personal else self

    @final
    @staticmethod
    def joined(parts: Sequence["Structure"]) -> "Structure":
        """The rows of some, all made by one coupling, one after another."""
        return replace(parts[0], tensor=torch.cat([one.tensor for one in parts], dim=1)) if parts[0].personal else parts[0]

    @final
    @property
    def bytes_per_row(self) -> int:
        """What has to be kept of one user, in bytes; a router shared by all layers counts once."""
        if not self.personal:
            return 0
        layers = 1 if self.tensor.stride(0) == 0 else self.layers
        return layers * self.tensor[0, 0].numel() * self.tensor.element_size()


@final
@dataclass(frozen=True, eq=False)
class Dense(Structure):
    """Every entry free: ``tensor`` is C_SBQP."""

    @property
    def rows(self) -> int:
        return self.tensor.shape[3]

    @property
    def columns(self) -> int:
        return self.tensor.shape[2]

    def couple(self, layer: int, h_BPL: Tensor, x_BLI: Tensor) -> Tensor:
        return torch.bmm(self.tensor[layer].to(h_BPL.device), h_BPL)

    def split(self, layer: int, row: int) -> tuple[Tensor, Tensor | None]:
        return self.tensor[layer, row], None


@final
@dataclass(frozen=True, eq=False)
class Shared(Structure):
    """Every entry free, and the same for all users: ``tensor`` is C_SQP."""

    personal: ClassVar[bool] = False

    @property
    def rows(self) -> int:
        return self.tensor.shape[2]

    @property
    def columns(self) -> int:
        return self.tensor.shape[1]

    def couple(self, layer: int, h_BPL: Tensor, x_BLI: Tensor) -> Tensor:
        return torch.matmul(self.tensor[layer].to(h_BPL.device), h_BPL)

    def split(self, layer: int, row: int) -> tuple[Tensor, Tensor | None]:
        return self.tensor[layer], None


@dataclass(frozen=True, eq=False)
class Blocks(Structure):
    """Built of N weights and identities of ``block`` rows: ``tensor`` is w_SBN."""

    block: int

    @property
    def rows(self) -> int:
        return self.tensor.shape[2] * self.block

    @property
    def columns(self) -> int:
        return self.tensor.shape[2] * self.block

    def weights(self, layer: int, h_BPL: Tensor) -> Float[Tensor, "B N 1"]:
        """w of one layer, as a column."""
        return self.tensor[layer].to(h_BPL.device)[..., None]

    def blocks(self, h_BPL: Tensor) -> Float[Tensor, "B N X"]:
        """A x cut into its blocks, and each laid out as one row: weighing and adding up blocks is then a product."""
        B, P, L = h_BPL.shape
        return h_BPL.reshape(B, P // self.block, self.block * L)

    def identity(self) -> Float[Tensor, "block block"]:
        """I(block)."""
        return torch.eye(self.block, dtype=self.tensor.dtype, device=self.tensor.device)


@final
@dataclass(frozen=True, eq=False)
class Diagonal(Blocks):
    """diag(w) ⊗ I(block): every block of A x is weighed."""

    def couple(self, layer: int, h_BPL: Tensor, x_BLI: Tensor) -> Tensor:
        return (self.blocks(h_BPL) * self.weights(layer, h_BPL)).view(h_BPL.shape)

    def split(self, layer: int, row: int) -> tuple[Tensor, Tensor | None]:
        return torch.diag(self.tensor[layer, row].repeat_interleave(self.block)), None


@final
@dataclass(frozen=True, eq=False)
class RankOne(Blocks):
    """(w wᵀ) ⊗ I(block): the blocks are summed by weight, and the sum is handed to all blocks by weight."""

    def couple(self, layer: int, h_BPL: Tensor, x_BLI: Tensor) -> Tensor:
        w_BN1 = self.weights(layer, h_BPL)
        sum_B1X = torch.bmm(w_BN1.mT, self.blocks(h_BPL))
        return torch.bmm(w_BN1, sum_B1X).view(h_BPL.shape)

    def split(self, layer: int, row: int) -> tuple[Tensor, Tensor | None]:
        left_QR = torch.kron(self.tensor[layer, row][:, None], self.identity())
        return left_QR, left_QR.T


@final
@dataclass(frozen=True, eq=False)
class Column(Blocks):
    """w ⊗ I(block): A x is handed to all blocks by weight."""

    @property
    def rows(self) -> int:
        return self.block

    def couple(self, layer: int, h_BPL: Tensor, x_BLI: Tensor) -> Tensor:
        B, _, L = h_BPL.shape
        return torch.bmm(self.weights(layer, h_BPL), self.blocks(h_BPL)).view(B, self.columns, L)

    def split(self, layer: int, row: int) -> tuple[Tensor, Tensor | None]:
        return torch.kron(self.tensor[layer, row][:, None], self.identity()), None


@dataclass(frozen=True, eq=False)
class ByToken(Structure):
    """C differs from token to token, by what comes into the layer, so no user's update is one matrix."""

    @final
    def split(self, layer: int, row: int) -> tuple[Tensor, Tensor | None]:
        raise ConfigError(
            "this coupling differs from token to token, so a user's update is not one matrix. It can be neither exported "
            "nor merged. Choose gate = 'instance'."
        )


@final
@dataclass(frozen=True, eq=False)
class Routed(ByToken):
    """w ⊗ I(block), or diag(w) ⊗ I(block), with w = softmax(W x / τ) of each token; ``tensor`` is S x N x 0, no entries."""

    routers: tuple[Tensor, ...]
    "W_NI of every layer."
    block: int
    temperature: float
    shape: Literal["column", "diagonal"]

    personal: ClassVar[bool] = False

    @property
    def rows(self) -> int:
        return self.block if self.shape == "column" else self.columns

    @property
    def columns(self) -> int:
        return self.tensor.shape[1] * self.block

    def couple(self, layer: int, h_BPL: Tensor, x_BLI: Tensor) -> Tensor:
        W_NI, (B, P, L) = self.routers[layer], h_BPL.shape
        w_BLN = torch.softmax(F.linear(x_BLI.to(W_NI.dtype), W_NI) / self.temperature, dim=-1)
        blocks_BXRL = h_BPL.reshape(B, P // self.block, self.block, L)  # X: one block for all weights, or one for each
        return (blocks_BXRL * w_BLN.mT[:, :, None]).flatten(1, 2)


@final
@dataclass(frozen=True, eq=False)
class Gated(ByToken):
    """diag(w) ⊗ I(block), or (w wᵀ) ⊗ I(block), with w = softmax(gate([x ; u]) / τ) of each token; ``tensor`` is u_SBD."""

    gates: tuple[Callable[[Tensor], Tensor], ...]
    "Of every layer: from [x ; u] of tokens to N numbers of each."
    blocks: int
    "N"
    block: int
    temperature: float
    merge: Literal["weights", "outputs"]

    @property
    def rows(self) -> int:
        return self.blocks * self.block

    @property
    def columns(self) -> int:
        return self.blocks * self.block

    def couple(self, layer: int, h_BPL: Tensor, x_BLI: Tensor) -> Tensor:
        u_BD, (B, _, L) = self.tensor[layer].to(h_BPL.device), h_BPL.shape
        seen_BLX = torch.cat([x_BLI.to(u_BD.dtype), u_BD[:, None].expand(-1, L, -1)], dim=2)
        z_BLN = self.gates[layer](seen_BLX.flatten(0, 1)).view(B, L, self.blocks)
        w_BN1L = torch.softmax(z_BLN / self.temperature, dim=2).mT[:, :, None]
        t_BNRL = h_BPL.reshape(B, self.blocks, self.block, L) * w_BN1L
        if self.merge == "weights":
            t_BNRL = w_BN1L * t_BNRL.sum(dim=1, keepdim=True)
        return t_BNRL.flatten(1, 2)
