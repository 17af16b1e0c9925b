"""A small world whose answer is known: two tribes, each of which likes its own half of the items. Knows no model."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from lifelora.data.dataset import Dataset
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words


def two_tribes(folder: Path, n: int = 40, each: int = 24, several: bool = False) -> Dataset:
    """Users and items 0 … n-1. Even users like even items only, odd users odd ones; every item is liked equally.

    With ``several`` an item has up to three genres and a user up to two hobbies.

    All users rate at the same pace, in an order of their own, so every part of a split by time has them all.
    """
    rng = np.random.default_rng(3)
    user_N = np.repeat(np.arange(n), each)
    item_N = np.concatenate([rng.permutation(n)[:each] for _ in range(n)])
    raw = RawTables(
        interactions=pa.table(
            {
                "user": [f"u{u:02}" for u in user_N],
                "item": [f"i{i:02}" for i in item_N],
                "rating": pa.array(np.where(user_N % 2 == item_N % 2, 5.0, 1.0), pa.float32()),
                "time": pa.array(np.tile(np.arange(each), n) * n + user_N, pa.int64()),
            }
        ),
        # Fields that say nothing of the tribe; one of their values is the empty one, unknown.
        catalogue=pa.table(
            {
                "item": [f"i{i:02}" for i in range(n)],
                "title": ["t"] * n,
                "genre": [
                    (([], ["a"], ["b", "a"], ["c", "a", "d"]) if several else ("", "a", "b", "c"))[i // 2 % 4] for i in range(n)
                ],
            }
        ),
        profiles=pa.table(
            {
                "user": [f"u{u:02}" for u in range(n)],
                "age": [("", "young", "old")[u // 2 % 3] for u in range(n)],
                **({"hobby": [([], ["x"], ["y", "x"])[u // 4 % 3] for u in range(n)]} if several else {}),
            }
        ),
        words=Words(),
    )
    return prepare(raw, Rules(min_history=2), folder, "two tribes")
