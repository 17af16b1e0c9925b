"""One writer at a time for the threads of a process: bulks that wait meanwhile are committed together. Knows no table.

A commit waits for the disk, milliseconds long; all that come meanwhile share the next one. Each bulk is still kept whole or not
at all, and is acknowledged only after the commit that holds it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from threading import Lock

from lifelora.errors import ArtefactError, BusyError, ConflictError, StoreError
from lifelora.serving.store.events import Accepted, Row

TOGETHER = 10_000
"""Events of one commit, unless a single bulk has more."""


@dataclass(eq=False)
class _Bulk:
    rows: Sequence[Row]
    outcome: list[Accepted] | Exception | None = None


class Writer:
    """Threads that write, in the order in which they came."""

    def __init__(self, commit: Callable[[list[Sequence[Row]]], Sequence[list[Accepted] | ConflictError]]) -> None:
        """``commit`` keeps bulks in one transaction and gives the outcome of each once they are on disk."""
        self._commit = commit
        self._queue: list[_Bulk] = []
        self._queueing, self._writing = Lock(), Lock()

    def write(self, rows: Sequence[Row]) -> list[Accepted]:
        """Keep a bulk, perhaps with those of other threads; its error is raised here."""
        mine = _Bulk(rows)
        with self._queueing:
            self._queue.append(mine)
        with self._writing:
            while mine.outcome is None:
                self._write(self._next())
        if isinstance(mine.outcome, Exception):
            raise mine.outcome
        return mine.outcome

    def _next(self) -> list[_Bulk]:
        with self._queueing:
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
            outcomes = self._commit([bulk.rows for bulk in bulks])
        except BaseException as error:
            for bulk in bulks:
                bulk.outcome = _of_one(error)
            if not isinstance(error, Exception):
                raise
            return
        for bulk, outcome in zip(bulks, outcomes, strict=True):
            bulk.outcome = outcome


def _of_one(error: BaseException) -> Exception:
    """The error of a shared commit as one thread raises it: an exception of its own, since raising adds to it."""
    kind = type(error) if isinstance(error, StoreError | BusyError | ArtefactError) else StoreError
    own = kind(str(error) or f"the commit was interrupted by {type(error).__name__}")
    own.__cause__ = error
    return own
