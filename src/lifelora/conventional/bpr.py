"""BPR: factors that put what a user chose before what the user did not (Rendle and others, UAI 2009). Knows users by number.

    max Σ log σ(s_ui − s_uj) − λ(‖p‖² + ‖q‖²)  over drawn (u chose i, not j),   s_ui = p_u · q_i + b_i

Users keep the factors that their training events gave them: later events move nothing. One without training events, or who
came later, has the mean of all others.
"""

from typing import ClassVar, Literal, final

import numpy as np
import torch
from jaxtyping import Float, Int
from pydantic import Field
from scipy.sparse import csr_matrix
from torch import Tensor

from lifelora.conventional.base import ExtraFields, Recommender
from lifelora.conventional.collaborative import Chosen, Collaborative, Likes
from lifelora.conventional.library import implicit, require
from lifelora.data.dataset import Schema


@final
class BPR(Collaborative):
    """The factors of users and items; the last factor of an item is its b, and that of a user 1."""

    class Config(Recommender.Config):
        next_item: ClassVar[bool] = True
        counts: ClassVar[bool] = True
        kind: Literal["bpr"] = "bpr"
        factors: int = Field(default=64, ge=1)
        regularization: float = Field(default=0.01, ge=0)
        learning_rate: float = Field(default=0.01, gt=0)
        iterations: int = Field(default=100, ge=1)
        "Passes; each draws as many triples as there are choices."

        def check(self, schema: Schema) -> None:
            require(self.kind)

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> Likes:
            return Likes("bpr", BPR(self, schema), extra)

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__(schema, 0)
        self.config = config
        self.user_UF: Tensor
        self.register_buffer("user_UF", torch.zeros(self.n_users + 1, config.factors + 1))
        self.item_MF: Tensor
        self.register_buffer("item_MF", torch.zeros(self.n_items, config.factors + 1))

    def learn(self, chosen_UM: csr_matrix, seed: int) -> None:
        """Start and triples are drawn; with one thread the same seed gives the same factors."""
        config = self.config
        with implicit(config.kind) as library:
            model = library.cpu.bpr.BayesianPersonalizedRanking(
                factors=config.factors,
                regularization=config.regularization,
                learning_rate=config.learning_rate,
                iterations=config.iterations,
                num_threads=1,
                random_state=seed,
            )
            model.fit(chosen_UM, show_progress=False)
        active_U = np.diff(chosen_UM.indptr) > 0
        mean_F = model.user_factors[active_U].mean(axis=0)
        self.user_UF.copy_(torch.from_numpy(np.vstack([np.where(active_U[:, None], model.user_factors, mean_F), mean_F])))
        self.item_MF.copy_(torch.from_numpy(model.item_factors))

    def of_all(self, chosen: Chosen) -> Float[Tensor, "B M"]:
        return self.user_UF[chosen.user_B] @ self.item_MF.T

    def of_one(self, chosen: Chosen, item_B: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        known_B = item_B < self.n_items
        score_B = (self.user_UF[chosen.user_B] * self.item_MF[torch.where(known_B, item_B, 0)]).sum(dim=1)
        return torch.where(known_B, score_B, 0.0)
