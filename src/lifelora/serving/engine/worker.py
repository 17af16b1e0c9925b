"""The thread that works, and what waits for it: requests in their order, and jobs that come before them. Knows no model."""

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from lifelora.errors import ClosedError, FullError
from lifelora.serving.engine.ask import Ask

Made = TypeVar("Made")
NOT_OPEN = "this engine is not open: it has not started yet, or it was closed. Ask the one that is in its place."


class Worker:
    """One thread: nothing that it does is done twice at a time."""

    def __init__(self, turn: Callable[[Sequence[Ask]], Collection[Ask]], most: int) -> None:
        """``turn`` gets all requests that wait, answers some, and says which have not to wait any more; ``most`` may wait."""
        self._turn, self._most = turn, most
        self._changed = threading.Condition()
        self._asks, self._jobs = deque[Ask](), deque[tuple[Future[Any], Callable[[], Any]]]()
        self._thread = threading.Thread(target=self._work, name="lifelora engine", daemon=True)
        self._open = False

    def __len__(self) -> int:
        """How many requests wait."""
        return len(self._asks)

    def start(self) -> None:
        """From now on."""
        self._open = True
        self._thread.start()

    def put(self, ask: Ask) -> None:
        """Let a request wait. Raises ClosedError, and FullError where too many wait already."""
        with self._changed:
            if not self._open:
                raise ClosedError(NOT_OPEN)
            if len(self._asks) >= self._most:
                raise FullError(
                    f"{len(self._asks):,} requests wait for an answer, as many as EngineOptions.waiting allows; ask again later."
                )
            self._asks.append(ask)
            self._changed.notify()

    def do(self, job: Callable[[], Made]) -> "Future[Made]":
        """Let something be done between two turns, before all requests that wait. Raises ClosedError."""
        future: Future[Made] = Future()
        with self._changed:
            if not self._open:
                raise ClosedError(NOT_OPEN)
            self._jobs.append((future, job))
            self._changed.notify()
        return future

    def close(self, *, drain: bool = True, timeout: float | None = None) -> bool:
        """Take nothing more; answer what waits, or with ``drain`` off refuse it. Whether all is done in ``timeout`` seconds."""
        with self._changed:
            self._open = False
            refused = [] if drain else [*self._asks]
            if not drain:
                self._asks.clear()
            self._changed.notify()
        for ask in refused:
            if ask.future.set_running_or_notify_cancel():
                ask.future.set_exception(ClosedError("the engine was closed before it came to this request."))
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _work(self) -> None:
        while True:
            with self._changed:
                while self._open and not self._asks and not self._jobs:
                    self._changed.wait()
                jobs, asks = [*self._jobs], [*self._asks]
                self._jobs.clear()
                if not jobs and not asks:
                    return
            for future, job in jobs:
                settle(future, job)
            if asks:
                self._answered(self._taken(asks))

    def aside(self, turn: Callable[[Sequence[Ask]], Collection[Ask]]) -> None:
        """Within a turn, from its own thread: let something answer some of what waits and came since, too."""
        with self._changed:
            asks = [*self._asks]
        self._answered(turn(asks))

    def _answered(self, done: Collection[Ask]) -> None:
        with self._changed:
            self._asks = deque(ask for ask in self._asks if ask not in done)

    def _taken(self, asks: Sequence[Ask]) -> Collection[Ask]:
        try:
            return self._turn(asks)
        except Exception as error:  # noqa: BLE001 - a fault of ours: the thread goes on, and none waits for ever
            for ask in asks:
                if not ask.future.done() and (ask.future.running() or ask.future.set_running_or_notify_cancel()):
                    ask.future.set_exception(error)
            return asks


def settle(future: "Future[Made]", job: Callable[[], Made]) -> None:
    """Do something for a future that nobody has cancelled: it carries what came of it, an error too."""
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(job())
    except Exception as error:  # noqa: BLE001 - the thread goes on, and who asked gets it
        future.set_exception(error)
