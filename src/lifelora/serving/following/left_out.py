"""Events of a store that a log does not have, and why: as many as are remembered. Knows neither of the two.

Those of items that are not known yet are told of once they are, so nothing else takes their room.
"""

from collections import Counter, OrderedDict
from collections.abc import Container, Iterable, Mapping

from lifelora.serving.following.fitting import Why
from lifelora.serving.store import Kept

REMEMBERED = 100_000
"""Events that wait for their items, and as many others."""


class LeftOut:
    """One thread at a time changes it; any may ask ``why``."""

    def __init__(self) -> None:
        self._waiting, self._others = OrderedDict[int, tuple[Kept, Why]](), OrderedDict[int, tuple[Kept, Why]]()

    def why(self, seq: int) -> Why | None:
        """Why the log does not have an event; None where it does."""
        found = self._waiting.get(seq) or self._others.get(seq)
        return None if found is None else found[1]

    def put(self, events: Iterable[Kept], why: Mapping[int, Why]) -> int:
        """Those of the events that have a reason, by sequence number. How many that waited are too many, and were dropped."""
        for event in events:
            if event.seq in why:
                there = self._waiting if why[event.seq] is Why.NO_ITEM else self._others
                there[event.seq] = event, why[event.seq]
        while len(self._others) > REMEMBERED:
            self._others.popitem(last=False)
        dropped = max(0, len(self._waiting) - REMEMBERED)
        for _ in range(dropped):
            self._waiting.popitem(last=False)
        return dropped

    def take(self, seqs: Iterable[int]) -> Counter[Why]:
        """Remember these no more; the reasons that they had."""
        had = (self._waiting.pop(seq, None) or self._others.pop(seq, None) for seq in seqs)
        return Counter(one[1] for one in had if one is not None)

    def users(self) -> set[str]:
        """Whose they are."""
        return {event.user for there in (self._waiting, self._others) for event, _ in there.values()}

    def of(self, user: str) -> list[int]:
        """Those of a user."""
        return [seq for there in (self._waiting, self._others) for seq, (event, _) in there.items() if event.user == user]

    def waiting_for(self, items: Container[object]) -> set[str]:
        """The users of what waits for some items."""
        return {event.user for event, _ in self._waiting.values() if event.item in items}
