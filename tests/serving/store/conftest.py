"""An open store for each test, in both databases."""

from collections.abc import Iterator

import pytest
from store_world import FORM

from lifelora.serving.store import Store


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store.open(url, FORM) as one:
        yield one
