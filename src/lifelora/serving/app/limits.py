"""How much may be asked: sizes, numbers, seconds, and how often. Knows no request."""

import time
from collections.abc import Callable
from threading import Lock

from pydantic import Field, PositiveFloat, PositiveInt

from lifelora.types import Frozen


class Limits(Frozen):
    """Bounds of the service; section ``[limits]`` of the file of keys."""

    body: PositiveInt = 1 << 20
    "Bytes of a request's body."
    candidates: PositiveInt = 1000
    "Candidates to score, documents to rerank, items to recommend or to exclude."
    events: PositiveInt = 1000
    "Events, or items, of one bulk."
    concurrent: PositiveInt = 256
    "Requests that are worked on at a time; more are refused (503)."
    rate: PositiveFloat | None = None
    "Requests a second of each key; more are refused (429). None: as many as come."
    deadline: PositiveFloat = Field(default=30.0, le=600)
    "Seconds that an answer may take where the request does not say so."
    drain: PositiveFloat = Field(default=30.0, le=3600)
    "Seconds that requests are given to end once the service is told to stop."


class Rate:
    """So many requests a second, and as many at once (a token bucket that is full at the beginning)."""

    def __init__(self, a_second: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._clock = a_second, clock
        self._room = max(1.0, a_second)
        self._left, self._at, self._lock = self._room, clock(), Lock()

    def wait(self) -> float:
        """0 for a request that may come now, and is counted; else in how many seconds one may."""
        with self._lock:
            now = self._clock()
            self._left = min(self._room, self._left + (now - self._at) * self._rate)
            self._at = now
            if self._left >= 1.0:
                self._left -= 1.0
                return 0.0
            return (1.0 - self._left) / self._rate
