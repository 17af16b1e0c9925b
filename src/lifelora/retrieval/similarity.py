"""How alike items are by their vectors: cosine, dot product or distance. Knows no user and no time.

    cosine(i, t) = <v_i, v_t> / |v_i| |v_t|;   0 where an item has no words, and so no direction
    dot(i, t)    = <v_i, v_t>;                 0 where an item has no words
    l2(i, t)     = -|v_i - v_t|² = 2 <v_i, v_t> - |v_i|² - |v_t|²

By distance the zeros of an item without words would stand in the middle of all others, near to everything: such an item is
farther than any other instead, and to a target without words all are equally far.

Sums are made in float64 and rounded to float32. The order in which a product adds up changes with its shape, and with it the
last bits, but hardly ever those that are kept: the same two items are as alike in a block as alone. Equal vectors are
multiplied once, so that they are equally similar to the last bit without any "hardly".
"""

from copy import copy
from typing import Literal

import numpy as np
from jaxtyping import Float, Int

from lifelora.data.column import Column, Values, longer
from lifelora.errors import ConfigError

Kind = Literal["cosine", "dot", "l2"]

LEAST = np.finfo(np.float32).min
"""No similarity is lower; what is (-inf) is no behaviour."""
TABLE_CELLS = 1 << 26
"""The similarities of all items to all are kept where they are at most as many (256 MB, 8,192 items)."""
BLOCK = 1024
ROWS = 64
"""Vectors made ready at a time: few enough to stay in the cache."""


class Similarity:
    """Items by the number of their distinct vector, and how alike those are. An item beyond the last is one of zeros."""

    def __init__(self, kind: Kind, vectors_ME: Float[np.ndarray, "M E"]) -> None:
        self.kind, self.n_items, width = kind, len(vectors_ME), vectors_ME.shape[1]
        vectors_ME = _finite(np.array(vectors_ME, np.float32, order="C"))
        # By a power of two, which rounds nothing: no product can overflow.
        largest = max(float(vectors_ME.max(initial=0)), -float(vectors_ME.min(initial=0))) * width**0.5
        self._scale = 2.0 ** -np.frexp(largest)[1]
        rows_ME = self._ready(vectors_ME)
        as_bytes = rows_ME.view(np.dtype((np.void, width * 4)))[:, 0]
        _, first, vector_M = np.unique(as_bytes, return_index=True, return_inverse=True)
        self._vector_M: Values = vector_M
        distinct_VE = np.zeros((len(first) + 1, width), np.float32)
        np.take(rows_ME, first, axis=0, out=distinct_VE[:-1])
        self._distinct_VE: Values = distinct_VE
        self._nothing = len(first)
        """Number of the zeros of an item that has no vector."""
        self._table_VV: Float[np.ndarray, "V V"] | None = None
        self._of_hash = dict[int, int]()

    def _ready(self, rows_NE: Float[np.ndarray, "N E"]) -> Float[np.ndarray, "N E"]:
        """Rows, changed in their place: of length 1 or scaled, and without -0.0."""
        for start in range(0, len(rows_NE), ROWS):
            block_NE = rows_NE[start : start + ROWS].astype(np.float64)
            if self.kind == "cosine":
                length_N1 = np.linalg.norm(block_NE, axis=1, keepdims=True)
                block_NE /= np.where(length_N1 > 0, length_N1, 1)
            else:
                block_NE *= self._scale
            rows_NE[start : start + ROWS] = block_NE + 0.0  # -0.0 becomes 0.0
        return rows_NE

    def extended(self, vectors_NE: Float[np.ndarray, "N E"]) -> "Similarity":
        """With vectors of the next items; those that are there are shared."""
        first_VE = self._distinct_VE.first if isinstance(self._distinct_VE, Column) else self._distinct_VE
        later_WE = self._distinct_VE.later if isinstance(self._distinct_VE, Column) else first_VE[:0]
        if vectors_NE.shape[1] != first_VE.shape[1]:
            raise ConfigError(
                f"vectors of new items have {vectors_NE.shape[1]} numbers and the others {first_VE.shape[1]}; make "
                "them in the same way."
            )
        if not self._of_hash:  # once for all that extend this one
            self._of_hash.update((hash(row_E.tobytes()), number) for number, row_E in enumerate(first_VE))
        of_bytes = {row_E.tobytes(): len(first_VE) + number for number, row_E in enumerate(later_WE)}
        numbers, new = list[int](), list[np.ndarray]()
        for row_E in self._ready(_finite(np.array(vectors_NE, np.float32, order="C"))):
            number = self._of_hash.get(hash(row_E.tobytes()))
            if number is None or not np.array_equal(first_VE[number], row_E):
                number = of_bytes.setdefault(row_E.tobytes(), len(first_VE) + len(of_bytes))
            if number >= len(self._distinct_VE) + len(new):
                new.append(row_E)
            numbers.append(number)
        other = copy(self)
        other.n_items += len(numbers)
        other._vector_M = longer(self._vector_M, np.array(numbers, np.int64))
        other._distinct_VE = longer(self._distinct_VE, np.array(new, np.float32).reshape(len(new), first_VE.shape[1]))
        return other

    def numbers(self, items_N: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """The numbers of items' vectors; items beyond the last have that of zeros."""
        if items_N.max(initial=0) < self.n_items:
            found: np.ndarray = self._vector_M[items_N]
            return found
        known_N = items_N < self.n_items
        found = np.full(items_N.shape, self._nothing)
        found[known_N] = self._vector_M[items_N[known_N]]
        return found

    def rows(self, numbers_N: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N E"]:
        """Vectors by number, ready for ``between``."""
        rows_NE: np.ndarray = self._distinct_VE[numbers_N].astype(np.float64)
        return rows_NE

    def between(self, target_BE: Float[np.ndarray, "B E"], seen_NE: Float[np.ndarray, "N E"]) -> Float[np.ndarray, "B N"]:
        """How alike the one are to the other."""
        alike_BN: np.ndarray = target_BE @ seen_NE.T
        if self.kind == "l2":
            target_B, seen_N = (np.square(rows).sum(axis=1) for rows in (target_BE, seen_NE))
            alike_BN *= 2
            alike_BN -= seen_N
            alike_BN -= target_B[:, None]
            alike_BN[:, seen_N == 0] = LEAST
            alike_BN[target_B == 0] = LEAST
        return alike_BN.astype(np.float32)

    def table(self, products: int) -> Float[np.ndarray, "V V"] | None:
        """All to all, where that takes less than ``products`` products and not too much memory; it is made once. None where
        there are vectors of later items: it would have to be made for them again and again.
        """
        size = len(self._distinct_VE)
        if isinstance(self._distinct_VE, Column):
            return None
        if self._table_VV is None and size * size <= min(products, TABLE_CELLS):
            self._table_VV = np.empty((size, size), np.float32)
            blocks = [np.arange(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK)]
            for these in blocks:
                target_BE = self.rows(these)
                for those in blocks:
                    self._table_VV[these[0] : these[-1] + 1, those[0] : those[-1] + 1] = self.between(target_BE, self.rows(those))
        return self._table_VV


def _finite(vectors_NE: Float[np.ndarray, "N E"]) -> Float[np.ndarray, "N E"]:
    if not np.isfinite(vectors_NE).all():
        raise ConfigError("item vectors hold values that are not finite numbers; make them anew.")
    return vectors_NE
