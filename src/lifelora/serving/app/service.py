"""A run that answers, the store that keeps, and how one run takes the place of another. Knows no HTTP.

Order: what comes is first kept in the store, and acknowledged once it is on disk; the engine is told of it from there. A new run
is loaded beside the old one, catches up with the store, and takes over; the old one answers what it has. No request is dropped.
"""

import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event, Told
from lifelora.errors import BusyError, ClosedError, ConfigError, ConflictError, DataError, StoreError
from lifelora.run import Run
from lifelora.serving.app.logs import tell
from lifelora.serving.engine import Answer, Engine, EngineOptions
from lifelora.serving.following import Follower, Why
from lifelora.serving.store import Accepted, Form, NewEvent, Store

EVERY = 1.0
"""Seconds: how often the store is looked at for what other processes wrote."""
PAUSE = 30.0
"""Seconds at least before vectors of new items, which could not be made, are tried again."""
State = Literal["loading", "ready", "draining"]
THEN = {
    Why.LATE: "; it counts in the next run that is made of newer data",
    Why.NO_ITEM: "; once models are told of it (POST /v1/items), it counts",
    Why.REFUSED: "; the service's log says more",
}
"""What becomes of an event that is not used."""
ITEMS_WAIT = "what is new is kept, and models are told of it once its vectors can be made; the service's log says more."
UNTOLD = "the models are told of it as soon as the store, which keeps it, can be read"


@dataclass(frozen=True)
class EngineLog:
    """The log of an engine, which is told of events once the engine knows them."""

    engine: Engine

    @property
    def dataset(self) -> Dataset:
        return self.engine.dataset

    def add_events(self, events: list[Event], anew: Collection[str]) -> None:
        self.engine.add_events(events, anew=anew).result()

    def add_items(self, items: list[Told]) -> list[str]:
        return self.engine.add_items(items).result()

    def forget(self, user: str) -> None:
        self.engine.forget(user).result()


@dataclass(frozen=True)
class Live:
    """An engine, and what tells it of the store."""

    engine: Engine
    follower: Follower
    form: Form

    def left_out(self, seq: int) -> str:
        """Why the engine does not use an event, and what then; nothing where it does."""
        if seq > self.follower.position.event:
            return UNTOLD
        why = self.follower.left_out(seq)
        return "" if why is None else why + THEN.get(why, "")


