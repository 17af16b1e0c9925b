"""Caser: convolutions over the picture that the last behaviours make (Tang and Wang, WSDM 2018), with a click-through head.

Its representation is a *user* state: it does not depend on the target, so all candidates of a user share it.
"""

from typing import ClassVar, Literal, cast, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from lifelora.conventional.base import ExtraFields
from lifelora.conventional.inputs import Common, Neural
from lifelora.conventional.layers import meet, mlp
from lifelora.data.dataset import Samples, Schema


class Horizontal(nn.Module):
    """o_k = max_i ReLU(<F_k, S_{i:i+N}> + b_k): filters of the heights N = 1, 2, …, so many (``each``) of every height."""

    def __init__(self, width: int, heights: int, each: int) -> None:
        super().__init__()
        self.each = each
        self.filters = nn.ModuleList(nn.Conv1d(width, each, height, bias=False) for height in range(1, heights + 1))
        self.bias_K = nn.Parameter(torch.zeros(heights * each))

    def forward(self, picture_BEL: Tensor) -> Tensor:
        """What every filter sees at its best place, by height."""
        filters, L = cast("list[nn.Conv1d]", self.filters), picture_BEL.shape[2]
        beyond = len(filters) - 1
        # All heights in one convolution, which takes two thirds of the time of one each: lower filters are filled up with
        # zeros, and the picture as far as the highest sticks out. A filter of height 1 + i has L - i places.
        weight = torch.cat([F.pad(one.weight, (0, beyond - i)) for i, one in enumerate(filters)])
        seen_BKL = F.conv1d(F.pad(picture_BEL, (0, beyond)), weight, self.bias_K)
        best = [seen_BKL[:, i * self.each : (i + 1) * self.each, : L - i].amax(dim=2) for i in range(len(filters))]
        return F.relu(torch.cat(best, dim=1))  # the ReLU of the maximum is the maximum of the ReLUs


@final
class Caser(Neural):
    """u = ReLU(W [o ; õ] + b);  logit = DNN([fields ; u ; u*t]), t the target's vector.

    The picture S has L rows, h_j = ReLU(W' [item_j ; rating_j]) of the last L behaviours, zero where there are fewer.
    Horizontal filters see some behaviours in a row, wherever they stand (o, see ``Horizontal``); vertical ones weigh
    behaviours by their place, feature by feature: õ_k = Σ_l G_kl S_l. The paper's vector of the user's id is left out here
    as everywhere; with ``user_id`` it is one of the fields.
    """

    class Config(Common):
        next_item: ClassVar[bool] = True
        kind: Literal["caser"] = "caser"
        history_length: int = Field(default=30, ge=1)
        "L."
        embedding: int = Field(default=64, ge=1)
        "E: width of the vectors of items, ratings and fields, and of the representation."
        heights: int = Field(default=5, ge=1)
        "Horizontal filters are 1, 2, … so many behaviours high (up to L in the paper, whose L is 5)."
        horizontal: int = Field(default=8, ge=1)
        "Horizontal filters of each height."
        vertical: int = Field(default=4, ge=1)
        "Vertical filters."
        dropout: float = Field(default=0.1, ge=0, lt=1)
        "After every hidden layer of the DNN and on [o ; õ]."

        @model_validator(mode="after")
        def _filters_fit(self) -> "Caser.Config":
            if self.heights > self.history_length:
                raise ValueError(
                    f"heights = {self.heights} is more than the history_length = {self.history_length} behaviours that it sees"
                )
            return self

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> "Caser":
            return Caser(self, schema, extra)

    target_aware = False
    one_past = True

    def __init__(self, config: Config, schema: Schema, extra: ExtraFields | None = None) -> None:
        super().__init__(config, schema, extra)
        E = config.embedding
        self.width = E
        self.horizontal = Horizontal(E, config.heights, config.horizontal)
        self.vertical = nn.Linear(config.history_length, config.vertical, bias=False)
        self.join = nn.Linear(config.heights * config.horizontal + E * config.vertical, E)
        self.dnn = mlp([(self.inputs.n_fields + 2) * E, *[config.hidden] * config.layers], config.dropout)
        self.out = nn.Linear(config.hidden, 1)
        self.drop_seen = nn.Dropout(config.dropout)

    def logits(self, batch: Samples) -> Float[Tensor, "B"]:
        logit_B1: Tensor = self.out(self.dnn(self.represent_fields(batch)))
        return logit_B1.squeeze(1)

    def represent(self, batch: Samples) -> Float[Tensor, "B D"]:
        L = self.history_length
        past_BH = batch.history_BH[:, -L:], batch.rating_BH[:, -L:], batch.mask_BH[:, -L:]
        h_BHE = self.inputs.past(*past_BH)
        picture_BEL = F.pad(h_BHE.transpose(1, 2), (L - h_BHE.shape[1], 0))
        seen_BX = torch.cat([self.horizontal(picture_BEL), self.vertical(picture_BEL).flatten(1)], dim=1)
        u_BE: Tensor = F.relu(self.join(self.drop_seen(seen_BX)))
        return u_BE

    def represent_fields(self, batch: Samples) -> Float[Tensor, "B D"]:
        return meet(*self.inputs.fields(batch), self.represent(batch))
