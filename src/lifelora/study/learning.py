"""What training of language models that are asked yes or no costs: tokens and processor time of a sample. Keeps no weights."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

import numpy as np
from jaxtyping import Int

from lifelora.errors import ConfigError
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.yes_no import YesNoLM
from lifelora.retrieval.growing import blocks
from lifelora.run import Run
from lifelora.run.scorers.yes_no import YesNo
from lifelora.tensors import to_device
from lifelora.training.order import Order


@dataclass(frozen=True)
class Tokens:
    """Of all training samples of a system."""

    read: int
    "With what they share read once."
    alone: int
    "Of a prompt for each."


def tokens(run: Run, name: str) -> Tokens:
    """The tokens that an epoch of a system reads, padding aside."""
    scorer = _asked(run, name)
    shown = scorer.show(scorer.requests_of_training())
    alone = int(scorer.lengths(shown).sum())
    if shown.trunk_N is None:
        return Tokens(alone, alone)
    asked = shown.requests.targets, shown.chosen_NK, shown.mask_NK, shown.trunk_N
    trunk_R, branch_N, _ = scorer.builder.tree_lengths(*asked)
    # A step may cut a block in two and read its trunk twice; that is a trunk more a step at most, and not counted.
    return Tokens(int(trunk_R.sum() + branch_N.sum()), alone)


def milliseconds(run: Run, names: Sequence[str], rounds: int = 6) -> dict[str, float]:
    """Processor time of forward and backward for a training sample, the median over steps in which the systems take turns.

    So what else the machine does falls on all of them; the first turn is not counted.
    """
    turns = [(name, *_prepared(run, name)) for name in names]
    took: dict[str, list[float]] = {name: [] for name in names}
    for number in range(rounds + 1):
        for name, lm, batches, order in turns:
            places_B = order.step(number % order.steps)
            with lm.adapters.loaded():
                lm.to(run.context.device).train()
                began = time.process_time()
                batch = to_device(batches(places_B), run.context.device)
                with lm.scope(batch):
                    lm.loss(batch).backward()  # type: ignore[no-untyped-call]
                took[name].append(1000 * (time.process_time() - began) / len(places_B))
                lm.zero_grad(set_to_none=True)
    return {name: median(of[1:]) for name, of in took.items()}


def _prepared(run: Run, name: str) -> tuple[YesNoLM, Callable[[Int[np.ndarray, "B"]], PersonalBatch], Order]:
    """A system as training finds it, what makes its batches, and their order."""
    scorer = _asked(run, name)
    shown, system = scorer.show(scorer.requests_of_training()), scorer.system
    together_N = None if system.block is None else blocks(shown.requests.targets, system.block)
    order = Order(np.arange(len(shown)), system.training.batch_size, run.recipe.seed, together_N)
    return scorer.untrained(), partial(scorer.batch, shown), order


def _asked(run: Run, name: str) -> YesNo:
    scorer = run.scorers[name]
    if not isinstance(scorer, YesNo):
        raise ConfigError(f"{name} is not asked yes or no, so its training samples have no trees to count.")
    return scorer
