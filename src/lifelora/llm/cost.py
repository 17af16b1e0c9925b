"""What a language model took for some samples: the tokens that it read, and the time. Knows no model and no question."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Float

from lifelora.llm.personal import PersonalBatch
from lifelora.prompts.fill import Prompts
from lifelora.prompts.tree import PromptTrees
from lifelora.training import parallel

Result = TypeVar("Result")


@dataclass
class Cost:
    """What was read for some samples, and the time that it took."""

    tokens: int = 0
    "That went through the LM: padding and beams that came to nothing, too, and what samples share as often as it was read."
    seconds: float = 0.0
    alone: int = 0
    "That the samples' own prompts have, without padding, shared or not; 0 where it is not known."
    samples: int = 0

    def add(self, other: "Cost") -> None:
        """Both together."""
        self.tokens += other.tokens
        self.seconds += other.seconds
        self.alone += other.alone
        self.samples += other.samples

    def since(self, before: "Cost") -> "Cost":
        """What came to it after it was as ``before``."""
        return Cost(
            self.tokens - before.tokens,
            self.seconds - before.seconds,
            self.alone - before.alone,
            self.samples - before.samples,
        )

    def counting(self, batch: PersonalBatch) -> PersonalBatch:
        """The batch, whose prompts are counted."""
        self.read(batch.prompts)
        return batch

    def read(self, prompts: Prompts | PromptTrees) -> None:
        """Count prompts, or the branches of trees, that the LM reads."""
        if isinstance(prompts, PromptTrees):
            tokens, alone, samples = len(prompts.tokens_L), prompts.place_G + prompts.branch_G, len(prompts)
        else:
            tokens, alone, samples = prompts.tokens_BL.numel(), prompts.mask_BL, len(prompts.tokens_BL)
        self.add(Cost(tokens, alone=int(alone.sum()), samples=samples))

    @contextmanager
    def clock(self, device: torch.device) -> Iterator[None]:
        """Count the time of what is done inside."""
        began = time.perf_counter()
        try:
            yield
        finally:
            _finish(device)
            self.seconds += time.perf_counter() - began

    def uncounted(self, work: Callable[[], Result], device: torch.device) -> Callable[[], Result]:
        """``work``, whose time inside of ``clock`` is not counted."""

        def beside() -> Result:
            _finish(device)
            began = time.perf_counter()
            try:
                return work()
            finally:
                _finish(device)
                self.seconds -= time.perf_counter() - began

        return beside

    def shares(self, count: int) -> Float[np.ndarray, "N 3"]:
        """What each of so many rows took of it."""
        return np.full((count, 3), [self.tokens / count, self.seconds / count, self.alone / count])

    @classmethod
    def of(cls, share_N3: Float[np.ndarray, "N 3"]) -> "Cost":
        """All shares together."""
        tokens, seconds, alone = share_N3.sum(axis=0).tolist()
        return cls(round(tokens), seconds, round(alone), len(share_N3))

    def of_all(self) -> "Cost":
        """What several processes counted, each its own samples; the time is this one's. They all have to call this."""
        every = parallel.gathered(self)
        return Cost(sum(c.tokens for c in every), self.seconds, sum(c.alone for c in every), sum(c.samples for c in every))


@contextmanager
def clocked(device: torch.device) -> Iterator[Cost]:
    """The cost of what is done inside; its tokens are counted by who knows them."""
    cost = Cost()
    with cost.clock(device):
        yield cost


def _finish(device: torch.device) -> None:
    if device.type != "cpu":
        torch.get_device_module(device).synchronize(device)