class Service:
    """One store, and the run of one place; what is at that place may become another run."""

    def __init__(self, opened: Callable[[], Run], store: str | Path, options: EngineOptions | None = None) -> None:
        """``opened`` gives the run that is to be served, whenever it is asked."""
        self._opened, self._place, self._options = opened, store, options
        self.state: State = "loading"
        self._live: Live | None = None
        self._coming: Live | None = None
        "What is about to answer: it is told of all that is acknowledged from here on."
        self._store: Store | None = None
        self._changing, self._stop = threading.Lock(), threading.Event()
        self._settles = 0
        """In how many looks the engine settles again, which the end of one that was refused has undone. Not at once: the error
        holds what was refused until it is dealt with, and that would stay, too."""
        self._watcher = threading.Thread(target=self._watch, name="lifelora store", daemon=True)

    def start(self) -> "Service":
        """Load the run and let it catch up with the store. Raises what either raises."""
        run = self._opened()
        self._store = Store.open(self._place, Form.of(run.stages.data.require()))
        try:
            self._live = self._made(run, self._store)
        except BaseException:
            self._store.close()
            raise
        self._watcher.start()
        if self._stop.is_set():
            self.close(drain=False)
        if self.state == "loading":
            self.state = "ready"
        return self

    @property
    def live(self) -> Live:
        """What answers now; ClosedError while nothing does."""
        if self._live is None:
            raise ClosedError("the service is loading its run; ask again.")
        return self._live

    @property
    def store(self) -> Store:
        """What keeps events; ClosedError before anything answers: who is refused has not changed it."""
        if self._live is None or self._store is None:
            raise ClosedError("the service is loading its run; ask again.")
        return self._store

    def ask(self, question: Callable[[Engine], "Future[Answer]"]) -> "Future[Answer]":
        """Ask the engine that answers now, or the one that has just come in its place."""
        live = self.live
        try:
            return question(live.engine)
        except ClosedError:
            if self.live is live:
                raise
            return question(self.live.engine)

    def keep(self, events: Sequence[NewEvent], first_stays: bool) -> list[Accepted | None]:
        """Keep events and let the engine know them. With ``first_stays`` what came first under a key stays, and a later event of
        that key is None; else it is a ConflictError and nothing is kept.
        """
        came = dict(enumerate(events))
        while True:
            try:
                accepted = dict(zip(came, self.store.append(came.values()), strict=True))
                break
            except ConflictError as error:
                places = list(came)
                wrong = {places[one.line - 1] for one in error.problems if one.line is not None}
                if not first_stays or not wrong:
                    raise
                came = {place: event for place, event in came.items() if place not in wrong}
                if not came:
                    accepted = {}
                    break
        if accepted:
            try:
                self._advance(max(one.seq for one in accepted.values()))
            except (StoreError, BusyError) as error:  # the events are kept; the engine is told of them with the next ones
                tell("store not read", error=error)
        return [accepted.get(place) for place in range(len(events))]

    def add_items(self, items: Sequence[Told]) -> tuple[list[bool], list[str]]:
        """Keep new items and let the engine know them: which are new, and what a reader should know. DataError for bad ones."""
        live = self.live
        known = live.engine.dataset.items
        places = [place for place, item in enumerate(items) if item["item"] not in known]
        new = [items[place] for place in places]
        try:
            live.engine.dataset.extended([], items=new)  # which refuses what no engine could be told
        except DataError as error:
            lines = [None if one.line is None else places[one.line - 1] + 1 for one in error.problems]
            problems = [replace(one, line=line) for one, line in zip(error.problems, lines, strict=True)]
            raise DataError(problems, error.count) from None
        kept = iter(self.store.add_items(new))
        self._advance()
        follower = self.live.follower
        notes = [ITEMS_WAIT] if follower.waiting else follower.notes()
        return [item["item"] not in known and next(kept) for item in items], notes if new else []

    def history(self, user: str) -> list[dict[str, Any]] | None:
        """All that is kept of what a user did, oldest first, and whether the models know it; None for an unknown user."""
        live = self.live
        dataset = live.engine.dataset
        past = live.engine.history(user) if user in dataset.users else ()
        told = [vars(one) | {"used": True, "why": ""} for one in past]
        by_content = {(one["item"], one["time"]): one for one in told}
        left, rest = Counter((one.item, one.time) for one in past), list[dict[str, Any]]()
        there = user in dataset.users
        for kept in self.store.history(user):
            there = True
            why, content = live.left_out(kept.seq), (kept.item, kept.time)
            if not why and (not live.form.has_times or left[content] > 0):
                left[content] -= 1
            elif not why and content in by_content:  # the second of two keys, such as another line of an order
                rest.append(by_content[content])
            else:
                rest.append(
                    {"item": kept.item, "title": None, "rating": f"{kept.rating:g}", "time": kept.time, "used": False, "why": why}
                )
        if not there:
            return None
        return sorted([*told, *rest], key=lambda one: one["time"] or 0) if live.form.has_times else [*told, *rest]

    def knows(self, user: str) -> bool:
        """Whether the log that answers has a user."""
        return user in self.live.engine.dataset.users

    def forget(self, user: str) -> None:
        """Nothing of a user is left in the store, nor in what answers."""
        self.store.forget(user)
        self._advance(forgotten=user)

    def change(self) -> Mapping[str, str]:
        """Serve the run that is at the place now, in place of the one that answers; what it is. The old one goes on where this
        fails, with the error of that; BusyError where it is going on already, ClosedError where the service ends meanwhile.
        """
        if not self._changing.acquire(blocking=False):
            raise BusyError("the run is being changed already.")
        try:
            before, run = self.live, self._opened()
            self._refuse_at_the_end()
            self._coming = after = self._made(run, self.store)
            try:
                after.follower.advance()  # what was acknowledged after it caught up, and before it was coming
                self._refuse_at_the_end()
            except BaseException:
                after.engine.close(drain=False)
                raise
            self._live, self.store.form = after, after.form
            if self._stop.is_set():  # just now: ``close`` may have ended the old one alone
                after.engine.close(drain=False)
            tell("run changed", run=identity(run))
            before.engine.close()
            del before
            after.engine.settle()  # the end of the one has undone it for both
            return identity(run)
        except BaseException:
            self._settles = 2
            raise
        finally:
            self._coming = None
            self._changing.release()

    def _refuse_at_the_end(self) -> None:
        if self.state == "draining":
            raise ClosedError("the service ends, and takes no other run.")

    def state_of_engine(self) -> Mapping[str, int]:
        """The numbers of the engine that answers."""
        return {} if self._live is None else self._live.engine.state()

    def close(self, *, drain: bool = True) -> None:
        """Answer what waits (or refuse it, with ``drain`` off), then end."""
        self.state = "draining"
        self._stop.set()
        if self._live is None:  # it is loading still, in a thread that has the store
            return
        self._live.engine.close(drain=drain)
        self._watcher.join()
        self.store.close()

    def _made(self, run: Run, store: Store) -> Live:
        form = Form.of(run.stages.data.require())
        if (form.has_times, form.has_ratings) != (store.form.has_times, store.form.has_ratings):
            raise ConfigError("the run is of another shop than the store: one has times or ratings, and the other has none.")
        engine = Engine(run, options=self._options).start()
        follower = Follower(EngineLog(engine), store, form, tell, pause=PAUSE)
        try:
            follower.advance()
        except BaseException:
            engine.close(drain=False)
            raise
        return Live(engine, follower, form)

    def _advance(self, until: int | None = None, forgotten: str | None = None) -> None:
        """Let what answers know what the store has, and what is coming in its place: read first, it is missed by no change."""
        for live in (self._coming, self.live):
            if live is not None:
                with suppress(ClosedError):  # another run has come in its place, and follows the same store
                    live.follower.advance(until, forgotten)

    def _watch(self) -> None:
        while not self._stop.wait(EVERY):
            if self._settles:
                self._settles -= 1
                if not self._settles:
                    self.live.engine.settle()
            try:
                self.live.follower.advance(again=True)
            except Exception as error:  # noqa: BLE001 - whatever it was, other processes go on writing
                tell("store not read", error=error)


def identity(run: Run) -> dict[str, str]:
    """What a run is: its recipe and the key of its data."""
    return {"recipe": run.recipe.name, "data": run.stages.data.key}


def unfinished(run: Run) -> Iterable[str]:
    """The systems of a run that are not trained yet."""
    return [name for name, scorer in run.scorers.items() if not scorer.stage.complete()]
