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

from typing import Literal

import numpy as np
from jaxtyping import Float, Int

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
    """Items by the number of their distinct vector (``vector_M``), and how alike those are."""

    def __init__(self, kind: Kind, vectors_ME: Float[np.ndarray, "M E"]) -> None:
        self.kind = kind
        rows_ME = np.array(vectors_ME, np.float32, order="C")
        if not np.isfinite(rows_ME).all():
            raise ConfigError("item vectors hold values that are not finite numbers; make them anew.")
        # By a power of two, which rounds nothing: no product can overflow.
        largest = max(float(rows_ME.max(initial=0)), -float(rows_ME.min(initial=0))) * rows_ME.shape[1] ** 0.5
        scale = 2.0 ** -np.frexp(largest)[1]
        for start in range(0, len(rows_ME), ROWS):
            block_NE = rows_ME[start : start + ROWS].astype(np.float64)
            if kind == "cosine":
                length_N1 = np.linalg.norm(block_NE, axis=1, keepdims=True)
                block_NE /= np.where(length_N1 > 0, length_N1, 1)
            else:
                block_NE *= scale
            rows_ME[start : start + ROWS] = block_NE + 0.0  # -0.0 becomes 0.0
        as_bytes = rows_ME.view(np.dtype((np.void, rows_ME.shape[1] * 4)))[:, 0]
        _, first, self.vector_M = np.unique(as_bytes, return_index=True, return_inverse=True)
        self._distinct_VE = rows_ME[first]
        self._table_VV: Float[np.ndarray, "V V"] | None = None

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
        """All to all, where that takes less than ``products`` products and not too much memory; it is made once."""
        size = len(self._distinct_VE)
        if self._table_VV is None and size * size <= min(products, TABLE_CELLS):
            self._table_VV = np.empty((size, size), np.float32)
            blocks = [np.arange(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK)]
            for these in blocks:
                target_BE = self.rows(these)
                for those in blocks:
                    self._table_VV[these[0] : these[-1] + 1, those[0] : those[-1] + 1] = self.between(target_BE, self.rows(those))
        return self._table_VV
