"""The library ``implicit``, where it is installed: in one thread, so that a seed decides, and silent. Knows no model."""

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from lifelora.errors import MissingExtraError


def require(kind: str) -> Any:
    """The library, with its modules; MissingExtraError where it is not installed."""
    try:
        library = importlib.import_module("implicit")
        for module in ("nearest_neighbours", "cpu.als", "cpu.bpr"):
            importlib.import_module(f"implicit.{module}")
    except ImportError as error:
        raise MissingExtraError("implicit", "baselines", f"the conventional model '{kind}'") from error
    return library


@contextmanager
def implicit(kind: str) -> Iterator[Any]:
    """The library while it learns. Its models take ``num_threads``; its algebra gets one thread here."""
    library = require(kind)
    from threadpoolctl import threadpool_limits  # it comes with implicit

    with threadpool_limits(1, "blas"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield library
