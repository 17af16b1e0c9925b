"""What is kept of users under one budget of bytes, the least recently used going first. Knows tensors, not what they are for."""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from torch import Tensor


class Key(NamedTuple):
    """What is kept: a trunk, u or C(u), made by what, of whom; ``place`` tells several in one batch apart."""

    kind: str
    by: Hashable
    user: int
    place: int = 0


@dataclass(frozen=True)
class Held:
    """Something that was made of a user, and as of which of the user's events."""

    value: Any
    as_of: int
    bytes: int


class Warm:
    """Not for several threads."""

    def __init__(self, budget: int) -> None:
        self.budget, self.bytes = budget, 0
        self.count = Counter[str]()
        "Of each kind."
        self._held: OrderedDict[Key, Held] = OrderedDict()
        self._of: defaultdict[int, set[Key]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._held)

    def get(self, key: Key) -> Held | None:
        """What is there, whatever it is as of; it goes last from now on."""
        if (found := self._held.get(key)) is not None:
            self._held.move_to_end(key)
        return found

    def keep(self, key: Key, value: Any, as_of: int, tensors: Iterable[Tensor]) -> None:
        """Instead of what was there; ``tensors`` are all that the value holds. What is larger than the budget is not kept."""
        self._drop(key)
        size = bytes_of(tensors)
        if size > self.budget:
            return
        self._held[key] = Held(value, as_of, size)
        self._of[key.user].add(key)
        self.count[key.kind] += 1
        self.bytes += size
        while self.bytes > self.budget:
            self._drop(next(iter(self._held)))

    def forget(self, user: int) -> None:
        """Drop all that is kept of a user."""
        for key in [*self._of.get(user, ())]:
            self._drop(key)

    def clear(self, kind: str | None = None) -> None:
        """Drop all, or all of a kind."""
        for key in [key for key in self._held if kind in (None, key.kind)]:
            self._drop(key)

    def _drop(self, key: Key) -> None:
        if (found := self._held.pop(key, None)) is None:
            return
        self.bytes -= found.bytes
        self.count[key.kind] -= 1
        self._of[key.user].remove(key)
        if not self._of[key.user]:
            del self._of[key.user]


def bytes_of(tensors: Iterable[Tensor]) -> int:
    """What tensors hold in memory, each storage once, to the byte."""
    storages = {tensor.untyped_storage().data_ptr(): tensor.untyped_storage().nbytes() for tensor in tensors}
    return sum(storages.values())
