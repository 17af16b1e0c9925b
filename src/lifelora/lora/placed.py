"""C(u) of some tokens of a batch and none of the others: where prompts are packed, or a coupling acts on their questions alone.

Knows places of tokens, not what they say. A token outside of all parts gets no update: the layer gives W x there.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import final

import torch
import torch.nn.functional as F
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

    @cached_property
    def flat(self) -> Int[Tensor, "Y"]:
        """The token of every cell."""
        return self.index_NX.flatten()

    @cached_property
    def stretch(self) -> tuple[int, int] | None:
        """The tokens that the cells are, read row by row, where they are a stretch of the batch: then nothing is copied."""
        if not len(self.flat) or not bool(self.real_NX.all()):
            return None
        start, stop = int(self.flat[0]), int(self.flat[0]) + len(self.flat)
        return (start, stop) if torch.equal(self.flat, torch.arange(start, stop, device=self.flat.device)) else None

    @cached_property
    def cells(self) -> Int[Tensor, "C"]:
        """The cells with a token, and in ``tokens`` theirs."""
        return self.real_NX.flatten().nonzero()[:, 0]

    @cached_property
    def tokens(self) -> Int[Tensor, "C"]:
        """The token of every cell with one."""
        return self.flat[self.cells]

    def take(self, x_PT: Tensor) -> Float[Tensor, "P N X"]:
        """The parts of what has a column for every token."""
        taken = x_PT.index_select(1, self.flat) if self.stretch is None else x_PT[:, slice(*self.stretch)]
        return taken.reshape(len(x_PT), *self.index_NX.shape)

    def put(self, t_QNX: Float[Tensor, "Q N X"], length: int) -> Float[Tensor, "Q T"]:
        """Back to their places among so many tokens, and 0 at all others."""
        t_QY = t_QNX.flatten(1)
        if self.stretch is None:
            return t_QY.new_zeros(len(t_QY), length).index_copy(1, self.tokens, t_QY[:, self.cells])
        start, stop = self.stretch
        return t_QY if stop - start == length else F.pad(t_QY, (start, length - stop))


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
        h_NPX = parts.take(h_BPL.transpose(0, 1).reshape(P, B * L)).transpose(0, 1)
        # Few couplings look at what comes into a layer, which is as wide as the model.
        x_NXI = x_BLI.flatten(0, 1)[parts.index_NX] if isinstance(self.inner, ByToken) else x_BLI
        t_QNX = self.inner.couple(layer, h_NPX, x_NXI).transpose(0, 1)
        out_QT = parts.put(t_QNX, B * L)
        return out_QT.view(len(out_QT), B, L).transpose(0, 1)

    def split(self, layer: int, row: int) -> tuple[Tensor, Tensor | None]:
        raise ConfigError("the couplings of a batch's parts are not one matrix each row; ask for those of the parts.")
