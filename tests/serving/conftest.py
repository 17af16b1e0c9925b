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
