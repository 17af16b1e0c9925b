"""AutoInt: fields look at one another by self-attention, layer by layer (Song et al., CIKM 2019).

Its representation is a *sample* state, of the user in front of this target: all fields' final states side by side, or,
where a DNN stands beside the attention, the last hidden layer of that DNN.
"""

from typing import Literal, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from lifelora.conventional.base import ExtraFields
from lifelora.conventional.inputs import Common, Neural
from lifelora.conventional.layers import mlp
from lifelora.data.dataset import Samples, Schema


class Interacting(nn.Module):
    """x'_m = ReLU([… ; Σ_k a_mk V x_k ; …] + R x_m) over the heads, each with a_m = softmax_k <Q x_m, K x_k>.

    As in the paper, the inner products are not divided by the root of their width, and there are no biases and norms.
    """

    def __init__(self, ins: int, outs: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.project = nn.Linear(ins, 4 * outs, bias=False)  # Q, K, V and R of all heads, in one product
        self.drop = nn.Dropout(dropout)

    def forward(self, x_BFI: Tensor) -> Tensor:
        """The fields' new states."""
        B, fields, ins = x_BFI.shape
        if self.heads == 1:  # <Q x_m, K x_k> = <K^T Q x_m, x_k>, which saves one of four products
            Q, K, V, R = self.project.weight.chunk(4)
            projected = F.linear(x_BFI, torch.cat([K.T @ Q, V, R]))
            query, value, own = projected.split_with_sizes([ins, len(V), len(V)], dim=2)
            a_BFF = self.drop(torch.softmax(query @ x_BFI.transpose(1, 2), dim=2))
            return F.relu(torch.baddbmm(own, a_BFF, value))
        projected = self.project(x_BFI).view(B, fields, 4, self.heads, -1)
        query, key, value, own = projected.transpose(1, 3).unbind(2)
        a_BNFF = self.drop(torch.softmax(query @ key.transpose(2, 3), dim=3))
        return F.relu((a_BNFF @ value + own).transpose(1, 2).flatten(2))


@final
class AutoInt(Neural):
    """logit = w·[x'_1 ; … ; x'_F] + b, with x' the fields' states after all layers of attention (see ``Interacting``).

    x_f are the vectors of the fields, the last of them the mean of the past, x_F = (1/n) Σ_j h_j, which is zero without
    one. With ``structure = "parallel"`` (the paper's AutoInt+) w'·DNN([x_1 ; … ; x_F]) is added to the logit.
    """

    class Config(Common):
        kind: Literal["autoint"] = "autoint"
        structure: Literal["attention", "parallel"] = "attention"
        "Attention alone, or a DNN beside it."
        attention_hidden: int = Field(default=64, ge=1)
        "Width of a field's state after a layer of attention, over all heads."
        attention_layers: int = Field(default=3, ge=1)
        heads: int = Field(default=1, ge=1)
        hidden: int = Field(default=256, ge=1)
        'Width of the DNN, so of the representation where there is one (structure "parallel").'
        layers: int = Field(default=3, ge=1)
        "Hidden layers of the DNN, where there is one."
        dropout: float = Field(default=0.1, ge=0, lt=1)
        "On the weights of attention, and after every hidden layer of the DNN."

        @model_validator(mode="after")
        def _heads_divide(self) -> "AutoInt.Config":
            if self.attention_hidden % self.heads:
                raise ValueError(f"attention_hidden = {self.attention_hidden} is not a multiple of heads = {self.heads}")
            return self

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> "AutoInt":
            return AutoInt(self, schema, extra)

    target_aware = True
    one_past = True

    def __init__(self, config: Config, schema: Schema, extra: ExtraFields | None = None) -> None:
        super().__init__(config, schema, extra)
        E, A = config.embedding, config.attention_hidden
        self.config = config
        self.attention = nn.Sequential(
            *(Interacting(ins, A, config.heads, config.dropout) for ins in [E, *[A] * (config.attention_layers - 1)])
        )
        fields = self.inputs.n_fields + 1
        self.out = nn.Linear(fields * A, 1)
        if config.structure == "parallel":
            self.dnn = mlp([fields * E, *[config.hidden] * config.layers], config.dropout)
            self.out_of_dnn = nn.Linear(config.hidden, 1, bias=False)
        self.width = config.hidden if config.structure == "parallel" else fields * A

    def logits(self, batch: Samples) -> Float[Tensor, "B"]:
        x_BFE = self.inputs.fields_and_past(batch)
        logit_B1: Tensor = self.out(self.attention(x_BFE).flatten(1))
        if self.config.structure == "parallel":
            logit_B1 = logit_B1 + self.out_of_dnn(self.dnn(x_BFE.flatten(1)))
        return logit_B1.squeeze(1)

    def represent(self, batch: Samples) -> Float[Tensor, "B D"]:
        x_BFE = self.inputs.fields_and_past(batch)
        parallel = self.config.structure == "parallel"
        u_BD: Tensor = self.dnn(x_BFE.flatten(1)) if parallel else self.attention(x_BFE).flatten(1)
        return u_BD

    def represent_fields(self, batch: Samples) -> Float[Tensor, "B D"]:
        return self.inputs.fields_and_past(batch).flatten(1)
