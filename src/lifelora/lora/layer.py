"""The personal LoRA layer and the slot that brings it C(u). Knows linear-like modules and tensors, no model, no user.

    y = W x + (alpha/r) · B · C(u) · A x

A and B belong to everybody, C(u) to one row of the batch. It is computed as ((x Aᵀ) C(u)ᵀ) Bᵀ, so that nothing as large
as W is ever built, neither for one person nor for all.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifelora.errors import ConfigError, ScopeError


@final
class Slot:
    """Where the layers of one model find C(u): one writer, many readers, and empty outside ``holding``.

    The scope must contain forward *and* backward of the same batch: with gradient checkpointing the layers run again
    during backward and read C(u) a second time. So: one batch, one scope, one backward. Checkpointing has to be
    non-reentrant (``use_reentrant=False``); the reentrant kind goes backward through the graph of C(u) once per
    checkpoint, which torch refuses.

    It is a plain attribute and not a context variable, because backward on an accelerator runs in threads of its own,
    which would not see the variable. One model therefore serves one scope at a time; a second one is an error.
    """

    def __init__(self, layers: int, columns: int, rows: int) -> None:
        self.layers = layers
        self.columns = columns
        self.rows = rows
        self._C_SBQP: Tensor | None = None

    @contextmanager
    def holding(self, C_SBQP: Float[Tensor, "S B Q P"]) -> Iterator[None]:
        """C(u) of every layer and every row of one batch, from here to the end of the ``with`` block."""
        if self._C_SBQP is not None:
            raise ScopeError(
                f"a scope of {self._C_SBQP.shape[1]} rows is open on this model already, and scopes do not nest; leave "
                "it first (after backward), or use another copy of the model."
            )
        S, _, Q, P = C_SBQP.shape
        if (self.layers, self.columns, self.rows) != (S, Q, P):
            raise ScopeError(
                f"C(u) came for {S} layers with {Q}x{P} entries, but this model has {self.layers} adapted layers with "
                f"{self.columns}x{self.rows} (layers x batch x columns of B x rows of A)."
            )
        self._C_SBQP = C_SBQP
        try:
            yield
        finally:
            self._C_SBQP = None

    def read(self, layer: int, name: str, batch: int) -> Float[Tensor, "B Q P"]:
        """C(u) of one layer for ``batch`` rows; ScopeError when nobody, or another number of people, is in scope."""
        if self._C_SBQP is None:
            raise ScopeError(
                f"layer '{name}' is personal, but nobody is in scope; run forward and backward inside "
                "`with module.scope(batch):` (with gradient checkpointing the layer runs again during backward)."
            )
        # Left to itself, C of batch 1 would be broadcast over all rows: everybody would get one person's weights.
        if self._C_SBQP.shape[1] != batch:
            raise ScopeError(
                f"layer '{name}' got {batch} rows while C(u) of {self._C_SBQP.shape[1]} is in scope; open the scope "
                "with one representation per row (beam search repeats rows: repeat the representations with them)."
            )
        return self._C_SBQP[layer]


def features(module: nn.Module) -> tuple[int, int] | None:
    """(I, O) of a linear-like module: nn.Linear, the quantised linears shaped like it, Conv1D; None for any other."""
    inputs, outputs = getattr(module, "in_features", None), getattr(module, "out_features", None)
    if isinstance(inputs, int) and isinstance(outputs, int):
        return inputs, outputs
    if is_conv1d(module):
        weight_IO: Any = module.weight
        return int(weight_IO.shape[0]), int(weight_IO.shape[1])
    return None


def is_conv1d(module: nn.Module) -> bool:
    """Whether this is GPT-2's linear, which keeps its weight as I x O and the number O under the name ``nf``."""
    weight = getattr(module, "weight", None)
    return isinstance(weight, Tensor) and weight.ndim == 2 and isinstance(getattr(module, "nf", None), int)


def kaiming_uniform(*shape: int, generator: torch.Generator) -> Tensor:
    """Kaiming-uniform with a = sqrt(5): U(-b, b), b = sqrt(2/(1 + a²)) · sqrt(3/fan_in) = 1/sqrt(fan_in).

    fan_in is the last axis. torch's own would count the leading axis of stacked weights as a receptive field.
    """
    bound = 1 / math.sqrt(shape[-1])
    return torch.empty(shape).uniform_(-bound, bound, generator=generator)


@final
class PersonalLoRALinear(nn.Module):
    """A frozen linear-like ``base`` and its adapter: A (P x I, Kaiming-uniform) and B (O x Q, zero).

    With a slot, C(u) is read from it at each forward; without one C is the identity, which is plain LoRA. There is no
    ``weight`` on purpose: code that multiplies by it would pass the adapter by in silence.
    """

    def __init__(
        self, base: nn.Module, rows: int, columns: int, scaling: float, *, generator: torch.Generator,
        slot: Slot | None = None, index: int = 0, name: str = "", dropout: float = 0.0,
    ) -> None:
        super().__init__()
        sizes = features(base)
        if sizes is None:
            raise ConfigError(f"layer '{name}' is a {type(base).__name__}; only a linear layer can carry a LoRA.")
        if slot is None and rows != columns:
            raise ConfigError(f"layer '{name}': without C(u), {rows} rows of A cannot meet {columns} columns of B.")
        self.base = base.requires_grad_(False)
        self.inputs, self.outputs = sizes
        self.scaling = scaling
        self.slot = slot
        self.index = index
        self.name = name
        self.dropout = nn.Dropout(dropout) if dropout > 0 else nn.Identity()
        # The adapter stays in fp32 on a half-precision or quantised base: its updates are smaller than their spacing.
        weight = next(base.parameters(), torch.empty(0))
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        A_PI = kaiming_uniform(rows, self.inputs, generator=generator)
        self.A_PI = nn.Parameter(A_PI.to(weight.device, dtype))
        self.B_OQ = nn.Parameter(torch.zeros(self.outputs, columns, dtype=dtype, device=weight.device))

    def forward(self, x: Float[Tensor, "B *L I"]) -> Float[Tensor, "B *L O"]:
        """W x + s · B · C(u) · A x, in the dtype of the base's output."""
        y = self.base(x)
        h = F.linear(self.dropout(x).to(self.A_PI.dtype), self.A_PI)  # x Aᵀ: B *L P
        if self.slot is not None:
            h = self._couple(h, self.slot.read(self.index, self.name, x.shape[0]))
        delta = F.linear(h * self.scaling, self.B_OQ)
        return y + delta.to(y.dtype)  # type: ignore[no-any-return]

    def _couple(self, h: Float[Tensor, "B *L P"], C_BQP: Float[Tensor, "B Q P"]) -> Float[Tensor, "B *L Q"]:
        # In full precision under autocast too: near the identity, bf16 rounds C(u) = I + small to I.
        with torch.autocast(h.device.type, enabled=False):
            C_BQP = C_BQP.to(self.A_PI)
            h_BLP = h.to(C_BQP.dtype).reshape(h.shape[0], math.prod(h.shape[1:-1]), h.shape[-1])
            return torch.bmm(h_BLP, C_BQP.mT).reshape(*h.shape[:-1], C_BQP.shape[1])

    def extra_repr(self) -> str:
        """The sizes, for ``print(model)``."""
        kind = "plain" if self.slot is None else "personal"
        return f"{kind}, P={self.A_PI.shape[0]}, Q={self.B_OQ.shape[1]}, scaling={self.scaling:g}"
