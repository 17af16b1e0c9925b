"""What is told of a system that adds its logit to a conventional model's: which, whether it knew the samples, α and β."""

from pathlib import Path

import numpy as np

from lifelora.llm.yes_no import SPEED
from lifelora.run.scorers.base import MODEL
from lifelora.run.scorers.conventional import ConventionalScorer
from lifelora.tensors import read_tensors

ALPHA, BETA = "prior.a", "prior.b"
"""Of the weights that a system keeps; α and β are ``SPEED`` times these (``llm.yes_no.Prior``)."""


def told(model: ConventionalScorer, samples_N: np.ndarray, folder: Path) -> str:
    """For a reader: the model, what it knew of a system's training samples, and the α and β that the system has learnt."""
    kept, _ = read_tensors(folder / MODEL)
    alpha, beta = (f"{SPEED * float(kept[key]):.3g}".replace("-", "\N{MINUS SIGN}") for key in (ALPHA, BETA))
    return f"prior: {model.name}, {_knew(model, samples_N)}; α = {alpha}, β = {beta}"


def note(name: str, model: ConventionalScorer, samples_N: np.ndarray) -> str:
    """What a reader should know of a prior that was fitted on the samples of the system of that name; empty for others."""
    count = known(model, samples_N)
    if not count or model.copies:
        return ""
    mend = (
        "take a prior that does not count"
        if model.step.model.counts
        else f"set conventional.{model.name}.folds, or held_out = 'systems'"
    )
    return (
        f"The prior of {name} was fitted on {count:,} of the {len(samples_N):,} samples that {name} learns from: it is better "
        f"there than it is of new ones, and {name} may trust it too much. To mend that, {mend}."
    )


def known(model: ConventionalScorer, samples_N: np.ndarray) -> int:
    """How many of some training samples a model was fitted on."""
    return len(samples_N) if model.step.model.counts else int(np.isin(samples_N, model.fitted).sum())


def _knew(model: ConventionalScorer, samples_N: np.ndarray) -> str:
    count = known(model, samples_N)
    if count and model.copies:
        return f"of training samples that of {len(model.copies)} copies that were not fitted on their users"
    return f"fitted on {count:,} of them" if count else "fitted on none of them"
