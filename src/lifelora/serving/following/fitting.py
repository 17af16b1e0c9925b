"""Which events of a store a log can take now, and why not the others. Knows a data set and events; asks no engine.

A log grows at its end: what came late, or is of an item that the catalogue does not have, stays in the store alone.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

import numpy as np

from lifelora.data.dataset import Dataset
from lifelora.serving.store import Form, Kept
from lifelora.serving.store.events import SECONDS_BEGIN

LATE = "before the last event of this user that the models know; it counts, if it can, once the run is opened anew"
NO_ITEM = "the catalogue has no such item; tell of it by POST /v1/items, and it counts once the run is opened anew"
NO_RATING = "the run's data has no such rating"
LOW = "rated below data.rules.keep_from of the run"


@dataclass
class Fitting:
    """Events in bulks that a log takes one after another, and those that it does not take."""

    bulks: list[list[Kept]] = field(default_factory=list)
    left_out: dict[int, str] = field(default_factory=dict)
    "Why, by sequence number. Of what is in the log already nothing is said."


def fitting(dataset: Dataset, events: Iterable[Kept], form: Form) -> Fitting:
    """Of the next events of a store, in its order; ``form`` is that of the data set."""
    made, pasts = Fitting(), dict[str, _Past]()
    levels = {float(np.float32(level)) for level in dataset.rating_levels}
    seen, turn = set[Hashable](), dict[str, int]()
    for event in events:
        why = None
        if event.item not in dataset.items:
            why = NO_ITEM
        elif form.keep_from is not None and form.has_ratings and event.rating < form.keep_from:
            why = LOW
        elif form.has_ratings and float(np.float32(event.rating)) not in levels:
            why = NO_RATING
        if why is None and form.has_times:
            if event.user not in pasts:
                pasts[event.user] = _Past.of(dataset, event.user)
            past = pasts[event.user]
            if event.time <= past.last and (event.time, int(dataset.items.inside([event.item])[0])) in past.events:
                continue
            if event.time < past.last:
                why = LATE
        if why is not None:
            made.left_out[event.seq] = why
            continue
        if form.has_times:
            key: tuple[Hashable, ...] = (event.user, event.item, event.time)
            if key in seen:
                continue
        else:
            if event.id is None and event.time < SECONDS_BEGIN:
                continue
            # Of one bulk a log takes each of these once; a repeated one begins the user's next bulk.
            if (event.user, event.item, event.rating, turn.setdefault(event.user, 0)) in seen:
                turn[event.user] += 1
            key = (event.user, event.item, event.rating, turn[event.user])
        seen.add(key)
        at = turn.get(event.user, 0)
        made.bulks += [[] for _ in range(at + 1 - len(made.bulks))]
        made.bulks[at].append(event)
    return made


@dataclass(frozen=True)
class _Past:
    """What a log has of a user."""

    last: int
    events: frozenset[tuple[int, int]]
    "Times and items' numbers."

    @classmethod
    def of(cls, dataset: Dataset, user: str) -> "_Past":
        if user not in dataset.users:
            return cls(np.iinfo(np.int64).min, frozenset())
        rows = dataset.log.rows_of(int(dataset.users.inside([user])[0]))
        times, items = np.asarray(dataset.time_N[rows]).tolist(), np.asarray(dataset.item_N[rows]).tolist()
        return cls(times[-1] if times else np.iinfo(np.int64).min, frozenset(zip(times, items, strict=True)))
