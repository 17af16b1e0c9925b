"""PostgreSQL's own part: how it is reached, what its refusals mean, how many rows go in at once. Knows no table's meaning."""

from collections.abc import Iterable, Sequence
from importlib.util import find_spec
from typing import Any

from lifelora.errors import BusyError, LifeloraError, MissingExtraError, StoreError
from lifelora.serving.store.place import Place
from lifelora.serving.store.sql import sa

PATIENCE = 10
"""Seconds to wait for the server, and for another process that writes."""
BEGIN = "BEGIN ISOLATION LEVEL READ COMMITTED"
DURABLE = "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'"
"""A server may be set to acknowledge what is not yet on its disk."""
_arrays = (sa.cast(sa.bindparam("users"), sa.ARRAY(sa.Text())), sa.cast(sa.bindparam("times"), sa.ARRAY(sa.BigInteger())))
PAIRS = sa.func.unnest(*_arrays).table_valued("user", "time").render_derived()
"""Users and times that are asked for."""


def engine(place: Place, make: bool) -> sa.Engine:
    """For a database that is there; with ``make`` off it is only read. Nothing is connected yet."""
    if find_spec("psycopg") is None:
        raise MissingExtraError("psycopg", "serve", "a store in PostgreSQL")
    made = sa.create_engine(
        place.url,
        hide_parameters=True,
        isolation_level="AUTOCOMMIT",
        pool_pre_ping=True,
        pool_timeout=PATIENCE,
        connect_args={"connect_timeout": PATIENCE, "application_name": "lifelora"},
    )
    sa.event.listen(made, "connect", lambda connection, _: _settings(connection, make))
    return made


def _settings(connection: Any, make: bool) -> None:
    before, connection.autocommit = connection.autocommit, True
    connection.execute(DURABLE)
    connection.execute(f"SET lock_timeout = '{PATIENCE}s'")
    if not make:
        connection.execute("SET default_transaction_read_only = on")
    connection.autocommit = before


def as_pairs(pairs: Iterable[tuple[str, int]]) -> dict[str, Any]:
    """The parameters of ``PAIRS``."""
    users, times = zip(*pairs, strict=True)
    return {"users": list(users), "times": list(times)}


def insert(connection: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]) -> None:
    """Rows of all columns of a table, sent as one array a column: many times faster than one row after another."""
    names, kinds = table.columns.keys(), [sa.Text() if isinstance(c.type, sa.Text) else c.type for c in table.columns]
    arrays = [sa.cast(sa.bindparam(name), sa.ARRAY(kind)) for name, kind in zip(names, kinds, strict=True)]
    source = sa.func.unnest(*arrays).table_valued(*names).render_derived()
    values = dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))
    connection.execute(table.insert().from_select(names, sa.select(*source.columns)), values)


def refused(place: Place, error: BaseException) -> LifeloraError:
    """What PostgreSQL's error means to a user."""
    text = place.without_secrets(str(error).partition("DETAIL:")[0])
    if getattr(error, "sqlstate", None) == "55P03":
        return BusyError(f"the store {place} is being written by another process for more than {PATIENCE} s; try again.")
    if getattr(error, "sqlstate", None) is None:
        return StoreError(f"the store {place} cannot be reached: {text}. Is it the right URL, and does the server run?")
    return StoreError(f"the store {place} refuses: {text}")
