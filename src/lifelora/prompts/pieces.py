"""One prompt in its pieces, as a reader sees it: the text of every line with its tokens, and what was cut.

    head, a piece per behaviour, [the user's soft token,] [announcement, a piece per candidate,] question and cue

A run puts prompts together from lines that were tokenised once (``fill``); here one prompt is tokenised as it stands, which gives
the same tokens without those of all others. Knows wording and a tokenizer, no data set and no run.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, TypeAlias

import numpy as np

from lifelora.prompts.chat import spelled
from lifelora.prompts.fill import newest_that_fit
from lifelora.prompts.slots import ITEM_SLOT, USER_SLOT, Place
from lifelora.prompts.wording.chat import Chat
from lifelora.prompts.wording.fields import Texts, marked
from lifelora.prompts.wording.others import ITEM_COLUMNS, USER_COLUMNS, Part, title_of
from lifelora.prompts.wording.titles import Form, Phrasing
from lifelora.prompts.wording.yes_no import Template
from lifelora.tokens import BRACKETS, LineTokenizer

SOFT = "▢"
"""How a soft token is shown."""
What = Literal["head", "behaviour", "user", "candidate", "question"]
Rated: TypeAlias = tuple[int, Texts, float | str]
"""An item's number, its texts, and its rating or the name of its level."""


@dataclass(frozen=True)
class Piece:
    """Whole lines of a prompt; ``item`` is the number of the item that they are about."""

    what: What
    text: str
    item: int | None = None
    ids: tuple[int, ...] = ()
    "The token ids; ``slots.ITEM`` and ``slots.USER`` for soft tokens."
    shortened: tuple[Part, ...] = ()
    "What the lines tell in part, or not at all."
    visible: str = ""
    "The text with its control tokens in ``BRACKETS``."

    @property
    def shown(self) -> str:
        """The text with ``SOFT`` for its soft tokens."""
        return _soft(self.text)

    @property
    def controls(self) -> str:
        """The same with control tokens in ``BRACKETS``, so that they can be told from a text that spells them."""
        return _soft(self.visible)


@dataclass(frozen=True)
class Pieces:
    """A prompt: its pieces from left to right, of which the oldest behaviours are gone where there was no room."""

    pieces: tuple[Piece, ...]
    chosen: int
    "Behaviours that were to be shown."
    max_tokens: int
    kept: int = 0
    "Tokens that are kept free for an answer."

    def tokens(self, *what: What) -> int:
        """How many tokens these pieces have; all of them where none is named."""
        return sum(len(piece.ids) for piece in self.pieces if not what or piece.what in what)

    @cached_property
    def shown(self) -> int:
        """Behaviours that found room."""
        return sum(piece.what == "behaviour" for piece in self.pieces)

    @property
    def fits(self) -> bool:
        """Whether a run takes it: with no behaviour left it may be too long, and is refused."""
        return self.tokens() + self.kept <= self.max_tokens


def of_yes_no(
    template: Template,
    tokenizer: Any,
    words: Texts,
    user: Texts,
    behaviours: Sequence[Rated],
    target: tuple[int, Texts],
    max_tokens: int,
    soft: Sequence[Place] = (),
    shared: Sequence[int] = (),
) -> Pieces:
    """A prompt that is answered yes or no; ``shared`` are the tokens that end it (``yes_no.Answers.shared``)."""
    (by, (own,)), (item, texts) = spelled([template.slotted(soft)], tokenizer, template, slots=bool(soft)), target
    question = Piece("question", own.question_lines(words, texts), item, (), _short(own, own.question, texts, words))
    return _about_user(by, own, words, user, behaviours, [question], max_tokens, shared)


def of_towers(
    template: Template,
    tokenizer: Any,
    words: Texts,
    user: Texts,
    behaviours: Sequence[Rated],
    target: tuple[int, Texts],
    max_tokens: int,
) -> tuple[Pieces, Pieces]:
    """The two texts of an encoder: the user's, which loses its oldest behaviours, and the item's, which loses its end."""
    by, (item, texts) = LineTokenizer(tokenizer), target
    own = marked(template, by.marked)
    of_user = _about_user(by, own, words, user, behaviours, [], max_tokens, by.end)
    text = own.item_text(words, texts)
    ids = (*by.start, *by.ids(text)[: max_tokens - len(by.start) - len(by.end)], *by.end)
    short = _short(own, own.question, texts, words)
    piece = Piece("question", by.plain(text) + "\n", item, ids, short, by.visible(text) + "\n")
    return of_user, Pieces((piece,), 0, max_tokens)


