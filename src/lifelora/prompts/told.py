"""What a system reads about one sample, as text and as JSON. Knows pieces of a prompt, not where they come from."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lifelora.errors import on_one_line
from lifelora.prompts.pieces import Pieces
from lifelora.prompts.slots import ITEM, USER
from lifelora.tokens import BRACKETS

LISTED = 5
"""Texts that were cut and are listed."""


@dataclass(frozen=True)
class Prompt:
    """What a system reads about one sample: a prompt, or the two texts of an encoder."""

    system: str
    user: str
    item: str
    title: str
    sample: str
    "What the sample is, in words."
    texts: Mapping[str, Pieces]
    "By name: ``prompt``, or ``user`` and ``item``."
    how: str
    "Which behaviours are chosen, in words."
    answers: tuple[str, ...]
    answer_ids: tuple[int, ...]
    "The tokens that come after the prompt and tell yes from no; empty where titles are the answers."
    soft: str
    "Whose soft tokens there are, and what they are made of; empty where there are none."
    prior: str
    "To whose logit the language model's is added; empty where to none."
    tokenizer: str
    exact: bool
    "Whether the tokenizer is the language model's own."
    names: Mapping[int, str]
    "The ids of items, by their numbers."

    def as_json(self) -> dict[str, Any]:
        """Plain values, each as the data have it."""
        return {
            "system": self.system,
            "user": self.user,
            "item": self.item,
            "title": self.title,
            "sample": self.sample,
            "texts": {name: self._as_json(pieces) for name, pieces in self.texts.items()},
            "behaviours": self.how,
            "answers": list(self.answers),
            "answer_ids": list(self.answer_ids),
            "soft": self.soft or None,
            "prior": self.prior or None,
            "tokenizer": {"label": self.tokenizer, "exact": self.exact},
        }

    def _as_json(self, pieces: Pieces) -> dict[str, Any]:
        return {
            "text": "".join(piece.shown for piece in pieces.pieces),
            "tokens": counts(pieces),
            "max_tokens": pieces.max_tokens,
            "kept_for_the_answer": pieces.kept,
            "fits": pieces.fits,
            "behaviours": {"chosen": pieces.chosen, "shown": pieces.shown, "cut": pieces.chosen - pieces.shown},
            "pieces": [
                {
                    "what": piece.what,
                    "text": piece.shown,
                    "with_control_tokens": piece.controls,
                    "tokens": len(piece.ids),
                    "ids": [None if token in (ITEM, USER) else token for token in piece.ids],
                    "item": None if piece.item is None else self.names[piece.item],
                    "soft": ["user" if token == USER else "item" for token in piece.ids if token in (ITEM, USER)],
                    "cut": [
                        {"field": part.field, "words": len(part.text.split()), "of": len(part.whole.split())}
                        for part in piece.shortened
                    ],
                }
                for piece in pieces.pieces
            ],
        }

    def __str__(self) -> str:
        title, item, user = map(on_one_line, (self.title, self.item, self.user))
        lines = [f"What '{self.system}' reads: {title} [{item}] for user {user}, {self.sample}.", "tokens"]
        for name, pieces in self.texts.items():
            if name != "prompt":
                lines.append(f"the {name}'s text:")
            for piece in pieces.pieces:
                first, *more = piece.controls.splitlines() or [""]
                lines += [f"{len(piece.ids):>6}  {on_one_line(first)}", *(f"        {on_one_line(line)}" for line in more)]
            lines += [f"{pieces.tokens():>6}  in all: {_said(pieces)}", *self._cut(pieces)]
        if self.answers:
            lines.append("answer: " + " or ".join(repr(answer) for answer in self.answers))
        lines += [f"soft tokens (▢): {self.soft}"] * bool(self.soft)
        lines += [f"prior: the language model's logit is added to that of '{self.prior}'"] * bool(self.prior)
        if any(piece.controls != piece.shown for pieces in self.texts.values() for piece in pieces.pieces):
            lines.append(f"control tokens ({' '.join(BRACKETS)}): of the template's own words; what looks so without is text")
        return "\n".join([*lines, f"tokenizer: {self.tokenizer}"])

    def _cut(self, pieces: Pieces) -> list[str]:
        lines = []
        if pieces.chosen:
            gone = pieces.chosen - pieces.shown
            cut = f", and the {gone} oldest had no room" if gone else ""
            lines.append(f"behaviours: {self.how}: {pieces.chosen} chosen, {pieces.shown} shown{cut}")
        short = [(piece, part) for piece in pieces.pieces for part in piece.shortened]
        for piece, part in short[:LISTED]:
            whose = "the user" if piece.item is None else f"item {on_one_line(self.names[piece.item])}"
            count = f"{len(part.text.split())} of {len(part.whole.split()):,} words" if part.text else "no room"
            lines.append(f"cut: {on_one_line(part.field)} of {whose}: {count}")
        return [*lines, *[f"cut: {len(short) - LISTED:,} more"] * (len(short) > LISTED)]


def counts(pieces: Pieces) -> dict[str, int]:
    """Tokens by parts, and of all; of no part that a prompt of this kind does not have."""
    parts = {
        "head": pieces.tokens("head"),
        "behaviours": pieces.tokens("behaviour"),
        "user": pieces.tokens("user"),
        "candidates": pieces.tokens("candidate"),
        "question": pieces.tokens("question"),
    }
    return {name: count for name, count in parts.items() if count} | {"all": pieces.tokens()}


def _said(pieces: Pieces) -> str:
    parts = ", ".join(f"{name} {count}" for name, count in counts(pieces).items() if name != "all")
    room = f", and {pieces.kept} are kept for the longest answer" if pieces.kept else ""
    over = "" if pieces.fits else ": too long, and a run refuses it"
    return f"{parts}; max_tokens = {pieces.max_tokens}{room}{over}"
