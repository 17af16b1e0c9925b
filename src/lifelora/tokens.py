"""Text to token ids: what the data say is text and never a control token. Knows a fast tokenizer, no prompt and no model.

A tokenizer takes the added tokens that a text spells (``<|im_end|>``, ``</s>``, those that are not "special", too) for those
tokens, so a title could end a turn of a chat. Here they come from a template's own words alone: ``marked`` puts a name that
no data can know in their place there, and everywhere else the text gives the tokens of its characters, as if the tokenizer
had no such tokens. Ordinary text, which spells none, has the very ids that the tokenizer gives it.
"""

import copy
import json
import re
import secrets
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Int
from tokenizers import Tokenizer

from lifelora.errors import ConfigError

AT_ONCE = 4096
"""Texts given to the tokenizer in one call."""
BRACKETS = ("⟦", "⟧")
"""Around a control token, where a text is shown to a reader."""
BYTE = re.compile(r"<0x[0-9A-F]{2}>")


class LineTokenizer:
    """Token ids of texts, by any fast tokenizer: of ``tokenizers``, or wrapped by ``transformers``.

    Every text is data, but for what ``marked`` has marked in it.
    """

    def __init__(self, tokenizer: Any) -> None:
        # A copy, because truncation and padding are states of the tokenizer and we need neither.
        self._backend = copy.deepcopy(getattr(tokenizer, "backend_tokenizer", tokenizer))
        self._backend.no_truncation()
        self._backend.no_padding()
        self._salt = secrets.token_hex(8)
        added = {number: token for number, token in self._backend.get_added_tokens_decoder().items() if not _blank(token.content)}
        # The model needs single characters and bytes for other texts, so they are tokens of text even where they are added.
        self._needed = {
            number
            for number, token in added.items()
            if (len(token.content) == 1 or BYTE.fullmatch(token.content))
            and self._backend.model.token_to_id(token.content) is not None
        }
        self._controls = {number: token for number, token in added.items() if number not in self._needed}
        self._added = frozenset(added)
        self._marks = re.compile(f"<{self._salt}-([0-9]+)>")

        special: list[int] = list(tokenizer("A")["input_ids"] if callable(tokenizer) else self._backend.encode("A").ids)
        bare = self.ids("A")
        places = [i for i in range(len(special)) if special[i : i + len(bare)] == bare]
        if not places:
            raise ConfigError(
                f"the tokenizer gives {special} for 'A' with special tokens and {bare} without, so it cannot be seen "
                "which come before a text; repair its post-processor (tokenizer.json) or take another backbone."
            )
        self.start = special[: places[0]]
        "The special tokens before a text (BOS)."
        self.end = special[places[0] + len(bare) :]
        "Those after it, which a prompt does without (EOS, SEP)."

    def marked(self, text: str) -> str:
        """A template's own words, with a mark for every control token that they spell, the longest of those that overlap."""
        return self._spelled.sub(lambda match: self._mark(self._number_of[match[0]]), text) if self._controls else text

    def plain(self, text: str) -> str:
        """A text as it was before ``marked``."""
        if self._salt not in text:
            return text
        return self._marks.sub(lambda match: self._controls[int(match[1])].content, text)

    def visible(self, text: str) -> str:
        """The same, with each control token in ``BRACKETS``."""
        left, right = BRACKETS
        return self._marks.sub(lambda match: f"{left}{self._controls[int(match[1])].content}{right}", text)

    def through_control(self, text: str) -> str:
        """A template's own words up to and with the first control token that they spell; nothing where they spell none."""
        found = self._spelled.search(text) if self._controls else None
        return text[: found.end()] if found else ""

    def whole(self, text: str) -> list[int]:
        """The reference: special tokens at the start, then the text as one string, and no token of an end."""
        return self.start + self.ids(text)

    def ids(self, text: str) -> list[int]:
        """A text alone, without special tokens."""
        ids: list[int] = next(self.many([text])).tolist()
        return ids

    def many(self, texts: Sequence[str]) -> Iterator[Int[np.ndarray, "L"]]:
        """Each text alone, without special tokens."""
        return (ids_L for ids_L, _, _ in self._encoded(texts))

    def lines(self, texts: Sequence[str], before: str, after: str) -> Iterator[Int[np.ndarray, "L"]]:
        """The ids of each text where it stands between ``before`` and ``after``.

        Raises ConfigError when a token has a part in two of them.
        """
        encoded = self._encoded([before + text + after for text in texts])
        for text, (ids_L, encoding, read) in zip(texts, encoded, strict=True):
            left = len(read(before))
            right = left + len(read(text))
            starts, ends = np.array(encoding.offsets, np.int64).reshape(-1, 2).T
            if np.any((starts < left) & (left < ends)) or np.any((starts < right) & (right < ends)):
                raise lines_join(self.plain(text))
            # A token of no width (the space that SentencePiece puts first) counts to what follows it.
            yield ids_L[((ends > left) | (left == 0)) & (ends <= right)]

    @cached_property
    def literal(self) -> Tokenizer:
        """The tokenizer with a mark in place of every control token, so that no text spells one; its ids are the same.

        Raises ConfigError for a tokenizer whose ids change when it is written and read.
        """
        state = json.loads(self._backend.to_str())
        marks = {number: self._mark(number) for number in self._controls}
        _rename(state["model"], {token.content: marks[number] for number, token in self._controls.items()})
        kept = []
        for token in state["added_tokens"]:
            if mark := marks.get(token["id"]):
                # ``marked`` has settled where such a token stands, by its own rules for whole words.
                token |= {"content": mark, "single_word": False, "normalized": False}
            elif token["id"] in self._needed:
                continue
            kept.append(token)
        literal = Tokenizer.from_str(json.dumps(state | {"added_tokens": kept}))
        wrong = [number for number, mark in marks.items() if literal.token_to_id(mark) != number]
        if wrong:
            raise ConfigError(
                f"the tokenizer's token {self._controls[wrong[0]].content!r} is {wrong[0]}, and "
                f"{literal.token_to_id(marks[wrong[0]])} when the tokenizer is written and read again; repair the numbers of "
                "its added tokens (tokenizer.json) or take another backbone."
            )
        return literal

    def _mark(self, number: int) -> str:
        return f"<{self._salt}-{number}>"

    @cached_property
    def _number_of(self) -> dict[str, int]:
        return {token.content: number for number, token in self._controls.items()}

    @cached_property
    def _spelled(self) -> re.Pattern[str]:
        longest_first = sorted(self._controls.values(), key=lambda token: -len(token.content))
        return re.compile(
            "|".join(
                rf"(?<!\w){re.escape(token.content)}(?!\w)" if token.single_word else re.escape(token.content)
                for token in longest_first
            )
        )

    def _encoded(self, texts: Sequence[str]) -> Iterator[tuple[Int[np.ndarray, "L"], Any, Callable[[str], str]]]:
        """The ids of each text, the tokenizer's encoding, and the form (``plain`` or as it is) of the text that it is of."""
        for first in range(0, len(texts), AT_ONCE):
            some = texts[first : first + AT_ONCE]
            plain = [self.plain(text) for text in some]
            for text, encoding in zip(some, self._backend.encode_batch(plain, add_special_tokens=False), strict=True):
                read: Callable[[str], str] = self.plain
                ids: list[int] = encoding.ids
                if not (self._added.isdisjoint(ids) and self._salt not in text) and not self._only_marks(text, encoding):
                    encoding, read = self.literal.encode(text, add_special_tokens=False), str
                    ids = encoding.ids
                yield np.array(ids, np.int32), encoding, read

    def _only_marks(self, text: str, encoding: Any) -> bool:
        """Whether the added tokens in the encoding of a plain text are those that are marked in it, each in its place."""
        added = [(token, *place) for token, place in zip(encoding.ids, encoding.offsets, strict=True) if token in self._added]
        marks, shift = [], 0
        for match in self._marks.finditer(text):
            number, start = int(match[1]), match.start() - shift
            length = len(self._controls[number].content)
            marks.append((number, start, start + length))
            shift += len(match[0]) - length
        return len(marks) == len(added) and all(
            number == token and left <= start and end <= right
            for (number, start, end), (token, left, right) in zip(marks, added, strict=True)
        )


