"""An event that is kept, and that the models could not be told of yet, is not said to be used."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_world import event, serving

from lifelora.errors import StoreError


def test_used_is_said_of_what_the_models_were_told(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The database is gone between an event's commit and its reading, and comes back."""

    def gone(seq: int) -> Iterator[Any]:
        raise StoreError("the database does not answer")

    bulk = {"events": [event("u00001", "b00001", id="one")]}
    with serving(plain, tmp_path / "events.db") as client:
        with monkeypatch.context() as patch:
            patch.setattr(client.app.state.service.store, "since", gone)  # type: ignore[attr-defined]
            first = client.post("/v1/events", json=bulk).json()
        assert (first["new"], first["used"]) == (1, 0)
        assert "as soon as" in first["events"][0]["why"]
        again = client.post("/v1/events", json=bulk).json()
        assert (again["new"], again["used"]) == (0, 1)
        assert again["events"][0]["why"] == ""
