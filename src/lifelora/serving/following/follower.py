"""How an engine follows a store: users who were forgotten, then items, then events, in the store's order. Knows no HTTP.

Whichever process writes into the store (this service, another one on its database, an import), the engine is told once and in one
order. What its log cannot take now is left in the store, and said. An engine that starts, or comes in the place of another,
begins at the store's beginning; from then on ``advance`` tells it what is new.
"""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import islice
from threading import Lock

from lifelora.data.extend import Event, Told
from lifelora.data.rows import is_list
from lifelora.errors import DataError
from lifelora.serving.app.fitting import Fitting, fitting
from lifelora.serving.app.logs import tell
from lifelora.serving.engine import Engine
from lifelora.serving.store import Form, Kept, Store

AT_ONCE = 200_000
"""Events that are told together: each telling costs what all later events cost."""
REMEMBERED = 100_000
"""Events of which it is remembered why they are not used."""
REFUSED = "the run's log did not take it; the service's log says more"


class Follower:
    """Of one engine and one store. Its methods may be called by any thread."""

    def __init__(self, engine: Engine, store: Store, form: Form) -> None:
        """``form`` is that of the engine's data."""
        self._engine, self._store, self._form = engine, store, form
        self._lock, self._seq, self._item = Lock(), 0, 0
        self._note: int | None = None
        self._left_out = OrderedDict[int, str]()
        self._notes = list[str]()

    def advance(self, until: int | None = None, forgotten: str | None = None) -> None:
        """Tell the engine what the store has and it does not know; at once back where it knows event ``until`` already.

        ``forgotten`` is a user of whom this caller knows that the store has just forgotten them. Raises StoreError and
        ClosedError; what was told before is not told again.
        """
        with self._lock:
            if until is not None and self._seq >= until:
                return
            self._forget(forgotten)
            self._tell_items()
            events = self._store.since(self._seq)
            while bulk := list(islice(events, AT_ONCE)):
                self._tell(bulk)
                self._seq = bulk[-1].seq

    def left_out(self, seq: int) -> str:
        """Why the engine does not use an event; nothing where it does."""
        return self._left_out.get(seq, "")

    def notes(self) -> list[str]:
        """What a reader should know of the items that were told last."""
        return self._notes

    def _tell(self, events: list[Kept]) -> None:
        made = self._fitting(events)
        for bulk in made.bulks:
            try:
                self._engine.add_events([Event(one.user, one.item, one.rating, one.time) for one in bulk]).result()
            except DataError as error:  # the rules of ``fitting`` are the log's; should they ever differ, the service goes on
                tell("events not used", error=error, events=len(bulk))
                made.left_out |= {event.seq: REFUSED for event in bulk}
        self._left_out |= made.left_out
        while len(self._left_out) > REMEMBERED:
            self._left_out.popitem(last=False)

    def _fitting(self, events: list[Kept]) -> Fitting:
        return fitting(self._engine.run.context.dataset, events, self._form)

    def _tell_items(self) -> None:
        dataset, new = self._engine.run.context.dataset, list[Told]()
        for kept in self._store.items(self._item):
            self._item = kept.seq
            if kept.item in dataset.items:
                continue
            # Another run's catalogue may have other columns.
            told: dict[str, str | list[str]] = {"item": kept.item}
            for name, value in kept.texts.items():
                if name in dataset.catalogue.column_names:
                    several = is_list(dataset.catalogue.column(name))
                    told[name] = value if several or isinstance(value, str) else ", ".join(value)
            new.append(told)
        if new:
            try:
                self._notes = self._engine.add_items(new).result()
            except DataError as error:
                tell("items not used", error=error, items=len(new))

    def _forget(self, user: str | None) -> None:
        notes = self._store.forgotten(self._note or 0)
        if not notes:
            self._note = self._note or 0
            return
        first, self._note = self._note is None, notes[-1].seq
        marks = {note.mark for note in notes}
        if user is not None and self._store.mark(user) in marks:
            marks.discard(self._store.mark(user))
            self._drop(user)
        if marks:  # forgotten by another process, or before this engine started
            users = list(self._users())
            gone = self._store.forgotten_among(users) if first else {one for one in users if self._store.mark(one) in marks}
            for one in gone:
                self._drop(one)

    def _drop(self, user: str) -> None:
        if user in self._engine.run.context.dataset.users:
            self._engine.forget(user).result()
        again = [event for event in self._store.history(user) if event.seq <= self._seq]  # of a later life
        if again:
            self._tell(again)

    def _users(self) -> Iterator[str]:
        dataset = self._engine.run.context.dataset
        for start in range(0, dataset.n_users, AT_ONCE):
            ids = dataset.users.outside(range(start, min(start + AT_ONCE, dataset.n_users)))
            yield from (one for one in ids if one is not None)
