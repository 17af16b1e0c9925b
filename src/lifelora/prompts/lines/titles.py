"""The lines of questions that are answered with a title, tokenised once. Knows a tokenizer and texts, not what a prompt shows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int

from lifelora.data.column import Column, Values, longer
from lifelora.data.dataset import Dataset
from lifelora.errors import ConfigError
from lifelora.prompts.chat import spelled
from lifelora.prompts.lines.base import CHECKED, CHECKED_BEHAVIOURS, Lines, flat, table_texts
from lifelora.prompts.slots import Place
from lifelora.prompts.wording.chat import Chat
from lifelora.prompts.wording.fields import Texts
from lifelora.prompts.wording.titles import ITEMS, WORDS_ALONE, Form, Phrasing
from lifelora.tokens import LineTokenizer, lines_join


@dataclass(frozen=True)
class Writer:
    """What makes lines of texts: phrasings, marked and with the slots of each form, tokenizers, and the domain's words."""

    phrasings: Sequence[Phrasing]
    by: LineTokenizer
    in_form: Mapping[Form, tuple[LineTokenizer, Sequence[Phrasing]]]
    words: dict[str, str]

    def items(
        self, form: Form, items: Sequence[Texts], first: int
    ) -> tuple[list[Int[np.ndarray, "_"]], Int[np.ndarray, "M W"], Int[np.ndarray, "M W"]]:
        """The distinct lines of items, to be segments from ``first`` on; which of them are behaviours', which candidates'."""
        by, phrasings = self.in_form[form]
        beside = phrasings[0].behaviour_line(self.words, {"title": "A"})
        texts_2MW = [
            [[line(self.words, item) for line in lines] for item in items]
            for lines in ([p.behaviour_line for p in phrasings], [p.candidate_line for p in phrasings])
        ]
        new = list(dict.fromkeys(text for texts_MW in texts_2MW for texts_M in zip(*texts_MW, strict=True) for text in texts_M))
        of_line = dict(zip(new, range(first, first + len(new)), strict=True))
        behaviour_MW, candidate_MW = (
            np.array([[of_line[text] for text in texts_W] for texts_W in texts_MW], np.int64).reshape(-1, len(phrasings))
            for texts_MW in texts_2MW
        )
        return list(by.lines(new, beside, beside)), behaviour_MW, candidate_MW

    def answers(self, items: Sequence[Texts]) -> list[Int[np.ndarray, "_"]]:
        """Titles after the cue, and the ends of their lines."""
        texts = [self.phrasings[0].answer_line(self.words, item) for item in items]
        return list(self.by.lines(texts, self.phrasings[0].question_lines(self.words), ""))


