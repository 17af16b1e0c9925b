"""What every source yields: three checked tables and the domain's words. Knows no file format and no model."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from lifelora.types import Frozen


class Words(Frozen):
    """The domain's nouns and verb, as prompts say them."""

    item: str = "item"
    "One thing of the catalogue: film, book, song."
    items: str = "items"
    did: str = "rated"
    "What a user did to it, in the past tense: watched, read, played."
    star: str = "star"
    "One unit of a rating: star, point."
    stars: str = "stars"
    rated: str = "rated"
    """What a user did to items beside that, as in "read and rated them". A data set in which ratings tell nothing, or are kinds
    of events or counts, has no such word, nor one for a unit."""


@dataclass(frozen=True)
class RawTables:
    """A whole data set with outside ids (strings), checked once at the door and never again."""

    interactions: pa.Table
    """user: string, item: string, rating: float32 (absent where a row says no more than that a user chose an item), time: int64
    (Unix seconds; absent where the set has no times); perhaps
    part: string, train, valid or test for the targets of a published split, and empty for rows that are only history."""
    catalogue: pa.Table
    """item: string, title: string, further columns (categorical fields), perhaps description. A field is a column of strings (an
    empty one: unknown) or, where it may have several values, of lists of strings (none twice; without any: unknown)."""
    profiles: pa.Table
    "user: string, further columns as those of the catalogue."
    words: Words
    notes: tuple[str, ...] = ()
    "What a reader should know about the data before trusting a figure made from it."
    left_out: tuple[str, ...] = ()
    """Fields that prompts show only where a line names them: ``{others}`` leaves them out. Those of published sets, whose prompts
    in the papers have none of them."""
    level_names: Mapping[float, str] = field(default_factory=dict)
    "What prompts and reports call a rating, where it has a name of its own: purchase, 2 to 9 times."
    candidates: pa.Table | None = None
    """user: string, item: string (the target), candidates: lists of strings, all equally long, the target among them: the lists
    of a published protocol, in the order that they have."""
    seen: pa.Table | None = None
    "user: string, item: string: events that are left out of the log, and whose items their users have seen nevertheless."
