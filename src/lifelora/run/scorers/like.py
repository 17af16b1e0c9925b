"""A conventional model that is asked whether an item will be liked: its scores are P(like). Knows no other question."""

from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifelora.conventional.base import Recommender
from lifelora.data.dataset import Samples, Targets
from lifelora.run.fitted import Folds
from lifelora.run.scorers.base import Requests
from lifelora.run.scorers.conventional import BATCH, ConventionalScorer, slices
from lifelora.scoring import in_batches


class LikeModel(ConventionalScorer):
    """Asks pair by pair, or, where the past does not depend on the item, once for a user."""

    def asked(self, recommender: Recommender) -> Recommender:
        return recommender

    def score(self, requests: Requests, said: str | None = None) -> Float[np.ndarray, "N C"]:
        model, targets = self.model.to(self.context.device).eval(), requests.targets
        assert isinstance(model, Recommender)

        def scored(index_B: Int[np.ndarray, "B"]) -> Float[np.ndarray, "B"]:
            made: np.ndarray = model.score(self._placed(targets.at(index_B))).double().cpu().numpy()
            return made

        same_N = np.ones(len(targets), np.int64)  # samples are of one length
        with torch.inference_mode():
            scores_N: np.ndarray = in_batches(same_N, scored, tokens=BATCH, said=said, progress=self.context.shows_progress)
        return scores_N[:, None]

    def prior(self, targets: Targets) -> Float[Tensor, "N"]:
        """The logit of each target, of samples that it was fitted on by the copies that were not (``folds``)."""
        logit_N = self.logits(targets)
        fold_N = Folds.of(self.context, self.name).at(targets) if self.copies else None
        for copy in self.copies:
            assert isinstance(copy, LikeModel)
            own = np.flatnonzero(fold_N == copy.fold)
            logit_N[own] = copy.logits(targets.at(own))
        return logit_N

    def logits(self, targets: Targets) -> Float[Tensor, "N"]:
        """log(p / (1 - p)) of each target, on the CPU."""
        model = self.model.to(self.context.device).eval()
        assert isinstance(model, Recommender)
        with torch.inference_mode():
            parts = [model.logits(self._placed(some)).float().cpu() for some in slices(targets, BATCH)]
        # A plain tensor: those of inference mode cannot be saved for backward.
        return torch.cat([torch.zeros(0), *parts]).clone()

    def over(self, targets: Targets, items_P: Int[np.ndarray, "P"]) -> Float[np.ndarray, "B P"] | None:
        """What a model reads of a user's past is read once, and not for each item."""
        model, chosen = self.model.to(self.context.device).eval(), self.step.behaviours
        assert isinstance(model, Recommender)
        if not model.one_past or (chosen is not None and chosen.needs_target):
            return None
        device, dataset = self.context.device, self.context.dataset
        items = torch.split(torch.from_numpy(np.minimum(items_P, dataset.known_items)).to(device), BATCH)
        made_BP = np.empty((len(targets), len(items_P)))
        with torch.inference_mode():
            for row in range(len(targets)):
                past = self._placed(targets.at(slice(row, row + 1)))
                made = [model.score(_put_to(past, item_B)) for item_B in items]
                made_BP[row] = torch.cat(made).double().cpu().numpy()
        return made_BP


def _put_to(past: Samples, item_B: Int[Tensor, "B"]) -> Samples:
    """Items put to the one user of ``past``."""
    count = len(item_B)
    return replace(
        past,
        user_B=past.user_B.expand(count),
        item_B=item_B,
        label_B=past.label_B.expand(count),
        position_B=past.position_B.expand(count),
    )
