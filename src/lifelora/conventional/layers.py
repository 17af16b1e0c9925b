"""Layers that several conventional models have. Knows no model and no input."""

from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn


def meet(user_BX: Float[Tensor, "B X"], item_BY: Float[Tensor, "B Y"], u_BE: Float[Tensor, "_ E"]) -> Float[Tensor, "B Z"]:
    """[fields ; u ; u*t]: what the DNN sees of a state u that knows no target; t, the target's vector, leads its fields.

    One state may stand for all targets.
    """
    return torch.cat([user_BX, item_BY, u_BE.expand(len(item_BY), -1), u_BE * item_BY[:, : u_BE.shape[1]]], dim=1)


def mlp(widths: list[int], dropout: float) -> nn.Sequential:
    """Linear, ReLU, dropout from each width to the next; nothing for a single width."""
    layers: list[nn.Module] = []
    for ins, outs in pairwise(widths):
        layers += [nn.Linear(ins, outs), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers)
