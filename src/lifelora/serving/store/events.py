"""Events as a store takes and gives them, and what is checked before one is kept. Knows no database.

What passes here can be read by ``Dataset.extended`` of the data set whose ``Form`` it is, and is what that would make of it: ids
in Unicode's composed form without blanks around them, ratings as 32-bit numbers, times in whole seconds.
"""

import math
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lifelora import foreign
from lifelora.artefacts import read_json
from lifelora.data.extend import EVENTS, Event
from lifelora.data.interactions import MAX_RATING
from lifelora.data.rows import Problems
from lifelora.data.times import EARLIEST, LATEST, SOON, UNITS
from lifelora.errors import DataError, Problem

MAX_ID = 1000
"""Bytes of an id or a key in UTF-8: PostgreSQL's index holds no entry of more than 2,700."""
SECONDS_BEGIN = 1_000_000_000
"""Where events have no times, imported ones have their place in the log; those sent here the second in which they came."""
NUMBER = (int, float, np.integer, np.floating)


@dataclass(frozen=True)
class NewEvent(Event):
    """An event as a client sends it."""

    id: str | None = None
    "The client's key: what it sends again under one key is one event."


class Kept(NamedTuple):
    """An event of the store, with all that an ``Event`` for ``Dataset.extended`` has."""

    seq: int
    "Its sequence number: events are numbered in the order in which they were accepted, with gaps."
    user: str
    item: str
    rating: float
    time: int
    "Unix seconds; where events have no times, the second in which it was accepted, or its place in the imported log."
    id: str | None


class Accepted(NamedTuple):
    """What became of an event that was sent."""

    seq: int
    new: bool
    "False where the store had it already."


class Row(NamedTuple):
    """A checked event on its way in."""

    user: str
    item: str
    rating: float
    time: int | None
    "None where events have no times."
    id: str | None = None


@dataclass(frozen=True)
class Form:
    """What the events of a shop say, as its prepared data has them."""

    levels: tuple[float, ...]
    "The ratings that there are, as 32-bit numbers."
    has_times: bool = True
    has_ratings: bool = True
    keep_from: float | None = None
    "Events rated below it are kept here, and models leave them out (``data.rules.keep_from``)."

    @classmethod
    def of(cls, folder: str | Path) -> "Form":
        """Of a prepared data set: stage ``1-data`` of a run."""
        facts = read_json(Path(folder) / "dataset.json")
        levels = tuple(float(np.float32(level)) for level in facts["rating_levels"])
        return cls(levels, bool(facts["has_times"]), facts.get("has_ratings", True), facts.get("keep_from"))

    def rating(self, value: object) -> float:
        """A rating of this shop; ValueError says why it is none."""
        if not self.has_ratings:  # all have the one level that there is
            return self.levels[0]
        number = _number(value, "rating")
        if not math.isfinite(number):
            raise ValueError("a rating must be finite")
        if abs(number) > MAX_RATING:
            raise ValueError("too large for a rating: 32-bit floating point does not hold it")
        rating = float(np.float32(number))
        if rating not in self.levels and not (self.keep_from is not None and rating < self.keep_from):
            known = ", ".join(f"{level:g}" for level in self.levels)
            raise ValueError(f"this data set has no such rating; its ratings are {known}")
        return rating

    def time(self, value: object) -> int | None:
        """Whole Unix seconds, or None where events have no times; ValueError says why it is none."""
        if not self.has_times:
            return None
        number = _number(value, "time")
        if not math.isfinite(number):
            raise ValueError("not a time; write seconds since 1970")
        if abs(number) > LATEST:
            for unit, scale in UNITS.items():
                if EARLIEST * scale <= number < SOON * scale:
                    raise ValueError(f"this looks like {unit} since 1970; a time is in seconds")
            raise ValueError("too large for a time: no log holds the year 5138")
        return math.floor(number)


def known_id(value: object, what: str = "user") -> str:
    """An id as it is kept; DataError where none can be so."""
    try:
        return _id(value)
    except ValueError as error:
        raise DataError([Problem(f"{what}s", None, None, foreign.shown(value), str(error))]) from None


def checked(events: Iterable[Event], form: Form) -> list[Row]:
    """Events as rows; DataError lists all that is wrong with them, by their numbers from 1."""
    rows, problems = list[Row](), Problems()
    readers: dict[str, Callable[[object], Any]] = {
        "user": _id,
        "item": _id,
        "rating": form.rating,
        "time": form.time,
        "id": lambda value: None if value is None else _id(value),
    }
    for number, event in enumerate(events, start=1):
        values = []
        for column, read in readers.items():
            value = getattr(event, column, None)
            try:
                values.append(read(value))
            except ValueError as error:
                problems.add(Problem(EVENTS, number, column, foreign.shown(value), str(error)))
        if len(values) == len(readers):
            rows.append(Row(*values))
    problems.refuse()
    return rows


def _id(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("an id is a text")
    try:
        length = len(value.encode())
    except UnicodeEncodeError:
        raise ValueError("an id is a text, and this has half of a surrogate pair") from None
    text = unicodedata.normalize("NFC", value).strip()
    if not text:
        raise ValueError("an id is missing")
    if "\0" in text:
        raise ValueError("an id has no NUL, which no database keeps in a text")
    if max(length, len(text.encode())) > MAX_ID:
        raise ValueError(f"too long for an id: {length:,} bytes, and {MAX_ID:,} are allowed")
    return text


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, NUMBER):
        raise ValueError(f"a {what} is a number")
    try:
        return float(value)
    except OverflowError:
        return math.inf if what == "time" else MAX_RATING * 2
