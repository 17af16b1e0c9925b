"""What every conventional recommender promises: a score, a representation u, item vectors. Knows no language model.

A conventional model reads ids (fields of user and item, past items and their ratings) and no words.
"""

from abc import ABC, abstractmethod
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Protocol, final, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifelora.data.dataset import Dataset, Samples, Schema
from lifelora.kinds import Variant
from lifelora.types import Layer


@runtime_checkable
class ExtraFields(Protocol):
    """A module whose vectors are fields beside a model's own; whence it has them is its own business."""

    n_user_fields: int
    n_fields: int

    def __call__(self, batch: Samples) -> Float[Tensor, "B F E"]:
        """As wide as the model's own, the user's first, the target's last."""


class Ranker(nn.Module, ABC):
    """Scores a whole catalogue: which item comes next."""

    history_length: int
    "How many past behaviours it reads."

    @abstractmethod
    def scores(self, batch: Samples) -> Float[Tensor, "B M"]:
        """Of every item, for each row; more for what is likelier to come next."""

    @abstractmethod
    def probabilities(self, batch: Samples) -> Float[Tensor, "B M"]:
        """P(item comes next), among the whole catalogue."""


@runtime_checkable
class Counted(Protocol):
    """What is counted: a model whose ``Config.counts``, and what it ranks with."""

    def fit(self, dataset: Dataset) -> None:
        """Learn from ``dataset.training_events()``, and from validation samples at most what a score means; never from test."""


@runtime_checkable
class Ranks(Protocol):
    """A counted model that can be asked what comes next brings what answers it, which is ``Counted``, too."""

    def ranker(self) -> Ranker:
        """As little fitted as the model is."""


class Recommender(nn.Module, ABC):
    """Scores samples; a subclass brings its ``Config``, ``logits``, ``represent…`` and ``item_embeddings``."""

    class Config(Variant):
        """What a recipe says of a model, and what makes it."""

        next_item: ClassVar[bool] = False
        "Whether it can be asked what comes next: its u knows no target and is as wide as its item vectors."
        counts: ClassVar[bool] = False
        "Whether it is ``Counted`` and not trained: then it represents no user."

        def check(self, schema: Schema) -> None:
            """Raise now what building or learning would raise: a library that is absent, a catalogue that is too large."""

        @abstractmethod
        def build(self, schema: Schema, extra: ExtraFields | None = None) -> "Recommender":
            """The untrained model; its start is drawn from torch's global generator.

            The fields of ``extra`` become its own: they train and are saved with it. A recipe gives them only to a model whose
            Config is a ``inputs.Common``.
            """

    history_length: int
    "How many past behaviours it reads (the ``length`` of ``Dataset.gather``)."
    width: int
    "D, the width of ``represent``."
    target_aware: bool
    "Whether ``represent`` depends on the target item, too; if not, all candidates of a user share one u."
    one_past: ClassVar[bool] = False
    "Whether ``logits`` takes many targets with one past (``history_BH`` and its like have one row) and reads that once."

    @abstractmethod
    def logits(self, batch: Samples) -> Float[Tensor, "B"]:
        """log(p / (1 - p)) of a like, one per sample."""

    @abstractmethod
    def represent(self, batch: Samples) -> Float[Tensor, "B D"]:
        """u: the vector of the user (``target_aware`` false) or of the user before this target (true)."""

    @abstractmethod
    def represent_fields(self, batch: Samples) -> Float[Tensor, "B D"]:
        """What the deep layers read: the vectors of all fields, the target's among them, and of the past, side by side."""

    @abstractmethod
    def represent_user(self, batch: Samples) -> Float[Tensor, "B D"]:
        """The vector of the user's id, where that is a field, and the mean of the past; never of the target."""

    @abstractmethod
    def item_embeddings(self) -> Float[Tensor, "M E"]:
        """One vector per item, in index order."""

    @final
    def representation(self, batch: Samples, layer: Layer) -> Float[Tensor, "B D"]:
        """u by one of its layers, of which ``represent`` is the last (RecLoRA's ``ctr_out_layer``)."""
        made = {"final": self.represent, "fields": self.represent_fields, "user": self.represent_user}
        return made[layer](batch)

    @final
    def sees_target(self, layer: Layer) -> bool:
        """``target_aware`` of any layer."""
        return layer == "fields" or (layer == "final" and self.target_aware)

    @final
    def loss(self, batch: Samples) -> Float[Tensor, ""]:
        """-mean(y log p + (1 - y) log(1 - p)), computed from logits."""
        return F.binary_cross_entropy_with_logits(self.logits(batch), batch.label_B)

    @final
    def score(self, batch: Samples) -> Float[Tensor, "B"]:
        """P(like)."""
        return torch.sigmoid(self.logits(batch))

    @final
    def scope(self, batch: Samples) -> AbstractContextManager[None]:
        """Nothing has to be held while this batch is trained on."""
        return nullcontext()
