"""The order in which rows are learnt from: epochs, steps, each process's share and its micro-batches. Knows row numbers alone.

Rows may have to stay together, as questions about one user's history that is read once for all of them: then an epoch is a random
order of such blocks, inside which the rows keep their own. A step still holds ``batch_size`` rows, so it may cut a block in two.
"""

from dataclasses import dataclass, field
from typing import final

import numpy as np
import torch
from jaxtyping import Int, Int64

from lifelora.errors import ConfigError
from lifelora.seeds import torch_generator


@final
@dataclass
class Order:
    """Every epoch has each row once; its order is a function of the seed and the epoch's number."""

    rows_N: Int64[np.ndarray, "N"]
    size: int
    "Rows of a step; the last one of an epoch may have fewer."
    seed: int
    together_N: Int[np.ndarray, "_"] | None = None
    "Rows with one number stay together; None: each is on its own."
    _epoch: tuple[int, Int64[np.ndarray, "N"]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if self.together_N is not None and len(self.together_N) != len(self.rows_N):
            raise ConfigError(
                f"together_N says of {len(self.together_N):,} rows what goes together, and there are {len(self.rows_N):,}."
            )

    @property
    def steps(self) -> int:
        """Steps of an epoch: no row is dropped."""
        return -(-len(self.rows_N) // self.size)

    def step(self, number: int) -> Int64[np.ndarray, "B"]:
        """The rows of a step, counted from the first epoch's first, as places in ``rows_N``."""
        epoch, place = divmod(number, self.steps)
        if self._epoch is None or self._epoch[0] != epoch:
            self._epoch = epoch, self._order(epoch)
        return self._epoch[1][place * self.size : (place + 1) * self.size]

    def _order(self, epoch: int) -> Int64[np.ndarray, "N"]:
        stream = torch_generator(self.seed, "order", epoch)
        if self.together_N is None:
            return torch.randperm(len(self.rows_N), generator=stream).numpy()
        _, block_N = np.unique(self.together_N, return_inverse=True)
        rank_B = torch.randperm(int(block_N.max(initial=-1)) + 1, generator=stream).numpy()
        return np.argsort(rank_B[block_N], kind="stable")

    def share(self, places_B: Int64[np.ndarray, "B"], rank: int, world: int) -> Int64[np.ndarray, "b"]:
        """What one of so many processes does of a step; a stretch of it where rows stay together."""
        if self.together_N is None:
            return places_B[rank::world]
        return places_B[len(places_B) * rank // world : len(places_B) * (rank + 1) // world]

    def parts(self, places_B: Int64[np.ndarray, "B"], most: int) -> list[Int64[np.ndarray, "_"]]:
        """Micro-batches of at most so many rows, cut between blocks unless a block alone is larger."""
        if self.together_N is None:
            return [places_B[start : start + most] for start in range(0, len(places_B), most)]
        block_B = self.together_N[places_B]
        ends = [*(np.flatnonzero(np.diff(block_B)) + 1).tolist(), len(places_B)]
        parts, start = [], 0
        while start < len(places_B):
            fits = [end for end in ends if start < end <= start + most]
            end = fits[-1] if fits else min(start + most, len(places_B))
            parts.append(places_B[start:end])
            start = end
        return parts
