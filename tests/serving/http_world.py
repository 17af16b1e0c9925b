"""A run as small as it can be with a language model, a service on it, and clients: shared by the tests of the service."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fastapi.testclient import TestClient

from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.serving.app.app import create
from lifelora.serving.app.keys import Key, Keys
from lifelora.serving.app.limits import Limits
from lifelora.serving.app.service import Service

TRAINING = {"batch_size": 16, "epochs": 1, "learning_rate": 2e-3}
RECIPE: dict[str, Any] = {
    "name": "shop",
    "data": {"source": {"kind": "simulated", "users": 24, "items": 80, "events_per_user": 16}},
    "conventional": {
        "popular": {"model": {"kind": "popularity"}},
        "din": {
            "model": {"kind": "din", "embedding": 4, "hidden": 8, "layers": 1, "attention_hidden": 4, "history_length": 6},
            "training": TRAINING,
        },
    },
    "backbone": {
        "kind": "nano", "width": 16, "layers": 1, "heads": 2, "vocabulary": 500,
        "training": {"batch_size": 16, "epochs": 1, "learning_rate": 3e-3, "select": "-loss"},
    },
    "systems": {
        "personal": {
            "behaviours": {"kind": "most-recent", "k": 3},
            "coupling": {"kind": "full", "rank": 2},
            "representation": {"model": "din"},
            "train_samples": 32,
            "validation_samples": 20,
            "training": TRAINING,
        },
    },
    "evaluation": {"test_samples": 24, "resamples": 100},
}  # fmt: skip
QUIET = Options(device="cpu", progress=False)
NOW = 2_000_000_000
"""After all events of the run."""
READ, WRITE, ADMIN = ({"Authorization": f"Bearer {name}-key-0123456789"} for name in ("read", "write", "admin"))


def keys() -> Keys:
    """One of each role."""
    return Keys({name: Key(role=name, key=f"{name}-key-0123456789") for name in ("read", "write", "admin")})


def made(folder: Path, **other: Any) -> Path:
    """A finished run; ``other`` sections replace the recipe's."""
    Run(parse(RECIPE | other, "the tests' recipe"), folder, QUIET).all()
    return folder


def conventional(folder: Path, **other: Any) -> Path:
    """One without a language model."""
    rest = {key: value for key, value in RECIPE.items() if key not in ("backbone", "systems")}
    Run(parse(rest | other, "the tests' recipe"), folder, QUIET).all()
    return folder


def opened(folder: Path) -> Run:
    """A run as the command opens it."""
    return Run.open(folder.resolve(), QUIET)


@contextmanager
def serving(folder: Path, store: Path, keys: Keys | None = None, limits: Limits | None = None) -> Iterator[TestClient]:
    """A client of a service that is ready."""
    service = Service(lambda: opened(folder), store).start()
    try:
        with TestClient(create(service, keys, limits), base_url="http://127.0.0.1") as client:
            yield client
    finally:
        service.close()


def event(user: str, item: str, after: float = 0, **more: Any) -> dict[str, Any]:
    """One that comes after all of the run."""
    return {"user": user, "item": item, "rating": 5, "time": NOW + after} | more
