"""The world of ``lifelora.testing.world``, prepared once."""

import pytest

from lifelora.data.dataset import Dataset
from lifelora.testing.world import two_tribes


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return two_tribes(tmp_path_factory.mktemp("tribes"))
