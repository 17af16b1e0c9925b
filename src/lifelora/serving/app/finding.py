"""What a reader may choose from: systems, ratings, users by their ids, items by their titles. Knows an open run, no endpoint."""

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lifelora.data.dataset import Dataset
from lifelora.data.idmap import IdMap
from lifelora.data.levels import for_readers
from lifelora.serving.app.bodies import Told
from lifelora.serving.engine import Engine

SHARED = "report.html"
"""Of a report's folder, what the service gives away: it holds its own pictures and asks for no other file."""


class SystemOut(Told):
    """A system that may be asked, and what it reads."""

    name: str
    reads: str


class RatingOut(Told):
    """A rating that events may have."""

    value: float
    name: str


class FactsOut(Told):
    """The run that answers."""

    recipe: str
    about: str
    systems: list[SystemOut]
    best: str | None
    "The best system on the validation samples."
    ratings: list[RatingOut]
    "None where the data set has no ratings."
    has_times: bool
    users: int
    items: int
    report: bool
    "Whether there is one at /v1/report."


class UsersFoundOut(Told):
    """Some users."""

    users: list[str]


class ItemFoundOut(Told):
    """An item."""

    item: str
    title: str


class ItemsFoundOut(Told):
    """Some items."""

    items: list[ItemFoundOut]


def facts(engine: Engine) -> dict[str, Any]:
    """What a page has to know of a run before it asks."""
    run, dataset = engine.run, engine.dataset
    said = for_readers(dataset.level_names, dataset.words)
    levels = zip(dataset.rating_levels, said, strict=True) if dataset.has_ratings else ()
    return {
        "recipe": run.recipe.name,
        "about": run.recipe.about,
        "systems": [{"name": name, "reads": run.scorers[name].reads()} for name in engine.systems],
        "best": engine.best or None,
        "ratings": [{"value": value, "name": name or f"{value:g}"} for value, name in levels],
        "has_times": dataset.has_times,
        "users": dataset.n_users,
        "items": dataset.n_items,
        "report": not run.stages.report.lacking(),
    }


def some_users(dataset: Dataset, n: int) -> list[str]:
    """Up to n users, spread over the log."""
    there = pc.drop_null(dataset.profiles.column("user"))  # a forgotten one has a number, and no id
    number_N = np.unique(np.linspace(0, max(len(there) - 1, 0), min(n, len(there))).astype(np.int64))
    users: list[str] = there.take(pa.array(number_N)).to_pylist()
    return users


def users_like(dataset: Dataset, words: str, n: int) -> list[str]:
    """Up to n users: the one with this id, then those whose id begins with these words, then those that have them."""
    return dataset.users.outside(_like(dataset.profiles.column("user"), words, n, dataset.users))


def items_like(dataset: Dataset, words: str, n: int) -> list[dict[str, str]]:
    """Up to n items: the one with this id, then those whose title begins with these words, then those that have them."""
    chosen = _like(dataset.catalogue.column("title"), words, n, dataset.items)
    return [
        {"item": item, "title": dataset.titles[number]}
        for item, number in zip(dataset.items.outside(chosen), chosen, strict=True)
    ]


def _like(texts: pa.ChunkedArray, words: str, n: int, ids: IdMap) -> list[int]:
    """The numbers of up to n texts that have these words: that with this id first, then those that begin with them."""
    found = [int(ids.inside([words])[0])] if words in ids else []
    for matches in (pc.starts_with, pc.match_substring):
        there: pa.Array = pc.indices_nonzero(pc.fill_null(matches(texts, words, ignore_case=True), False))
        found += there.slice(0, 2 * n).to_pylist()
    return list(dict.fromkeys(found))[:n]
