"""A conventional model asked what comes next: its state against every item's vector. Knows no candidate list.

    score_i = <u, e_i>,   loss = -log softmax(score)_target,   over the whole catalogue

u is the state of a model that does not know the target (SASRec, GRU4Rec, Caser), e_i its item vectors. The authors of LLaRA
and iLoRA train with one or a few drawn items in the place of all others; with the whole catalogue nothing is drawn.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifelora.conventional.base import Recommender
from lifelora.data.dataset import Dataset, Samples
from lifelora.errors import ConfigError


@final
class NextItem(nn.Module):
    """Scores all items for a user, by a sequence model's state."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        if model.target_aware or model.width != model.item_embeddings().shape[1]:
            raise ConfigError(
                f"{type(model).__name__} cannot rank what comes next: its state depends on one target. Choose "
                "sasrec, gru4rec, caser or popularity."
            )
        self.model = model
        self.history_length = model.history_length

    def loss(self, batch: Samples) -> Float[Tensor, ""]:
        """Mean of -log p(target) over the catalogue."""
        return F.cross_entropy(self.scores(batch), batch.item_B)

    def scores(self, batch: Samples) -> Float[Tensor, "B M"]:
        """Of every item, for each row."""
        return self.model.represent(batch) @ self.model.item_embeddings().T

    def probabilities(self, batch: Samples) -> Float[Tensor, "B M"]:
        """P(item comes next), among the whole catalogue."""
        return torch.softmax(self.scores(batch), dim=1)

    def scope(self, batch: Samples) -> AbstractContextManager[None]:
        """Nothing has to be held."""
        return nullcontext()


@final
class MostPopular(nn.Module):
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
        """The same for all users."""
        return self.count_M.expand(len(batch.user_B), -1)

    def probabilities(self, batch: Samples) -> Float[Tensor, "B M"]:
        """An item's share of all events."""
        return self.scores(batch) / self.count_M.sum()
