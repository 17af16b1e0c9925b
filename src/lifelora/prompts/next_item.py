"""Prompts that ask which item comes next, as left-padded arrays. Knows tokenised lines, not how behaviours were chosen.

    head, a line per behaviour, [announcement, a line per candidate,] question and cue, [answer]

The answer is the title after the cue and the end of its line. All lines are tokenised once. The form of a prompt (LLaRA,
arXiv 2312.02445) says how its items stand there: by title, by title and soft token, or by soft token alone, each on a line of
its own. A prompt that is too long loses its oldest behaviours, never a candidate or a word of its question.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from lifelora.data.dataset import Dataset, Targets
from lifelora.errors import ConfigError
from lifelora.prompts.batch import newest_that_fit
from lifelora.prompts.phrasing import WORDS_ALONE, Form, NextItemTemplate, Phrasing, answer_line
from lifelora.prompts.segments import CHECKED, CHECKED_BEHAVIOURS, Lines, table_texts
from lifelora.prompts.slots import ITEM, SlotTokenizer
from lifelora.prompts.template import marked
from lifelora.seeds import generator
from lifelora.tokens import LineTokenizer, lines_join


@dataclass(frozen=True)
class NextItemPrompts:
    """Token ids with their padding (id 0) at the left; the answer is at the very end, or comes right after it."""

    tokens_BL: Int[Tensor, "B L"]
    mask_BL: Bool[Tensor, "B L"]
    shown_B: Int[Tensor, "B"]
    "How many of the chosen behaviours found room."
    soft_BL: Int[Tensor, "B L"] | None = None
    "The item of each soft token and -1 at every other place; None for prompts of words alone."
    answer_BA: Bool[Tensor, "B A"] | None = None
    "Which of the last A tokens are the answer; None where it is asked for."


@dataclass(frozen=True)
class Titles:
    """The answers that each of B rows can be given, as C candidates of up to A tokens, with padding (id 0) at the right."""

    tokens_BCA: Int[Tensor, "B C A"]
    mask_BCA: Bool[Tensor, "B C A"]


@dataclass(frozen=True)
class NextItemLines(Lines):
    """The lines of questions that are answered with a title; W phrasings, M items, whose lines come in some forms."""

    head_W2: Int[np.ndarray, "W 2"]
    "Segments of the head: without behaviours, with."
    behaviour_WM: Mapping[Form, Int[np.ndarray, "W M"]]
    announcement_W: Int[np.ndarray, "W"]
    candidate_WM: Mapping[Form, Int[np.ndarray, "W M"]]
    question_W: Int[np.ndarray, "W"]
    answer_M: Int[np.ndarray, "M"]

    @classmethod
    def build(
        cls, dataset: Dataset, phrasings: Sequence[Phrasing], tokenizer: Any, forms: Collection[Form] = WORDS_ALONE
    ) -> "NextItemLines":
        """Tokenise every line that a prompt about ``dataset`` in one of these forms can need.

        Raises ConfigError for fields that the data lack, for a tokenizer that joins lines, and for one that writes no end
        of a line, so that one title begins another.
        """
        words, items = dataset.words.model_dump(), table_texts(dataset.catalogue)
        for phrasing in phrasings:
            phrasing.check(dataset.catalogue.column_names, words)
        line_tokenizer = LineTokenizer(tokenizer)
        line_tokenizers: dict[Form, LineTokenizer] = {
            form: line_tokenizer if form == "text" else SlotTokenizer(tokenizer) for form in forms}
        asked = {form: [marked(phrasing.slotted(form), own.marked) for phrasing in phrasings]
                 for form, own in line_tokenizers.items()}
        phrasings = [marked(phrasing, line_tokenizer.marked) for phrasing in phrasings]
        neighbour = phrasings[0].behaviour_line(words, {"title": "A"})
        segments: list[Int[np.ndarray, "_"]] = []

        def add(text: str, before: str, after: str, start: Sequence[int] = ()) -> int:
            segments.append(np.array([*start, *next(line_tokenizer.lines([text], before, after))], np.int32))
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
        offsets_N = np.cumsum([0, *map(len, segments)], dtype=np.int64)
        made = cls(
            np.concatenate(segments), offsets_N, head_W2, behaviour_WM, announcement_W, candidate_WM, question_W, answer_M
        )
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
        parts = [self.head_W2[phrasing, int(len(behaviours) > 0)],
                 *self.behaviour_WM[form][phrasing, np.asarray(behaviours, np.int64)], *listed, self.question_W[phrasing],
                 *([] if target is None else [self.answer_M[target]])]
        return [int(token) for s in parts for token in self.tokens_T[self.offsets_N[s] : self.offsets_N[s + 1]]]

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
            text = phrasings[number].render(words, [items[item] for item in seen], listed, items[target])
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


class NextItemBuilder:
    """Puts prompts together from tokenised lines, by array operations only."""

    def __init__(self, dataset: Dataset, lines: NextItemLines, max_tokens: int, seed: int) -> None:
        """``seed`` draws the phrasing of every row; prompts and their answers have ``max_tokens`` together."""
        self.dataset, self.lines, self.max_tokens, self.seed = dataset, lines, max_tokens, seed
        self._lengths_N = np.diff(lines.offsets_N)
        self._phrasing_N = generator(seed, "phrasings").integers(0, len(lines.head_W2), len(dataset), np.int8)

    @classmethod
    def make(
        cls, dataset: Dataset, template: NextItemTemplate, tokenizer: Any, max_tokens: int, seed: int,
        forms: Collection[Form] = WORDS_ALONE,
    ) -> "NextItemBuilder":
        """Tokenise the lines of prompts in these forms first."""
        return cls(dataset, NextItemLines.build(dataset, template.phrasings, tokenizer, forms), max_tokens, seed)

    @property
    def highest(self) -> int:
        """The highest number of a token that a prompt or its answer can have."""
        return int(self.lines.tokens_T.max())

    def question(
        self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"],
        candidates_BC: Int[np.ndarray, "B C"] | None = None, form: Form = "text",
    ) -> NextItemPrompts:
        """Asked in the first phrasing, about people who are shown the event rows ``chosen_BK``, from left to right.

        Without candidates the answer is any item of the catalogue, and none is listed. Raises ConfigError where a target is
        none of its candidates, and, naming the item, where there is no room even with no behaviour shown.
        """
        return self._build(targets, chosen_BK, mask_BK, candidates_BC, form, np.zeros(len(targets), np.int8), answered=False)

    def answered(
        self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"],
        candidates_BC: Int[np.ndarray, "B C"] | None = None, form: Form = "text",
    ) -> NextItemPrompts:
        """What is learnt from: with the answer, and in the phrasing that was drawn for the row of the log."""
        phrasing_B = self._phrasing_N[targets.before_B]
        return self._build(targets, chosen_BK, mask_BK, candidates_BC, form, phrasing_B, answered=True)

    def titles(self, items_BC: Int[np.ndarray, "B C"]) -> Titles:
        """The answers that these items would be."""
        parts_BC = self.lines.answer_M[items_BC]
        lengths_BC = self._lengths_N[parts_BC]
        mask_BCA = np.arange(int(lengths_BC.max(initial=1))) < lengths_BC[..., None]
        tokens_BCA = np.zeros(mask_BCA.shape, np.int64)
        tokens_BCA[mask_BCA] = self.lines.joined(parts_BC, lengths_BC)
        return Titles(torch.from_numpy(tokens_BCA), torch.from_numpy(mask_BCA))

    def _build(
        self, targets: Targets, chosen_BK: Int[np.ndarray, "B K"], mask_BK: Bool[np.ndarray, "B K"],
        candidates_BC: Int[np.ndarray, "B C"] | None, form: Form, phrasing_B: Int[np.ndarray, "B"], answered: bool,
    ) -> NextItemPrompts:
        lines, lengths = self.lines, self._lengths_N
        if form not in lines.behaviour_WM:
            raise ConfigError(f"there are no lines for prompts of form '{form}', only of {', '.join(lines.behaviour_WM)}; name "
                              "it in forms = … where the lines are made.")
        listed_B1 = lines.announcement_W[phrasing_B][:, None]
        if candidates_BC is None:
            listed_B1, candidates_BC = listed_B1[:, :0], np.zeros((len(targets), 0), np.int64)
            longest_B = np.full(len(targets), lengths[lines.answer_M].max())
        else:
            self._check_answers(targets, candidates_BC)
            longest_B = lengths[lines.answer_M[candidates_BC]].max(axis=1, initial=0)
        behaviour_BK = lines.behaviour_WM[form][phrasing_B[:, None], self.dataset.item_N[chosen_BK]]
        candidate_BC = lines.candidate_WM[form][phrasing_B[:, None], candidates_BC]
        head_B2, question_B, answer_B = lines.head_W2[phrasing_B], lines.question_W[phrasing_B], lines.answer_M[targets.item_B]

        # Room is kept for the longest answer that could be given, so that what is shown does not tell which is right.
        fixed_B = lengths[listed_B1].sum(axis=1) + lengths[candidate_BC].sum(axis=1) + lengths[question_B] + longest_B
        room_B2 = self.max_tokens - fixed_B[:, None] - lengths[head_B2]
        kept_BK = mask_BK & newest_that_fit(np.where(mask_BK, lengths[behaviour_BK], 0), room_B2[:, 1])
        shown_B = kept_BK.sum(axis=1)
        if np.any((shown_B == 0) & (room_B2[:, 0] < 0)):
            self._refuse(targets, int(np.flatnonzero((shown_B == 0) & (room_B2[:, 0] < 0))[0]), room_B2, candidates_BC.shape[1])

        head_B = np.where(shown_B > 0, head_B2[:, 1], head_B2[:, 0])
        parts_BS = np.column_stack([head_B, behaviour_BK, listed_B1, candidate_BC, question_B, answer_B][: 6 if answered else 5])
        lengths_BS = lengths[parts_BS]
        lengths_BS[:, 1 : 1 + behaviour_BK.shape[1]] *= kept_BK

        # Rows are filled from the right, so the true cells of the mask, read row by row, are all segments in order.
        total_B = lengths_BS.sum(axis=1)
        mask_BL = np.arange(int(total_B.max(initial=0))) >= (total_B.max(initial=0) - total_B)[:, None]
        tokens_BL = np.zeros(mask_BL.shape, np.int64)
        token_T = lines.joined(parts_BS, lengths_BS)
        tokens_BL[mask_BL] = np.maximum(token_T, 0)
        soft_BL = None
        if form != "text":
            # And soft tokens come in the order of the items: behaviours that are left, candidates.
            item_BN = np.concatenate([self.dataset.item_N[chosen_BK], candidates_BC], axis=1)
            there_BN = np.concatenate([kept_BK, np.ones_like(candidates_BC, np.bool_)], axis=1)
            soft_BL, soft_T = np.full(mask_BL.shape, -1, np.int64), np.full(len(token_T), -1, np.int64)
            soft_T[token_T == ITEM] = item_BN[there_BN]
            soft_BL[mask_BL] = soft_T
        answer_BA = None
        if answered:
            longest = int(lengths[answer_B].max(initial=0))
            answer_BA = torch.from_numpy(np.arange(longest) >= longest - lengths[answer_B][:, None])
        return NextItemPrompts(
            tokens_BL=torch.from_numpy(tokens_BL), mask_BL=torch.from_numpy(mask_BL), shown_B=torch.from_numpy(shown_B),
            soft_BL=None if soft_BL is None else torch.from_numpy(soft_BL), answer_BA=answer_BA,
        )

    def _check_answers(self, targets: Targets, candidates_BC: Int[np.ndarray, "B C"]) -> None:
        # In a released LastFM set the list is one drawn item, so that no answer could ever be right.
        missing_B = ~(candidates_BC == targets.item_B[:, None]).any(axis=1)
        if missing_B.any():
            place = int(missing_B.argmax())
            raise ConfigError(f"row {place} of the batch: {self._named(targets, place)} is to be found and is none of its "
                              f"{candidates_BC.shape[1]} candidates; give each row the list that was drawn for it.")

    def _refuse(self, targets: Targets, place: int, room_B2: Int[np.ndarray, "B 2"], count: int) -> None:
        raise ConfigError(
            f"the question whose answer is {self._named(targets, place)} needs {self.max_tokens - room_B2[place, 0]} tokens "
            f"with {count} candidates, the longest answer and no behaviour, and max_tokens = {self.max_tokens}; raise max_tokens "
            "or list fewer candidates (data.rules.candidates.count)."
        )

    def _named(self, targets: Targets, place: int) -> str:
        item = int(targets.item_B[place])
        return f"item '{self.dataset.items.outside(np.array([item]))[0]}' ({self.dataset.titles[item]!r})"
