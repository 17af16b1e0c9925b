"""One run in the place of another without a dropped request; and what is answered before a run is loaded."""

import gc
import threading
import time
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from http_world import NOW, conventional, event, opened, serving

from lifelora.errors import ClosedError, StoreError
from lifelora.run import Run
from lifelora.serving.app.app import create
from lifelora.serving.app.service import Live, Service
from lifelora.serving.following import Follower
from lifelora.serving.store import Store


def test_another_run_takes_over_and_no_request_is_dropped(plain: Path, tmp_path: Path):
    other = conventional(tmp_path / "other", name="newer", seed=1)
    link = tmp_path / "current"
    link.symlink_to(plain)
    with serving(link, tmp_path / "events.db") as client:
        client.post("/v1/events", json={"events": [event("u00001", "b00001")]})
        before = client.get("/health/ready").json()
        link.unlink()
        link.symlink_to(other)
        statuses, stop, kept = list[int](), threading.Event(), list[int]()

        def ask() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                came = client.post("/v1/score", json={"user": "u00002", "candidates": ["b00001", "b00002"], "system": "din"})
                more = client.post("/v1/events", json={"events": [event("u00003", "b00003", number)]})
                statuses.extend((came.status_code, more.status_code))
                kept.append(more.json()["used"])

        asking = threading.Thread(target=ask)
        asking.start()
        changed = client.post("/v1/admin/run")
        while len(statuses) < 10:
            pass
        stop.set()
        asking.join()
        assert changed.status_code == 200, changed.text
        after = client.get("/health/ready").json()
        assert (before["recipe"], after["recipe"], changed.json()["recipe"]) == ("shop", "newer", "newer")
        assert set(statuses) == {200}
        assert gc.get_freeze_count() > 10_000, "what the new run has loaded is no garbage"
        assert set(kept) == {1}
        assert client.post("/v1/score", json={"user": "u00002", "candidates": ["b00001"]}).json()["run"]["recipe"] == "newer"
        told = client.get("/v1/users/u00001").json()["events"]
        assert (told[-1]["item"], told[-1]["time"], told[-1]["used"]) == ("b00001", NOW, True)
        own = [one for one in client.get("/v1/users/u00003").json()["events"] if one["time"] > NOW]
        assert len(own) == len(kept)
        assert all(one["used"] for one in own)


