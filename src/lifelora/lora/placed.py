"""C(u) of some tokens of a batch and none of the others: where prompts are packed, or a coupling acts on their questions alone.

Knows places of tokens, not what they say. A token outside of all parts gets no update: the layer gives W x there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import final

from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora.errors import ConfigError
from lifelora.lora.structure import ByToken, Structure


@final
@dataclass(frozen=True)
class Parts:
    """N parts of a batch's B · L tokens, counted row by row; no token is in two of them."""

    index_NX: Int[Tensor, "N X"]
    real_NX: Bool[Tensor, "N X"]


@final
@dataclass(frozen=True, eq=False)
class Placed(Structure):
    """``inner`` has a C for each part; ``tensor`` is its."""

    inner: Structure
    at_length: Mapping[int, Parts]
    "The parts by the number of tokens B · L: fewer tokens may go through a model's last layer."
    standing: int
    "B"

    @classmethod
    def of(cls, inner: Structure, at_length: Mapping[int, Parts], standing: int = 1) -> "Placed":
        """Of a personal structure."""
        return cls(inner.tensor, inner, at_length, standing)

    @property
    def batch(self) -> int | None:
        return self.standing

    @property
    def rows(self) -> int:
        return self.inner.rows

    @property
    def columns(self) -> int:
        return self.inner.columns

    def couple(self, layer: int, h_BPL: Float[Tensor, "B P L"], x_BLI: Float[Tensor, "B L I"]) -> Float[Tensor, "B Q L"]:
        B, P, L = h_BPL.shape
        parts = self.at_length[B * L]
        N, X = parts.index_NX.shape
        flat_X = parts.index_NX.flatten()
        h_NPX = h_BPL.transpose(0, 1).reshape(P, B * L).index_select(1, flat_X).view(P, N, X).transpose(0, 1)
        # Few couplings look at what comes into a layer, which is as wide as the model.
        x_NXI = x_BLI.flatten(0, 1)[parts.index_NX] if isinstance(self.inner, ByToken) else x_BLI
        t_QNX = self.inner.couple(layer, h_NPX, x_NXI).transpose(0, 1)
        cell_C = parts.real_NX.flatten().nonzero()[:, 0]
        t_QC = t_QNX.flatten(1)[:, cell_C]
        out_QT = t_QC.new_zeros(len(t_QC), B * L).index_copy(1, flat_X[cell_C], t_QC)
        return out_QT.view(len(t_QC), B, L).transpose(0, 1)

    def split(self, layer: int, row: int) -> tuple[Tensor, Tensor | None]:
        raise ConfigError("the couplings of a batch's parts are not one matrix each row; ask for those of the parts.")
