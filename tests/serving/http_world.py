"""A run as small as it can be with a language model, a service on it, and clients: shared by the tests of the service."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from fastapi.testclient import TestClient

from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.serving.app.app import create
from lifelora.serving.app.keys import Key, Keys
from lifelora.serving.app.limits import Limits
from lifelora.serving.app.server import address, bound
from lifelora.serving.app.service import Service
from run_world import VALUES

RECIPE: dict[str, Any] = {
    **{key: VALUES[key] for key in ("data", "conventional", "evaluation")},
    "name": "shop",
    "backbone": VALUES["backbone"] | {"layers": 2},
    "systems": {"personal": VALUES["systems"]["personal"] | {"behaviours": {"kind": "most-recent", "k": 3}}},
}
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


@contextmanager
def at_a_port(
    folder: Path, store: Path, keys: Keys | None = None, limits: Limits | None = None
) -> Iterator[tuple[str, Service, FastAPI]]:
    """The address of a service that is ready, itself, and its application."""
    service = Service(lambda: opened(folder), store).start()
    app = create(service, keys, limits)
    with bound("127.0.0.1", 0) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_config=None))
        thread = threading.Thread(target=server.run, args=([listening],))
        thread.start()
        try:
            while not server.started and thread.is_alive():
                time.sleep(0.01)
            yield address(listening), service, app
        finally:
            server.should_exit = True
            thread.join()
            service.close()


def event(user: str, item: str, after: float = 0, **more: Any) -> dict[str, Any]:
    """One that comes after all of the run."""
    return {"user": user, "item": item, "rating": 5, "time": NOW + after} | more
