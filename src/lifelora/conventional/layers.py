"""Parts that conventional models share: settings, embedded fields, embedded behaviours, an MLP. Knows no model."""

import math
from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from lifelora.conventional.base import ExtraFields, Recommender
from lifelora.data.dataset import Samples, Schema


class Common(Recommender.Config):
    """What every model that embeds fields and behaviours is told; such a model takes extra fields."""

    history_length: int = Field(default=30, ge=1)
    embedding: int = Field(default=64, ge=1)
    "E: width of the vectors of items, ratings and fields."
    hidden: int = Field(default=256, ge=1)
    "Width of the DNN."
    layers: int = Field(default=3, ge=1)
    "Hidden layers of the DNN."
    dropout: float = Field(default=0.1, ge=0, lt=1)
    "After every hidden layer of the DNN."
    embedding_dropout: float = Field(default=0.0, ge=0, lt=1)
    "On all embedded fields and behaviours."
    user_id: bool = False
    "Whether the user's id is a field, as in the papers; it is soon learnt by heart, which harms newcomers (LOG.md)."
    min_users: int = Field(default=10, ge=1)
    "A value of a profile field (a zip code) that fewer people share is read as unknown: it would be an id."
    init_std: float = Field(default=0.01, gt=0)
    "Standard deviation of the embeddings at the start."


class Features(nn.Module):
    """Every categorical value in one table: items and padding, ratings and padding, users, the fields of both.

    A history and a target share the rows of the items; rows 0 … M-1 are the items in index order. Without ``user_id``,
    and with profile values shared by fewer than ``min_users`` read as unknown, nothing stands for one person. With
    ``extra`` there are fields that are not in the table: each side's stand behind those of the table.
    """

    def __init__(self, config: Common, schema: Schema, extra: ExtraFields | None = None) -> None:
        super().__init__()
        sizes = (schema.n_items + 1, schema.n_ratings + 1, schema.n_users if config.user_id else 0,
                 *schema.user_field_sizes, *schema.item_field_sizes)
        starts = [0, *accumulate(sizes)]
        self.n_items, self.n_ratings, self.width = schema.n_items, schema.n_ratings, config.embedding
        self.n_ids = int(config.user_id)
        n_user_fields = len(schema.user_field_sizes)
        user_UF = _shared_by(config.min_users, schema.user_fields_UF)
        user_UF = user_UF + torch.tensor(starts[3 : 3 + n_user_fields], dtype=torch.int64)
        if config.user_id:
            user_UF = torch.cat([starts[2] + torch.arange(schema.n_users)[:, None], user_UF], dim=1)
        item_MF = schema.item_fields_MF + torch.tensor(starts[3 + n_user_fields : -1], dtype=torch.int64)
        item_MF = torch.cat([torch.arange(schema.n_items)[:, None], item_MF], dim=1)
        self.user_UF: Tensor
        self.item_MF: Tensor
        # They come from the schema, so they are not among the weights.
        self.register_buffer("user_UF", user_UF, persistent=False)
        self.register_buffer("item_MF", item_MF, persistent=False)
        self.extra = extra
        of_user, of_item = user_UF.shape[1], item_MF.shape[1]
        more_of_user, more = (0, 0) if extra is None else (extra.n_user_fields, extra.n_fields)
        self.n_user_fields, self.n_fields = of_user + more_of_user, of_user + of_item + more
        self._sides = (of_user, more_of_user, of_item, more - more_of_user)
        self.table = nn.Embedding(starts[-1], self.width)
        nn.init.normal_(self.table.weight, std=config.init_std)

    def rows(self, batch: Samples) -> Int[Tensor, "B F"]:
        """Where in the table the user's fields stand, then the target's, its id first."""
        return torch.cat([self.user_UF[batch.user_B], self.item_MF[batch.item_B]], dim=1)

    def vectors(self, batch: Samples) -> Float[Tensor, "B F E"]:
        """Of the user's fields, then of the target's, its id first; on each side the extra ones last."""
        table_BFE: Tensor = self.table(self.rows(batch))
        if self.extra is None:
            return table_BFE
        of_user, more_of_user, of_item, more_of_item = self._sides
        user_BFE, item_BFE = table_BFE.split_with_sizes([of_user, of_item], dim=1)
        more_user_BFE, more_item_BFE = self.extra(batch).split_with_sizes([more_of_user, more_of_item], dim=1)
        return torch.cat([user_BFE, more_user_BFE, item_BFE, more_item_BFE], dim=1)

    def extra_of(self, vectors_BFE: Float[Tensor, "B _ E"]) -> Float[Tensor, "B _ E"]:
        """The extra fields among ``vectors``, whatever stands behind these."""
        _, more_user_BFE, _, more_item_BFE = vectors_BFE[:, : self.n_fields].split_with_sizes(self._sides, dim=1)
        return torch.cat([more_user_BFE, more_item_BFE], dim=1)

    def fields(self, batch: Samples) -> tuple[Float[Tensor, "B X"], Float[Tensor, "B Y"]]:
        """The vectors of the user's fields side by side, and those of the target's fields, its id first."""
        vectors_BFE = self.vectors(batch)
        return vectors_BFE[:, : self.n_user_fields].flatten(1), vectors_BFE[:, self.n_user_fields :].flatten(1)

    def items(self) -> Float[Tensor, "_ E"]:
        """Vectors of all items, then of the padding."""
        return self.table.weight[: self.n_items + 1]

    def items_and_ratings(self) -> tuple[Float[Tensor, "_ E"], Float[Tensor, "_ E"]]:
        """Vectors of all items, then of the padding; and of all rating levels, then of the padding."""
        # One split of the whole table, for each slice of it would bring a gradient as large as the table.
        sizes = (self.n_items + 1, self.n_ratings + 1)
        items_ME, ratings_RE, _ = self.table.weight.split_with_sizes([*sizes, self.table.num_embeddings - sum(sizes)])
        return items_ME, ratings_RE


