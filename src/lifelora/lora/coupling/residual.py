"""A small residual network over the entries of u, as one would read a line of pixels. Knows no layer and no model."""

from itertools import pairwise
from typing import Final, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifelora.errors import ConfigError

STAGES: Final = (16, 32, 64)
"""Channels of the stages; the first block of a later one halves the line."""
BLOCKS: Final = 3
"""Of each stage."""
LEAST = 5
"""The shortest line that keeps two entries to the end: batch normalisation cannot learn from a single one."""


class Block(nn.Module):
    """ReLU(N2(V2 * ReLU(N1(V1 * x))) + x): * a convolution of three without bias, N batch normalisation.

    Where the block halves the line and doubles the channels, x is every second entry, and zeros in the new channels.
    """

    def __init__(self, ins: int, outs: int) -> None:
        super().__init__()
        self.stride, self.more = 1 if ins == outs else 2, outs - ins
        self.first = nn.Conv1d(ins, outs, 3, stride=self.stride, padding=1, bias=False)
        self.second = nn.Conv1d(outs, outs, 3, padding=1, bias=False)
        self.norm_first, self.norm_second = nn.BatchNorm1d(outs), nn.BatchNorm1d(outs)

    def forward(self, x_BCL: Float[Tensor, "B C L"]) -> Float[Tensor, "B F M"]:
        h_BFM = self.norm_second(self.second(F.relu(self.norm_first(self.first(x_BCL)))))
        return F.relu(h_BFM + F.pad(x_BCL[:, :, :: self.stride], (0, 0, 0, self.more)))


@final
class ResidualGate(nn.Module):
    """W · mean(stages(ReLU(N(V * u)))) + b for each layer: the released router of iLoRA, which is ResNet-20 in one dimension.

    (He et al., CVPR 2016, section 4.2, shortcuts without parameters.) While it learns, its normalisation takes the statistics of
    the batch: then w depends on who else is in it. Asked, it takes those that it has kept.
    """

    def __init__(self, layers: int, width: int, outputs: int, generator: torch.Generator) -> None:
        super().__init__()
        if width < LEAST:
            raise ConfigError(
                f"router = 'residual' reads u as a line of numbers, halved twice, and u has {width}; it takes at "
                f"least {LEAST}. Choose router = 'linear' or 'mlp', or a wider representation."
            )
        with torch.random.fork_rng(devices=[]):  # PyTorch's own start, by our generator
            torch.manual_seed(int(torch.randint(1 << 62, (), generator=generator)))
            self.networks = nn.ModuleList(_network(outputs) for _ in range(layers))

    def forward(self, u_BD: Float[Tensor, "B D"]) -> Float[Tensor, "S B X"]:
        return torch.stack([network(u_BD[:, None]) for network in self.networks])


def _network(outputs: int) -> nn.Sequential:
    channels = [STAGES[0], *(stage for stage in STAGES for _ in range(BLOCKS))]
    return nn.Sequential(
        nn.Conv1d(1, STAGES[0], 3, padding=1, bias=False),
        nn.BatchNorm1d(STAGES[0]),
        nn.ReLU(),
        *(Block(ins, outs) for ins, outs in pairwise(channels)),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(STAGES[-1], outputs),
    )
