"""The runs that the tests of the service share: each is made once."""

from pathlib import Path

import pytest


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
