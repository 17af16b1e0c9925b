"""Logs that are written down as histories: shared by the tests of retrieval and of vectors."""

import pyarrow as pa

from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import LeaveOneOut


def log_of(histories, n_items, folder, genres=None, ratings=None):
    """A prepared log: user u's items in the order given, all of them liked unless ``ratings`` (1 to 5) say otherwise."""
    rows = [(f"u{u:03}", f"i{i:03}", t) for u, items in enumerate(histories) for t, i in enumerate(items)]
    ratings = [4.0] * len(rows) if ratings is None else ratings
    interactions = pa.table(
        {
            "user": [r[0] for r in rows],
            "item": [r[1] for r in rows],
            "rating": pa.array(ratings, pa.float32()),
            "time": pa.array([r[2] for r in rows], pa.int64()),
        }
    )
    catalogue = pa.table(
        {
            "item": [f"i{i:03}" for i in range(n_items)],
            "title": [f"{i}" for i in range(n_items)],
            **({"genre": genres} if genres else {}),
        }
    )
    profiles = pa.table({"user": [f"u{u:03}" for u in range(len(histories))]})
    raw = RawTables(interactions, catalogue, profiles, Words())
    return prepare(raw, Rules(min_history=1, split=LeaveOneOut()), folder, "made")
