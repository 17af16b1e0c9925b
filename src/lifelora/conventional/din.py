"""DIN: the target asks the history, behaviour by behaviour (Zhou et al., KDD 2018; the form of ReLLa's study).

Its representation is a *sample* state: of the user in front of this target.
"""

from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from lifelora.conventional.base import ExtraFields
from lifelora.conventional.inputs import Common, Neural
from lifelora.conventional.layers import mlp
from lifelora.data.dataset import Samples, Schema


@final
class DIN(Neural):
    """h_j = ReLU(W [item_j ; rating_j]);  a_j = MLP([t ; h_j ; t - h_j ; t*h_j]);  u = DNN([fields ; Σ_j a_j h_j]).

    The logit is w·u + b and t the target's vector. The a_j are masked and not normalised (no softmax), so the pooled
    vector grows with how much of the past is relevant; without a history it is zero.
    """

    class Config(Common):
        kind: Literal["din"] = "din"
        hidden: int = Field(default=256, ge=1)
        "Width of the DNN, so of the representation."
        attention_hidden: int = Field(default=64, ge=1)
        "Width of the MLP that weighs a behaviour; the authors of ReLLa, ReLLaX and RecLoRA take 256."
        attention_layers: int = Field(default=1, ge=1)
        "Its hidden layers."
        attention_dropout: float = Field(default=0.0, ge=0, lt=1)
        "After each of them; the same authors take 0.1."

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> "DIN":
            return DIN(self, schema, extra)

    target_aware = True
    one_past = True

    def __init__(self, config: Config, schema: Schema, extra: ExtraFields | None = None) -> None:
        super().__init__(config, schema, extra)
        E, A = config.embedding, config.attention_hidden
        self.config = config
        self.width = config.hidden
        self.ask = nn.Linear(4 * E, A)
        self.attention = nn.Sequential(mlp([A] * config.attention_layers, config.attention_dropout), nn.Linear(A, 1))
        self.dnn = mlp([(self.inputs.n_fields + 1) * E, *[config.hidden] * config.layers], config.dropout)
        self.out = nn.Linear(config.hidden, 1)

    def logits(self, batch: Samples) -> Float[Tensor, "B"]:
        logit_B1: Tensor = self.out(self.represent(batch))
        return logit_B1.squeeze(1)

    def represent(self, batch: Samples) -> Float[Tensor, "B D"]:
        u_BD: Tensor = self.dnn(self.represent_fields(batch))
        return u_BD

    def represent_fields(self, batch: Samples) -> Float[Tensor, "B D"]:
        user_BX, item_BY = self.inputs.fields(batch)
        h_BHE = self.inputs.past(batch.history_BH, batch.rating_BH, batch.mask_BH)
        pooled_BE = self._pool(item_BY[:, : self.config.embedding], h_BHE)
        return torch.cat([user_BX, item_BY, pooled_BE], dim=1)

    def _pool(self, t_BE: Tensor, h_BHE: Tensor) -> Tensor:
        # W [t; h; t-h; t*h] = (W1 + W3) t + (W2 - W3) h + W4 (t*h): half the work, and t's part once per sample.
        W1, W2, W3, W4 = self.ask.weight.chunk(4, dim=1)
        if len(h_BHE) < len(t_BE):  # one past for all: W4 (t*h) = (W4*h) t, and all is one product of the targets with a matrix
            weight_HAE = W4 * h_BHE[0][:, None] + (W1 + W3)
            of_past_HA = F.linear(h_BHE[0], W2 - W3, self.ask.bias)
            asked_BHA = F.linear(t_BE, weight_HAE.flatten(0, 1), of_past_HA.flatten()).view(-1, *of_past_HA.shape).relu_()
            h_BHE = h_BHE.expand(len(t_BE), -1, -1)
        else:
            of_target_BA = F.linear(t_BE, W1 + W3, self.ask.bias)
            pairs_BHF = torch.cat([h_BHE, t_BE[:, None] * h_BHE], dim=2)
            asked_BHA = F.relu(F.linear(pairs_BHF, torch.cat([W2 - W3, W4], dim=1)) + of_target_BA[:, None])
        asked_BHA = F.dropout(asked_BHA, self.config.attention_dropout, self.training)
        a_BH = self.attention(asked_BHA).squeeze(-1)  # and h_j is zero where there is no behaviour
        return torch.bmm(a_BH[:, None], h_BHE).squeeze(1)
