"""DCN V2: layers that cross all fields with what was crossed before, and a DNN (Wang et al., WWW 2021).

Its representation is a *sample* state, of the user in front of this target: the last hidden layer of the DNN.
"""

from typing import Literal, final

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from lifelora.conventional.base import ExtraFields
from lifelora.conventional.inputs import Common, Neural
from lifelora.conventional.layers import mlp
from lifelora.data.dataset import Samples, Schema


@final
class DCNv2(Neural):
    """x_{l+1} = x_0 * (W_l x_l + b_l) + x_l, with x_0 the vectors of all fields side by side and W_l of full rank.

    Parallel: u = DNN(x_0), logit = w·[x_L ; u] + b. Stacked: u = DNN(x_L), logit = w·u + b. The last field is the mean
    of the past, (1/n) Σ_j h_j, which is zero without one.
    """

    class Config(Common):
        kind: Literal["dcnv2"] = "dcnv2"
        structure: Literal["parallel", "stacked"] = "parallel"
        "Whether the DNN stands beside the cross layers or on top of them."
        cross_layers: int = Field(default=3, ge=1)
        "L."
        hidden: int = Field(default=256, ge=1)
        "Width of the DNN, so of the representation."

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> "DCNv2":
            return DCNv2(self, schema, extra)

    target_aware = True
    one_past = True

    def __init__(self, config: Config, schema: Schema, extra: ExtraFields | None = None) -> None:
        super().__init__(config, schema, extra)
        self.config = config
        self.width = config.hidden
        X = (self.inputs.n_fields + 1) * config.embedding
        self.cross = nn.ModuleList(nn.Linear(X, X) for _ in range(config.cross_layers))
        self.dnn = mlp([X, *[config.hidden] * config.layers], config.dropout)
        self.out = nn.Linear(config.hidden + (X if config.structure == "parallel" else 0), 1)

    def logits(self, batch: Samples) -> Float[Tensor, "B"]:
        x_BX = self.represent_fields(batch)
        crossed_BX = self._crossed(x_BX)
        parallel = self.config.structure == "parallel"
        last_BZ = torch.cat([crossed_BX, self.dnn(x_BX)], dim=1) if parallel else self.dnn(crossed_BX)
        logit_B1: Tensor = self.out(last_BZ)
        return logit_B1.squeeze(1)

    def represent(self, batch: Samples) -> Float[Tensor, "B D"]:
        x_BX = self.represent_fields(batch)
        u_BD: Tensor = self.dnn(x_BX if self.config.structure == "parallel" else self._crossed(x_BX))
        return u_BD

    def represent_fields(self, batch: Samples) -> Float[Tensor, "B D"]:
        return self.inputs.fields_and_past(batch).flatten(1)

    def _crossed(self, start_BX: Tensor) -> Tensor:
        x_BX = start_BX
        for layer in self.cross:
            x_BX = torch.addcmul(x_BX, start_BX, layer(x_BX))
        return x_BX
