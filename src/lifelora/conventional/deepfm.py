"""DeepFM: a factorisation machine and a DNN over the same field vectors (Guo et al., IJCAI 2017).

Its representation is a *sample* state, of the user in front of this target: the last hidden layer of the DNN.
"""

from typing import Literal, final

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from lifelora.conventional.base import ExtraFields
from lifelora.conventional.inputs import Common, Neural
from lifelora.conventional.layers import mlp
from lifelora.data.dataset import Samples, Schema


@final
class DeepFM(Neural):
    """logit = b + Σ_f w_f + Σ_{f<g} <x_f, x_g> + w·u;  u = DNN([x_1 ; … ; x_F]).

    x_f are the vectors of the fields, the last of them the mean of the past, x_F = (1/n) Σ_j h_j; w_f is a number of
    each field's value (the mean, where it has several), and of the past, which is no value but a vector, w_F = v·x_F. Without
    a past x_F is zero. Extra fields are vectors, too, each with a v of its own.
    """

    class Config(Common):
        kind: Literal["deepfm"] = "deepfm"
        hidden: int = Field(default=256, ge=1)
        "Width of the DNN, so of the representation."

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> "DeepFM":
            return DeepFM(self, schema, extra)

    target_aware = True
    one_past = True

    def __init__(self, config: Config, schema: Schema, extra: ExtraFields | None = None) -> None:
        super().__init__(config, schema, extra)
        E = config.embedding
        self.width = config.hidden
        self.first = nn.Embedding(self.inputs.table.num_embeddings, 1)
        nn.init.zeros_(self.first.weight)
        self.first_of_past = nn.Linear(E, 1, bias=False)
        self.dnn = mlp([(self.inputs.n_fields + 1) * E, *[config.hidden] * config.layers], config.dropout)
        self.out = nn.Linear(config.hidden, 1)
        if extra is not None:
            self.first_of_extra = nn.Linear(extra.n_fields * E, 1, bias=False)

    def logits(self, batch: Samples) -> Float[Tensor, "B"]:
        x_BFE = self.inputs.fields_and_past(batch)
        first_B1: Tensor = self.inputs.read(self.first, batch).sum(dim=1) + self.first_of_past(x_BFE[:, -1])
        if self.inputs.extra is not None:
            first_B1 = first_B1 + self.first_of_extra(self.inputs.extra_of(x_BFE).flatten(1))
        deep_B1: Tensor = self.out(self.dnn(x_BFE.flatten(1)))
        return (first_B1 + deep_B1).squeeze(1) + interactions(x_BFE)

    def represent(self, batch: Samples) -> Float[Tensor, "B D"]:
        x_BFE = self.inputs.fields_and_past(batch)
        u_BD: Tensor = self.dnn(x_BFE.flatten(1))
        return u_BD

    def represent_fields(self, batch: Samples) -> Float[Tensor, "B D"]:
        return self.inputs.fields_and_past(batch).flatten(1)


def interactions(x_BFE: Float[Tensor, "B F E"]) -> Float[Tensor, "B"]:
    """Σ_{f<g} <x_f, x_g> = ½ Σ_e ((Σ_f x_fe)² − Σ_f x_fe²) (Rendle, ICDM 2010, lemma 3.1)."""
    return 0.5 * (x_BFE.sum(dim=1).square().sum(dim=1) - x_BFE.square().sum(dim=(1, 2)))