def only_text(tokenizer: Any) -> None:
    """Make a tokenizer that other code will call take every text as data. A slow tokenizer stays as it is."""
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    if not isinstance(backend, Tokenizer):
        return
    line_tokenizer = LineTokenizer(tokenizer)
    backend.__setstate__(line_tokenizer.literal.to_str().encode())
    for name, token in getattr(tokenizer, "special_tokens_map", {}).items():
        if isinstance(token, str):  # the number of padding, for one, is looked up by its name
            setattr(tokenizer, name, line_tokenizer.marked(token))


def check_fits(highest: int, model: Any, tokenizer: Any) -> None:
    """Raise ConfigError where the token with the highest number has no row in the model's table of embeddings."""
    rows = len(model.get_input_embeddings().weight)
    if highest >= rows:
        token = getattr(tokenizer, "backend_tokenizer", tokenizer).id_to_token(highest)
        raise ConfigError(
            f"the tokenizer's token {token!r} has the number {highest}, and the model knows {rows:,} tokens (0 to {rows - 1}); "
            "take the tokenizer that the model was trained with, or save the model with embeddings that were resized for this "
            "one, or, where a template spells the token, leave it out there."
        )


def lines_join(text: str) -> ConfigError:
    """Says of a tokenizer that it cannot be used line by line."""
    shown = text if len(text) <= 200 else f"{text[:80]} … {text[-100:]}"
    return ConfigError(
        "the tokenizer makes one token out of the end of one line and the start of the next, in or around "
        f"{shown!r}, so lines cannot be tokenised once and put together; take a backbone whose tokenizer keeps lines "
        "apart (byte-level BPE, or SentencePiece with byte fallback), or change the template's lines."
    )


def _blank(content: str) -> bool:
    """Whether a token is nothing but space, as SentencePiece writes it, too: some tokenizers add runs of it."""
    return not content.replace("▁", " ").strip()


def _rename(model: dict[str, Any], names: dict[str, str]) -> None:
    """Give pieces of a model's vocabulary other names, so that no characters are made into them."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram finds every piece that a text spells
        model["vocab"] = [[names.get(piece, piece), score] for piece, score in vocabulary]
        return
    model["vocab"] = {names.get(piece, piece): number for piece, number in vocabulary.items()}
    if model.get("unk_token") in names:
        model["unk_token"] = names[model["unk_token"]]
    if "merges" in model:  # some conversions of SentencePiece write merges that lead to </s>
        inside = len(model.get("continuing_subword_prefix") or "")
        model["merges"] = [
            [left, right] for left, right in model["merges"] if not {left, right, left + right[inside:]} & names.keys()
        ]
