"""ItemKNN: each item that a user has chosen votes for the items most like it (Sarwar and others, WWW 2001). Knows no order.

    score_i = Σ_{j chosen} s_ji,   s_ji = similarity of the columns j and i of X if i is among the K most like j, else 0

The neighbours come from ``implicit``; once found they are two tables, and scoring needs no library.
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

CLASSES = {"cosine": "CosineRecommender", "tf-idf": "TFIDFRecommender", "bm25": "BM25Recommender"}


@final
class ItemKNN(Collaborative):
    """The K neighbours of each item, and how like it they are; where it has fewer, the rest have similarity 0."""

    class Config(Recommender.Config):
        next_item: ClassVar[bool] = True
        counts: ClassVar[bool] = True
        kind: Literal["itemknn"] = "itemknn"
        history_length: int = Field(default=200, ge=1)
        "How many of the user's last behaviours are read."
        neighbours: int = Field(default=100, ge=2)
        "K, the item itself among them."
        similarity: Literal["cosine", "tf-idf", "bm25"] = "bm25"
        "Of the columns as they are, or weighted so that users with few choices, or items with few, matter more."

        def check(self, schema: Schema) -> None:
            require(self.kind)

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> Likes:
            return Likes("itemknn", ItemKNN(self, schema), extra)

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__(schema, config.history_length)
        self.config = config
        shape = self.n_items, min(config.neighbours, self.n_items)
        self.neighbours_MK: Tensor
        self.register_buffer("neighbours_MK", torch.zeros(shape, dtype=torch.int32))
        self.similarity_MK: Tensor
        self.register_buffer("similarity_MK", torch.zeros(shape))

    def learn(self, chosen_UM: csr_matrix, seed: int) -> None:
        """Nothing is drawn."""
        with implicit(self.config.kind) as library:
            made = getattr(library.nearest_neighbours, CLASSES[self.config.similarity])
            found = made(K=self.neighbours_MK.shape[1], num_threads=1)
            found.fit(chosen_UM, show_progress=False)
        similar = found.similarity.tocsr()
        similar.sort_indices()
        row_E = np.repeat(np.arange(self.n_items), np.diff(similar.indptr))
        place_E = np.arange(similar.nnz) - similar.indptr[row_E]
        self.neighbours_MK[row_E, place_E] = torch.from_numpy(similar.indices.astype(np.int32))
        self.similarity_MK[row_E, place_E] = torch.from_numpy(similar.data.astype(np.float32))

    def of_all(self, chosen: Chosen) -> Float[Tensor, "B M"]:
        score_BM = self.similarity_MK.new_zeros(len(chosen.user_B), self.n_items)
        for k in range(self.neighbours_MK.shape[1]):
            similarity_BH = self.similarity_MK[:, k][chosen.items_BH] * chosen.mask_BH
            score_BM.scatter_add_(1, self.neighbours_MK[:, k][chosen.items_BH].long(), similarity_BH)
        return score_BM

    def of_one(self, chosen: Chosen, item_B: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        score_B = self.similarity_MK.new_zeros(len(item_B))
        for k in range(self.neighbours_MK.shape[1]):
            hit_BH = chosen.mask_BH & (self.neighbours_MK[:, k][chosen.items_BH] == item_B[:, None])
            score_B += (self.similarity_MK[:, k][chosen.items_BH] * hit_BH).sum(dim=1)
        return score_B
