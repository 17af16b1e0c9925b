"""A long array that grows at its end without being copied. Knows not what its values mean.

What comes later lies in pieces, the first of them the longest. A new piece takes those before it in where they are not much
longer than itself (``grown``): so values that come one by one lie in O(log n) pieces, and each is copied O(log n) times in all,
however many there are. A piece never changes, so an earlier state of the array stays as it was.
"""

from collections.abc import Callable, Sized
from typing import Any, TypeAlias, TypeVar

import numpy as np

TIMES = 4
"""A piece that is longer than so many times the one after it stays as it is."""
Piece = TypeVar("Piece", bound=Sized)


def grown(pieces: tuple[Piece, ...], more: Piece, joined: Callable[[Piece, Piece], Piece]) -> tuple[Piece, ...]:
    """Pieces with one more at the end, which is not empty."""
    while pieces and len(pieces[-1]) <= TIMES * len(more):
        *pieces, last = pieces  # type: ignore[assignment]
        more = joined(last, more)
    return (*pieces, more)


class Column:
    """A long array and short ones after it, read as one by row numbers. ``np.asarray`` copies all; nothing else does."""

    def __init__(self, first: np.ndarray, *pieces: np.ndarray) -> None:
        """All of the same kind, and of the same shape but for their lengths."""
        self.first, self.pieces = first, pieces
        self._end_P = np.cumsum([len(first), *map(len, pieces)])

    def __len__(self) -> int:
        return int(self._end_P[-1])

    def __getitem__(self, rows: Any) -> Any:
        """Of row numbers, which are not negative, in an array of any shape, a slice, or one number."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        rows = np.asarray(rows)
        late = rows >= len(self.first)
        if not late.any():
            return self.first[rows]
        found = np.empty((*rows.shape, *self.first.shape[1:]), self.first.dtype)
        found[~late] = self.first[rows[~late]]
        piece = np.searchsorted(self._end_P, rows, side="right")
        for number in np.unique(piece[late]).tolist():
            here = piece == number
            found[here] = self.pieces[number - 1][rows[here] - self._end_P[number - 1]]
        return found if found.ndim else found[()]

    @property
    def later(self) -> np.ndarray:
        """A copy of all that came after the first array."""
        return np.concatenate([self.first[:0], *self.pieces])

    def max(self) -> Any:
        """The greatest value."""
        return max(piece.max() for piece in (self.first, *self.pieces) if piece.size)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate([self.first, *self.pieces]).astype(dtype or self.first.dtype, copy=False)


Values: TypeAlias = np.ndarray | Column
"""What can be read by row numbers."""


def longer(column: Values, more: np.ndarray) -> Column:
    """The column with more values after its last; what is there is shared, or copied once in a while."""
    first, pieces = (column.first, column.pieces) if isinstance(column, Column) else (column, ())
    if not len(more):
        return Column(first, *pieces)
    return Column(first, *grown(pieces, np.asarray(more, first.dtype), lambda before, after: np.concatenate([before, after])))
