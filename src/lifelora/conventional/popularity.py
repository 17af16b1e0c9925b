"""Popularity, the floor for every other model: the share of likes among the item's ratings. Knows no user."""

from typing import ClassVar, Literal, final

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from lifelora.conventional.base import ExtraFields, Ranker, Recommender
from lifelora.data.dataset import Dataset, Samples, Schema
from lifelora.errors import ConfigError


@final
class Popularity(Recommender):
    """p = (likes + s·q) / (rows + s): the like-rate of the item in the training samples, drawn towards the rate q of all.

    Counted, not trained: call ``fit``. Its representation is the logit itself, one number that depends on the target.
    """

    class Config(Recommender.Config):
        next_item: ClassVar[bool] = True
        counts: ClassVar[bool] = True
        kind: Literal["popularity"] = "popularity"
        smoothing: float = Field(default=10.0, gt=0)
        "s: so many imaginary rows with the overall rate are added to each item."

        def build(self, schema: Schema, extra: ExtraFields | None = None) -> "Popularity":
            if extra is not None:
                raise ConfigError(
                    "popularity counts and reads no fields, so it can be given none; take another conventional model."
                )
            return Popularity(self, schema)

    width = 1
    target_aware = True
    one_past = True
    history_length = 0

    def __init__(self, config: Config, schema: Schema) -> None:
        super().__init__()
        self.config = config
        self.rate_M: Tensor
        self.register_buffer("rate_M", torch.full((schema.n_items + 1,), 0.5))  # the last: of an item that came later

    def fit(self, dataset: Dataset) -> None:
        """Count the training samples; an item without any, or that comes later, gets the overall rate."""
        targets = dataset.targets(dataset.samples["train"])
        item_N, label_N = targets.item_B, targets.label_B
        shown_M = np.bincount(item_N, minlength=len(self.rate_M))
        liked_M = np.bincount(item_N, weights=label_N, minlength=len(self.rate_M))
        # One row of each label keeps the rate of all inside (0, 1), so that logits are finite.
        overall = (label_N.sum() + 1) / (len(label_N) + 2)
        rate_M = (liked_M + self.config.smoothing * overall) / (shown_M + self.config.smoothing)
        self.rate_M.copy_(torch.from_numpy(rate_M))

    def ranker(self) -> Ranker:
        """The number of events."""
        return MostPopular(len(self.rate_M) - 1)

    def logits(self, batch: Samples) -> Float[Tensor, "B"]:
        return torch.logit(self.rate_M[batch.item_B])

    def represent(self, batch: Samples) -> Float[Tensor, "B D"]:
        return self.logits(batch)[:, None]

    def represent_fields(self, batch: Samples) -> Float[Tensor, "B D"]:
        raise ConfigError("popularity has no u; choose another conventional model.")

    def represent_user(self, batch: Samples) -> Float[Tensor, "B D"]:
        return self.represent_fields(batch)

    def item_embeddings(self) -> Float[Tensor, "M E"]:
        return torch.logit(self.rate_M[:-1])[:, None]


@final
class MostPopular(Ranker):
    """score_i = how often item i occurs in training; the floor for everything that knows the user."""

    history_length = 0

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.count_M: Tensor
        self.register_buffer("count_M", torch.zeros(n_items))

    def fit(self, dataset: Dataset) -> None:
        """Count the events that training may look at."""
        self.count_M.copy_(torch.from_numpy(np.bincount(dataset.item_N[dataset.training_events()], minlength=dataset.n_items)))

    def scores(self, batch: Samples) -> Float[Tensor, "B M"]:
        return self.count_M.expand(len(batch.user_B), -1)

    def probabilities(self, batch: Samples) -> Float[Tensor, "B M"]:
        return self.scores(batch) / self.count_M.sum()
