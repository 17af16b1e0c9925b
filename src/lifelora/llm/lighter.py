"""A loaded LM made lighter for a small machine: its first layers alone, its weights in eight bits. Knows modules, no prompt.

Weights in eight bits, with a scale for each row of W, found by its largest number:

    W ≈ diag(w) · W8,    y = (x · W8ᵀ) · diag(w),    dx = (dy · diag(w)) · W8

x stays as it is: rounded to eight bits, too, it would be read faster, but real models have a few large numbers among many small
ones there, and their answers came out as others (benchmarks/backbones.py). Embeddings and the head stay as they are.
"""

from typing import Any, cast, final

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int8
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.llm.context import text_config

MOST = 127
"""The largest whole number: -128 has no counterpart."""


def first_layers(model: nn.Module, count: int) -> int:
    """Leave a causal LM its first ``count`` layers, behind which its last norm and its head stand; how many it had.

    Raises ConfigError where it has fewer, and where its layers are not found.
    """
    config, name = text_config(cast(Any, model).config), type(model).__name__
    had = int(config.num_hidden_layers)
    if count > had:
        raise ConfigError(f"backbone.layers = {count} asks for more layers than the {had} that {name} has; give at most so many.")
    decoder = cast(Any, model).get_decoder()
    lists = [module for module in decoder.modules() if isinstance(module, nn.ModuleList) and len(module) == had]
    if len(lists) != 1:
        raise ConfigError(
            f"backbone.layers = {count}: which of the modules of {name} are its layers is not clear; leave backbone.layers out."
        )
    del lists[0][count:]
    config.num_hidden_layers = count
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:count]
    return had


def in_eight_bits(model: nn.Module) -> None:
    """Round the weights of all linear layers but the head's, for good; ConfigError for a model without such layers."""
    head = cast(Any, model).get_output_embeddings()
    found = [name for name, module in model.named_modules() if type(module) is nn.Linear and module is not head]
    if not found:
        raise ConfigError(f"{type(model).__name__} has no linear layers to round; set backbone.quantization = 'none'.")
    for name in found:
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, Int8Linear(cast(nn.Linear, model.get_submodule(name))))


@final
class Int8Linear(nn.Module):
    """A frozen linear layer in eight bits. It has no ``weight``, so that nobody takes its whole numbers for one."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.in_features, self.out_features = linear.in_features, linear.out_features
        W_OI = linear.weight.detach().float()
        most_O1 = W_OI.abs().amax(dim=1, keepdim=True)
        scale_O1 = torch.where(most_O1 > 0, most_O1 / MOST, 1.0)
        # Parameters, so that a model's size and dtypes tell of them.
        self.codes_OI = nn.Parameter((W_OI / scale_O1).round_().to(torch.int8), requires_grad=False)
        self.scale_O = nn.Parameter(scale_O1[:, 0].clone(), requires_grad=False)
        self.bias = linear.bias
        self.train(linear.training)

    def forward(self, x: Float[Tensor, "*B I"]) -> Float[Tensor, "*B O"]:
        """In the dtype of ``x``, which holds the whole numbers exactly."""
        y: Tensor = _Product.apply(x, self.codes_OI, self.scale_O)  # type: ignore[no-untyped-call]
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        """The sizes, for ``print(model)``."""
        return f"in_features={self.in_features}, out_features={self.out_features}"


class _Product(torch.autograd.Function):
    """Its own, so that backward keeps the whole numbers and not what was made of them."""

    @staticmethod
    def forward(x: Tensor, codes_OI: Int8[Tensor, "O I"], scale_O: Tensor) -> Tensor:
        return F.linear(x, codes_OI.to(x.dtype)).mul_(scale_O.to(x.dtype))

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        ctx.save_for_backward(*inputs[1:])

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        codes_OI, scale_O = ctx.saved_tensors
        return (dy * scale_O.to(dy.dtype)) @ codes_OI.to(dy.dtype), None, None
