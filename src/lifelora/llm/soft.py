"""Soft tokens: vectors of a conventional model as inputs of the LM. Knows vectors, not their maker, and no words.

    W2 · GELU(W1 · c + b1) + b2        W1: D x E,   W2: D x D,   D the LM's width

(SPA of ReLLaX, arXiv 2501.13344; LLaRA, arXiv 2312.02445): one projector for past items and the target; c is frozen. The
user's vector (CoLLM, arXiv 2310.19488) has a projector of its own: it need be neither as wide as an item's nor in one space
with it. CoLLM, where both are factors of one matrix, has one for both.
"""

from typing import final

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lifelora.prompts.batch import USER


@final
class Projector(nn.Module):
    """A conventional model's vectors to the LM's width; Xavier-normal weights, zero biases."""

    def __init__(self, inputs: int, width: int) -> None:
        super().__init__()
        self.into, self.out = nn.Linear(inputs, width), nn.Linear(width, width)
        for linear in (self.into, self.out):
            nn.init.xavier_normal_(linear.weight)
            nn.init.zeros_(linear.bias)

    def forward(self, c_NE: Float[Tensor, "N E"]) -> Float[Tensor, "N D"]:
        vectors_ND: Tensor = self.out(F.gelu(self.into(c_NE)))
        return vectors_ND


@final
class SoftTokens(nn.Module):
    """Items and users as vectors of the LM's width, each where there are any; only the projectors learn."""

    def __init__(self, width: int, vectors_ME: Float[Tensor, "M E"] | None = None, user_width: int | None = None) -> None:
        super().__init__()
        # Not saved with what was learnt: they are the conventional model's.
        self.register_buffer("vectors_ME", None if vectors_ME is None else vectors_ME.detach().clone().float(), persistent=False)
        self.vectors_ME: Tensor | None
        self.item = None if vectors_ME is None else Projector(vectors_ME.shape[1], width)
        self.user = None if user_width is None else Projector(user_width, width)

    def embed(
        self, embedding: nn.Module, tokens_BL: Int[Tensor, "B L"], soft_BL: Int[Tensor, "B L"],
        user_BX: Float[Tensor, "B X"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """The LM's word embeddings, but where ``soft`` names an item or the row's user (once a row) that one's vector."""
        embedded_BLD: Tensor = embedding(tokens_BL)
        if self.item is not None and self.vectors_ME is not None:
            where_BL = soft_BL >= 0
            items_ND = self.item(self.vectors_ME[soft_BL[where_BL]])
            embedded_BLD = embedded_BLD.masked_scatter(where_BL[..., None], items_ND.to(embedded_BLD.dtype))
        if self.user is not None:
            assert user_BX is not None
            users_BD = self.user(user_BX)
            embedded_BLD = embedded_BLD.masked_scatter((soft_BL == USER)[..., None], users_BD.to(embedded_BLD.dtype))
        return embedded_BLD
