"""Soft tokens: item vectors of a conventional model as inputs of the LM. Knows vectors, not their maker, and no prompt.

    W2 · GELU(W1 · c_i + b1) + b2        W1: D x E,   W2: D x D,   D the LM's width

(SPA of ReLLaX, arXiv 2501.13344; LLaRA, arXiv 2312.02445): one projector for past items and the target; c_i is frozen.
"""

from typing import final

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


@final
class SoftTokens(nn.Module):
    """Item numbers to vectors of the LM's width; only the projector learns."""

    def __init__(self, vectors_ME: Float[Tensor, "M E"], width: int) -> None:
        super().__init__()
        # Not saved with what was learnt: they are the conventional model's.
        self.register_buffer("vectors_ME", vectors_ME.detach().clone().float(), persistent=False)
        self.vectors_ME: Tensor
        self.into, self.out = nn.Linear(vectors_ME.shape[1], width), nn.Linear(width, width)
        for linear in (self.into, self.out):
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, item_N: Int[Tensor, "N"]) -> Float[Tensor, "N D"]:
        """One vector per item."""
        vectors_ND: Tensor = self.out(F.gelu(self.into(self.vectors_ME[item_N])))
        return vectors_ND

    def embed(self, embedding: nn.Module, tokens_BL: Int[Tensor, "B L"], soft_BL: Int[Tensor, "B L"]) -> Float[Tensor, "B L D"]:
        """The LM's word embeddings, and in the places where ``soft`` names an item (is not -1) that item's vector."""
        words_BLD: Tensor = embedding(tokens_BL)
        where_BL = soft_BL >= 0
        return words_BLD.masked_scatter(where_BL[..., None], self(soft_BL[where_BL]).to(words_BLD.dtype))
