"""What the training of a language model will read, and how long a step of it takes. Knows a scorer; no weight is changed."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor, nn

from lifelora.llm.backbone import DTYPES
from lifelora.llm.cost import Cost
from lifelora.llm.item_form import Curriculum
from lifelora.llm.personal import PersonalBatch
from lifelora.retrieval.growing import blocks
from lifelora.run.forecast import LEARNING, SPARE, Part, Step
from lifelora.run.scorers.language import LanguageScorer
from lifelora.tensors import to_device
from lifelora.training.order import Order

Made = TypeVar("Made")
STEPS = 32
"""Steps whose prompts are counted, evenly spread over an epoch."""
SECONDS = 1.0
"""About as long is each timed step; there are three, and one to find out how many samples that are."""
PLACES = (1 / 6, 1 / 2, 5 / 6)
"""Of the micro-batches, by their tokens: which are timed."""


@dataclass(frozen=True)
class LearningAhead:
    """The training of a stand-in, whose micro-batches are made as those of the training will be."""

    made: LanguageScorer[Any]
    gather: Callable[[Int[np.ndarray, "_"]], PersonalBatch]
    parts: Sequence[Int[np.ndarray, "_"]]
    "Of some steps, the samples of each micro-batch, for ``gather``."
    rows: int
    "Samples that are read in all, those of every epoch."
    planned: int
    epoch: int
    "Steps in all, and of an epoch."

    @classmethod
    def of(cls, made: LanguageScorer[Any]) -> "LearningAhead":
        """Of a system's samples, in the order in which it will learn from them."""
        context, system, training = made.context, made.system, made.system.training
        drawn = made.requests_of_training()
        count, double = len(drawn), system.mix_with is not None
        together_N = None if system.block is None else blocks(drawn.targets, system.block)
        order = Order(np.arange(count * (1 + double)), training.batch_size, context.recipe.seed, together_N)
        planned = min(training.epochs * order.steps, training.max_steps or sys.maxsize)
        micro = -(-training.batch_size // training.accumulation)
        steps = np.unique(np.linspace(0, min(planned, order.steps) - 1, STEPS).astype(int)).tolist()
        parts = [part for step in steps for part in order.parts(order.step(step), micro)]
        # Of many samples the behaviours of those alone are chosen that are looked at.
        row_n = np.unique(np.concatenate(parts) % count)
        shown = made.show(drawn.at(row_n))
        if system.mix_with is not None:
            shown = shown.mixed(made.show(drawn.at(row_n), system.mix_with))
        batches = made.batches(shown, Cost())
        gather = batches.at(0, planned, 0) if isinstance(batches, Curriculum) else batches
        places = [np.searchsorted(row_n, part % count) + len(row_n) * (part // count) for part in parts]
        epochs, rest = divmod(planned, order.steps)
        return cls(made, gather, places, epochs * len(order.rows_N) + rest * training.batch_size, planned, order.steps)

    @property
    def evaluations(self) -> int:
        """How often the loop will validate, unless patience ends it before."""
        k, n = self.made.system.training.evaluations_per_epoch, self.epoch
        step_N = np.arange(self.planned)
        return int((((step_N % n + 1) * k // n > step_N % n * k // n) | (step_N == self.planned - 1)).sum())

    def part(self) -> Part:
        """It, with a few of its steps timed."""
        costs = [Cost() for _ in self.parts]
        for cost, part in zip(costs, self.parts, strict=True):
            cost.read(self.gather(part).prompts)
        tokens, samples = sum(cost.tokens for cost in costs), sum(cost.samples for cost in costs)
        steps, saved = self._timed([self.parts[i] for i in np.argsort([cost.tokens for cost in costs], kind="stable")])
        learning = LEARNING * sum(p.numel() for p in self.made.lm.adapters.parameters() if p.requires_grad)
        largest, own = max(cost.tokens for cost in costs), max(cost.tokens / cost.samples for cost in costs)
        return Part(
            self.made.name,
            "training",
            self.rows,
            tokens * self.rows / samples,
            steps,
            int(saved * largest * (1 + SPARE)) + learning,
            int(saved * own * (1 + SPARE)) + learning,
            self.made.system.training.accumulation,
        )

    def _timed(self, parts: Sequence[Int[np.ndarray, "_"]]) -> tuple[list[Step], float]:
        """Steps of some micro-batches, in rising order of their tokens, and the bytes that forward keeps of a token."""
        lm, context = self.made.lm, self.made.context
        steps, device = list[Step](), context.device
        lm.train()
        with lm.adapters.loaded(), torch.random.fork_rng([] if device.type == "cpu" else [device], device_type=device.type):
            one = parts[len(parts) // 2][:1]
            saved, first = saved_for_backward(lm, lambda: self._step(one))
            if context.options.checkpointing:
                # Of each layer its input is kept, and of one at a time the rest.
                config = cast(Any, lm.model).config.get_text_config()
                saved = saved / config.num_hidden_layers + first.tokens * config.num_hidden_layers * config.hidden_size * 4
                lm.adapters.enable_checkpointing()
            few = max(1, int(SECONDS / max(first.seconds, 1e-9)))
            for place in PLACES:
                cost = self._step(parts[int(place * len(parts))][:few])
                steps.append(Step(cost.tokens, cost.seconds))
        lm.eval()
        return steps, saved / first.tokens

    def _step(self, index_B: Int[np.ndarray, "B"]) -> Cost:
        """Forward and backward of a few samples; their gradients are thrown away."""
        lm, device, cost, precision = self.made.lm, self.made.context.device, Cost(), self.made.system.training.precision
        batch = to_device(cost.counting(self.gather(index_B)), device)
        cast_to = torch.autocast(device.type, DTYPES[precision], enabled=precision != "fp32")
        with cost.clock(device), lm.scope(batch):
            with cast_to:
                loss = lm.loss(batch)
            loss.backward()
        lm.zero_grad()
        return cost


def saved_for_backward(module: nn.Module, work: Callable[[], Made]) -> tuple[float, Made]:
    """The bytes that some work's forward keeps for its backward, beside the module's own; and what it took."""
    own = {p.untyped_storage().data_ptr() for p in module.parameters()}
    found = dict[int, int]()

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            found[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        result = work()
    return float(sum(found.values())), result
