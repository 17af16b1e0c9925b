"""What conventional models read, as vectors: fields of user and target, extra fields, the past. Knows no model's layers."""

import math
from itertools import accumulate
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from lifelora.conventional.base import ExtraFields, Recommender
from lifelora.conventional.fields import Fields, shared_by
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
    "A value of a profile field (a zip code) that fewer users share is read as unknown: it would be an id."
    init_std: float = Field(default=0.01, gt=0)
    "Standard deviation of the embeddings at the start."


@final
class Inputs(nn.Module):
    """Every categorical value in one table: items and padding, ratings and padding, users, the fields of both.

    A history and a target share the rows of the items; rows 0 … M-1 are the items in index order. Without ``user_id``,
    and with profile values shared by fewer than ``min_users`` read as unknown, nothing stands for one user. With
    ``extra`` there are fields that are not in the table: each side's stand behind those of the table.

    A behaviour is its item joined with its rating, h_j = ReLU(W [item_j ; rating_j] + b).

    The vector of a field that may have several values is the mean of the vectors of those that it has.

    A user or target that is not in the schema (``Samples`` says how they are numbered) has every field unknown, and reads the
    vector of the padding for its id.
    """

    def __init__(self, config: Common, schema: Schema, extra: ExtraFields | None = None) -> None:
        super().__init__()
        sizes = (
            schema.n_items + 1,
            schema.n_ratings + 1,
            schema.n_users if config.user_id else 0,
            *schema.user_field_sizes,
            *schema.item_field_sizes,
        )
        starts = [0, *accumulate(sizes)]
        self.n_items, self.n_ratings, self.width = schema.n_items, schema.n_ratings, config.embedding
        self.n_ids = int(config.user_id)
        users = shared_by(config.min_users, schema.user_fields_UF, schema.user_field_widths)
        ids_U = torch.tensor([*range(starts[2], starts[2] + schema.n_users), schema.n_items]) if config.user_id else None
        of_items = 3 + len(schema.user_field_sizes)
        self.of_user = Fields(ids_U, users, schema.user_field_widths, starts[3:of_items])
        self.of_item = Fields(
            torch.arange(schema.n_items + 1), schema.item_fields_MF, schema.item_field_widths, starts[of_items:-1]
        )
        self.extra = extra
        of_user, of_item = self.of_user.n_fields, self.of_item.n_fields
        more_of_user, more = (0, 0) if extra is None else (extra.n_user_fields, extra.n_fields)
        self.n_user_fields, self.n_fields = of_user + more_of_user, of_user + of_item + more
        self._sides = (of_user, more_of_user, of_item, more - more_of_user)
        self.table = nn.Embedding(starts[-1], self.width)
        nn.init.normal_(self.table.weight, std=config.init_std)
        self.join = nn.Linear(2 * self.width, self.width)
        self.drop = nn.Dropout(config.embedding_dropout)

    def read(self, table: nn.Embedding, batch: Samples) -> Float[Tensor, "B F E"]:
        """What a table as long as ``self.table`` has for the user's fields, then for the target's, its id first."""
        user_BX, item_BX = self.of_user.rows_NX[batch.user_B], self.of_item.rows_NX[batch.item_B]
        read_BXE: Tensor = table(torch.cat([user_BX, item_BX], dim=1))
        if read_BXE.shape[1] == self.of_user.n_fields + self.of_item.n_fields:
            return read_BXE
        user_BXE, item_BXE = read_BXE.split_with_sizes([user_BX.shape[1], item_BX.shape[1]], dim=1)
        return torch.cat([self.of_user(user_BXE, batch.user_B), self.of_item(item_BXE, batch.item_B)], dim=1)

    def vectors(self, batch: Samples) -> Float[Tensor, "B F E"]:
        """Of the user's fields, then of the target's, its id first; on each side the extra ones last."""
        table_BFE = self.read(self.table, batch)
        if self.extra is not None:
            of_user, more_of_user, of_item, more_of_item = self._sides
            user_BFE, item_BFE = table_BFE.split_with_sizes([of_user, of_item], dim=1)
            more_user_BFE, more_item_BFE = self.extra(batch).split_with_sizes([more_of_user, more_of_item], dim=1)
            table_BFE = torch.cat([user_BFE, more_user_BFE, item_BFE, more_item_BFE], dim=1)
        return table_BFE

    def extra_of(self, vectors_BFE: Float[Tensor, "B _ E"]) -> Float[Tensor, "B _ E"]:
        """The extra fields among ``vectors``, whatever stands behind these."""
        _, more_user_BFE, _, more_item_BFE = vectors_BFE[:, : self.n_fields].split_with_sizes(self._sides, dim=1)
        return torch.cat([more_user_BFE, more_item_BFE], dim=1)

    def fields(self, batch: Samples) -> tuple[Float[Tensor, "B X"], Float[Tensor, "B Y"]]:
        """The vectors of the user's fields side by side, and those of the target's fields, its id first."""
        vectors_BFE = self.vectors(batch)
        user_BX, item_BY = vectors_BFE[:, : self.n_user_fields].flatten(1), vectors_BFE[:, self.n_user_fields :].flatten(1)
        return self.drop(user_BX), self.drop(item_BY)

    def past(
        self, history_BH: Int[Tensor, "B H"], rating_BH: Int[Tensor, "B H"], mask_BH: Bool[Tensor, "B H"]
    ) -> Float[Tensor, "B H E"]:
        """h_j of each behaviour; zero where the mask marks none."""
        h_BHE: Tensor = self.drop(self.joined(history_BH, rating_BH, mask_BH))
        return h_BHE

    def joined(
        self, history_BH: Int[Tensor, "B H"], rating_BH: Int[Tensor, "B H"], mask_BH: Bool[Tensor, "B H"]
    ) -> Float[Tensor, "B H E"]:
        """``past`` without dropout."""
        # W [item ; rating] = W_item item + W_rating rating: a product per row of the tables, not per behaviour. Padding
        # reads -inf, whose ReLU is zero, as is its gradient: so nobody has to mask what is as large as all behaviours.
        W_item, W_rating = self.join.weight.chunk(2, dim=1)
        # One split of the whole table, for each slice of it would bring a gradient as large as the table.
        sizes = (self.n_items + 1, self.n_ratings + 1)
        items_ME, ratings_RE, _ = self.table.weight.split_with_sizes([*sizes, self.table.num_embeddings - sum(sizes)])
        item_ME = F.pad(items_ME[:-1] @ W_item.T, (0, 0, 0, 1), value=-math.inf)
        rating_RE = F.linear(ratings_RE, W_rating, self.join.bias)
        of_item_BHE = F.embedding(torch.where(mask_BH, history_BH, self.n_items), item_ME)
        return of_item_BHE.add_(F.embedding(rating_BH, rating_RE)).relu_()  # in place: half of the time goes to memory

    def fields_and_past(self, batch: Samples) -> Float[Tensor, "B F E"]:
        """The vectors of the user's fields, of the target's (its id first), and the past as one more: the mean of its h_j.

        The papers average the embeddings of a multi-valued field. Here each behaviour is joined with its rating first, for
        averages of items and of ratings apart no longer say which item was liked.
        """
        past_B1E = self._mean_of_past(batch)[:, None].expand(len(batch.item_B), -1, -1)
        return torch.cat([self.drop(self.vectors(batch)), past_B1E], dim=1)

    def user_and_past(self, batch: Samples) -> Float[Tensor, "B X"]:
        """The vector of the user's id, where that is a field, and the mean of the past's h_j, side by side."""
        ids_BX = self.table(self.of_user.rows_NX[batch.user_B, : self.n_ids]).flatten(1)
        past_BE = self._mean_of_past(batch)
        return torch.cat([self.drop(ids_BX), past_BE], dim=1)

    def items(self) -> Float[Tensor, "M E"]:
        """Vectors of all items."""
        return self.table.weight[: self.n_items]

    def _mean_of_past(self, batch: Samples) -> Float[Tensor, "B E"]:
        """Zero without a past."""
        h_BHE = self.past(batch.history_BH, batch.rating_BH, batch.mask_BH)
        return h_BHE.sum(dim=1) / batch.mask_BH.sum(dim=1, keepdim=True).clamp(min=1)


class Neural(Recommender):
    """A recommender that reads ``Inputs``; a subclass brings its layers, ``logits``, ``represent`` and ``represent_fields``."""

    def __init__(self, config: Common, schema: Schema, extra: ExtraFields | None = None) -> None:
        super().__init__()
        self.history_length = config.history_length
        self.inputs = Inputs(config, schema, extra)

    @final
    def represent_user(self, batch: Samples) -> Float[Tensor, "B D"]:
        return self.inputs.user_and_past(batch)

    @final
    def item_embeddings(self) -> Float[Tensor, "M E"]:
        return self.inputs.items()
