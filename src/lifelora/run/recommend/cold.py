"""Users whom the log lacks: what they bring (a history, a profile), or the most popular items. Knows data, no scorer."""

import difflib
from collections.abc import Sequence
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float, Int

from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event
from lifelora.errors import ConfigError, on_one_line
from lifelora.run.context import Context

Cold = Literal["refuse", "popularity"]
"""What is done about an unknown user who brings nothing."""
COLD: tuple[Cold, ...] = get_args(Cold)
POPULARITY: Cold = "popularity"
NEW_USER = "new user"
NEAR_POOL = 5000
"""Titles among which near ones are looked for."""


def most_popular(context: Context, items_P: Int[np.ndarray, "P"], k: int) -> tuple[Int[np.ndarray, "K"], Float[np.ndarray, "K"]]:
    """The k items with most training events among some, and their shares of all these events; of equal ones the first."""
    count_M = np.pad(context.training_counts, (0, context.dataset.n_items - len(context.training_counts)))  # of new items none
    order = np.argsort(-count_M[items_P], kind="stable")[:k]
    return items_P[order], count_M[items_P[order]] / max(1, count_M.sum())


def newcomer(context: Context, history: Sequence[str], profile: Sequence[str] = ()) -> str:
    """Put a new user behind the log, and return the id that the user has from now on. Nothing is written to the run.

    ``history`` are items, oldest first: ids, or titles of one item each, perhaps with a rating behind a colon; without one an
    item has the highest rating that the data set has. ``profile`` says "city=Graz". Raises ConfigError for what cannot be
    read, and DataError for a rating or a field that the data set does not have.
    """
    dataset = context.dataset
    names = (NEW_USER, *(f"{NEW_USER} {number}" for number in range(2, dataset.n_users + 3)))
    user = next(name for name in names if name not in dataset.users)
    told = {"user": user}
    for pair in profile:
        field, sign, value = pair.partition("=")
        if not sign or not field.strip() or field.strip() in told:
            raise ConfigError(f"--profile {pair!r}: write each field once, as FIELD=VALUE.")
        told[field.strip()] = value.strip()
    titles = Titles(dataset)
    events = told_events(dataset, user, [titles.behaviour(word) for word in history])
    context.extend(events, users=[told])
    kept = int(context.dataset.log.count(context.dataset.users.inside([user]))[0])
    if events and not kept:
        raise ConfigError("--history: every rating is below data.rules.keep_from of this run, so nothing of it counts.")
    return user


def told_events(dataset: Dataset, user: str, history: Sequence[tuple[str, float | None]]) -> list[Event]:
    """Items and ratings, oldest first, as events after all that the log has; without a rating an item has the highest one."""
    now, best = int(np.asarray(dataset.time_N).max()) if dataset.has_times else 0, max(dataset.rating_levels)
    return [
        Event(user, item, best if rating is None else rating, now + number if dataset.has_times else None)
        for number, (item, rating) in enumerate(history, start=1)
    ]


class Titles:
    """Finds items by what a user types."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self._of: dict[str, list[int]] = {}
        for item, title in enumerate(dataset.titles):
            self._of.setdefault(title.casefold(), []).append(item)

    def behaviour(self, word: str) -> tuple[str, float | None]:
        """The id of an item and the rating behind the last colon, if that is one. What is an id as a whole is one."""
        head, _, tail = word.rpartition(":")
        rating = _number(tail) if head else None
        readings = [(word, None), *([(head, rating)] if rating is not None else [])]
        for text, given in readings:
            if text in self.dataset.items:
                return text, given
        for text, given in readings:
            if (item := self._by_title(text)) is not None:
                return item, given
        text = readings[-1][0].casefold().strip()
        near = [title for title in self._of if text and text in title][:3]
        near = near or difflib.get_close_matches(text, [t for t in self._of if t[:2] == text[:2]][:NEAR_POOL], n=3, cutoff=0.3)
        guess = f" Near ones: {'; '.join(self._named(self._of[title][0]) for title in near)}." if near else ""
        raise ConfigError(f"--history {word!r}: no item has this id or title.{guess}")

    def _by_title(self, text: str) -> str | None:
        found = self._of.get(text.strip().casefold(), [])
        exact = [item for item in found if self.dataset.titles[item] == text.strip()]
        if len(exact or found) > 1:
            there = "; ".join(map(self._named, (exact or found)[:10]))
            raise ConfigError(f"--history {text!r} is the title of {len(exact or found)} items; give the id of one: {there}.")
        return self.dataset.items.outside(exact or found)[0] if found else None

    def _named(self, item: int) -> str:
        return f"{on_one_line(self.dataset.titles[item])} [{on_one_line(self.dataset.items.outside([item])[0])}]"


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
