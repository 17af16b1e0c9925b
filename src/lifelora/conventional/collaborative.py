"""Models that learn from who chose what, and score items by what a user has chosen: collaborative filtering. Knows no field.

A choice is a like where the question is whether an item will be liked, and any event where it is what comes next. What is
learnt comes from ``Dataset.training_events`` alone; a user is read from the history that a target may see, so that new events
count at once. Such a score is no probability. Two numbers turn it into P(like), by logistic regression on validation samples
(Platt, Advances in Large Margin Classifiers, 1999); one turns the scores of a catalogue into P(item comes next), by the
softmax that gives validation targets the highest likelihood. Neither changes the order of the scores of a user (but that P(like)
turns it round where validation samples say so).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import final

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy.optimize import minimize, minimize_scalar
from scipy.sparse import csr_matrix
from scipy.special import expit, logsumexp
from torch import Tensor, nn

from lifelora.conventional.base import ExtraFields, Ranker, Recommender
from lifelora.data.dataset import Dataset, Samples, Schema
from lifelora.errors import ConfigError

BATCH = 2048
"""Validation samples that are read together."""
MOST = 20_000
"""Validation samples that fit two numbers."""
CELLS = 1 << 22
"""Scores of catalogues that fit one number."""


@dataclass(frozen=True)
class Chosen:
    """What users of a batch have chosen: each item once, in ascending order; a cell that the mask leaves out means nothing.

    One row may stand for all (``Recommender.one_past``).
    """

    user_B: Int[Tensor, "B"]
    "U for a user who came later."
    items_BH: Int[Tensor, "_ H"]
    mask_BH: Bool[Tensor, "_ H"]


class Collaborative(nn.Module, ABC):
    """Scores, learnt from a matrix of choices. A subclass brings ``learn``, ``of_all`` and ``of_one``.

    What it learns are buffers of sizes that are known when it is built. Chance comes from torch's global generator, at building.
    """

    def __init__(self, schema: Schema, history_length: int) -> None:
        """``history_length`` of the last behaviours are read; with 0 it knows a user by number alone."""
        super().__init__()
        self.n_users, self.n_items, self.history_length = schema.n_users, schema.n_items, history_length
        self.seed = int(torch.randint(2**31 - 1, ()))
        self.choice_L: Tensor
        self.register_buffer("choice_L", torch.zeros(schema.n_ratings + 1, dtype=torch.bool))  # the last: of padding

    @abstractmethod
    def learn(self, chosen_UM: csr_matrix, seed: int) -> None:
        """Fill the buffers from a matrix with a 1 for each choice; ``seed`` is for what is drawn."""

    @abstractmethod
    def of_all(self, chosen: Chosen) -> Float[Tensor, "B M"]:
        """The score of every item."""

    @abstractmethod
    def of_one(self, chosen: Chosen, item_B: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """The scores of one item for each user; 0 for an item that came later (M)."""

    @final
    def fit(self, dataset: Dataset, *, likes: bool) -> None:
        """Learn from the training events, or from those of them that are likes.

        Raises ConfigError where there are none.
        """
        n, levels = dataset.log.n_prepared, len(self.choice_L)
        if likes:  # what a level means is a rule of the data, not an event: all rows tell it
            level_N, label_N = np.asarray(dataset.rating_N[:n], np.int64), np.asarray(dataset.label_N[:n])
            rows_L = np.bincount(level_N, minlength=levels)
            self.choice_L.copy_(torch.from_numpy(2 * np.bincount(level_N, weights=label_N, minlength=levels) > rows_L))
        else:
            self.choice_L[:-1] = True
        rows = dataset.training_events()
        rows = rows[np.asarray(dataset.label_N[rows])] if likes else rows
        if not len(rows):
            raise ConfigError("no training event is a like, so there is nothing to learn from; change data.rules.label_above.")
        one_N = np.ones(len(rows), np.float32)
        chosen_UM = csr_matrix((one_N, (dataset.user_N[rows], dataset.item_N[rows])), (self.n_users, self.n_items))
        chosen_UM.data[:] = 1.0  # an item that was chosen twice
        self.learn(chosen_UM, self.seed)

    @final
    def chosen(self, batch: Samples) -> Chosen:
        """What the users of a batch had chosen before each target."""
        real_BH = batch.mask_BH & self.choice_L[batch.rating_BH]
        items_BH = torch.where(real_BH, batch.history_BH, self.n_items).sort(dim=1).values
        items_BH = items_BH[:, : int((items_BH < self.n_items).sum(dim=1).max())]
        mask_BH = items_BH < self.n_items
        mask_BH[:, 1:] &= items_BH[:, 1:] != items_BH[:, :-1]
        return Chosen(batch.user_B, torch.where(mask_BH, items_BH, 0), mask_BH)


@final
class Likes(Recommender):
    """P(like) = σ(a + b·score), a and b by logistic regression on validation samples."""

    width = 1
    target_aware = True
    one_past = True

    def __init__(self, kind: str, scores: Collaborative, extra: ExtraFields | None) -> None:
        super().__init__()
        if extra is not None:
            raise ConfigError(f"{kind} counts and reads no fields, so it can be given none; take another conventional model.")
        self.kind, self.scores, self.history_length = kind, scores, scores.history_length
        self.line_2: Tensor
        self.register_buffer("line_2", torch.zeros(2))

    def fit(self, dataset: Dataset) -> None:
        """Learn from the likes among the training events, then a and b."""
        self.scores.fit(dataset, likes=True)
        found = [(self._raw(batch).double().numpy(), batch.label_B.numpy()) for batch in _validation(dataset, self, MOST)]
        if found:
            score_N, label_N = (np.concatenate(column) for column in zip(*found, strict=True))
            self.line_2.copy_(torch.tensor(platt(score_N, label_N)))

    def ranker(self) -> Ranker:
        """The same scores, asked what comes next."""
        return Next(self.scores)

    def logits(self, batch: Samples) -> Float[Tensor, "B"]:
        return self.line_2[0] + self.line_2[1] * self._raw(batch)

    def _raw(self, batch: Samples) -> Float[Tensor, "B"]:
        return self.scores.of_one(self.scores.chosen(batch), batch.item_B)

    def represent(self, batch: Samples) -> Float[Tensor, "B D"]:
        return self.logits(batch)[:, None]

    def represent_fields(self, batch: Samples) -> Float[Tensor, "B D"]:
        raise ConfigError(f"{self.kind} has no u; choose another conventional model.")

    def represent_user(self, batch: Samples) -> Float[Tensor, "B D"]:
        return self.represent_fields(batch)

    def item_embeddings(self) -> Float[Tensor, "M E"]:
        raise ConfigError(f"{self.kind} has no vectors of items for others; choose another conventional model.")


@final
class Next(Ranker):
    """P(item comes next) = softmax(s · scores), s by maximum likelihood of validation targets."""

    def __init__(self, scores: Collaborative) -> None:
        super().__init__()
        self.of, self.history_length = scores, scores.history_length
        self.scale: Tensor
        self.register_buffer("scale", torch.ones(()))

    def fit(self, dataset: Dataset) -> None:
        """Learn from all training events, then s."""
        self.of.fit(dataset, likes=False)
        most = max(1, CELLS // dataset.known_items)
        found = [(self._unseen(batch).double().numpy(), batch.item_B.numpy()) for batch in _validation(dataset, self, most)]
        if found:
            score_NM, item_N = (np.concatenate(column) for column in zip(*found, strict=True))
            self.scale.fill_(sharpness(score_NM, item_N))

    def _unseen(self, batch: Samples) -> Float[Tensor, "B M"]:
        """The scores, -inf for what the user had chosen and is not the target: such items have high scores and seldom come."""
        chosen, own_B1 = self.of.chosen(batch), batch.item_B[:, None]
        score_BM = self.of.of_all(chosen)
        own_score_B1 = score_BM.gather(1, own_B1)
        b, h = chosen.mask_BH.nonzero(as_tuple=True)
        score_BM[b, chosen.items_BH[b, h]] = -torch.inf
        return score_BM.scatter(1, own_B1, own_score_B1)

    def scores(self, batch: Samples) -> Float[Tensor, "B M"]:
        return self.of.of_all(self.of.chosen(batch))

    def probabilities(self, batch: Samples) -> Float[Tensor, "B M"]:
        return torch.softmax(self.scale * self.scores(batch), dim=1)


def _validation(dataset: Dataset, model: Recommender | Ranker, most: int) -> Iterator[Samples]:
    """Validation samples of known items, evenly spaced where there are more than ``most``."""
    rows = np.asarray(dataset.samples["valid"])
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))] if len(rows) else rows
    for start in range(0, len(rows), BATCH):
        yield dataset.gather(dataset.targets(rows[start : start + BATCH]), model.history_length)


def platt(score_N: Float[np.ndarray, "N"], label_N: Float[np.ndarray, "N"]) -> tuple[float, float]:
    """a and b of σ(a + b·s): the logistic regression whose targets are (P + 1)/(P + 2) for the P positives and 1/(Q + 2) for the
    Q others, so that b is finite where the scores tell all of them apart."""
    positives = float(label_N.sum())
    aim_N = np.where(label_N > 0.5, (positives + 1) / (positives + 2), 1 / (len(label_N) - positives + 2))
    middle, spread = float(score_N.mean()), float(score_N.std()) or 1.0
    x_N = (score_N - middle) / spread

    def loss(line: Float[np.ndarray, "2"]) -> tuple[float, Float[np.ndarray, "2"]]:
        z_N = line[0] + line[1] * x_N
        wrong_N = expit(z_N) - aim_N
        return float((np.logaddexp(0, z_N) - aim_N * z_N).mean()), np.array([wrong_N.mean(), (wrong_N * x_N).mean()])

    a, b = minimize(loss, np.zeros(2), jac=True, method="BFGS").x
    return float(a - b * middle / spread), float(b / spread)


def sharpness(score_NM: Float[np.ndarray, "N M"], item_N: Int[np.ndarray, "N"]) -> float:
    """s > 0 for which mean log softmax(s · score) of the items is the largest."""
    own_N = score_NM[np.arange(len(item_N)), item_N]
    spread = float(score_NM[np.isfinite(score_NM)].std()) or 1.0

    def loss(log_scale: float) -> float:
        scale = float(np.exp(log_scale)) / spread
        return float((logsumexp(scale * score_NM, axis=1) - scale * own_N).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(-8.0, 6.0), method="bounded").x) / spread)
