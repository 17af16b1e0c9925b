"""Vectors made shorter by PCA, so that what most of them share no longer hides how they differ. Knows nothing of their origin.

    v_i = P (x_i - centre)

(ReLLa, section 3.2).
"""

from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from lifelora.errors import ConfigError

BLOCK = 4096


@final
@dataclass(frozen=True)
class PCA:
    """What was learnt of some vectors, to shorten others in the same way."""

    centre_D: Float64[Tensor, "D"]
    directions_DE: Float64[Tensor, "D E"]

    @classmethod
    def learnt(cls, states_MD: Float[Tensor, "M D"], dimensions: int, learnt_from_M: Bool[Tensor, "M"] | None = None) -> "PCA":
        """The centre and the first ``dimensions`` principal directions of the rows that are not zero.

        The directions are the eigenvectors of Xᵀ X with the largest eigenvalues, in float64, each with the sign that makes
        its largest entry positive. With ``dimensions >= D`` PCA would only rotate, which no similarity sees, so it is left out.
        Both come from the rows ``learnt_from_M`` alone where it is given: those that training may see.
        """
        known_M = states_MD.abs().sum(dim=1) > 0
        learnt_M = known_M if learnt_from_M is None else known_M & learnt_from_M
        if known_M.any() and not learnt_M.any():
            raise ConfigError("none of the vectors that PCA may learn from has words; remove dimensions.")
        width = states_MD.shape[1]
        centre_D = states_MD[learnt_M].double().mean(dim=0) if learnt_M.any() else torch.zeros(width, dtype=torch.float64)
        directions_DE = torch.eye(width, dtype=torch.float64)
        if dimensions < width:
            scatter_DD = torch.zeros(width, width, dtype=torch.float64)
            for block_ND in torch.split(states_MD[learnt_M], BLOCK):
                centred_ND = block_ND.double() - centre_D
                scatter_DD += centred_ND.T @ centred_ND
            directions_DE = torch.linalg.eigh(scatter_DD).eigenvectors.flip(1)[:, :dimensions]
            largest_1E = directions_DE.abs().argmax(dim=0, keepdim=True)
            directions_DE = directions_DE * directions_DE.gather(0, largest_1E).sign()
        return cls(centre_D, directions_DE)

    def of(self, states_MD: Float[Tensor, "M D"]) -> Float[Tensor, "M E"]:
        """Shorter vectors; zero rows stay zero."""
        reduced_ME = torch.zeros(len(states_MD), self.directions_DE.shape[1])
        known_M = states_MD.abs().sum(dim=1) > 0
        for places_N in torch.split(known_M.nonzero()[:, 0], BLOCK):
            projected_NE = (states_MD[places_N].double() - self.centre_D) @ self.directions_DE
            # An item at the very centre has no direction: its rounding noise must not be taken for one.
            noise = 1e-6 * states_MD[places_N].double().norm(dim=1, keepdim=True)
            reduced_ME[places_N] = torch.where(projected_NE.norm(dim=1, keepdim=True) > noise, projected_NE, 0).float()
        return reduced_ME


def reduced(
    states_MD: Float[Tensor, "M D"], dimensions: int | None, learnt_from_M: Bool[Tensor, "M"] | None = None
) -> Float[Tensor, "M E"]:
    """Vectors shortened by what is learnt of themselves, as of ``PCA.learnt``; as they are with None."""
    return states_MD if dimensions is None else PCA.learnt(states_MD, dimensions, learnt_from_M).of(states_MD)
