"""Which events of a store a log can take now, and why not the others. Knows a data set and events, and tells nobody of them.

A log grows at its end. A user of whom something comes late is told anew, from the end of the run's own data on. What is before
that, or of an item that the catalogue does not have, stays in the store alone.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from lifelora.data.dataset import Dataset
from lifelora.serving.store import Form, Kept
from lifelora.serving.store.events import SECONDS_BEGIN


class Why(StrEnum):
    """Why a log does not take an event now."""

    LATE = "before the last event of its user in the run's own data"
    NO_ITEM = "of an item that the catalogue lacks"
    NO_RATING = "with a rating that the run's data lacks"
    LOW = "rated below data.rules.keep_from of the run"
    SECOND = "of another rating or kind than an event of the same user, item and second, which came first"
    "A log takes one of them (``Dataset.extended``)."
    REFUSED = "refused by the run's log"
    "The rules here are the log's; should they ever differ."


NEVER = np.iinfo(np.int64).min


@dataclass
class Fitting:
    """Events in bulks that a log takes one after another, and those that it does not take."""

    bulks: list[list[Kept]] = field(default_factory=list)
    left_out: dict[int, Why] = field(default_factory=dict)
    "By sequence number."
    there: int = 0
    "How many are in the log already."
    anew: set[str] = field(default_factory=set)
    "Users whose later events have to be told again, all of them, for one has its place between others; it is in no bulk."


def fitting(dataset: Dataset, events: Iterable[Kept], form: Form) -> Fitting:
    """Of the next events of a store, in its order; ``form`` is that of the data set."""
    made, pasts = Fitting(), dict[str, _Past]()
    levels = [float(np.float32(level)) for level in dataset.rating_levels]
    seen, turn, first = set[Hashable](), dict[str, int](), dict[tuple[str, str, int], float]()
    for event in events:
        why = None
        if event.item not in dataset.items:
            why = Why.NO_ITEM
        elif form.keep_from is not None and form.has_ratings and event.rating < form.keep_from:
            why = Why.LOW
        elif form.has_ratings and float(np.float32(event.rating)) not in levels:
            why = Why.NO_RATING
        if why is None and form.has_times:
            if event.user not in pasts:
                pasts[event.user] = _Past.of(dataset, event.user, levels)
            past, key = pasts[event.user], (event.user, event.item, event.time)
            ratings = [first[key]] if key in first else []
            if event.time <= past.last:
                ratings += past.ratings.get((event.time, int(dataset.items.inside([event.item])[0])), [])
            if event.rating in ratings or (ratings and not form.has_ratings):
                made.there += 1
                continue
            if ratings:
                why = Why.SECOND
            elif event.time < past.prepared:
                why = Why.LATE
            elif event.time < past.last:
                made.anew.add(event.user)
                continue
        if why is not None:
            made.left_out[event.seq] = why
            continue
        if form.has_times:
            first[event.user, event.item, event.time] = event.rating
        else:
            if event.id is None and event.time < SECONDS_BEGIN:
                made.there += 1
                continue
            # Of one bulk a log takes each of these once; a repeated one begins the user's next bulk.
            if (event.user, event.item, event.rating, turn.setdefault(event.user, 0)) in seen:
                turn[event.user] += 1
            seen.add((event.user, event.item, event.rating, turn[event.user]))
        at = turn.get(event.user, 0)
        made.bulks += [[] for _ in range(at + 1 - len(made.bulks))]
        made.bulks[at].append(event)
    return made


@dataclass(frozen=True)
class _Past:
    """What a log has of a user."""

    last: int
    prepared: int
    "The last of the run's own data."
    ratings: dict[tuple[int, int], list[float]]
    "By times and items' numbers."

    @classmethod
    def of(cls, dataset: Dataset, user: str, levels: list[float]) -> "_Past":
        if user not in dataset.users:
            return cls(NEVER, NEVER, {})
        number = int(dataset.users.inside([user])[0])
        own = int(dataset.log.prepared_count(np.array([number]))[0])
        rows, ratings = dataset.log.rows_of(number), dict[tuple[int, int], list[float]]()
        times, items, codes = (np.asarray(column[rows]).tolist() for column in (dataset.time_N, dataset.item_N, dataset.rating_N))
        for time, item, code in zip(times, items, codes, strict=True):
            ratings.setdefault((time, item), []).append(levels[code])
        last, prepared = (one[-1] if one else NEVER for one in (times, times[:own]))
        return cls(last, prepared, ratings)
