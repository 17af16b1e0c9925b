"""A conventional model asked what comes next: its state against every item's vector. Knows no candidate list.

    score_i = <u, e_i>,   loss = -log softmax(score)_target,   over the whole catalogue (but for new items)

u is the state of a model that does not know the target (SASRec, GRU4Rec, Caser), e_i its item vectors. The authors of LLaRA
and iLoRA train with one or a few drawn items in the place of all others; with the whole catalogue nothing is drawn.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import final

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from lifelora.conventional.base import Ranker, Ranks, Recommender
from lifelora.data.dataset import Samples
from lifelora.errors import ConfigError


@final
class NextItem(Ranker):
    """Scores all items for a user, by a sequence model's state."""

    def __init__(self, model: Recommender, new_items: Int[np.ndarray, "_"] | None = None) -> None:
        """``new_items`` are no candidates in training (the split ``new-items``): it would learn that they are never chosen."""
        super().__init__()
        if model.target_aware or model.width != model.item_embeddings().shape[1]:
            raise ConfigError(
                f"{type(model).__name__} cannot rank what comes next: its state depends on one target. Choose "
                "sasrec, gru4rec, caser or one that counts."
            )
        self.model = model
        self.history_length = model.history_length
        self._new = None if new_items is None or not len(new_items) else torch.from_numpy(new_items)

    def loss(self, batch: Samples) -> Float[Tensor, ""]:
        """Mean of -log p(target) over the catalogue."""
        score_BM = self.scores(batch)
        if self._new is not None:
            score_BM = score_BM.index_fill(1, self._new.to(score_BM.device), -torch.inf)
        return F.cross_entropy(score_BM, batch.item_B)

    def scores(self, batch: Samples) -> Float[Tensor, "B M"]:
        return self.model.represent(batch) @ self.model.item_embeddings().T

    def probabilities(self, batch: Samples) -> Float[Tensor, "B M"]:
        return torch.softmax(self.scores(batch), dim=1)

    def scope(self, batch: Samples) -> AbstractContextManager[None]:
        """Nothing has to be held."""
        return nullcontext()


def ranker_of(model: Recommender, new_items: Int[np.ndarray, "_"] | None = None) -> Ranker:
    """What ranks a catalogue with a model: what it brings itself, or its state against its item vectors."""
    return model.ranker() if isinstance(model, Ranks) else NextItem(model, new_items)
