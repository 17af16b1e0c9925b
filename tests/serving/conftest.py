"""What the tests of the service share: runs, each made once, and both databases, of which PostgreSQL is started once."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_world import Server, lacking


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a language model."""
    from http_world import made

    return made(tmp_path_factory.mktemp("shop") / "run")


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with conventional models only."""
    from http_world import conventional

    return conventional(tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="session")
def every_like(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every kind of system that answers yes or no; ``engine_world.opened`` opens it."""
    from engine_world import ctr, made

    folder = tmp_path_factory.mktemp("every-like")
    return made(ctr(folder), folder / "run")


@pytest.fixture(scope="session")
def every_next(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with every kind of system that says what comes next."""
    from engine_world import made, next_items

    folder = tmp_path_factory.mktemp("every-next")
    return made(next_items(folder), folder / "run")


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """PostgreSQL; skipped where its programs are absent."""
    if why := lacking():
        pytest.skip(why)
    one = Server()
    yield one
    one.end()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a store that is not there yet: a file, then a database of a PostgreSQL server of the tests' own."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'events.db'}"
    made: str = request.getfixturevalue("server").new("tests")
    return made
