"""GRU4Rec: a recurrent network reads a user's past (Hidasi et al., ICLR 2016), with a click-through head.

Its representation is a *user* state: it does not depend on the target, so all candidates of a user share it.
"""

from typing import ClassVar, Literal, final

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from lifelora.conventional.base import ExtraFields
from lifelora.conventional.inputs import Common, Neural
from lifelora.conventional.layers import meet, mlp
from lifelora.data.dataset import Samples, Schema


@final
class GRU4Rec(Neural):
    """s_j = GRU(h_j, s_{j-1}) from s_0 = 0;  u = s_n, the state after the last behaviour;  logit = DNN([fields ; u ; u*t]).

    A step is r = σ(W_r h + U_r s), z = σ(W_z h + U_z s), ŝ = tanh(W h + r*(U s)), s' = (1 - z)*ŝ + z*s, all with biases
    (torch's form, where z keeps; in the paper it renews). h_j = ReLU(W [item_j ; rating_j]) and t is the target's
    vector. Padding is never read; a user without a past has the state zero.
    """

    class Config(Common):
        next_item: ClassVar[bool] = True
        kind: Literal["gru4rec"] = "gru4rec"
        embedding: int = Field(default=64, ge=1)
        "E: width of the vectors of items, ratings and fields, of the state, and so of the representation."
        gru_layers: int = Field(default=1, ge=1)
        "Recurrent layers, each reading the states of the one below."
        dropout: float = Field(default=0.1, ge=0, lt=1)
        "After every hidden layer of the DNN and between recurrent layers."

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> "GRU4Rec":
            return GRU4Rec(self, schema, extra)

    target_aware = False
    one_past = True

    def __init__(self, config: Config, schema: Schema, extra: ExtraFields | None = None) -> None:
        super().__init__(config, schema, extra)
        E = config.embedding
        self.width = E
        self.gru = nn.GRU(E, E, config.gru_layers, dropout=config.dropout if config.gru_layers > 1 else 0.0)
        self.dnn = mlp([(self.inputs.n_fields + 2) * E, *[config.hidden] * config.layers], config.dropout)
        self.out = nn.Linear(config.hidden, 1)

    def logits(self, batch: Samples) -> Float[Tensor, "B"]:
        logit_B1: Tensor = self.out(self.dnn(self.represent_fields(batch)))
        return logit_B1.squeeze(1)

    def represent(self, batch: Samples) -> Float[Tensor, "B D"]:
        # Padding is moved behind the past, where no state that is read has seen it: so the network runs without a mask,
        # and time first, which is how torch computes it (packing costs several times as much on a CPU).
        mask_BH, order_BH = batch.mask_BH.byte().sort(dim=1, descending=True, stable=True)
        past_HB, rating_HB = batch.history_BH.gather(1, order_BH).T, batch.rating_BH.gather(1, order_BH).T
        state_HBE: Tensor = self.gru(self.inputs.past(past_HB, rating_HB, mask_BH.T.bool()))[0]
        count_B = batch.mask_BH.sum(dim=1)
        last_1BE = (count_B - 1).clamp(min=0)[None, :, None].expand(1, -1, self.width)
        return torch.where(count_B[:, None] > 0, state_HBE.gather(0, last_1BE).squeeze(0), 0)

    def represent_fields(self, batch: Samples) -> Float[Tensor, "B D"]:
        return meet(*self.inputs.fields(batch), self.represent(batch))
