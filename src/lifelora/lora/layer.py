"""The personal LoRA layer. Knows linear-like modules, tensors and the slot that brings it C(u); no model, no user.

    y = W x + s · B · C(u) · A x

All users share A and B; C(u) belongs to one row of the batch. The product is computed from the right, so that nothing as large
as W is ever built, neither for one user nor for all.
"""

import math
from typing import Any, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.lora.rehearsal import Layout, WeightReadError
from lifelora.lora.slot import Slot


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


class _BaseAndDown(torch.autograd.Function):
    """(W x + bias, A x) of a frozen W, with one gradient of x instead of two that are added up:

        dx = Wᵀ dy + Aᵀ dh,    dA = dh xᵀ

    T is all tokens of the batch. What has the width of the rank lies as P x T: products of a thin matrix are up to seven
    times as fast on a CPU when the thin one stands at the left and its rows are whole (measured, 1024 x 768 by 8).
    """

    @staticmethod
    def forward(x_TI: Tensor, W_OI: Tensor, bias_O: Tensor | None, A_PI: Tensor) -> tuple[Tensor, Tensor]:
        return F.linear(x_TI, W_OI, bias_O), A_PI @ x_TI.T

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        x_TI, W_OI, _, A_PI = inputs
        ctx.save_for_backward(x_TI if ctx.needs_input_grad[3] else None, W_OI, A_PI)

    @staticmethod
    def backward(ctx: Any, dy_TO: Tensor, dh_PT: Tensor) -> tuple[Tensor | None, None, None, Tensor | None]:
        x_TI, W_OI, A_PI = ctx.saved_tensors
        dx_TI = (dy_TO @ W_OI).addmm_(dh_PT.T, A_PI) if ctx.needs_input_grad[0] else None
        dA_PI = dh_PT @ x_TI if ctx.needs_input_grad[3] else None
        return dx_TI, None, None, dA_PI


