"""The tables of a store and their version: made, brought up to date, or refused. Knows no event.

Everything is named ``lifelora_…``, so that a database may have tables of others. A change of the tables raises ``VERSION`` and
adds the step from the version before to ``STEPS``; all steps that an older store needs run in one transaction.
"""

import secrets
from collections.abc import Callable

from lifelora.errors import ArtefactError
from lifelora.serving.store.events import Form
from lifelora.serving.store.place import Place
from lifelora.serving.store.sql import sa

VERSION = 1
STEPS: dict[int, Callable[[sa.Connection], None]] = {}
"""What makes the next version of a store of each older one."""
LOCK = 0x6C69_6665_6C6F_7261
"""Of PostgreSQL: who makes or changes the tables; a number that no other program takes."""

TABLES = sa.MetaData()
# Ids compare by their bytes in both databases, whatever the language of PostgreSQL's.
_text = sa.Text().with_variant(sa.Text(collation="C"), "postgresql")
# SQLite counts rows itself by a column of this type alone.
_number = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

STORE = sa.Table(
    "lifelora_store",
    TABLES,
    sa.Column("version", sa.Integer, primary_key=True),
    sa.Column("secret", sa.Text, nullable=False),
    sa.Column("has_times", sa.Boolean, nullable=False),
    sa.Column("has_ratings", sa.Boolean, nullable=False),
)
"""One row. Who adds events or forgets a user holds it, so that sequence numbers become visible in their order."""
EVENTS = sa.Table(
    "lifelora_events",
    TABLES,
    sa.Column("seq", _number, primary_key=True, autoincrement=False),
    sa.Column("user", _text, nullable=False),
    sa.Column("item", _text, nullable=False),
    sa.Column("rating", sa.Double, nullable=False),
    sa.Column("time", sa.BigInteger, nullable=False),
    sa.Column("id", _text),
    sa.Index("lifelora_events_history", "user", "time", "seq"),
)
_given = EVENTS.c.id.is_not(None)
sa.Index("lifelora_events_id", EVENTS.c.id, unique=True, sqlite_where=_given, postgresql_where=_given)
FORGOTTEN = sa.Table(
    "lifelora_forgotten",
    TABLES,
    sa.Column("seq", _number, primary_key=True, autoincrement=False),
    sa.Column("mark", sa.Text, nullable=False, unique=True),
)
ITEMS = sa.Table(
    "lifelora_items",
    TABLES,
    sa.Column("seq", _number, primary_key=True, autoincrement=False),
    sa.Column("item", _text, nullable=False, unique=True),
    sa.Column("texts", sa.Text, nullable=False),
)
IMPORTS = sa.Table(
    "lifelora_imports",
    TABLES,
    sa.Column("digest", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("events", sa.BigInteger, nullable=False),
)


def ready(connection: sa.Connection, form: Form, place: Place, make: bool) -> bytes:
    """Make the tables, or bring them up to date, in a transaction that is open; gives the store's secret.

    With ``make`` off nothing is written: ConfigError where there are none, ArtefactError for those of an older lifelora.
    ArtefactError for a store of a newer lifelora, one whose tables are not all there, and one of other events.
    """
    if make and connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    there = set(sa.inspect(connection).get_table_names()) & set(TABLES.tables)
    if not there and not make:
        raise place.absent()
    if not there:
        TABLES.create_all(connection)
        facts = {
            "version": VERSION,
            "secret": secrets.token_hex(32),
            "has_times": form.has_times,
            "has_ratings": form.has_ratings,
        }
        connection.execute(STORE.insert(), facts)
    elif STORE.name not in there:
        raise ArtefactError(f"{place} has {', '.join(sorted(there))} and no {STORE.name}: it is damaged; restore a backup.")
    _up_to_date(connection, place, make)
    store = connection.execute(sa.select(STORE)).one()
    for what in ("times", "ratings"):
        ours, theirs = getattr(form, f"has_{what}"), getattr(store, f"has_{what}")
        if ours != theirs:
            told = f"have {what}" if theirs else f"have no {what}"
            raise ArtefactError(
                f"the events of the store {place} {told}, and those of this data set {'have' if ours else 'have none'}: "
                "it is of another shop; choose another store."
            )
    return bytes.fromhex(store.secret)


def _up_to_date(connection: sa.Connection, place: Place, make: bool) -> None:
    version = connection.execute(sa.select(STORE.c.version)).scalar_one()
    if version > VERSION:
        raise ArtefactError(
            f"the store {place} was made by a newer lifelora (its version is {version}, and this lifelora knows {VERSION}); "
            "upgrade lifelora."
        )
    if version < VERSION and not make:
        raise ArtefactError(
            f"the store {place} was made by an older lifelora (its version is {version}, and this lifelora reads {VERSION}); "
            "`lifelora serve` brings it up to date."
        )
    for step in range(version, VERSION):
        STEPS[step](connection)
    if version < VERSION:
        connection.execute(STORE.update().values(version=VERSION))
