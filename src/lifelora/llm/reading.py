"""Reads what the LM wrote: the line, the candidates that it names by our rule and by the published one, and the hits.

Knows a tokenizer and titles, no model. The ValidRatio is the mean of ``named_BC.any(dim=1)`` by either rule, HR@1 the mean of
``hits``, both over all rows.
"""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora.prompts.titles import Titles


class Reader:
    """Reads what the LM wrote."""

    def __init__(self, tokenizer: Any, end: int | None = None) -> None:
        """``end`` is a token with which answers end, beside newlines and the tokenizer's own end of a text."""
        self._backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        size = self._backend.get_vocab_size(with_added_tokens=True)
        texts = self._backend.decode_batch([[token] for token in range(size)], skip_special_tokens=False)
        lines = {token for token, text in enumerate(texts) if "\n" in text}
        given = (getattr(tokenizer, "eos_token_id", None), end)
        self._end = None if end in lines else end
        self.ends = sorted(lines | {int(token) for token in given if token is not None})
        "Tokens with which a line ends; a newline is one byte, so it is never more than one token."

    def line(self, ids: Sequence[int]) -> str:
        """The first line of tokens, trimmed."""
        ids = list(ids)
        if self._end in ids:
            ids = ids[: ids.index(self._end)]
        text: str = self._backend.decode(ids, skip_special_tokens=True)
        return text.partition("\n")[0].strip()

    def titles(self, titles: Titles) -> list[list[str]]:
        """Titles as the tokenizer writes them, which may be in lower case."""
        return [
            [self.line(tokens_A[mask_A].tolist()) for tokens_A, mask_A in zip(*row, strict=True)]
            for row in zip(titles.tokens_BCA, titles.mask_BCA, strict=True)
        ]


def exact(lines: Sequence[str], titles: Sequence[Sequence[str]]) -> Bool[Tensor, "B C"]:
    """Our rule: an answer names the candidates whose whole title it is."""
    return torch.tensor([[title == line for title in row] for line, row in zip(lines, titles, strict=True)], dtype=torch.bool)


def contained(lines: Sequence[str], titles: Sequence[Sequence[str]]) -> Bool[Tensor, "B C"]:
    """The published rule (LLaRA, iLoRA): the one candidate whose title is in the answer, upper or lower case alike.

    Where there are several, none is named: "Aliens" is no answer where "Alien" is a candidate, too, nor a title that two have.
    """
    found_BC = torch.tensor(
        [[title.lower() in line.lower() for title in row] for line, row in zip(lines, titles, strict=True)], dtype=torch.bool
    )
    return found_BC & (found_BC.sum(dim=1, keepdim=True) == 1)


def hits(named_BC: Bool[Tensor, "B C"], target_B: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
    """HR@1 of each row: 1 / n where the target is among the n that are named, else 0; their mean over all rows is HR@1.

    One of n equal titles would be taken blindly, so this is what is to be expected of it. A row without a valid answer counts
    as 0 and is never left out. The mean of ``named_BC.any(dim=1)`` is the ValidRatio.
    """
    right_B = named_BC.gather(1, target_B[:, None])[:, 0]
    return right_B / named_BC.sum(dim=1).clamp(min=1)
