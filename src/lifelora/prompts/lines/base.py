"""The lines of prompts, tokenised once, as segments of one flat array. Knows token ids, not what the lines say.

The lines put one after another are, token by token, what the tokenizer makes of the whole prompt. For that each line is
tokenised between a line before and a line after it and cut out by its offsets; where a token reaches across the end of
a line this cannot work, and is an error. Slots of soft tokens are part of the lines.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from jaxtyping import Int

from lifelora.data.column import Values, longer
from lifelora.data.fields import as_texts
from lifelora.prompts.slots import ITEM

CHECKED = 64
"""Prompts that are compared with the tokens of their whole text at build time."""
CHECKED_BEHAVIOURS = 30

AnyLines = TypeVar("AnyLines", bound="Lines")


@dataclass(frozen=True)
class Lines:
    """Token ids of all lines in one flat array; segment ``s`` is ``tokens_T[offsets_N[s] : offsets_N[s + 1]]``.

    Where a soft token goes stands ``slots.ITEM`` or ``slots.USER``, which are no ids.
    """

    tokens_T: Values
    offsets_N: Values

    @cached_property
    def lengths(self) -> Values:
        """The tokens of each segment."""
        return np.diff(np.asarray(self.offsets_N))

    @cached_property
    def slotted(self) -> Values:
        """Which segments have a slot for an item's soft token."""
        slotted_N, slot_X = np.zeros(len(self.lengths), np.bool_), np.flatnonzero(np.asarray(self.tokens_T) == ITEM)
        slotted_N[np.searchsorted(np.asarray(self.offsets_N), slot_X, side="right") - 1] = True
        return slotted_N

    def joined(self, parts_BS: Int[np.ndarray, "*B S"], lengths_BS: Int[np.ndarray, "*B S"]) -> Int[np.ndarray, "T"]:
        """The tokens of segments one after another, row by row; a length of 0 leaves a segment out."""
        lengths_S = lengths_BS.ravel()
        source_T = np.repeat(self.offsets_N[parts_BS].ravel() - np.cumsum(lengths_S) + lengths_S, lengths_S)
        source_T += np.arange(len(source_T))
        return np.asarray(self.tokens_T[source_T])

    def plain(self, parts: Sequence[int | np.integer[Any]]) -> list[int]:
        """Some segments by plain concatenation."""
        return [int(token) for s in parts for token in self.tokens_T[self.offsets_N[s] : self.offsets_N[s + 1]]]

    def longer(self: AnyLines, segments: Sequence[Int[np.ndarray, "_"]]) -> AnyLines:
        """With more segments at the end."""
        offsets_N = np.append(self.offsets_N, self.offsets_N[-1] + np.cumsum([*map(len, segments)], dtype=np.int64))
        return replace(self, tokens_T=np.concatenate([self.tokens_T, *segments]), offsets_N=offsets_N)

    def grown(self: AnyLines, segments: Sequence[Int[np.ndarray, "_"]], **changes: Any) -> AnyLines:
        """With more segments at the end, and other fields changed; what is there is shared, not copied."""
        lengths = np.array([len(segment) for segment in segments], np.int64)
        made = replace(
            self,
            tokens_T=longer(self.tokens_T, np.concatenate([*segments, np.zeros(0, np.int32)])),
            offsets_N=longer(self.offsets_N, self.offsets_N[len(self.offsets_N) - 1] + np.cumsum(lengths)),
            **changes,
        )
        slotted = np.array([np.any(segment == ITEM) for segment in segments], np.bool_)
        # Where cached_property keeps them.
        made.__dict__.update(lengths=longer(self.lengths, lengths), slotted=longer(self.slotted, slotted))
        return made


def flat(segments: Sequence[Int[np.ndarray, "_"]]) -> tuple[Int[np.ndarray, "T"], Int[np.ndarray, "N"]]:
    """Segments as ``tokens_T`` and ``offsets_N``."""
    return np.concatenate(segments), np.cumsum([0, *map(len, segments)], dtype=np.int64)


def table_texts(table: pa.Table) -> list[dict[str, str]]:
    """The rows of a table as texts; the values of a field that has several are joined."""
    return [{name: value or "" for name, value in row.items()} for row in as_texts(table).to_pylist()]
