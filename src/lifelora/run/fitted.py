"""The training samples that a conventional model is fitted on: without those held out, and without a fold. Knows no model."""

from dataclasses import dataclass
from typing import final

import numpy as np
from jaxtyping import Bool, Int

from lifelora import seeds
from lifelora.data.dataset import Dataset, Targets
from lifelora.errors import ConfigError
from lifelora.recipe.fed import learnt_from
from lifelora.run.context import TRAINING_STREAM, Context

FOLD_STREAM = "folds"


@final
@dataclass(frozen=True)
class Folds:
    """The samples that a model is fitted on, and the fold of each: all samples of a user are in one."""

    samples_N: Int[np.ndarray, "N"]
    fold_N: Int[np.ndarray, "N"]
    dataset: Dataset

    @classmethod
    def of(cls, context: Context, name: str) -> "Folds":
        """Of the model of that name; users are drawn once by seed."""
        samples_N, dataset = fitted(context, name), context.dataset
        drawn_U = seeds.generator(context.recipe.seed, FOLD_STREAM, name).permutation(dataset.known_users)
        return cls(samples_N, drawn_U[dataset.targets(samples_N).user_B] % context.recipe.conventional[name].folds, dataset)

    def without(self, fold: int) -> Int[np.ndarray, "_"]:
        """The samples of all other folds."""
        kept: np.ndarray = self.samples_N[self.fold_N != fold]
        return kept

    def at(self, targets: Targets) -> Int[np.ndarray, "B"]:
        """The fold of each target, where the model was fitted on a sample of its event; -1 where it was on none."""
        fitted = self.dataset.targets(self.samples_N)
        width = 1 + max(int(fitted.position_B.max()), int(targets.position_B.max(initial=0)))
        key_N, order_N = np.unique(fitted.user_B * width + fitted.position_B, return_index=True)
        asked_B = targets.user_B * width + targets.position_B
        place_B = np.minimum(np.searchsorted(key_N, asked_B), len(key_N) - 1)
        return np.where(key_N[place_B] == asked_B, self.fold_N[order_N[place_B]], -1)


def fitted(context: Context, name: str) -> Int[np.ndarray, "N"]:
    """The samples that the model of that name is fitted on, in the part's order."""
    step = context.recipe.conventional[name]
    if step.held_out == "none":
        return context.training_samples(step.train_samples)
    kept_N = ~held_out(context, name)
    if not kept_N.any():
        raise ConfigError(
            f"conventional.{name}.held_out = 'systems' leaves nothing to fit '{name}' on: its systems learn from all "
            f"{len(kept_N):,} training samples. Give them fewer train_samples, or, for a prior, give conventional.{name}.folds."
        )
    return context.drawn("train", step.train_samples, TRAINING_STREAM, kept_N)


def held_out(context: Context, name: str) -> Bool[np.ndarray, "N"]:
    """Which of all training samples the systems learn from that the model feeds; a like and what was drawn beside it are one."""
    dataset, rows = context.dataset, np.asarray(context.dataset.samples["train"])
    drawn = [context.training_samples(count, block or None) for block, count in learnt_from(context.recipe.systems, name).items()]
    return np.isin(dataset.negatives.rows(rows), dataset.negatives.rows(np.concatenate(drawn)))
