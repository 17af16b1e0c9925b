"""What the tests of the event store share: events, a small prepared data set, and both databases under one name."""

from pathlib import Path

import numpy as np
import pyarrow as pa

from lifelora.data.dataset import Dataset
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import LeaveOneOut
from lifelora.serving.store import Form, Kept, NewEvent

FORM = Form((1.0, 2.0, 3.0, 4.0, 5.0))


def event(user: str, item: str, time: int, rating: float = 4.0, key: str | None = None) -> NewEvent:
    return NewEvent(user, item, rating, time, key)


def told(events: "list[Kept]") -> list[tuple[str, str, float, int]]:
    """Without what the store adds."""
    return [(e.user, e.item, e.rating, e.time) for e in events]


def small_data(folder: Path, users: int = 7, events: int = 9, seed: int = 0, times: bool = True) -> Dataset:
    """A prepared log of a few users, each with events of their own number, some in one second."""
    rng = np.random.default_rng(seed)
    rows = [
        (f"user-{u}", f"item-{i}", 1_600_000_000 + 10 * int(t))
        for u in range(users)
        for i, t in enumerate(rng.integers(0, events, events))
    ]
    columns = {
        "user": [row[0] for row in rows],
        "item": [row[1] for row in rows],
        "rating": pa.array(rng.integers(1, 6, len(rows)), pa.float32()),
        **({"time": pa.array([row[2] for row in rows], pa.int64())} if times else {}),
    }
    items = sorted({row[1] for row in rows})
    catalogue = pa.table({"item": items, "title": items})
    profiles = pa.table({"user": sorted({row[0] for row in rows})})
    raw = RawTables(pa.table(columns), catalogue, profiles, Words())
    return prepare(raw, Rules(min_history=1, split=LeaveOneOut()), folder, "small")
