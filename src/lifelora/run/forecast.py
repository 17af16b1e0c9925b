"""What the language models of a run will take, in time and memory, as arithmetic and as text. Knows figures, no model.

    seconds = tokens · (seconds of the timed steps / their tokens)

From the fastest of the timed steps to the slowest, and ``MARGIN`` more either way, it may be. What a step of training needs:

    saved · tokens of its largest micro-batch · (1 + SPARE) + 16 bytes a parameter that learns

``saved``: bytes that forward keeps for backward, by token, as they were counted; 16: gradient, two moments, and the best so far.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import final

from lifelora.errors import ConfigError
from lifelora.evaluation.tables import amount, duration, in_blocks

MARGIN = 0.25
"""Of the time: what a few steps do not show of a long run, other work on the machine above all."""
SPARE = 0.25
"""Of what is saved for backward: what lives for a moment beside it."""
LEARNING = 16
"""Bytes of a parameter that learns, beside itself."""
GIB = 1 << 30
WORTH = 60.0
"""Seconds of work from which on a run says beforehand what it will take."""


@final
@dataclass(frozen=True)
class Step:
    """Something that was timed."""

    tokens: int
    seconds: float


@final
@dataclass(frozen=True)
class Part:
    """One way in which a system uses the language model, all times that it does."""

    system: str
    way: str
    samples: int
    tokens: float
    "All that are read, padding among them; what samples share once."
    steps: Sequence[Step]
    memory: int
    "Bytes at most, beside the model's weights."
    fewest: int = 0
    "Bytes where one sample at a time is read."
    accumulation: int = 0
    "Of training: its micro-batches."

    @property
    def seconds(self) -> float:
        """Expected."""
        return self.tokens * sum(step.seconds for step in self.steps) / sum(step.tokens for step in self.steps)

    @property
    def span(self) -> tuple[float, float]:
        """Seconds at least and at most, as far as the timed steps tell."""
        of_one = [step.seconds / step.tokens for step in self.steps]
        return self.tokens * min(of_one) / (1 + MARGIN), self.tokens * max(of_one) * (1 + MARGIN)


@final
@dataclass(frozen=True)
class Forecast:
    """All that the language models of a run will do."""

    parts: Sequence[Part]
    machine: str
    weights: int
    "Bytes of the language model."
    free: int | None
    "Bytes that the process can still have beside these; None where that cannot be asked."

    @property
    def seconds(self) -> float:
        """Expected, of all parts."""
        return math.fsum(part.seconds for part in self.parts)

    def refuse(self, *, checkpointing: bool) -> None:
        """Raise ConfigError for what the memory does not bear, with the mend."""
        for part in self.parts:
            if self.free is None or part.memory <= self.free:
                continue
            key, mends = f"systems.{part.system}", list[str]()
            if part.fewest <= self.free and part.accumulation:
                # What a micro-batch takes beside what one of any size does not change.
                needed = math.ceil(part.accumulation * part.memory / self.free)
                mends.append(f"set {key}.training.accumulation = {needed} (it is {part.accumulation})")
            if part.accumulation and not checkpointing:
                mends.append("give --checkpointing")
            mends += [f"lower {key}.max_tokens", "set backbone.layers", "set backbone.quantization"]
            raise ConfigError(
                f"{key} needs about {gib(part.memory)} for its {part.way}, beside {gib(self.weights)} of the language model, and "
                f"{gib(self.free)} are free on {self.machine}. Nothing was started. One of these helps: {'; '.join(mends)}."
            )

    def __str__(self) -> str:
        if not self.parts:
            return "There is nothing left for language models to do."
        columns = [["", *(f"{part.system}, {part.way}" for part in self.parts), "in all"]]
        columns.append(["Samples", *(f"{part.samples:,}" for part in self.parts), ""])
        columns.append(["Tokens a sample", *(amount(part.tokens / max(part.samples, 1)) for part in self.parts), ""])
        columns.append(["Tokens a second", *(amount(part.tokens / part.seconds) for part in self.parts), ""])
        columns.append(["Expected", *(duration(part.seconds) for part in self.parts), duration(self.seconds)])
        spans = [part.span for part in self.parts]
        spans.append((math.fsum(low for low, _ in spans), math.fsum(high for _, high in spans)))
        columns.append(["From", *(duration(low) for low, _ in spans)])
        columns.append(["To", *(duration(high) for _, high in spans)])
        most = max(part.memory for part in self.parts)
        columns.append(["Memory", *(gib(part.memory) for part in self.parts), gib(most)])
        free = "unknown" if self.free is None else gib(self.free)
        about = f"Language models on {self.machine}: weights {gib(self.weights)}, {free} free beside them"
        return "\n".join([about, *in_blocks(columns, 110)])


def gib(number: int | float) -> str:
    """1.5 GiB; smaller ones as MiB."""
    return f"{number / GIB:.1f} GiB" if number >= GIB / 10 else f"{number / (1 << 20):.0f} MiB"