def test_what_takes_over_knows_all_that_was_acknowledged(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An event is kept at each step of the new run's way; what answers knows it, before and after."""
    advance, followers, used = Follower.advance, list[Follower](), list[list[int]]()
    with serving(plain, tmp_path / "events.db") as client:
        first = client.app.state.service.live.follower  # type: ignore[attr-defined]

        def keep() -> None:
            known = client.get("/v1/users/u00001").json()["events"]
            came = client.post("/v1/events", json={"events": [event("u00001", "b00001", len(used))]}).json()
            used.append([sum(one["used"] for one in known if one["time"] >= NOW), came["used"]])

        def advancing(self: Follower, *what: object) -> None:
            steps = self is not first and not what and len(followers) < 2  # the new run catches up, once and again
            if steps:
                followers.append(self)
                keep()
            advance(self, *what)
            if steps:
                keep()

        monkeypatch.setattr(Follower, "advance", advancing)
        assert client.post("/v1/admin/run").status_code == 200
        monkeypatch.undo()
        assert len(followers) == 2
        keep()
    assert used == [[number, 1] for number in range(5)]


def test_a_place_without_a_run_leaves_the_old_one(plain: Path, tmp_path: Path):
    link = tmp_path / "current"
    link.symlink_to(plain)
    with serving(link, tmp_path / "events.db") as client:
        link.unlink()
        refused = client.post("/v1/admin/run")
        assert refused.status_code == 409
        assert refused.json()["type"] == "urn:lifelora:problem:run"
        assert str(tmp_path) not in refused.text
        assert client.get("/health/ready").status_code == 200
        assert client.get("/v1/recommend/u00001").status_code == 200


def test_what_goes_on_after_a_refused_run_is_no_garbage_and_the_refused_one_is(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """It is refused late, when its engine is there: the store cannot be read."""
    refused = list[weakref.ref[Follower]]()

    def unread(self: Follower, *_: object) -> None:
        refused.append(weakref.ref(self))
        raise StoreError("the database does not answer")

    with serving(plain, tmp_path / "events.db") as client, monkeypatch.context() as patch:
        patch.setattr(Follower, "advance", unread)
        patch.setattr("lifelora.serving.app.routes.admin.tell", lambda *_, **__: None)  # pytest keeps what is logged
        assert client.post("/v1/admin/run").status_code == 409
        patch.undo()
        until = time.monotonic() + 60
        while gc.get_freeze_count() < 10_000 and time.monotonic() < until:
            time.sleep(0.05)
        assert gc.get_freeze_count() > 10_000
        live = client.app.state.service.live.follower  # type: ignore[attr-defined]
        assert [one() for one in refused if one() is not live] == [None]


def test_a_service_that_ends_takes_no_other_run(plain: Path, tmp_path: Path):
    """It is stopped while the other one is opened."""
    service, runs = Service(lambda: runs.pop()(), tmp_path / "events.db"), list[Callable[[], Run]]()

    def ending() -> Run:
        run = opened(plain)
        service.close()
        return run

    runs += [ending, lambda: opened(plain)]
    service.start()
    before = service.live
    with pytest.raises(ClosedError, match="takes no other run"):
        service.change()
    assert service.live is before


def test_while_it_loads_nothing_is_kept_and_nobody_forgotten(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its store is open by then. Who is refused has changed nothing, and is told why."""
    service, made, refused = Service(lambda: opened(plain), tmp_path / "events.db"), Service._made, list[Any]()
    with TestClient(create(service), base_url="http://127.0.0.1") as client:

        def meanwhile(this: Service, run: Run, store: Store) -> Live:
            refused.append(client.post("/v1/events", json={"events": [event("u00001", "b00001")]}))
            refused.append(client.delete("/v1/users/u00001"))
            assert store.last_seq() == 0
            assert not store.forgotten_among(["u00001"])
            return made(this, run, store)

        monkeypatch.setattr(Service, "_made", meanwhile)
        service.start()
        told = [(one.status_code, one.json()["type"], one.headers["retry-after"]) for one in refused]
        assert told == [(503, "urn:lifelora:problem:closed", "1")] * 2
        assert "being loaded" in refused[0].json()["detail"]
        assert client.get("/v1/users/u00001").json()["events"]
        service.close()


def test_before_and_after_it_is_ready_it_says_so(plain: Path, tmp_path: Path):
    service = Service(lambda: opened(plain), tmp_path / "events.db")
    with TestClient(create(service), base_url="http://127.0.0.1") as client:
        assert client.get("/health/live").status_code == 200
        loading = client.get("/health/ready")
        assert (loading.status_code, loading.json()["type"]) == (503, "urn:lifelora:problem:loading")
        asks = [
            client.post("/v1/score", json={"user": "u", "candidates": ["b"]}),
            client.get("/v1/recommend/u"),
            client.post("/v1/rerank", json={"query": "u", "documents": ["b"]}),
            client.post("/v1/events", json={"events": [event("u", "b")]}),
            client.post("/v1/items", json={"items": [{"item": "b"}]}),
            client.get("/v1/users/u"),
            client.delete("/v1/users/u"),
            client.post("/v1/admin/run"),
        ]
        assert [(one.status_code, one.headers.get("retry-after")) for one in asks[:-1]] == [(503, "1")] * 7
        assert asks[-1].status_code == 409
        assert "lifelora_request_seconds" in client.get("/metrics").text
        service.start()
        ready = client.get("/health/ready")
        assert ready.json()["recipe"] == "shop"
        assert "connection" not in ready.headers
        service.state = "draining"
        draining = client.get("/health/ready")
        assert (draining.status_code, draining.json()["type"]) == (503, "urn:lifelora:problem:draining")
        last = client.get("/v1/recommend/u00001")  # what comes still is answered, and the client sends no more on its connection
        assert (last.status_code, last.headers["connection"]) == (200, "close")
        service.close()
        assert client.get("/v1/recommend/u00001").status_code == 503
