"""Both databases for each test of the store: a file, and a database of a PostgreSQL server of the tests' own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from postgres_world import Server, lacking
from store_world import FORM

from lifelora.serving.store import Store


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
    """Of a store that is not there yet."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'events.db'}"
    return request.getfixturevalue("server").new("tests")


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url, FORM) as one:
        yield one
