"""A long array that grows at its end without being copied. Knows not what its values mean."""

from typing import Any, TypeAlias

import numpy as np


class Column:
    """A long array and a short one after it, read as one by row numbers. ``np.asarray`` copies both; nothing else does."""

    def __init__(self, first: np.ndarray, later: np.ndarray) -> None:
        """Both of the same kind, and of the same shape but for their lengths."""
        self.first, self.later = first, later

    def __len__(self) -> int:
        return len(self.first) + len(self.later)

    def __getitem__(self, rows: Any) -> Any:
        """Of row numbers, which are not negative, in an array of any shape, a slice, or one number."""
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        n, rows = len(self.first), np.asarray(rows)
        late = rows >= n
        if not late.any():
            return self.first[rows]
        found = np.empty((*rows.shape, *self.first.shape[1:]), self.first.dtype)
        found[~late], found[late] = self.first[rows[~late]], self.later[rows[late] - n]
        return found if found.ndim else found[()]

    def max(self) -> Any:
        """The greatest value."""
        return max(piece.max() for piece in (self.first, self.later) if piece.size)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.concatenate([self.first, self.later]).astype(dtype or self.first.dtype, copy=False)


Values: TypeAlias = np.ndarray | Column
"""What can be read by row numbers."""


def longer(column: Values, more: np.ndarray) -> Column:
    """The column with more values after its last; the long array is shared."""
    if isinstance(column, Column):
        return Column(column.first, np.concatenate([column.later, more]))
    return Column(column, np.asarray(more, column.dtype))
