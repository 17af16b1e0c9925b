"""A database that is read by statements and written in transactions, whichever it is. Knows no event."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from threading import Lock
from typing import Any

from lifelora.errors import BusyError
from lifelora.serving.store import postgresql, sqlite
from lifelora.serving.store.place import Place
from lifelora.serving.store.sql import sa


class Database:
    """Connections to one store. Each statement outside a transaction sees all that was committed before it."""

    def __init__(self, place: Place, make: bool = True) -> None:
        """With ``make`` off it is there already, and is only read."""
        self.place = place
        self.kind = postgresql if place.path is None else sqlite
        "What is not the same in both."
        self._engine = self.kind.engine(place, make)
        self._one = Lock()  # threads wait here for one another, and databases only for other processes

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """For statements one by one."""
        with self._told(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """For a transaction, which is on disk when this is left, or has not happened."""
        with self._told(), self._one, self._engine.connect() as connection:
            connection.exec_driver_sql(self.kind.BEGIN)
            try:
                yield connection
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                with suppress(sa.exc.DBAPIError):  # where the connection is lost there is nothing to take back
                    connection.exec_driver_sql("ROLLBACK")
                raise

    def erase(self) -> None:
        """Remove from SQLite's files what deleted rows left there; PostgreSQL's VACUUM is its owner's."""
        if self.kind is sqlite:
            with self._one, self.reading() as connection:
                sqlite.erase(connection)

    def settle(self) -> None:
        """Empty SQLite's write-ahead log after much was written, unless it is being read."""
        if self.kind is sqlite:
            with suppress(BusyError), self.reading() as connection:
                sqlite.truncate(connection)

    def insert(self, connection: sa.Connection, table: sa.Table, rows: Sequence[Sequence[Any]]) -> None:
        """Rows of all columns of a table."""
        if rows:
            self.kind.insert(connection, table, rows)

    def close(self) -> None:
        """End all connections."""
        self._engine.dispose()

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sa.exc.TimeoutError:
            raise BusyError(f"all connections to the store {self.place} are in use; try again.") from None
        except sa.exc.DBAPIError as error:
            raise self.kind.refused(self.place, error.orig or error) from error
