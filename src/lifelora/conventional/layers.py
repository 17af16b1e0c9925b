"""Parts that conventional models share: embedded fields, embedded behaviours, an MLP. Knows no model."""

from itertools import accumulate, pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lifelora.data.dataset import Samples, Schema


class Features(nn.Module):
    """Every categorical value in one table: items and padding, ratings and padding, users, the fields of both.

    A history and a target share the rows of the items; rows 0 … M-1 are the items in index order. Without ``user_id``,
    and with profile values shared by fewer than ``min_people`` read as unknown, nothing stands for one person.
    """

    def __init__(self, schema: Schema, width: int, user_id: bool, min_people: int, std: float) -> None:
        super().__init__()
        sizes = (schema.n_items + 1, schema.n_ratings + 1, schema.n_users if user_id else 0,
                 *schema.user_field_sizes, *schema.item_field_sizes)
        starts = [0, *accumulate(sizes)]
        self.n_items, self.n_ratings, self.width = schema.n_items, schema.n_ratings, width
        n_user_fields = len(schema.user_field_sizes)
        user_UF = _shared_by(min_people, schema.user_fields_UF)
        user_UF = user_UF + torch.tensor(starts[3 : 3 + n_user_fields], dtype=torch.int64)
        if user_id:
            user_UF = torch.cat([starts[2] + torch.arange(schema.n_users)[:, None], user_UF], dim=1)
        item_MF = schema.item_fields_MF + torch.tensor(starts[3 + n_user_fields : -1], dtype=torch.int64)
        item_MF = torch.cat([torch.arange(schema.n_items)[:, None], item_MF], dim=1)
        self.user_UF: Tensor
        self.item_MF: Tensor
        # They come from the schema, so they are not among the weights.
        self.register_buffer("user_UF", user_UF, persistent=False)
        self.register_buffer("item_MF", item_MF, persistent=False)
        self.n_fields = user_UF.shape[1] + item_MF.shape[1]
        self.table = nn.Embedding(starts[-1], width)
        nn.init.normal_(self.table.weight, std=std)

    def fields(self, batch: Samples) -> tuple[Float[Tensor, "B X"], Float[Tensor, "B Y"]]:
        """The vectors of the user's fields side by side, and those of the target's fields, its id first."""
        user_BX = self.table(self.user_UF[batch.user_B]).flatten(1)
        item_BY = self.table(self.item_MF[batch.item_B]).flatten(1)
        return user_BX, item_BY

    def items(self) -> Float[Tensor, "_ E"]:
        """Vectors of all items, then of the padding."""
        return self.table.weight[: self.n_items + 1]

    def ratings(self) -> Float[Tensor, "_ E"]:
        """Vectors of all rating levels, then of the padding."""
        return self.table.weight[self.n_items + 1 : self.n_items + self.n_ratings + 2]


def _shared_by(people: int, codes_UF: Int[Tensor, "U F"]) -> Int[Tensor, "U F"]:
    """The codes, with 0 (unknown) for values that fewer users share."""
    counted = [torch.where(code_U.bincount()[code_U] >= people, code_U, 0) for code_U in codes_UF.unbind(1)]
    return torch.stack(counted, dim=1) if counted else codes_UF


class Behaviours(nn.Module):
    """h_j = ReLU(W [item_j ; rating_j] + b), of the last ``length`` behaviours."""

    def __init__(self, features: Features) -> None:
        super().__init__()
        self.join = nn.Linear(2 * features.width, features.width)

    def forward(
        self, features: Features, history_BH: Int[Tensor, "B H"], rating_BH: Int[Tensor, "B H"]
    ) -> Float[Tensor, "B H E"]:
        # W [item ; rating] = W_item item + W_rating rating: a product per row of the tables, not per behaviour.
        W_item, W_rating = self.join.weight.chunk(2, dim=1)
        item_ME = features.items() @ W_item.T
        rating_RE = F.linear(features.ratings(), W_rating, self.join.bias)
        return F.relu(F.embedding(history_BH, item_ME) + F.embedding(rating_BH, rating_RE))


def mlp(widths: list[int], dropout: float) -> nn.Sequential:
    """Linear, ReLU, dropout from each width to the next; nothing for a single width."""
    layers: list[nn.Module] = []
    for ins, outs in pairwise(widths):
        layers += [nn.Linear(ins, outs), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
    return nn.Sequential(*layers)
