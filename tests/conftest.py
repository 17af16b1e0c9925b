"""Shared by all tests: axes are checked at every typed door, the user's cache is left alone, torch uses one thread,
in the processes that tests start as well (OMP_NUM_THREADS=2 runs them all with two)."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from checked_axes import check

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

# No test may fail because the machine is slow or busy.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")

check()  # axes of all that lifelora's functions are given and give


@pytest.fixture(autouse=True, scope="session")
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    before = os.environ.get("LIFELORA_CACHE")
    os.environ["LIFELORA_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    if before is None:
        del os.environ["LIFELORA_CACHE"]
    else:
        os.environ["LIFELORA_CACHE"] = before


@pytest.fixture
def fuzz_inputs() -> int:
    """How many inputs a slow fuzz makes: $LIFELORA_INPUTS (20,000 before a release), or enough for every day."""
    return int(os.environ.get("LIFELORA_INPUTS", "4000"))


def _folder(variable: str, name: str) -> Path:
    root = os.environ.get(variable)
    if not root or not (Path(root) / name).is_dir():
        pytest.skip(f"${variable} has no folder '{name}'")
    return Path(root) / name


@pytest.fixture
def ml_1m() -> Path:
    """MovieLens-1M, where $LIFELORA_DATA has it."""
    return _folder("LIFELORA_DATA", "ml-1m")


@pytest.fixture
def ml_100k() -> Path:
    """MovieLens-100K, where $LIFELORA_DATA has it."""
    return _folder("LIFELORA_DATA", "ml-100k")


@pytest.fixture
def bookcrossing() -> Path:
    """BookCrossing, where $LIFELORA_DATA has it."""
    return _folder("LIFELORA_DATA", "bookcrossing")


@pytest.fixture
def pretrained() -> Path:
    """A real pretrained LM, where $LIFELORA_MODELS has it."""
    return _folder("LIFELORA_MODELS", "stories260K")
