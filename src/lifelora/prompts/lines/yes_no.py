"""The lines of questions that are answered yes or no, tokenised once. Knows a tokenizer and texts, not what a prompt shows."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from lifelora.data.column import Values, grown, longer
from lifelora.data.dataset import Dataset
from lifelora.prompts.chat import spelled
from lifelora.prompts.lines.base import CHECKED, CHECKED_BEHAVIOURS, Lines, flat, table_texts
from lifelora.prompts.slots import Place
from lifelora.prompts.wording.fields import Texts
from lifelora.prompts.wording.yes_no import Template
from lifelora.tokens import LineTokenizer, lines_join


@dataclass(frozen=True)
class Writer:
    """What makes lines of texts: a template, marked and with its slots, a tokenizer, and the domain's words and ratings."""

    template: Template
    by: LineTokenizer
    words: dict[str, str]
    levels: tuple[float | str, ...]

    @property
    def _neighbour(self) -> str:
        return self.template.behaviour_line(self.words, {"title": "A"}, self.levels[-1])

    def head(self, user: Texts, shown: bool) -> str:
        """What comes before the behaviours."""
        return self.template.head(self.words, user, shown)

    def heads(self, texts: Sequence[str]) -> list[Int[np.ndarray, "_"]]:
        """Heads, with what begins a prompt."""
        start = np.array(self.by.start, np.int32)
        return [np.concatenate([start, ids]) for ids in self.by.lines(list(texts), "", self._neighbour)]

    def behaviours(self, items: Mapping[int, Texts] | Sequence[Texts], pairs: Sequence[int]) -> list[Int[np.ndarray, "_"]]:
        """The lines of pairs item·R + code of a rating."""
        R = len(self.levels)
        texts = [self.template.behaviour_line(self.words, items[pair // R], self.levels[pair % R]) for pair in pairs]
        return list(self.by.lines(texts, self._neighbour, self._neighbour))

    def questions(self, items: Sequence[Texts]) -> list[Int[np.ndarray, "_"]]:
        """The questions about items, up to and with the cue."""
        questions = [self.template.question_parts(self.words, item) for item in items]
        rests = list(dict.fromkeys(rest for _, rest in questions))
        rest = dict(zip(rests, self.by.lines(rests, self._neighbour, ""), strict=True))
        asked = self.by.lines([question for question, _ in questions], self._neighbour, self._neighbour)
        return [np.concatenate([ids, rest[text]]) for ids, (_, text) in zip(asked, questions, strict=True)]


@dataclass(frozen=True)
class Pairs:
    """Behaviours that nobody had before: pairs item·R + code, in order, and their segments."""

    pair_n: Int[np.ndarray, "n"]
    segment_n: Int[np.ndarray, "n"]

    def __len__(self) -> int:
        return len(self.pair_n)

    def joined(self, other: "Pairs") -> "Pairs":
        """With others."""
        pair_n, segment_n = (np.concatenate(both) for both in ((self.pair_n, other.pair_n), (self.segment_n, other.segment_n)))
        order_n = np.argsort(pair_n)
        return Pairs(pair_n[order_n], segment_n[order_n])


@dataclass(frozen=True)
class YesNoLines(Lines):
    """The lines of questions that are answered yes or no."""

    head_U2: Values
    "Segments of each user's head, [U, 2]: without behaviours, with."
    behaviour_MR: Int[np.ndarray, "M R"]
    "Segment of an item's line by the code of its rating; -1 if it never got that rating."
    question_M: Values
    "Segment of the question about each item."
    writer: Writer
    later: tuple[Pairs, ...]
    "Those that came later (``data.column.grown``)."
    of_log: tuple[object, int]
    "The log whose behaviours they are: its line, and how many events it had."

    @classmethod
    def build(cls, dataset: Dataset, template: Template, tokenizer: Any, soft: Collection[Place] = ()) -> "YesNoLines":
        """Tokenise every line that a prompt about ``dataset`` can need; ``soft`` says whose soft tokens it has.

        Raises ConfigError for a template with fields that the data lack, for a tokenizer that joins lines, and for one that lacks
        the chat template which is asked for.
        """
        words = dataset.words.model_dump()
        template.check(dataset.catalogue.column_names, dataset.profiles.column_names, words, dataset.levels)
        own = template.leaving_out(dataset.left_out).slotted(soft)
        line_tokenizer, (own,) = spelled([own], tokenizer, template, slots=bool(soft))
        writer = Writer(own, line_tokenizer, words, dataset.levels)
        items = table_texts(dataset.catalogue)
        n_ratings = len(dataset.rating_levels)

        heads: dict[str, int] = {}
        head_U2 = np.array(
            [
                [heads.setdefault(writer.head(user, shown), len(heads)) for shown in (False, True)]
                for user in table_texts(dataset.profiles)
            ],
            np.int32,
        ).reshape(-1, 2)
        pairs = np.unique(np.asarray(dataset.item_N, np.int64) * n_ratings + dataset.rating_N)
        behaviour_MR = np.full(dataset.n_items * n_ratings, -1, np.int32)
        behaviour_MR[pairs] = len(heads) + np.arange(len(pairs))
        made = cls(
            *flat([*writer.heads(list(heads)), *writer.behaviours(items, pairs.tolist()), *writer.questions(items)]),
            head_U2=head_U2,
            behaviour_MR=behaviour_MR.reshape(-1, n_ratings),
            question_M=(len(heads) + len(pairs) + np.arange(dataset.n_items)).astype(np.int32),
            writer=writer,
            later=(),
            of_log=(dataset.log.line, len(dataset)),
        )
        made._compare_with_whole_texts(dataset, writer.template, line_tokenizer, items)
        return made

    def extended(self, dataset: Dataset) -> "YesNoLines":
        """With the lines that an extended data set needs besides: what is there is shared, and only what is new is tokenised."""
        new = table_texts(dataset.catalogue.slice(len(self.question_M)))
        made = self.with_histories(dataset)
        question_n = len(made.lengths) + np.arange(len(new))
        return made.grown(self.writer.questions(new), question_M=longer(self.question_M, question_n))

    def with_histories(self, dataset: Dataset) -> "YesNoLines":
        """With the heads of new users, and the lines of behaviours that nobody had before."""
        heads = [
            self.writer.head(user, shown)
            for user in table_texts(dataset.profiles.slice(len(self.head_U2)))
            for shown in (False, True)
        ]
        head_n2 = len(self.lengths) + np.arange(len(heads)).reshape(-1, 2)
        made = self.grown(self.writer.heads(heads), head_U2=longer(self.head_U2, head_n2))
        later, R = dataset.log.since(*self.of_log), self.behaviour_MR.shape[1]
        pair_n = np.unique(dataset.item_N[later].astype(np.int64) * R + dataset.rating_N[later])
        pair_n = pair_n[made.behaviours(pair_n // R, pair_n % R) < 0]
        items = np.unique(pair_n // R)
        texts = dict(zip(items.tolist(), table_texts(dataset.catalogue.take(items)), strict=True))
        new = Pairs(pair_n, len(made.lengths) + np.arange(len(pair_n)))
        every = grown(self.later, new, Pairs.joined) if len(new) else self.later
        of_log = dataset.log.line, len(dataset)
        return made.grown(self.writer.behaviours(texts, pair_n.tolist()), later=every, of_log=of_log)

    def behaviours(self, items: Int[np.ndarray, "..."], ratings: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """The segments of behaviours with these items and codes of ratings; -1 where nobody gave the one the other."""
        M, R = self.behaviour_MR.shape
        if not self.later and items.max(initial=0) < M:
            return np.asarray(self.behaviour_MR[items, ratings])
        known, pairs = items < M, items.astype(np.int64) * R + ratings
        found = np.where(known, self.behaviour_MR[np.where(known, items, 0), ratings], -1)
        for piece in self.later:
            place = np.minimum(np.searchsorted(piece.pair_n, pairs), len(piece) - 1)
            found = np.where(piece.pair_n[place] == pairs, piece.segment_n[place], found)
        return np.asarray(found)

    def prompt(self, user: int, items: Sequence[int], ratings: Sequence[int], target: int) -> list[int]:
        """One prompt by plain concatenation; ``ratings`` are codes of rating levels."""
        return self.plain(
            [
                self.head_U2[user, int(len(items) > 0)],
                *self.behaviours(np.asarray(items, np.int64), np.asarray(ratings, np.int64)),
                self.question_M[target],
            ]
        )

    def _compare_with_whole_texts(
        self, dataset: Dataset, template: Template, line_tokenizer: LineTokenizer, items: list[dict[str, str]]
    ) -> None:
        words, levels = dataset.words.model_dump(), dataset.levels
        targets = dataset.targets(np.unique(np.linspace(0, len(dataset) - 1, CHECKED).astype(np.int64)))
        rows_BK, mask_BK = dataset.history(targets, CHECKED_BEHAVIOURS)
        for place in range(len(targets)):
            user, target, rows = int(targets.user_B[place]), int(targets.item_B[place]), rows_BK[place, mask_BK[place]]
            seen, ratings = dataset.item_N[rows].tolist(), dataset.rating_N[rows].tolist()
            profile = table_texts(dataset.profiles.slice(user, 1))[0]
            shown = [(items[item], levels[rating]) for item, rating in zip(seen, ratings, strict=True)]
            text = template.render(words, profile, shown, items[target])
            if self.prompt(user, seen, ratings, target) != line_tokenizer.whole(text):
                raise lines_join(line_tokenizer.plain(text))
