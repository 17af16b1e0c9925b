"""Soft tokens: vectors of a conventional model as inputs of the LM. Knows vectors, not their maker, and no words.

    spa      W2 · GELU(W1 · c + b1) + b2        W1: D x E,    W2: D x D,     D the LM's width
    collm    W2 · ReLU(W1 · c + b1) + b2        W1: 10E x E,  W2: D x 10E

``spa`` is SPA's of ReLLaX (arXiv 2501.13344) and LLaRA's (arXiv 2312.02445): one projector for past items and the target.
A user's vector has another of this form, for it need be neither as wide as an item's nor in one space with it. ``collm`` is
that of CoLLM (arXiv 2310.19488): one for users and items alike. c is frozen.
"""

from typing import Literal, final

import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.prompts.slots import USER

Form = Literal["spa", "collm"]
"""Of a projector, and whether users have one of their own."""


@final
class Projector(nn.Module):
    """A conventional model's vectors to the LM's width.

    It starts as ``nn.Linear`` does. So do the released ones: ReLLaX's code has a Xavier-normal start that it hands the whole
    projector to, and that looks at linear layers alone.
    """

    def __init__(self, inputs: int, width: int, form: Form = "spa") -> None:
        super().__init__()
        hidden = width if form == "spa" else 10 * inputs
        self.into, self.out = nn.Linear(inputs, hidden), nn.Linear(hidden, width)
        self.bend = F.gelu if form == "spa" else F.relu

    def forward(self, c_NE: Float[Tensor, "N E"]) -> Float[Tensor, "N D"]:
        vectors_ND: Tensor = self.out(self.bend(self.into(c_NE)))
        return vectors_ND


@final
class SoftTokens(nn.Module):
    """Items and users as vectors of the LM's width, each where there are any; only the projectors learn."""

    def __init__(
        self,
        width: int,
        vectors_ME: Float[Tensor, "M E"] | None = None,
        user_width: int | None = None,
        form: Form = "spa",
    ) -> None:
        """Raises ConfigError for a projector of both where their vectors are not equally wide."""
        super().__init__()
        # Not saved with what was learnt: they are the conventional model's.
        # The last is that of items that came later: zeros.
        padded = None if vectors_ME is None else F.pad(vectors_ME.detach().float(), (0, 0, 0, 1))
        self.register_buffer("vectors_ME", padded, persistent=False)
        self.vectors_ME: Tensor | None
        item_width = None if vectors_ME is None else vectors_ME.shape[1]
        self.users, shared = user_width is not None, form == "collm" and item_width is not None
        if shared and user_width not in (None, item_width):
            raise ConfigError(
                f"soft.projector = 'collm' serves users and items, but the conventional model's users are "
                f"{user_width} wide and its items {item_width}; take as soft.model one where they are equally wide "
                "(sasrec), or soft.projector = 'spa'."
            )
        self.item = None if item_width is None else Projector(item_width, width, form)
        self.user = None if user_width is None or shared else Projector(user_width, width, form)

    def embed(
        self,
        embedding: nn.Module,
        tokens_BL: Int[Tensor, "B L"],
        soft_BL: Int[Tensor, "B L"],
        user_BX: Float[Tensor, "_ X"] | None = None,
    ) -> Float[Tensor, "B L D"]:
        """The LM's word embeddings, but where ``soft`` names an item or a user that one's vector; users stand once each, in
        their order.
        """
        embedded_BLD: Tensor = embedding(tokens_BL)
        if self.item is not None and self.vectors_ME is not None:
            where_BL = soft_BL >= 0
            items_ND = self.item(self.vectors_ME[soft_BL[where_BL].clamp(max=len(self.vectors_ME) - 1)])
            embedded_BLD = embedded_BLD.masked_scatter(where_BL[..., None], items_ND.to(embedded_BLD.dtype))
        if self.users:
            project = self.user or self.item
            assert user_BX is not None
            assert project is not None
            users_BD = project(user_BX)
            embedded_BLD = embedded_BLD.masked_scatter((soft_BL == USER)[..., None], users_BD.to(embedded_BLD.dtype))
        return embedded_BLD
