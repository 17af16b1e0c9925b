"""ALS: weighted factors of the matrix of choices (Hu, Koren and Volinsky, ICDM 2008). Knows no order of events.

    min Σ_ui c_ui (x_ui − p_u · q_i)² + λ(Σ‖p‖² + Σ‖q‖²),   c = α where x = 1, and 1 elsewhere

``implicit`` finds the items' factors q. A user is folded in when asked: p solves the same problem for the visible history,

    p = (QᵀQ + (α − 1) Σ_{j chosen} q_j q_jᵀ + λI)⁻¹ α Σ_{j chosen} q_j,   score_i = p · q_i
"""

from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float, Int
from pydantic import Field
from scipy.sparse import csr_matrix
from torch import Tensor

from lifelora.conventional.base import ExtraFields, Recommender
from lifelora.conventional.collaborative import Chosen, Collaborative, Likes
from lifelora.conventional.library import implicit, require
from lifelora.data.dataset import Schema

ROWS = 256
"""Users that are folded in together."""


@final
class ALS(Collaborative):
    """The factors of items."""

    class Config(Recommender.Config):
        next_item: ClassVar[bool] = True
        counts: ClassVar[bool] = True
        kind: Literal["als"] = "als"
        history_length: int = Field(default=200, ge=1)
        "How many of the user's last behaviours are read."
        factors: int = Field(default=64, ge=1)
        regularization: float = Field(default=1.0, gt=0)
        alpha: float = Field(default=10.0, ge=1)
        "α: how much more a choice weighs than what was not chosen."
        iterations: int = Field(default=15, ge=1)

        def check(self, schema: Schema) -> None:
            require(self.kind)

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> Likes:
            return Likes("als", ALS(self, schema), extra)

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__(schema, config.history_length)
        self.config = config
        self.item_MF: Tensor
        self.register_buffer("item_MF", torch.zeros(self.n_items, config.factors))

    def learn(self, chosen_UM: csr_matrix, seed: int) -> None:
        """The start is drawn; with one thread the same seed gives the same factors."""
        config = self.config
        with implicit(config.kind) as library:
            model = library.cpu.als.AlternatingLeastSquares(
                factors=config.factors,
                regularization=config.regularization,
                alpha=config.alpha,
                iterations=config.iterations,
                num_threads=1,
                random_state=seed,
            )
            model.fit(chosen_UM, show_progress=False)
        self.item_MF.copy_(torch.from_numpy(model.item_factors))

    def of_all(self, chosen: Chosen) -> Float[Tensor, "B M"]:
        return self.folded_in(chosen) @ self.item_MF.T

    def of_one(self, chosen: Chosen, item_B: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        known_B = item_B < self.n_items
        score_B = (self.folded_in(chosen) * self.item_MF[torch.where(known_B, item_B, 0)]).sum(dim=1)
        return torch.where(known_B, score_B, 0.0)

    def folded_in(self, chosen: Chosen) -> Float[Tensor, "_ F"]:
        """p of each user, in float64."""
        q_MF, config = self.item_MF.double(), self.config
        same_FF = q_MF.T @ q_MF + config.regularization * torch.eye(config.factors, dtype=q_MF.dtype, device=q_MF.device)
        p_BF = q_MF.new_zeros(len(chosen.items_BH), config.factors)
        for start in range(0, len(p_BF), ROWS):
            some = slice(start, start + ROWS)
            q_BHF = q_MF[chosen.items_BH[some]] * chosen.mask_BH[some, :, None]
            own_BFF = same_FF + (config.alpha - 1) * (q_BHF.transpose(1, 2) @ q_BHF)
            p_BF[some] = torch.linalg.solve(own_BFF, config.alpha * q_BHF.sum(dim=1))
        return p_BF.float()