def of_titles(
    phrasing: Phrasing,
    tokenizer: Any,
    words: Texts,
    behaviours: Sequence[tuple[int, Texts]],
    candidates: Sequence[tuple[int, Texts]] | None,
    answers: Sequence[Texts],
    max_tokens: int,
    form: Form = "text",
    soft: Sequence[Place] = (),
    chat: Chat | None = None,
) -> Pieces:
    """A prompt that is answered with a title; room is kept for the longest of ``answers``."""
    chat = chat or Chat()
    by, (own,) = spelled([phrasing.slotted(form, soft)], tokenizer, chat, slots=form != "text")
    plain, (unslotted,) = spelled([phrasing], tokenizer, chat)
    lines = [
        Piece("behaviour", own.behaviour_line(words, texts), item, (), _short(own, (own.behaviour,), texts, words))
        for item, texts in behaviours
    ]
    rest = [Piece("user", own.user_line(words))] if form != "text" and "user" in soft else []
    if candidates is not None:
        rest.append(Piece("candidate", own.announcement_line(words)))
        rest += [
            Piece("candidate", own.candidate_line(words, texts), item, (), _short(own, (own.candidate,), texts, words))
            for item, texts in candidates
        ]
    rest.append(Piece("question", own.question_lines(words)))
    texts = list(dict.fromkeys(unslotted.answer_line(words, answer) for answer in answers))
    longest = max(map(len, plain.lines(texts, unslotted.question_lines(words), "")), default=0)
    heads = [Piece("head", own.head(words, shown)) for shown in (False, True)]
    return _fitted(by, heads, lines, rest, max_tokens, longest)


def _about_user(
    by: LineTokenizer,
    own: Template,
    words: Texts,
    user: Texts,
    behaviours: Sequence[Rated],
    rest: Sequence[Piece],
    max_tokens: int,
    end: Sequence[int],
) -> Pieces:
    """Head, behaviours and the rest, with tokens that end them."""
    cut = tuple(own.shortened((own.profile,), user, words, USER_COLUMNS))
    heads = [Piece("head", own.head(words, user, shown), None, (), cut) for shown in (False, True)]
    lines = [
        Piece("behaviour", own.behaviour_line(words, texts, level), item, (), _short(own, (own.behaviour,), texts, words))
        for item, texts, level in behaviours
    ]
    made = _fitted(by, heads, lines, rest, max_tokens - len(end))
    *pieces, last = made.pieces
    return replace(made, pieces=(*pieces, replace(last, ids=(*last.ids, *end))), max_tokens=max_tokens)


def _short(template: Template | Phrasing, lines: Sequence[str], item: Texts, words: Texts) -> tuple[Part, ...]:
    return tuple(template.shortened(lines, item, {**words, "title": title_of(item, words)}, ITEM_COLUMNS))


def _fitted(
    by: LineTokenizer, heads: Sequence[Piece], behaviours: Sequence[Piece], rest: Sequence[Piece], max_tokens: int, kept: int = 0
) -> Pieces:
    """The newest behaviours that find room between a head (without behaviours, with) and the rest, as ``fill.Plan`` has them."""
    whole = _tokenised(by, [heads[1], *behaviours, *rest])
    lengths = [len(piece.ids) for piece in whole]
    room = max_tokens - kept - lengths[0] - sum(lengths[1 + len(behaviours) :])
    fit = newest_that_fit(np.array([lengths[1 : 1 + len(behaviours)]], np.int64), np.array([room]))
    shown = int(fit.sum())
    if not shown:
        return Pieces(tuple(_tokenised(by, [heads[0], *rest])), len(behaviours), max_tokens, kept)
    return Pieces((whole[0], *whole[1 + len(behaviours) - shown :]), len(behaviours), max_tokens, kept)


def _tokenised(by: LineTokenizer, pieces: Sequence[Piece]) -> list[Piece]:
    """Each piece with its ids where it stands; the first one with what begins a prompt."""
    made, texts = [], [piece.text for piece in pieces]
    for number, piece in enumerate(pieces):
        ids = next(by.lines([piece.text], "".join(texts[:number]), "".join(texts[number + 1 :]))).tolist()
        ids = [*(by.start if number == 0 else ()), *ids]
        made.append(replace(piece, text=by.plain(piece.text), visible=by.visible(piece.text), ids=tuple(ids)))
    return made


def _soft(text: str) -> str:
    left, right = BRACKETS
    for slot in (ITEM_SLOT, USER_SLOT):
        text = text.replace(f"{left}{slot}{right}", SOFT).replace(slot, SOFT)
    return text
