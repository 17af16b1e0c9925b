"""How long work takes, measured as it goes: seconds by the size of the work. Knows no clock and no model.

    seconds ≈ a + b · size,   by least squares in which older work counts less and less

What is expected is three times the mean distance from that line above it, so that most work is done earlier.
"""

from collections.abc import Hashable
from dataclasses import dataclass

KEEPS = 0.95
"""How much of its say earlier work keeps when more is done."""
ABOVE = 3.0


@dataclass
class Line:
    """Decayed sums of sizes x and seconds y."""

    n: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0
    strays: float = 0.0
    "The mean distance of what was seen from what was expected before."

    def at(self, size: int) -> float:
        """a + b · size, neither of them below zero: else the mean, or b · size."""
        if not self.n:
            return 0.0
        spread = self.n * self.xx - self.x * self.x
        if spread > 1e-9 * self.n * self.xx:
            slope = (self.n * self.xy - self.x * self.y) / spread
            start = (self.y - slope * self.x) / self.n
            if slope < 0:
                return self.y / self.n
            if start >= 0:
                return start + slope * size
        return self.xy / self.xx * size

    def saw(self, size: int, seconds: float) -> None:
        """One more."""
        if self.n:
            self.strays += (1 - KEEPS) * (abs(seconds - self.at(size)) - self.strays)
        sums = (1.0, size, seconds, size * size, size * seconds)
        self.n, self.x, self.y, self.xx, self.xy = (
            KEEPS * old + new for old, new in zip((self.n, self.x, self.y, self.xx, self.xy), sums, strict=True)
        )


class Pace:
    """Lines of several kinds of work."""

    def __init__(self) -> None:
        self._lines: dict[Hashable, Line] = {}

    def saw(self, kind: Hashable, size: int, took: float) -> None:
        """Work of a size (1 or more) took so long, or so much."""
        self._lines.setdefault(kind, Line()).saw(size, took)

    def mean(self, kind: Hashable, size: int) -> float:
        """What such work takes; 0 for a kind that was never seen."""
        return self._lines[kind].at(size) if kind in self._lines else 0.0

    def expect(self, kind: Hashable, size: int) -> float:
        """What most of such work takes less than."""
        return self.mean(kind, size) + (ABOVE * self._lines[kind].strays if kind in self._lines else 0.0)
