"""EASE: every item is a weighted sum of the others, by ridge regression in closed form (Steck, WWW 2019). Knows no order.

    min_B ‖X − X B‖² + λ‖B‖²  with diag(B) = 0   gives   B = I − P · diag(1 / diag(P)),   P = (XᵀX + λI)⁻¹

X has a 1 for each choice of a user. The score of item i for a user with choices x is (x B)_i.
"""

from typing import ClassVar, Literal, final

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from scipy import linalg
from scipy.sparse import csr_matrix
from torch import Tensor

from lifelora.conventional.base import ExtraFields, Recommender
from lifelora.conventional.collaborative import Chosen, Collaborative, Likes
from lifelora.data.dataset import Schema
from lifelora.errors import ConfigError


@final
class EASE(Collaborative):
    """B, of items by items."""

    class Config(Recommender.Config):
        next_item: ClassVar[bool] = True
        counts: ClassVar[bool] = True
        kind: Literal["ease"] = "ease"
        history_length: int = Field(default=200, ge=1)
        "How many of the user's last behaviours are read."
        regularization: float = Field(default=200.0, gt=0)
        "λ: the larger, the smaller the weights between items."
        max_items: int = Field(default=10_000, ge=1)
        "A larger catalogue is refused: memory grows with its square, time with its cube."

        def check(self, schema: Schema) -> None:
            n = schema.n_items
            if n > self.max_items:
                raise ConfigError(
                    f"ease inverts a matrix of items by items: of {n:,} items it would take {2 * 8 * n * n / 2**30:,.1f} GiB of "
                    f"memory, and {4 * n * n / 2**30:,.1f} GiB of disk. model.max_items = {self.max_items:,}; raise it, leave "
                    "rare items out of the log, or choose 'itemknn' or 'als'."
                )

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> Likes:
            return Likes("ease", EASE(self, schema), extra)

    def __init__(self, config: Config, schema: Schema) -> None:
        config.check(schema)
        super().__init__(schema, config.history_length)
        self.config = config
        self.B_MM: Tensor
        self.register_buffer("B_MM", torch.zeros(self.n_items, self.n_items))

    def learn(self, chosen_UM: csr_matrix, seed: int) -> None:
        """Solve for B in float64; nothing is drawn."""
        gram_MM = (chosen_UM.T @ chosen_UM).toarray().astype(np.float64)
        np.fill_diagonal(gram_MM, gram_MM.diagonal() + self.config.regularization)
        P_MM = linalg.inv(gram_MM, overwrite_a=True, check_finite=False)
        P_MM /= -P_MM.diagonal()[None, :].copy()
        np.fill_diagonal(P_MM, 0.0)
        self.B_MM.copy_(torch.from_numpy(P_MM))

    def of_all(self, chosen: Chosen) -> Float[Tensor, "B M"]:
        x_BM = self.B_MM.new_zeros(len(chosen.user_B), self.n_items)
        x_BM.scatter_add_(1, chosen.items_BH, chosen.mask_BH.to(x_BM.dtype))
        return x_BM @ self.B_MM

    def of_one(self, chosen: Chosen, item_B: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        known_B = item_B < self.n_items
        weight_BH = self.B_MM[chosen.items_BH, torch.where(known_B, item_B, 0)[:, None]]
        return torch.where(known_B, (weight_BH * chosen.mask_BH).sum(dim=1), 0.0)
