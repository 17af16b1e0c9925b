"""Whether two ways of asking a model agree up to rounding. Knows logits and dtypes; neither the model nor what was asked."""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

EXACT, ROUNDED = 1e-3, 0.1
"""How far answers may lie from one another, as a share of the logits' spread over the vocabulary: in fp32; in fewer bits, where a
mixture may also send a token to another expert, so that there the median of the answers counts and not the worst."""
FAILS = (TypeError, ValueError, RuntimeError, IndexError, AttributeError, KeyError, NotImplementedError)
"""What a model may raise that is asked in a way that it does not know."""


@final
@dataclass(frozen=True)
class Agreement:
    """What counts as the same answer of a model."""

    exact: bool
    "Whether all its weights are in fp32 or more."

    @classmethod
    def of(cls, model: nn.Module) -> "Agreement":
        """By the weights' dtypes."""
        return cls(all(p.dtype in (torch.float32, torch.float64) for p in model.parameters()))

    def apart(self, one_NV: Float[Tensor, "N V"], other_NV: Float[Tensor, "N V"]) -> bool:
        """Whether answers differ by more than rounding."""
        spread_N = one_NV.std(dim=-1).clamp(min=torch.finfo(torch.float32).tiny)
        error_N = (one_NV - other_NV).square().mean(dim=-1).sqrt() / spread_N
        return not float(error_N.max()) <= EXACT if self.exact else not float(error_N.median()) <= ROUNDED


def first_line(error: Exception) -> str:
    """Of what a library says, as much as a line of ours has room for."""
    return str(error).partition("\n")[0][:200]
