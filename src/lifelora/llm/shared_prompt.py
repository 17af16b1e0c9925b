"""Prompts that are read once for all their answers, as many of which are computed together as have room. Knows no data set.

The keys and values of a prompt are copied for each of its answers, so what is computed together is bounded by tokens: rows times
answers times the tokens of a prompt and an answer.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora.errors import ConfigError
from lifelora.llm.continuation import Continuation
from lifelora.llm.cost import Cost
from lifelora.llm.head import full_precision
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.titles import TitleLM
from lifelora.lora.structure import Structure
from lifelora.prompts.fill import Prompts

MAX_TOKENS = 1 << 15
"""How many are computed together by default: more is not faster on a CPU."""


@dataclass
class SharedPrompt:
    """Prompts that were read and what followed them, for rows that stand ``repeats`` times one after another."""

    lm: TitleLM
    C: Structure | None
    "C(u) of the users, without repetition."
    read: Continuation
    logits_BV: Float[Tensor, "B V"]
    "After the prompts."
    repeats: int = 1

    @classmethod
    def of(cls, lm: TitleLM, batch: PersonalBatch, cost: Cost) -> "SharedPrompt":
        """Compute the prompts, all rows together; ConfigError for those that have their answers already."""
        prompts = batch.prompts
        assert isinstance(prompts, Prompts)
        if prompts.answer_BA is not None:
            raise ConfigError("these prompts already have their answers: ask with TitleBuilder.question.")
        C = lm.couplings(batch)
        with lm.adapters.holding(C), full_precision(lm.model, when=lm.head):
            output = lm.run(batch, use_cache=True, logits_to_keep=1)
        cost.tokens += prompts.tokens_BL.numel()
        return cls(lm, C, Continuation.of(lm.model, output, prompts.mask_BL, lm.head), output.logits[:, -1].float())

    @property
    def length(self) -> int:
        """The tokens of a row, padding among them."""
        return self.read.mask_NL.shape[1]

    def parts(self, answers: int, length: int, max_tokens: int) -> Iterator[slice]:
        """The rows in slices that go together when each has so many answers of so many tokens; one row always does."""
        count = max(1, max_tokens // (answers * (self.length + length)))
        rows = len(self.logits_BV)
        return (slice(start, min(start + count, rows)) for start in range(0, rows, count))

    def repeated(self, times: int, part: slice = slice(None)) -> "SharedPrompt":
        """A copy with every row of a part several times."""
        rows_B = torch.arange(len(self.logits_BV), device=self.logits_BV.device)[part]
        C = self.C if self.C is None or len(rows_B) == len(self.logits_BV) else self.C.at(rows_B)
        return SharedPrompt(self.lm, C, self.read.taken(rows_B.repeat_interleave(times)), self.logits_BV[part], times)

    def after(self, tokens_NL: Int[Tensor, "N L"], mask_NL: Bool[Tensor, "N L"], cost: Cost) -> Tensor:
        """Read on; the logits at all these places."""
        cost.tokens += tokens_NL.numel()
        with self.lm.adapters.holding(self.C, self.repeats):
            return self.read.after(tokens_NL, mask_NL)
