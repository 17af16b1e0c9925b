"""SASRec: causal self-attention over a user's past (Kang and McAuley, ICDM 2018), with a click-through head.

Its representation is a *user* state: it does not depend on the target, so all candidates of a user share it.
"""

from typing import ClassVar, Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from lifelora.conventional.base import ExtraFields
from lifelora.conventional.inputs import Common, Neural
from lifelora.conventional.layers import meet, mlp
from lifelora.data.dataset import Samples, Schema


class Block(nn.Module):
    """x + Attention(LN x), then x + FFN(LN x): each behaviour sees itself and what came before it."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_ffn = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query, self.join = nn.Linear(width, width), nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.ffn = nn.Sequential(nn.Linear(width, 4 * width), nn.ReLU(), nn.Linear(4 * width, width))
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BHE: Tensor, seen_BHH: Tensor, last: int) -> Tensor:
        """States of the ``last`` most recent positions; ``seen`` says which positions each may look at."""
        B, H, E = x_BHE.shape
        y_BHE = self.before_attention(x_BHE)
        key, value = self.key_value(y_BHE).view(B, H, 2, self.heads, -1).permute(2, 0, 3, 1, 4)
        query = self.query(y_BHE[:, -last:]).view(B, last, self.heads, -1).transpose(1, 2)
        read = F.scaled_dot_product_attention(query, key, value, attn_mask=seen_BHH[:, None, -last:])
        x_BHE = x_BHE[:, -last:] + self.drop(self.join(read.transpose(1, 2).reshape(B, last, E)))
        out_BHE: Tensor = x_BHE + self.drop(self.ffn(self.before_ffn(x_BHE)))
        return out_BHE


@final
class SASRec(Neural):
    """x_j = ReLU(W [item_j ; rating_j]) + position_j;  u = the last position's state;  logit = DNN([fields ; u ; u*t]).

    t is the target's vector. Positions count back from the present, and padding is never looked at, so neither the
    amount nor the content of padding matters; a user without a past has the learned state ``nobody``.
    """

    class Config(Common):
        next_item: ClassVar[bool] = True
        kind: Literal["sasrec"] = "sasrec"
        history_length: int = Field(default=50, ge=1)
        embedding: int = Field(default=64, ge=1)
        "E: width of the vectors of items, ratings and fields, and of the representation."
        blocks: int = Field(default=1, ge=1)
        heads: int = Field(default=2, ge=1)
        dropout: float = Field(default=0.1, ge=0, lt=1)
        "After every hidden layer of the DNN and inside the blocks."

        @model_validator(mode="after")
        def _heads_divide(self) -> "SASRec.Config":
            if self.embedding % self.heads:
                raise ValueError(f"embedding = {self.embedding} is not a multiple of heads = {self.heads}")
            return self

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> "SASRec":
            return SASRec(self, schema, extra)

    target_aware = False
    one_past = True

    def __init__(self, config: Config, schema: Schema, extra: ExtraFields | None = None) -> None:
        super().__init__(config, schema, extra)
        E = config.embedding
        self.width = E
        self.position_HE = nn.Parameter(torch.empty(config.history_length, E).normal_(std=config.init_std))
        self.nobody_E = nn.Parameter(torch.zeros(E))
        self.blocks = nn.ModuleList(Block(E, config.heads, config.dropout) for _ in range(config.blocks))
        self.norm = nn.LayerNorm(E)
        self.dnn = mlp([(self.inputs.n_fields + 2) * E, *[config.hidden] * config.layers], config.dropout)
        self.out = nn.Linear(config.hidden, 1)

    def logits(self, batch: Samples) -> Float[Tensor, "B"]:
        logit_B1: Tensor = self.out(self.dnn(self.represent_fields(batch)))
        return logit_B1.squeeze(1)

    def represent(self, batch: Samples) -> Float[Tensor, "B D"]:
        H = min(batch.mask_BH.shape[1], self.history_length)
        mask_BH = batch.mask_BH[:, -H:]
        h_BHE = self.inputs.joined(batch.history_BH[:, -H:], batch.rating_BH[:, -H:], mask_BH)
        x_BHE = self.inputs.drop(torch.where(mask_BH[..., None], h_BHE + self.position_HE[-H:], self.nobody_E))
        # Every position sees itself, padding too: a softmax over nothing would be nan. No other position sees padding.
        itself_HH = torch.eye(H, dtype=torch.bool, device=mask_BH.device)
        seen_BHH = torch.ones_like(itself_HH).tril() & mask_BH[:, None] | itself_HH
        for number, block in enumerate(self.blocks, start=1):
            # Only the last position's state is wanted of the last block.
            x_BHE = block(x_BHE, seen_BHH, last=1 if number == len(self.blocks) else H)
        u_BE: Tensor = self.norm(x_BHE[:, -1])
        return u_BE

    def represent_fields(self, batch: Samples) -> Float[Tensor, "B D"]:
        return meet(*self.inputs.fields(batch), self.represent(batch))
