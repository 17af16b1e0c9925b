"""The lines of all prompts, tokenised once. Knows a tokenizer and the texts, not which behaviours a prompt shows.

The lines put one after another are, token by token, what the tokenizer makes of the whole prompt. For that each line is
tokenised between a line before and a line after it and cut out by its offsets; where a token reaches across the end of
a line this cannot work, and is an error. Slots of soft tokens are part of the lines.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from lifelora.data.dataset import Dataset
from lifelora.prompts.slots import Place, SlotTokenizer
from lifelora.prompts.template import Template, marked
from lifelora.tokens import LineTokenizer, lines_join

CHECKED = 64
"""Prompts that are compared with the tokens of their whole text at build time."""
CHECKED_BEHAVIOURS = 30


@dataclass(frozen=True)
class Lines:
    """Token ids of all lines in one flat array; segment ``s`` is ``tokens_T[offsets_N[s] : offsets_N[s + 1]]``.

    Where a soft token goes stands ``slots.ITEM`` or ``slots.USER``, which are no ids.
    """

    tokens_T: Int[np.ndarray, "T"]
    offsets_N: Int[np.ndarray, "N"]

    def joined(self, parts_BS: Int[np.ndarray, "B S"], lengths_BS: Int[np.ndarray, "B S"]) -> Int[np.ndarray, "T"]:
        """The tokens of segments one after another, row by row; a length of 0 leaves a segment out."""
        lengths_S = lengths_BS.ravel()
        source_T = np.repeat(self.offsets_N[parts_BS].ravel() - np.cumsum(lengths_S) + lengths_S, lengths_S)
        return self.tokens_T[source_T + np.arange(len(source_T))]


@dataclass(frozen=True)
class Segments(Lines):
    """The lines of questions that are answered yes or no."""

    head_U2: Int[np.ndarray, "U 2"]
    "Segments of each user's head: without behaviours, with."
    behaviour_MR: Int[np.ndarray, "M R"]
    "Segment of an item's line by the code of its rating; -1 where nobody gave it that rating."
    question_M: Int[np.ndarray, "M"]

    @classmethod
    def build(cls, dataset: Dataset, template: Template, tokenizer: Any, soft: Collection[Place] = ()) -> "Segments":
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
            tokens_T=np.concatenate(segments),
            offsets_N=np.cumsum([0, *(len(segment) for segment in segments)], dtype=np.int64),
            head_U2=head_U2,
            behaviour_MR=behaviour_MR.reshape(-1, n_ratings),
            question_M=(len(heads) + len(pairs) + np.arange(dataset.n_items)).astype(np.int32),
        )
        made._compare_with_whole_texts(dataset, template, line_tokenizer, items)
        return made

    def prompt(self, user: int, items: Sequence[int], ratings: Sequence[int], target: int) -> list[int]:
        """One prompt by plain concatenation; ``ratings`` are codes of rating levels."""
        chosen = [
            self.head_U2[user, int(len(items) > 0)],
            *(self.behaviour_MR[item, rating] for item, rating in zip(items, ratings, strict=True)),
            self.question_M[target],
        ]
        return [int(token) for s in chosen for token in self.tokens_T[self.offsets_N[s] : self.offsets_N[s + 1]]]

    def save(self, folder: Path) -> None:
        """One .npy per array."""
        folder.mkdir(parents=True, exist_ok=True)
        for field in fields(self):
            np.save(folder / f"{field.name}.npy", getattr(self, field.name), allow_pickle=False)

    @classmethod
    def load(cls, folder: Path) -> "Segments":
        """What ``save`` wrote, memory-mapped."""
        names = [field.name for field in fields(cls)]
        return cls(**{name: np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in names})

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


def table_texts(table: pa.Table) -> list[dict[str, str]]:
    """The rows of a table of texts."""
    return [{name: value or "" for name, value in row.items()} for row in table.to_pylist()]
