"""The event store: what users did, kept at once and for good, and given back as histories. Knows no model and no HTTP.

Any number of threads and processes may use one store. An event that was acknowledged is on disk: it outlives a kill of the
process or of the database, and a power cut.

For readers: events may come late, in any order of their times. A history has them where their time says; ``since`` gives them
when they came. A log that grows at its end alone (``Dataset.extended``) cannot take one that is before its user's last: its owner
reads that user's history anew. Two events of one user, item and second may be there, under two keys or with two ratings; a log
takes one of them, the one that came first.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType

from lifelora.data.extend import Event, Told
from lifelora.serving.store import forgetting, reading
from lifelora.serving.store import items as items_of
from lifelora.serving.store.accept import Outcome, accept
from lifelora.serving.store.database import Database
from lifelora.serving.store.events import Accepted, Form, Kept, Row, checked, known_id
from lifelora.serving.store.forgetting import Forgotten
from lifelora.serving.store.imports import Imported, import_data
from lifelora.serving.store.items import KeptItem
from lifelora.serving.store.place import Place
from lifelora.serving.store.tables import ready
from lifelora.serving.store.writer import Writer


class Store:
    """One store, open. Its methods may be called by any thread."""

    def __init__(self, database: Database, form: Form, secret: bytes) -> None:
        """As ``open`` makes it."""
        self.form = form
        self._database, self._secret = database, secret
        self._writer = Writer(self._commit)

    @classmethod
    def open(cls, url: str | Path, form: Form, *, make: bool = True) -> "Store":
        """A store that is there, brought up to date, or a new one, for events of this form (``Form.of`` a prepared data set).

        With ``make`` off it is only read: where there is none, that is a ConfigError, and nothing is written. Raises ConfigError
        for a URL that is none and a file that cannot be written, ArtefactError for a file that is no store, one of a newer
        lifelora, and one of another shop, StoreError where a database does not answer or refuses the password.
        """
        database = Database(Place.of(url), make)
        try:
            with database.writing() if make else database.reading() as connection:
                secret = ready(connection, form, database.place, make)
        except BaseException:
            database.close()
            raise
        return cls(database, form, secret)

    @property
    def place(self) -> str:
        """Where it is, without a password."""
        return str(self._database.place)

    def append(self, events: Iterable[Event]) -> list[Accepted]:
        """Keep events, all or none, and say of each its sequence number and whether it is new; then they are on disk.

        ``NewEvent`` has a key; what an event is without one, ``accept`` says. Raises DataError for events that are not as they
        should be, ConflictError (a DataError, too) for a key that stands for another event, BusyError where another process
        writes for too long, StoreError where the database fails: whether the events were kept is then unknown, and sending them
        again is safe.
        """
        rows = checked(events, self.form)
        return self._writer.write(rows) if rows else []

    def import_data(self, folder: str | Path) -> Imported:
        """Add the log of a prepared data set, all or nothing; what is there already is not added again, nor forgotten users."""
        return import_data(self._database, self._secret, self.form, Path(folder))

    def last(self, user: str, count: int, before: int | None = None) -> list[Kept]:
        """The last events of a user, oldest first: of all, or of those before a time."""
        return reading.last(self._database, known_id(user), count, before)

    def history(self, user: str, before: int | None = None) -> Iterator[Kept]:
        """All events of a user, or those before a time, oldest first."""
        return reading.history(self._database, known_id(user), before)

    def since(self, seq: int) -> Iterator[Kept]:
        """Events accepted after that one, in the order of acceptance: none before them appears later."""
        return reading.since(self._database, seq)

    def last_seq(self) -> int:
        """The largest sequence number that was given; 0 in a new store."""
        return reading.last_seq(self._database)

    def users(self) -> Iterator[str]:
        """Users that have events."""
        return reading.users(self._database)

    def count_users(self) -> int:
        """How many there are."""
        return reading.count_users(self._database)

    def forget(self, user: str) -> Forgotten:
        """Nothing of a user is left in the store, whether or not it had events; an event sent later begins a new history.

        SQLite's file is written anew for it. Raises BusyError where a reader of another process keeps the old bytes in the
        write-ahead log: the rows are gone, and the call may be repeated. PostgreSQL's bytes go by VACUUM FULL.
        """
        return forgetting.forget(self._database, self._secret, known_id(user))

    def forgotten(self, since: int = 0) -> list[Forgotten]:
        """Notes of users who were forgotten after a sequence number: caches drop the user whose ``mark`` it is."""
        return forgetting.notes(self._database, since)

    def mark(self, user: str) -> str:
        """What stands for a user in a note."""
        return forgetting.mark(self._secret, known_id(user))

    def forgotten_among(self, users: Iterable[str]) -> set[str]:
        """Which of these users were forgotten: a prepared data set may still hold them."""
        with self._database.reading() as connection:
            return forgetting.among(connection, self._secret, map(known_id, users))

    def add_items(self, items: Iterable[Told]) -> list[bool]:
        """Keep items by "item" and texts, all or none, and say which are new; what was told of a kept one stays."""
        return items_of.add(self._database, items)

    def items(self, since: int = 0) -> Iterator[KeptItem]:
        """Items that were told after a number, in the order in which they came."""
        return items_of.since(self._database, since)

    def close(self) -> None:
        """End all connections."""
        self._database.close()

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def _commit(self, bulks: list[Sequence[Row]]) -> list[Outcome]:
        with self._database.writing() as connection:
            return accept(self._database, connection, bulks)