@final
class PersonalLoRALinear(nn.Module):
    """A frozen linear-like ``base`` and its adapter: A (P x I, Kaiming-uniform) and B (O x Q, zero).

    With a slot, C(u) is read from it at each forward; without one C is the identity, which is plain LoRA. A and B are
    kept in fp32 on a half-precision or quantised base (their updates are smaller than its spacing), multiplied in the
    dtype of the base's input (or of autocast), and C(u) is applied in fp32. There is no ``weight`` on purpose: code that
    multiplies by it would silently skip the adapter, so it gets a WeightReadError. With ``layout = "flat"`` x is T x I,
    the tokens of one user after those of another; else its first axis is the users.
    """

    def __init__(
        self,
        base: nn.Module,
        rows: int,
        columns: int,
        scaling: float,
        *,
        generator: torch.Generator,
        slot: Slot | None = None,
        index: int = 0,
        name: str = "",
        dropout: float = 0.0,
        layout: Layout = "rows",
    ) -> None:
        super().__init__()
        sizes = features(base)
        if sizes is None:
            raise ConfigError(f"layer '{name}' is a {type(base).__name__}; only a linear layer can carry a LoRA.")
        if slot is None and rows != columns:
            raise ConfigError(f"layer '{name}': without C(u), {rows} rows of A cannot meet {columns} columns of B.")
        self.base = base.requires_grad_(False)
        self.inputs, self.outputs = sizes
        self.flat = layout == "flat"
        self.scaling, self.slot, self.index, self.name, self.dropout = scaling, slot, index, name, dropout
        weight = next(base.parameters(), torch.empty(0))
        dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
        A_PI = kaiming_uniform(rows, self.inputs, generator=generator)
        self.A_PI = nn.Parameter(A_PI.to(weight.device, dtype))
        self.B_OQ = nn.Parameter(torch.zeros(self.outputs, columns, dtype=dtype, device=weight.device))

    def forward(self, x: Float[Tensor, "B *L I"]) -> Float[Tensor, "B *L O"]:
        """W x + s · B · C(u) · A x, in the dtype of the base's output."""
        kind, x_TI = x.device.type, x.flatten(0, -2)  # T: all tokens of the batch
        dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else x.dtype
        plain = self._plain_base()
        if plain is not None and not (self.training and self.dropout):
            W_OI, bias_O = plain
            bias_O = None if bias_O is None else bias_O.to(dtype)
            y_TO, h_PT = _BaseAndDown.apply(  # type: ignore[no-untyped-call]
                x_TI.to(dtype), W_OI.to(dtype), bias_O, self.A_PI.to(dtype)
            )
        else:
            y_TO = self.base(x).flatten(0, -2)
            h_PT = self.A_PI.to(dtype) @ F.dropout(x_TI, self.dropout, self.training).to(dtype).T
        t_QT = (h_PT if self.slot is None else self._couple(h_PT, x)).to(y_TO.dtype)
        # Whole rows of Bᵀ and of t: in backward autograd goes by their strides and puts them at the left (see _BaseAndDown).
        B_QO = self.B_OQ.T.to(y_TO.dtype, memory_format=torch.contiguous_format, copy=True)
        # In place only on what is ours: what another base gives may be kept by its own backward.
        add = torch.addmm if plain is None else Tensor.addmm_
        out_TO = add(y_TO, t_QT.T, B_QO, alpha=self.scaling)
        return out_TO.to(y_TO.dtype).view(*x.shape[:-1], self.outputs)

    def follow(self) -> None:
        """Be where the base is, and learn or be asked as it is: it has been in the model while the layer was not."""
        self.training = self.base.training
        device = next(self.base.parameters(), self.A_PI).device
        for factor in (self.A_PI, self.B_OQ):
            if factor.device != device and device.type != "meta":  # where nothing would be left of it
                factor.data = factor.data.to(device)

    def _plain_base(self) -> tuple[Tensor, Tensor | None] | None:
        """W and bias where multiplying by them is all that the base does; None for quantised, hooked or other bases."""
        base: Any = self.base
        if (
            base._forward_hooks
            or base._forward_pre_hooks
            or base._backward_hooks
            or base._backward_pre_hooks
            or "forward" in vars(base)
        ):  # replaced on the instance, as offloading does
            return None
        if type(base) is nn.Linear:
            W_OI = base.weight
        elif f"{type(base).__module__}.{type(base).__name__}" == "transformers.pytorch_utils.Conv1D":
            W_OI = base.weight.T
        else:
            return None
        plain = type(base.weight) in (nn.Parameter, Tensor) and W_OI.is_floating_point() and not W_OI.requires_grad
        return (W_OI, base.bias) if plain else None

    def _couple(self, h_PT: Float[Tensor, "P T"], x: Float[Tensor, "B *L I"]) -> Float[Tensor, "Q T"]:
        assert self.slot is not None
        C = self.slot.read(self.name, x.shape[0], flat=self.flat)
        B = C.batch if self.flat and C.batch else x.shape[0]
        L = h_PT.shape[1] // max(B, 1)  # not -1, which has no answer for a batch without rows
        h_BPL = h_PT.view(len(h_PT), B, L).transpose(0, 1).to(C.tensor.dtype)
        x_BLI = x.reshape(B, L, x.shape[-1])
        # In full precision under autocast too: near the identity, bf16 rounds C(u) = I + small to I.
        if torch.is_autocast_enabled(x.device.type):
            with torch.autocast(x.device.type, enabled=False):
                t_BQL = C.couple(self.index, h_BPL, x_BLI)
        else:  # entering autocast costs more than the product
            t_BQL = C.couple(self.index, h_BPL, x_BLI)
        return t_BQL.transpose(0, 1).reshape(t_BQL.shape[1], h_PT.shape[1])

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):
            raise WeightReadError(self.name, name)
        return super().__getattr__(name)

    def extra_repr(self) -> str:
        """The sizes, for ``print(model)``."""
        kind = "plain" if self.slot is None else "personal"
        return f"{kind}, P={self.A_PI.shape[0]}, Q={self.B_OQ.shape[1]}, scaling={self.scaling:g}"
