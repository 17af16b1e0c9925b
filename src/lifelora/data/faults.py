"""What is done about rows that say too little, or say it twice. Knows no file format.

Every key refuses by default. Another setting says in a note how many rows it touched.
"""

from collections.abc import Mapping
from typing import ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from lifelora.data.omit import omit
from lifelora.data.rows import Rows, mask
from lifelora.types import Frozen

NOTHING = r"^(?i:null|nan?|n/a|none|\\N)?$"
"""How tables write that there is no rating or no time."""


class Faults(Frozen):
    """Keys about faults that every log has."""

    duplicates: Literal["refuse", "first", "last"] = "refuse"
    """Of interactions with the same user, item and time (without times: and rating), and of rows with the same id in the
    catalogue or the profiles: which one stays, in the order of the file."""
    without_user: Literal["refuse", "drop"] = "refuse"
    "Rows of the log and of the profiles without a user's id."
    without_item: Literal["refuse", "drop"] = "refuse"
    "Rows of the log and of the catalogue without an item's id."
    without_rating: Literal["refuse", "drop"] = "refuse"
    "Interactions without a rating, a count or a kind of event: empty, NULL, NA, nan, None or \\N."
    without_time: Literal["refuse", "drop"] = "refuse"
    "Interactions without a time, written in the same ways."
    without_title: Literal["refuse", "id", "drop"] = "refuse"
    "Items of the catalogue whose title is empty: they are called by their ids, or are not in it."
    unknown_items: Literal["refuse", "allow", "drop"] = "refuse"
    "Interactions whose item the catalogue lacks; allowed ones have no text."

    offered: ClassVar[bool] = True

    def mend(self, key: str, *values: str) -> str:
        """The end of a refusal: the key and the values that would let the rows pass, where there is such a key."""
        allowed = " or ".join(f'"{value}"' for value in values)
        return f"; or set {key} = {allowed}" if self.offered else ""

    def dropped(self, rows: Rows, keys: Mapping[str, str], notes: list[str]) -> Rows:
        """The rows without those that lack a value in a column whose key says ``drop``; ``keys`` are columns and their keys."""
        for column, key in keys.items():
            if getattr(self, key) == "drop":
                rows = omit(rows, self._lacking(rows, column, key), notes, f'they have no {key[8:]} ({key} = "drop")')
        return rows

    def _lacking(self, rows: Rows, column: str, key: str) -> Bool[np.ndarray, "N"]:
        text = rows.table.column(column)
        return (
            nothing(text) if key in ("without_rating", "without_time") else mask(pc.equal(pc.utf8_trim_whitespace(text), ""))
        )  # an id may be called NULL


def nothing(column: pa.ChunkedArray) -> Bool[np.ndarray, "N"]:
    """Which cells say that there is no value."""
    return mask(pc.match_substring_regex(pc.utf8_trim_whitespace(column), NOTHING))


class Published(Faults):
    """Of a source that brings tables as they were published: it has no such keys, so refusals name none."""

    offered: ClassVar[bool] = False


PUBLISHED = Published()
