"""The lines of questions that are answered with a title, tokenised once. Knows a tokenizer and texts, not what a prompt shows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Int

from lifelora.data.dataset import Dataset
from lifelora.errors import ConfigError
from lifelora.prompts.lines.base import CHECKED, CHECKED_BEHAVIOURS, Lines, flat, table_texts
from lifelora.prompts.slots import Place, SlotTokenizer
from lifelora.prompts.wording.fields import marked
from lifelora.prompts.wording.titles import ITEMS, WORDS_ALONE, Form, Phrasing, answer_line
from lifelora.tokens import LineTokenizer, lines_join


@dataclass(frozen=True)
class TitleLines(Lines):
    """The lines of questions that are answered with a title; W phrasings, M items, whose lines come in some forms."""

    head_W2: Int[np.ndarray, "W 2"]
    "YesNoLines of the head: without behaviours, with."
    behaviour_WM: Mapping[Form, Int[np.ndarray, "W M"]]
    announcement_W: Int[np.ndarray, "W"]
    candidate_WM: Mapping[Form, Int[np.ndarray, "W M"]]
    question_W: Int[np.ndarray, "W"]
    answer_M: Int[np.ndarray, "M"]
    user_W: Int[np.ndarray, "W"] | None = None
    "YesNoLines of the user's soft token, which stand in every form but that of words alone; None where there are none."

    @classmethod
    def build(
        cls, dataset: Dataset, phrasings: Sequence[Phrasing], tokenizer: Any, forms: Collection[Form] = WORDS_ALONE,
        soft: Collection[Place] = ITEMS,
    ) -> "TitleLines":
        """Tokenise every line that a prompt about ``dataset`` in one of these forms can need.

        ``soft`` says whose soft tokens there are, in forms that have any. Raises ConfigError for fields that the data
        lack, for a tokenizer that joins lines, and for one that writes no end of a line, so that one title begins another.
        """
        words, items = dataset.words.model_dump(), table_texts(dataset.catalogue)
        for phrasing in phrasings:
            phrasing.check(dataset.catalogue.column_names, words)
        line_tokenizer = LineTokenizer(tokenizer)
        line_tokenizers: dict[Form, LineTokenizer] = {
            form: line_tokenizer if form == "text" else SlotTokenizer(tokenizer) for form in forms}
        asked = {form: [marked(phrasing.slotted(form, soft), own.marked) for phrasing in phrasings]
                 for form, own in line_tokenizers.items()}
        phrasings = [marked(phrasing, line_tokenizer.marked) for phrasing in phrasings]
        neighbour = phrasings[0].behaviour_line(words, {"title": "A"})
        segments: list[Int[np.ndarray, "_"]] = []

        def add(text: str, before: str, after: str, start: Sequence[int] = (), by: LineTokenizer = line_tokenizer) -> int:
            segments.append(np.array([*start, *next(by.lines([text], before, after))], np.int32))
            return len(segments) - 1

        def add_items(form: Form) -> list[Int[np.ndarray, "W M"]]:
            beside = asked[form][0].behaviour_line(words, {"title": "A"})
            texts_WM = [[[line(words, item) for item in items] for line in (phrasing.behaviour_line, phrasing.candidate_line)]
                        for phrasing in asked[form]]
            new = list(dict.fromkeys(text for tables in texts_WM for texts in tables for text in texts))
            of_line = dict(zip(new, range(len(segments), len(segments) + len(new)), strict=True))
            segments.extend(line_tokenizers[form].lines(new, beside, beside))
            lines_W2M = np.array([[[of_line[text] for text in texts] for texts in tables] for tables in texts_WM])
            return [lines_W2M[:, 0], lines_W2M[:, 1]]

        head_W2, announcement_W, question_W = map(np.array, zip(*((
            [add(phrasing.head(words, shown), "", neighbour, line_tokenizer.start) for shown in (False, True)],
            add(phrasing.announcement_line(words), neighbour, neighbour),
            add(phrasing.question_lines(words), neighbour, answer_line(words, {"title": "A"})),
        ) for phrasing in phrasings), strict=True))
        behaviour_WM, candidate_WM = {}, {}
        for form in forms:
            behaviour_WM[form], candidate_WM[form] = add_items(form)
        answers = list(line_tokenizer.lines([answer_line(words, item) for item in items], phrasings[0].question_lines(words), ""))
        _no_answer_begins_another(answers, dataset)
        answer_M = len(segments) + np.arange(len(items))
        segments += answers
        user_W = None
        slotted = next((form for form in forms if form != "text"), None)
        if slotted is not None and "user" in soft:
            beside = asked[slotted][0].behaviour_line(words, {"title": "A"})
            user_W = np.array([add(phrasing.user_line(words), beside, neighbour, by=line_tokenizers[slotted])
                               for phrasing in asked[slotted]])
        made = cls(*flat(segments), head_W2, behaviour_WM, announcement_W, candidate_WM, question_W, answer_M, user_W)
        for form in forms:
            made._compare_with_whole_texts(dataset, asked[form], line_tokenizers[form], items, form)
        return made

    def prompt(
        self, phrasing: int, behaviours: Sequence[int], candidates: Sequence[int] | None, target: int | None = None,
        form: Form = "text",
    ) -> list[int]:
        """One prompt by plain concatenation, with its soft tokens, and with its answer where there is a target."""
        listed = [] if candidates is None else [self.announcement_W[phrasing],
                                                *self.candidate_WM[form][phrasing, np.asarray(candidates, np.int64)]]
        user_W = self.user_in(form)
        return self.plain([
            self.head_W2[phrasing, int(len(behaviours) > 0)],
            *self.behaviour_WM[form][phrasing, np.asarray(behaviours, np.int64)],
            *([] if user_W is None else [user_W[phrasing]]), *listed, self.question_W[phrasing],
            *([] if target is None else [self.answer_M[target]])])

    def user_in(self, form: Form) -> Int[np.ndarray, "W"] | None:
        """``user_W`` in prompts of this form."""
        return None if form == "text" else self.user_W

    def _compare_with_whole_texts(
        self, dataset: Dataset, phrasings: Sequence[Phrasing], line_tokenizer: LineTokenizer, items: list[dict[str, str]],
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
            text = phrasings[number].render(words, [items[item] for item in seen], listed, items[target],
                                            user=self.user_in(form) is not None)
            if self.prompt(number, seen, candidates, target, form) != line_tokenizer.whole(text):
                raise lines_join(line_tokenizer.plain(text))


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
