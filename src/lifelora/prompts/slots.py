"""Where soft tokens stand in the lines of prompts, and their tokens. Knows lines and tokenizers, not whose vectors they are.

A template says where with ``{soft}``. A line without it has its soft token a space after its last word and before the
punctuation that ends it: ``Heat (4 stars) ▢``, ``Would they like Heat ▢?``. In a prompt of words alone nothing is left of
``{soft}``, nor of the space before it.

A slot is what an added special token is: the text before it and the text after it are tokenised apart. The authors of SPA
and LLaRA add such tokens to the LM's vocabulary; here they are known to the tokenizer of lines alone.
"""

import copy
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Literal

import numpy as np
from jaxtyping import Int
from tokenizers import AddedToken

from lifelora.tokens import LineTokenizer

Place = Literal["user", "behaviours", "target"]
"""Whose soft tokens a prompt has: the user's, on a line after the behaviours; each behaviour's; the target's."""
MARK = "{soft}"
CLOSING = ".,;:!?…"
ITEM_SLOT, USER_SLOT = "[soft:item\ufdd0]", "[soft:user\ufdd0]"
"""What stands for a soft token in a template's own words, with a character that Unicode keeps for a program's own use."""
ITEM, USER = -1, -2
"""What stands for it among the ids of lines; USER also says of a soft token in a batch that it is the user's."""


def with_slot(line: str, slot: str) -> str:
    """A template's line with a slot in its place."""
    if MARK not in line:
        words = line.rstrip(CLOSING)
        line = f"{words} {MARK}{line[len(words) :]}"
    return line.replace(MARK, slot)


def without_mark(line: str) -> str:
    """A template's line as it is where there is no soft token."""
    return re.sub(f" ?{re.escape(MARK)}", "", line)


def one_mark(what: str, lines: Iterable[str]) -> None:
    """ValueError where ``lines`` have more than one ``{soft}``, or one in words that may be left out."""
    text = "\n".join(lines)
    if text.count(MARK) > 1:
        raise ValueError(f"{what} has {MARK} {text.count(MARK)} times, but there is one soft token; keep one of them")
    if MARK in "".join(re.findall(r"\[\[(.*?)\]\]", text)):
        raise ValueError(
            f"{what} has {MARK} in [[ … ]], but a soft token is not optional; put it outside. A prompt without "
            "soft tokens loses it anyway, and the space before it"
        )


class SlotTokenizer(LineTokenizer):
    """Gives ITEM and USER for the slots in a template's own words; text of data never is a slot."""

    def __init__(self, tokenizer: Any) -> None:
        tokenizer, slots = copy.deepcopy(tokenizer), {ITEM_SLOT: ITEM, USER_SLOT: USER}
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        backend.add_special_tokens([AddedToken(slot, special=True, normalized=False) for slot in slots])
        self._codes = {int(backend.token_to_id(slot)): code for slot, code in slots.items()}
        super().__init__(tokenizer)

    def many(self, texts: Sequence[str]) -> Iterator[Int[np.ndarray, "L"]]:
        """As a LineTokenizer's."""
        return map(self._coded, super().many(texts))

    def lines(self, texts: Sequence[str], before: str, after: str) -> Iterator[Int[np.ndarray, "L"]]:
        """As a LineTokenizer's."""
        return map(self._coded, super().lines(texts, before, after))

    def _coded(self, ids_L: Int[np.ndarray, "L"]) -> Int[np.ndarray, "L"]:
        for token, code in self._codes.items():
            ids_L[ids_L == token] = code
        return ids_L
