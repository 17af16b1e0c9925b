"""A conventional model asked what comes next: its state against every item's vector. Knows no candidate list.

    score_i = <u, e_i>,   loss = -log softmax(score)_target,   over the whole catalogue

u is the state of a model that does not know the target (SASRec, GRU4Rec, Caser), e_i its item vectors. The authors of LLaRA
and iLoRA train with one or a few drawn items in the place of all others; with the whole catalogue nothing is drawn.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifelora.conventional.base import Ranker, Ranks, Recommender
from lifelora.data.dataset import Samples
from lifelora.errors import ConfigError


@final
class NextItem(Ranker):
    """Scores all items for a user, by a sequence model's state."""

    def __init__(self, model: Recommender) -> None:
        super().__init__()
        if model.target_aware or model.width != model.item_embeddings().shape[1]:
            raise ConfigError(
                f"{type(model).__name__} cannot rank what comes next: its state depends on one target. Choose "
                "sasrec, gru4rec, caser or one that counts."
            )
        self.model = model
        self.history_length = model.history_length

    def loss(self, batch: Samples) -> Float[Tensor, ""]:
        """Mean of -log p(target) over the catalogue."""
        return F.cross_entropy(self.scores(batch), batch.item_B)

    def scores(self, batch: Samples) -> Float[Tensor, "B M"]:
        return self.model.represent(batch) @ self.model.item_embeddings().T

    def probabilities(self, batch: Samples) -> Float[Tensor, "B M"]:
        return torch.softmax(self.scores(batch), dim=1)

    def scope(self, batch: Samples) -> AbstractContextManager[None]:
        """Nothing has to be held."""
        return nullcontext()


def ranker_of(model: Recommender) -> Ranker:
    """What ranks a catalogue with a model: what it brings itself, or its state against its item vectors."""
    return model.ranker() if isinstance(model, Ranks) else NextItem(model)
