"""Jina's form of a question, which gorse's client sends, as one about a user and items; and its answer. Asks no engine.

The query says the user and a document the item. A document that is no item of the catalogue fails nothing: it stands behind all
others, with a score below theirs (0 where theirs are above it).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from lifelora.errors import DataError
from lifelora.serving.app.bodies import RerankBody
from lifelora.serving.app.problems import Refusal, Wrong, values
from lifelora.serving.store.events import known_id

BEST = ("", "lifelora")
"""Names of a model that stand for the run's best system."""


def user_of(query: str) -> str:
    """The user of a query: JSON with ``user``, or an id as it is. Refusal where it is neither."""
    user: Any = query
    if query.lstrip().startswith("{"):
        try:
            told = json.loads(query)
        except (ValueError, RecursionError):
            told = None
        if isinstance(told, dict) and "user" in told:
            user = told["user"]
    try:
        return known_id(user)
    except DataError as error:
        raise _wrong("query", error, 'a user\'s id, or {"user": ID}') from None


def item_of(document: str | Mapping[str, Any], place: int) -> str:
    """The item of a document."""
    try:
        return known_id(document if isinstance(document, str) else document.get("text"))
    except DataError as error:
        raise _wrong(f"documents[{place}]", error, 'an item\'s id, or {"text": ID}') from None


def system_of(model: str | None) -> str | None:
    """The system that a model's name asks for; None for the best one."""
    return None if model is None or model.lower() in BEST else model


def results(body: RerankBody, items: Sequence[str], scores: Mapping[str, float | None]) -> list[dict[str, Any]]:
    """Documents by their items' scores, best first; of equal ones the first stands first."""
    told = [score for score in scores.values() if score is not None]
    lowest = min(told, default=1.0)
    below = 0.0 if lowest > 0 else lowest - 1.0
    made = [below if (score := scores.get(item)) is None else score for item in items]
    order = sorted(range(len(items)), key=lambda place: -made[place])
    return [
        {"index": place, "relevance_score": made[place]} | ({"document": {"text": items[place]}} if body.return_documents else {})
        for place in order[: body.top_n or len(items)]
    ]


def _wrong(field: str, error: DataError, allowed: str) -> Refusal:
    what = f"{error.problems[0].what}; it is {allowed}"
    return Refusal(422, "invalid", values(1), [Wrong(field, what, error.problems[0].value)])
