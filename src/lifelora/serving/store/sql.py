"""The door to SQLAlchemy, which the extra ``serve`` brings, and questions about many values. Knows no table."""

from collections.abc import Iterable, Iterator
from typing import Any

from lifelora.errors import MissingExtraError

try:
    import sqlalchemy as sa
except ImportError:
    raise MissingExtraError("sqlalchemy", "serve", "an event store") from None

__all__ = ["sa"]

AT_ONCE = 1000
"""Values of one question: databases allow some thousands."""


def answers(connection: sa.Connection, question: sa.Select[Any], values: Iterable[Any]) -> Iterator[sa.Row[Any]]:
    """Rows of a question with ``IN (values)``, an expanding parameter of this name, asked piece by piece."""
    values = list(values)
    for start in range(0, len(values), AT_ONCE):
        yield from connection.execute(question, {"values": values[start : start + AT_ONCE]})