def _shared_by(users: int, codes_UF: Int[Tensor, "U F"]) -> Int[Tensor, "U F"]:
    """The codes, with 0 (unknown) for values that fewer users share."""
    counted = [torch.where(code_U.bincount()[code_U] >= users, code_U, 0) for code_U in codes_UF.unbind(1)]
    return torch.stack(counted, dim=1) if counted else codes_UF


class Behaviours(nn.Module):
    """h_j = ReLU(W [item_j ; rating_j] + b), of the last ``length`` behaviours; zero where the mask marks none."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.join = nn.Linear(2 * features.width, features.width)

    def forward(
        self, features: Features, history_BH: Int[Tensor, "B H"], rating_BH: Int[Tensor, "B H"], mask_BH: Bool[Tensor, "B H"]
    ) -> Float[Tensor, "B H E"]:
        # W [item ; rating] = W_item item + W_rating rating: a product per row of the tables, not per behaviour. Padding
        # reads -inf, whose ReLU is zero, as is its gradient: so nobody has to mask what is as large as all behaviours.
        W_item, W_rating = self.join.weight.chunk(2, dim=1)
        items_ME, ratings_RE = features.items_and_ratings()
        item_ME = F.pad(items_ME[:-1] @ W_item.T, (0, 0, 0, 1), value=-math.inf)
        rating_RE = F.linear(ratings_RE, W_rating, self.join.bias)
        of_item_BHE = F.embedding(torch.where(mask_BH, history_BH, features.n_items), item_ME)
        return of_item_BHE.add_(F.embedding(rating_BH, rating_RE)).relu_()  # in place: half of the time goes to memory


def fields_and_past(
    features: Features, behaviours: Behaviours, batch: Samples, drop: nn.Dropout
) -> Float[Tensor, "B F E"]:
    """The vectors of the user's fields, of the target's (its id first), and the past as one more: the mean of its h_j.

    The papers average the embeddings of a multi-valued field. Here each behaviour is joined with its rating first, for
    averages of items and of ratings apart no longer say which item was liked.
    """
    h_BHE = drop(behaviours(features, batch.history_BH, batch.rating_BH, batch.mask_BH))
    past_B1E = mean(h_BHE, batch.mask_BH)[:, None]
    return torch.cat([drop(features.vectors(batch)), past_B1E], dim=1)


def user_and_past(features: Features, behaviours: Behaviours, batch: Samples, drop: nn.Dropout) -> Float[Tensor, "B X"]:
    """The vector of the user's id, where that is a field, and the mean of the past's h_j, side by side."""
    ids_BX = features.table(features.user_UF[batch.user_B, : features.n_ids]).flatten(1)
    h_BHE = drop(behaviours(features, batch.history_BH, batch.rating_BH, batch.mask_BH))
    return torch.cat([drop(ids_BX), mean(h_BHE, batch.mask_BH)], dim=1)


def mean(h_BHE: Float[Tensor, "B H E"], mask_BH: Bool[Tensor, "B H"]) -> Float[Tensor, "B E"]:
    """Of the h_j that the mask marks, the others being zero; zero where it marks none."""
    return h_BHE.sum(dim=1) / mask_BH.sum(dim=1, keepdim=True).clamp(min=1)


def meet(user_BX: Float[Tensor, "B X"], item_BY: Float[Tensor, "B Y"], u_BE: Float[Tensor, "B E"]) -> Float[Tensor, "B Z"]:
    """[fields ; u ; u*t]: what the DNN sees of a state u that knows no target; t, the target's vector, leads its fields."""
    return torch.cat([user_BX, item_BY, u_BE, u_BE * item_BY[:, : u_BE.shape[1]]], dim=1)


def mlp(widths: list[int], dropout: float) -> nn.Sequential:
    """Linear, ReLU, dropout from each width to the next; nothing for a single width."""
    layers: list[nn.Module] = []
    for ins, outs in pairwise(widths):
        layers += [nn.Linear(ins, outs), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers)
