"""How a run's log follows a store: users who were forgotten, then items, then events, in the store's order. Knows no engine.

Whichever process writes into the store (a service, another one on its database, an import), the log is told once and in one
order. An event that came late gets its place: its user is told anew. What the log cannot take is left in the store, and said; of
an item that was unknown, it is told as soon as the item is. A log that begins to follow does so at the store's beginning; from
then on ``advance`` tells it what is new.
"""

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from itertools import islice, takewhile
from threading import Lock
from time import monotonic
from typing import NamedTuple, Protocol, runtime_checkable

from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event, Told
from lifelora.data.rows import is_list
from lifelora.endpoint.caller import EndpointError
from lifelora.errors import ConfigError, DataError
from lifelora.serving.following.fitting import Why, fitting
from lifelora.serving.following.left_out import LeftOut
from lifelora.serving.store import Form, Kept, Store

AT_ONCE = 200_000
"""Events that are told together, and in memory at a time."""
NEVER = 2**62


@runtime_checkable
class Log(Protocol):
    """What is told: the log of a run that is open, in this thread or in another."""

    @property
    def dataset(self) -> Dataset:
        """As it is now."""

    def add_events(self, events: list[Event], anew: Collection[str]) -> None:
        """As of ``Dataset.extended``."""

    def add_items(self, items: list[Told]) -> list[str]:
        """New items; what a reader should know of them."""

    def forget(self, user: str) -> None:
        """A user whom the log has."""


class Position(NamedTuple):
    """How far into a store a log was told: up to an event and an item, by their numbers."""

    event: int = NEVER
    item: int = NEVER


@dataclass
class Counts:
    """What became of events that a log was told of."""

    used: int = 0
    there: int = 0
    "In the log already."
    left_out: Counter[Why] = field(default_factory=Counter)
    items: int = 0
    "New items."
    forgotten: int = 0
    "Users who were dropped."


class Follower:
    """Of one log and one store. Its methods may be called by any thread."""

    def __init__(
        self,
        log: Log,
        store: Store,
        form: Form,
        told: Callable[..., None],
        end: Position | None = None,
        pause: float | None = None,
    ) -> None:
        """``form`` is that of the log's data; ``told`` gets what is not used: what it is, how many, and ``error`` of the log.

        What the store has beyond ``end`` is left alone. Users who were forgotten are dropped all the same. With a ``pause`` items
        whose vectors cannot be made wait, so many seconds at least, and all else goes on; without one the error of it is raised.
        """
        self._log, self._store, self._form, self._told, self._end = log, store, form, told, end or Position()
        self._lock, self._seq, self._item = Lock(), 0, 0
        self._note: int | None = None
        self._left_out, self._anew = LeftOut(), set[str]()
        self._notes = list[str]()
        self._pause, self._next, self.waiting = pause, 0.0, False
        "Whether items wait for their vectors."
        self.counts = Counts()

    @property
    def position(self) -> Position:
        """How far the log was told."""
        return Position(self._seq, self._item)

    def advance(self, until: int | None = None, forgotten: str | None = None, again: bool = False) -> None:
        """Tell the log what the store has and it does not know; at once back where it knows event ``until`` already.

        ``forgotten`` is a user of whom this caller knows that the store has just forgotten them; ``again`` says that items that
        wait may be tried, which takes time. Raises StoreError and what the log raises but DataError; what was told before is not
        told again.
        """
        with self._lock:
            if until is not None and self._seq >= until:
                return
            self._forget(forgotten)
            if not self.waiting or (again and monotonic() >= self._next):
                self._tell_items()
            if self._anew:
                self._tell([])
            events = takewhile(lambda event: event.seq <= self._end.event, self._store.since(self._seq))
            while bulk := list(islice(events, AT_ONCE)):
                self._tell(bulk)
                self._seq = bulk[-1].seq

    def left_out(self, seq: int) -> Why | None:
        """Why the log does not have an event; None where it does."""
        return self._left_out.why(seq)

    def notes(self) -> list[str]:
        """What a reader should know of the items that were told last."""
        return self._notes

    def _tell(self, events: list[Kept]) -> None:
        """Events that are new, and all later ones of users who have to be told anew: they wait for it until it is done."""
        dataset = self._log.dataset
        made = fitting(dataset, events, self._form)
        self.counts.there += made.there
        users, until = self._anew | made.anew, max([self._seq, *(one.seq for one in events)])
        if users:
            again = (one for user in users for one in self._store.history(user) if one.seq <= until)
            events = sorted([*(one for one in events if one.user not in users), *again], key=lambda one: one.seq)
            users = {user for user in users if user in dataset.users}
            made = fitting(dataset.extended([], anew=users), events, self._form)
        for bulk in made.bulks:
            told, before = [Event(one.user, one.item, one.rating, one.time) for one in bulk], len(self._log.dataset)
            try:
                self._log.add_events(told, users)
                self.counts.used += len(self._log.dataset) - before
            except DataError as error:
                self._told("events not used", error=error, events=len(bulk))
                made.left_out |= {event.seq: Why.REFUSED for event in bulk}
            users = set()
        was = self._left_out.take(event.seq for event in events)
        self.counts.left_out = self.counts.left_out - was + Counter(made.left_out.values())
        if dropped := self._left_out.put(events, made.left_out):
            self._told("too many events wait for their items", events=dropped)
        self._anew = set()

    def _tell_items(self) -> None:
        dataset, new = self._log.dataset, list[Told]()
        came = [*takewhile(lambda item: item.seq <= self._end.item, self._store.items(self._item))]
        for kept in came:
            if kept.item in dataset.items:
                continue
            # Another run's catalogue may have other columns.
            told: dict[str, str | list[str]] = {"item": kept.item}
            for name, value in kept.texts.items():
                if name in dataset.catalogue.column_names:
                    several = is_list(dataset.catalogue.column(name))
                    told[name] = value if several or isinstance(value, str) else ", ".join(value)
            new.append(told)
        try:
            self._notes = self._log.add_items(new) if new else self._notes
        except DataError as error:
            self._told("items not used", error=error, items=len(new))
            new = []
        except (EndpointError, ConfigError) as error:
            if self._pause is None:
                raise
            self._told("items wait", error=error, items=len(new))
            self._next, self.waiting = monotonic() + self._pause, True
            return
        self._item, self.waiting = came[-1].seq if came else self._item, False
        self.counts.items += len(new)
        items = {item["item"] for item in new}
        self._anew |= self._left_out.waiting_for(items)

    def _forget(self, user: str | None) -> None:
        notes = self._store.forgotten(self._note or 0)
        if not notes:
            self._note = self._note or 0
            return
        first, marks = self._note is None, {note.mark for note in notes}
        if user is not None and self._store.mark(user) in marks:
            marks.discard(self._store.mark(user))
            self._drop(user)
        if marks:  # forgotten by another process, or before this log began to follow
            users = {*self._log.dataset.users.all(), *self._left_out.users()}
            gone = self._store.forgotten_among(users) if first else {one for one in users if self._store.mark(one) in marks}
            for one in gone:
                self._drop(one)
        self._note = notes[-1].seq  # last: where something fails before, all of them are looked for again

    def _drop(self, user: str) -> None:
        if user in self._log.dataset.users:
            self._log.forget(user)
            self.counts.forgotten += 1
        self.counts.left_out -= self._left_out.take(self._left_out.of(user))
        self._anew.add(user)  # what is of a later life
