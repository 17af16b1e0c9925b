"""Where an event store is: SQLite's file or PostgreSQL's URL, as a user writes it. Knows no table.

A password never leaves: what is shown of a URL is user, host and database, and an error of a URL that cannot be read shows
nothing of it.
"""

from dataclasses import dataclass
from pathlib import Path

from lifelora import foreign
from lifelora.errors import ConfigError, on_one_line
from lifelora.serving.store.sql import sa

ALLOWED = "a store is sqlite:///FILE, the path of a FILE, or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
POSTGRESQL = ("postgresql", "postgres", "postgresql+psycopg")


@dataclass(frozen=True, repr=False)
class Place:
    """A store's URL, and SQLite's file where it is one."""

    url: sa.URL
    path: Path | None = None

    @classmethod
    def of(cls, written: str | Path) -> "Place":
        """Read a URL or a path; ConfigError, without what it holds, where it is neither."""
        text = str(written)
        scheme, sign, rest = text.partition("://")
        if not sign:
            if "@" in text:  # more likely a URL without its beginning, perhaps with a password
                raise ConfigError(f"this has an @ and no sqlite:/// or postgresql:// before it; {ALLOWED}.")
            return cls._file(text)
        if scheme == "sqlite":
            if not rest.startswith("/") or "?" in rest:
                raise ConfigError(f"an SQLite URL has three slashes, a path, and no options: sqlite:///events.db; {ALLOWED}.")
            return cls._file(rest[1:])
        if scheme not in POSTGRESQL:
            raise ConfigError(f"'{on_one_line(scheme[:20])}' is no database that lifelora knows; {ALLOWED}.")
        try:
            url = sa.make_url(text)
        except (sa.exc.ArgumentError, ValueError):
            url = sa.URL.create("postgresql", host="@")
        # With an @ in one of these a password may be before it, which was not read as one.
        if any("@" in part for part in (url.host or "", url.database or "", *_texts(url.query.get("host")))):
            signs = "in a user or password @ is written %40, : is %3A, / is %2F and % is %25"
            raise ConfigError(f"this URL of PostgreSQL cannot be read; {ALLOWED}, and {signs}.")
        return cls(url.set(drivername="postgresql+psycopg"))

    @classmethod
    def _file(cls, text: str) -> "Place":
        if text in ("", ":memory:"):
            raise ConfigError(f"a store in memory would lose its events; {ALLOWED}.")
        path = foreign.place(text).absolute()
        return cls(sa.URL.create("sqlite", database=str(path)), path)

    @property
    def secrets(self) -> list[str]:
        """What no message may hold."""
        query = [text for name, value in self.url.query.items() if name not in ("host", "port") for text in _texts(value)]
        return [text for text in (self.url.password, *query) if text]

    def without_secrets(self, text: str) -> str:
        """A message of a database, on one line."""
        for secret in self.secrets:
            text = text.replace(secret, "***")
        return " ".join(text.split())

    def absent(self) -> ConfigError:
        """That no store is there, where one was to be read."""
        return ConfigError(
            f"there is no event store at {self}; `lifelora serve` makes one, by default RUN.events.db beside the run's folder."
        )

    def __str__(self) -> str:
        if self.path is not None:
            return str(self.path)
        url = self.url
        host = url.host or url.query.get("host") or "localhost"
        return f"postgresql://{url.username or ''}@{host}{f':{url.port}' if url.port else ''}/{url.database or ''}"

    __repr__ = __str__


def _texts(value: str | tuple[str, ...] | None) -> tuple[str, ...]:
    """What an option of a URL says, which may be there several times."""
    return (value,) if isinstance(value, str) else value or ()