@dataclass(frozen=True)
class TitleLines(Lines):
    """The lines of questions that are answered with a title; W phrasings, M items, whose lines come in some forms."""

    head_W2: Int[np.ndarray, "W 2"]
    "Segments of the head: without behaviours, with."
    behaviour_MW: Mapping[Form, Values]
    announcement_W: Int[np.ndarray, "W"]
    candidate_MW: Mapping[Form, Values]
    question_W: Int[np.ndarray, "W"]
    answer_M: Values
    writer: Writer
    user_W: Int[np.ndarray, "W"] | None = None
    "Segments of the user's soft token, which stand in every form but that of words alone; None where there are none."

    @classmethod
    def build(
        cls,
        dataset: Dataset,
        phrasings: Sequence[Phrasing],
        tokenizer: Any,
        forms: Collection[Form] = WORDS_ALONE,
        soft: Collection[Place] = ITEMS,
        chat: Chat | None = None,
    ) -> "TitleLines":
        """Tokenise every line that a prompt about ``dataset`` in one of these forms can need.

        ``soft`` says whose soft tokens there are, in forms that have any; ``chat`` whether it is a chat. Raises ConfigError for
        fields that the data lack, for a tokenizer that joins lines, for one that writes no end of a line, so that one title
        begins another, and for one without the chat template that is asked for.
        """
        words, items = dataset.words.model_dump(), table_texts(dataset.catalogue)
        for phrasing in phrasings:
            phrasing.check(dataset.catalogue.column_names, words)
        phrasings = [phrasing.leaving_out(dataset.left_out) for phrasing in phrasings]
        line_tokenizer, plain = spelled(phrasings, tokenizer, chat or Chat())
        in_form = {
            form: (line_tokenizer, plain)
            if form == "text"
            else spelled([phrasing.slotted(form, soft) for phrasing in phrasings], tokenizer, chat or Chat(), slots=True)
            for form in forms
        }
        phrasings = plain
        writer = Writer(phrasings, line_tokenizer, in_form, words)
        neighbour = phrasings[0].behaviour_line(words, {"title": "A"})
        segments: list[Int[np.ndarray, "_"]] = []

        def add(text: str, before: str, after: str, start: Sequence[int] = (), by: LineTokenizer = line_tokenizer) -> int:
            segments.append(np.array([*start, *next(by.lines([text], before, after))], np.int32))
            return len(segments) - 1

        head_W2, announcement_W, question_W = map(
            np.array,
            zip(
                *(
                    (
                        [add(phrasing.head(words, shown), "", neighbour, line_tokenizer.start) for shown in (False, True)],
                        add(phrasing.announcement_line(words), neighbour, neighbour),
                        add(phrasing.question_lines(words), neighbour, phrasing.answer_line(words, {"title": "A"})),
                    )
                    for phrasing in phrasings
                ),
                strict=True,
            ),
        )
        behaviour_MW, candidate_MW = {}, {}
        for form in forms:
            new, behaviour_MW[form], candidate_MW[form] = writer.items(form, items, len(segments))
            segments += new
        answers = writer.answers(items)
        _no_answer_begins_another(answers, dataset)
        answer_M = len(segments) + np.arange(len(items))
        segments += answers
        user_W = None
        slotted = next((form for form in forms if form != "text"), None)
        if slotted is not None and "user" in soft:
            own, asked = in_form[slotted]
            beside = asked[0].behaviour_line(words, {"title": "A"})
            user_W = np.array([add(phrasing.user_line(words), beside, neighbour, by=own) for phrasing in asked])
        made = cls(*flat(segments), head_W2, behaviour_MW, announcement_W, candidate_MW, question_W, answer_M, writer, user_W)
        for form, (own, asked) in in_form.items():
            made._compare_with_whole_texts(dataset, asked, own, items, form)
        return made

    def extended(self, dataset: Dataset) -> "TitleLines":
        """With the lines of an extended data set's new items: what is there is shared, and only what is new is tokenised."""
        items, made = table_texts(dataset.catalogue.slice(len(self.answer_M))), self
        behaviour_MW, candidate_MW = dict(self.behaviour_MW), dict(self.candidate_MW)
        for form in self.behaviour_MW:
            segments, behaviour_nW, candidate_nW = self.writer.items(form, items, len(made.lengths))
            behaviour_MW[form] = longer(behaviour_MW[form], behaviour_nW)
            candidate_MW[form] = longer(candidate_MW[form], candidate_nW)
            made = made.grown(segments)
        answers = self.writer.answers(items)
        answer_n = len(made.lengths) + np.arange(len(items))
        made = made.grown(answers, behaviour_MW=behaviour_MW, candidate_MW=candidate_MW, answer_M=longer(self.answer_M, answer_n))
        made.__dict__["longest_answer"] = max([self.longest_answer, *map(len, answers)])
        return made

    @cached_property
    def longest_answer(self) -> int:
        """Tokens of the longest title of the catalogue."""
        return int(self.lengths[np.asarray(self.answer_M)].max())

    @property
    def end(self) -> int:
        """A token with which an answer ends."""
        return int(self.tokens_T[self.offsets_N[int(self.answer_M[0]) + 1] - 1])

    def prompt(
        self,
        phrasing: int,
        behaviours: Sequence[int],
        candidates: Sequence[int] | None,
        target: int | None = None,
        form: Form = "text",
    ) -> list[int]:
        """One prompt by plain concatenation, with its soft tokens, and with its answer where there is a target."""
        listed = (
            []
            if candidates is None
            else [self.announcement_W[phrasing], *said(self.candidate_MW[form], np.asarray(candidates, np.int64), phrasing)]
        )
        user_W = self.user_in(form)
        return self.plain(
            [
                self.head_W2[phrasing, int(len(behaviours) > 0)],
                *said(self.behaviour_MW[form], np.asarray(behaviours, np.int64), phrasing),
                *([] if user_W is None else [user_W[phrasing]]),
                *listed,
                self.question_W[phrasing],
                *([] if target is None else [self.answer_M[target]]),
            ]
        )

    def user_in(self, form: Form) -> Int[np.ndarray, "W"] | None:
        """``user_W`` in prompts of this form."""
        return None if form == "text" else self.user_W

    def _compare_with_whole_texts(
        self,
        dataset: Dataset,
        phrasings: Sequence[Phrasing],
        line_tokenizer: LineTokenizer,
        items: list[dict[str, str]],
        form: Form,
    ) -> None:
        words = dataset.words.model_dump()
        targets = dataset.targets(np.unique(np.linspace(0, len(dataset) - 1, CHECKED).astype(np.int64)))
        rows_BK, mask_BK = dataset.history(targets, CHECKED_BEHAVIOURS)
        for place in range(len(targets)):
            target, seen = int(targets.item_B[place]), dataset.item_N[rows_BK[place, mask_BK[place]]].tolist()
            candidates = None if place % 4 == 0 else [(target + other) % len(items) for other in range(place % 8)]
            number = place % len(phrasings)
            listed = None if candidates is None else [items[item] for item in candidates]
            text = phrasings[number].render(
                words, [items[item] for item in seen], listed, items[target], user=self.user_in(form) is not None
            )
            if self.prompt(number, seen, candidates, target, form) != line_tokenizer.whole(text):
                raise lines_join(line_tokenizer.plain(text))


def said(table_MW: Values, items: Int[np.ndarray, "..."], phrasings: Int[np.ndarray, "..."] | int) -> Int[np.ndarray, "..."]:
    """The segments of items in phrasings, which are broadcast to them."""
    if isinstance(table_MW, Column):
        phrasings = np.broadcast_to(phrasings, items.shape)[..., None]
        return np.take_along_axis(table_MW[items], phrasings, axis=-1)[..., 0]
    return np.asarray(table_MW[items, phrasings])


def _no_answer_begins_another(answers: Sequence[Int[np.ndarray, "_"]], dataset: Dataset) -> None:
    """Of all texts that begin with x, the least comes right after x in alphabetical order, and so do token ids."""
    ids = [tuple(answer.tolist()) for answer in answers]
    order = sorted(range(len(ids)), key=ids.__getitem__)
    for one, other in pairwise(order):
        if ids[one] != ids[other] and ids[other][: len(ids[one])] == ids[one]:
            raise ConfigError(
                f"the tokenizer writes no end of a line: {dataset.titles[one]!r} as an answer is {list(ids[one])}, with which "
                f"{dataset.titles[other]!r} begins ({list(ids[other])}), so an answer has no end; take a backbone whose "
                "tokenizer knows the newline."
            )
