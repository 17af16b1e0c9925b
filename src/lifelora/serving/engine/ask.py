"""Requests that wait for an answer. Know what is asked and until when, no run and no model."""

from abc import ABC, abstractmethod
from collections.abc import Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TypedDict

from lifelora.run.recommend.cold import Cold
from lifelora.serving.engine.answer import Answer


class Asked(TypedDict):
    """Who is to answer, and until when; see ``Ask``."""

    system: str
    why: str
    deadline: float | None


@dataclass(eq=False, kw_only=True)
class Ask(ABC):
    """What every request has."""

    user: str
    system: str
    "Which is to answer."
    why: str = ""
    "Why, where it was not named."
    deadline: float | None = None
    "Seconds of ``time.monotonic``; None: however long it takes."
    cold: Cold = "popularity"
    reasons: bool = True
    future: "Future[Answer]" = field(default_factory=Future)

    @property
    @abstractmethod
    def key(self) -> Hashable:
        """Requests with one key may be answered together."""

    @property
    @abstractmethod
    def kind(self) -> str:
        """What is asked for."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How much work it is."""

    @property
    def work(self) -> Hashable:
        """What is measured together."""
        return (self.kind, self.system)


@dataclass(eq=False, kw_only=True)
class ScoreAsk(Ask):
    """Scores of candidates."""

    items: tuple[str, ...]
    ragged: bool
    "Whether requests with other numbers of candidates may go with it."

    @property
    def key(self) -> Hashable:
        return (self.kind, self.system, None if self.ragged else len(self.items))

    @property
    def kind(self) -> str:
        return "score"

    @property
    def size(self) -> int:
        return len(self.items)


@dataclass(eq=False, kw_only=True)
class ListAsk(Ask):
    """A list of items to recommend."""

    n: int
    exclude: tuple[str, ...] = ()
    among: tuple[str, ...] | None = None
    where: tuple[str, ...] = ()
    allow_seen: bool = False

    @property
    def key(self) -> Hashable:
        return (type(self), self.system, self.n, self.among, self.where, self.allow_seen)

    @property
    def kind(self) -> str:
        return "recommend"

    @property
    def size(self) -> int:
        return 1


@dataclass(eq=False, kw_only=True)
class ToldAsk(ListAsk):
    """A list for a new user by a history that comes along: items, oldest first, with ratings or None for the highest."""

    history: tuple[tuple[str, float | None], ...]
