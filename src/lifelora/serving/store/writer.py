"""One writer at a time for the threads of a process: bulks that wait meanwhile are committed together. Knows no table.

A commit waits for the disk, milliseconds long; all that come meanwhile share the next one. Each bulk is still kept whole or not
at all, and is acknowledged only after the commit that holds it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from threading import Event, Lock

from lifelora.errors import ArtefactError, BusyError, ConflictError, StoreError
from lifelora.serving.store.events import Accepted, Row

TOGETHER = 10_000
"""Events of one commit, unless a single bulk has more."""


@dataclass(eq=False)
class _Bulk:
    rows: Sequence[Row]
    outcome: list[Accepted] | Exception | None = None
    woken: Event = field(default_factory=Event)
    "Set when the outcome is there, or when it is this bulk's thread that commits next."


class Writer:
    """Threads that write: one commits, for itself and all that came before it began, and then wakes the next."""

    def __init__(self, commit: Callable[[list[Sequence[Row]]], Sequence[list[Accepted] | ConflictError]]) -> None:
        """``commit`` keeps bulks in one transaction and gives the outcome of each once they are on disk."""
        self._commit = commit
        self._queue: list[_Bulk] = []
        self._lock, self._busy = Lock(), False

    def write(self, rows: Sequence[Row]) -> list[Accepted]:
        """Keep a bulk, perhaps with those of other threads; its error is raised here."""
        mine = _Bulk(rows)
        with self._lock:
            self._queue.append(mine)
            waits, self._busy = self._busy, True
        if waits:
            try:
                mine.woken.wait()
            except BaseException:
                self._leave(mine)
                raise
        if mine.outcome is None:
            self._write(self._next())
        assert mine.outcome is not None, "the thread that is woken to commit has the first bulk of the queue"
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        return mine.outcome

    def _next(self) -> list[_Bulk]:
        with self._lock:
            count, events = 0, 0
            for bulk in self._queue:
                events += len(bulk.rows)
                if count and events > TOGETHER:
                    break
                count += 1
            first, self._queue = self._queue[:count], self._queue[count:]
        return first

    def _write(self, bulks: list[_Bulk]) -> None:
        try:
            outcomes: Sequence[list[Accepted] | Exception] = self._commit([bulk.rows for bulk in bulks])
        except BaseException as error:
            outcomes = [_of_one(error) for _ in bulks]
            if not isinstance(error, Exception):
                raise
        finally:
            self._wake_next()
            for bulk, outcome in zip(bulks, outcomes, strict=True):
                bulk.outcome = outcome
                bulk.woken.set()

    def _wake_next(self) -> None:
        with self._lock:
            if self._queue:
                self._queue[0].woken.set()
            else:
                self._busy = False

    def _leave(self, mine: _Bulk) -> None:
        """A thread that waits is interrupted: its turn to commit, if it had come, is the next one's."""
        with self._lock:
            waiting = mine in self._queue
            if waiting:
                self._queue.remove(mine)
        if waiting and mine.woken.is_set():
            self._wake_next()


def _of_one(error: BaseException) -> Exception:
    """The error of a shared commit as one thread raises it: an exception of its own, since raising adds to it."""
    kind = type(error) if isinstance(error, StoreError | BusyError | ArtefactError) else StoreError
    own = kind(str(error) or f"the commit was interrupted by {type(error).__name__}")
    own.__cause__ = error
    return own
