"""The lines of questions that are answered yes or no, tokenised once. Knows a tokenizer and texts, not what a prompt shows."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Int

from lifelora.data.dataset import Dataset
from lifelora.prompts.lines.base import CHECKED, CHECKED_BEHAVIOURS, Lines, flat, table_texts
from lifelora.prompts.slots import Place, SlotTokenizer
from lifelora.prompts.wording.fields import marked
from lifelora.prompts.wording.yes_no import Template
from lifelora.tokens import LineTokenizer, lines_join


@dataclass(frozen=True)
class YesNoLines(Lines):
    """The lines of questions that are answered yes or no."""

    head_U2: Int[np.ndarray, "U 2"]
    "YesNoLines of each user's head: without behaviours, with."
    behaviour_MR: Int[np.ndarray, "M R"]
    "Segment of an item's line by the code of its rating; -1 where nobody gave it that rating."
    question_M: Int[np.ndarray, "M"]

    @classmethod
    def build(cls, dataset: Dataset, template: Template, tokenizer: Any, soft: Collection[Place] = ()) -> "YesNoLines":
        """Tokenise every line that a prompt about ``dataset`` can need; ``soft`` says whose soft tokens it has.

        Raises ConfigError for a template with fields that the data lack, and for a tokenizer that joins lines.
        """
        words = dataset.words.model_dump()
        template.check(dataset.catalogue.column_names, dataset.profiles.column_names, words)
        line_tokenizer = SlotTokenizer(tokenizer) if soft else LineTokenizer(tokenizer)
        template = marked(template.slotted(soft), line_tokenizer.marked)
        items = table_texts(dataset.catalogue)
        n_ratings = len(dataset.rating_levels)

        heads: dict[str, int] = {}
        head_U2 = np.array(
            [[heads.setdefault(template.head(words, user, shown), len(heads)) for shown in (False, True)]
             for user in table_texts(dataset.profiles)], np.int32,
        ).reshape(-1, 2)
        pairs = np.unique(np.asarray(dataset.item_N, np.int64) * n_ratings + dataset.rating_N)
        behaviours = [
            template.behaviour_line(words, items[pair // n_ratings], dataset.rating_levels[pair % n_ratings])
            for pair in pairs.tolist()
        ]
        questions, rests = zip(*(template.question_parts(words, item) for item in items), strict=True)

        neighbour = template.behaviour_line(words, {"title": "A"}, dataset.rating_levels[-1])
        start = np.array(line_tokenizer.start, np.int32)
        segments = [np.concatenate([start, ids]) for ids in line_tokenizer.lines(list(heads), "", neighbour)]
        segments += line_tokenizer.lines(behaviours, neighbour, neighbour)
        rest = dict(_distinct(line_tokenizer, rests, neighbour))
        segments += [np.concatenate([ids, rest[text]])
                     for ids, text in zip(line_tokenizer.lines(questions, neighbour, neighbour), rests, strict=True)]
        behaviour_MR = np.full(dataset.n_items * n_ratings, -1, np.int32)
        behaviour_MR[pairs] = len(heads) + np.arange(len(pairs))
        made = cls(
            *flat(segments),
            head_U2=head_U2,
            behaviour_MR=behaviour_MR.reshape(-1, n_ratings),
            question_M=(len(heads) + len(pairs) + np.arange(dataset.n_items)).astype(np.int32),
        )
        made._compare_with_whole_texts(dataset, template, line_tokenizer, items)
        return made

    def prompt(self, user: int, items: Sequence[int], ratings: Sequence[int], target: int) -> list[int]:
        """One prompt by plain concatenation; ``ratings`` are codes of rating levels."""
        return self.plain([
            self.head_U2[user, int(len(items) > 0)],
            *(self.behaviour_MR[item, rating] for item, rating in zip(items, ratings, strict=True)),
            self.question_M[target],
        ])

    def _compare_with_whole_texts(
        self, dataset: Dataset, template: Template, line_tokenizer: LineTokenizer, items: list[dict[str, str]]
    ) -> None:
        words, levels = dataset.words.model_dump(), dataset.rating_levels
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


def _distinct(line_tokenizer: LineTokenizer, texts: Sequence[str], before: str) -> Iterator[tuple[str, Int[np.ndarray, "L"]]]:
    distinct = list(dict.fromkeys(texts))
    return zip(distinct, line_tokenizer.lines(distinct, before, ""), strict=True)
