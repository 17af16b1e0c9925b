"""Prompts that were read once and are read on, several times over: what a model of transformers keeps of them, and its order.

Knows tokens and masks; no adapter, no task.
"""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.llm.head import full_precision


@dataclass
class Continuation:
    """A model and what it keeps of N texts: keys and values, states of recurrent layers."""

    model: nn.Module
    cache: Any
    mask_NL: Bool[Tensor, "N L"]
    head: bool = True
    "Whether the head can be computed in full precision."

    @classmethod
    def of(cls, model: nn.Module, output: Any, mask_NL: Bool[Tensor, "N L"], head: bool = True) -> "Continuation":
        """From a model's output with ``use_cache``; ConfigError for one that keeps nothing that could be shared."""
        cache = getattr(output, "past_key_values", None)
        if not callable(getattr(cache, "reorder_cache", None)):
            raise ConfigError(f"{type(model).__name__} keeps nothing of a prompt that its titles could share.")
        return cls(model, cache, mask_NL, head)

    def taken(self, rows_M: Int[Tensor, "M"]) -> "Continuation":
        """A copy with these texts, which may come several times."""
        again = Continuation(self.model, copy.deepcopy(self.cache), self.mask_NL, self.head)
        # Not batch_repeat_interleave, which recurrent layers lack.
        again.reordered(rows_M)
        return again

    def repeated(self, times: int) -> "Continuation":
        """A copy with every text several times, one after the other."""
        return self.taken(torch.arange(len(self.mask_NL), device=self.mask_NL.device).repeat_interleave(times))

    def reordered(self, rows_M: Int[Tensor, "M"]) -> None:
        """Go on with other rows, or more of them."""
        self.cache.reorder_cache(rows_M)
        self.mask_NL = self.mask_NL[rows_M]

    def after(self, tokens_NA: Int[Tensor, "N A"], mask_NA: Bool[Tensor, "N A"]) -> Float[Tensor, "N A V"]:
        """Read on; the logits at all these places, in full precision."""
        before_N1 = self.mask_NL.sum(dim=1, keepdim=True)
        # Padding takes the place of the token before it: a model with learnt positions has none to spare.
        position_NA = before_N1 + (mask_NA.long().cumsum(dim=1) - 1).clamp(min=0)
        self.mask_NL = torch.cat([self.mask_NL, mask_NA], dim=1)
        with full_precision(self.model, when=self.head):
            output = self.model(
                input_ids=tokens_NA,
                attention_mask=self.mask_NL.long(),
                position_ids=position_NA,
                past_key_values=self.cache,
                use_cache=True,
            )
        logits_NAV: Tensor = output.logits.float()
        return logits_NAV
