"""What is kept, and what the models could not be told of yet: it is not said to be used, and they are told of it later."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_world import NOW, RECIPE, event, made, opened, serving

from endpoint_world import Server
from lifelora.errors import BusyError, StoreError
from lifelora.serving.app import service as module
from lifelora.serving.following import Follower, Why
from lifelora.serving.following.once import OpenRun
from lifelora.serving.store import Form, NewEvent, Store


@pytest.mark.parametrize("error", [StoreError, BusyError])
def test_used_is_said_of_what_the_models_were_told(
    error: type[Exception], plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """The database is gone (or all connections to it are in use) between an event's commit and its reading, and comes back."""

    def gone(seq: int) -> Iterator[Any]:
        raise error("the database does not answer")

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


def test_who_was_forgotten_is_dropped_though_the_database_fails_meanwhile(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Three users whom another process forgot; one of them has come again, and none of what they did then is lost."""
    context, gone = opened(plain).context, ["u00003", "u00004", "u00005"]
    with Store.open(tmp_path / "events.db", form := Form.of(context.stages.data.require())) as store:
        follower = Follower(OpenRun(context), store, form, lambda *_, **__: None)
        follower.advance()
        for user in gone:
            store.forget(user)
        store.append([NewEvent("u00004", "b00001", 5, NOW)])
        follower._seq = store.last_seq()  # as if it had been told before the note was read
        for method in ("history", "forgotten"):

            def fails(*what: object) -> Any:
                raise StoreError("the database does not answer")

            with monkeypatch.context() as patch:
                patch.setattr(store, method, fails)
                with pytest.raises(StoreError):
                    follower.advance()
        follower.advance()
    assert [user in context.dataset.users for user in gone] == [False, True, False]
    assert follower.counts.forgotten == 3
    rows = context.dataset.log.rows_of(int(context.dataset.users.inside(["u00004"])[0]))
    assert context.dataset.items.outside(context.dataset.item_N[rows]) == ["b00001"]


def test_what_waits_for_its_item_is_told_of_however_much_else_is_left_out(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Two of each are remembered, and late events are more. Of three that wait the first is dropped, which is said."""
    monkeypatch.setattr("lifelora.serving.following.left_out.REMEMBERED", 2)
    context, said = opened(plain).context, list[tuple[str, dict[str, Any]]]()
    with Store.open(tmp_path / "events.db", form := Form.of(context.stages.data.require())) as store:
        follower = Follower(OpenRun(context), store, form, lambda what, **count: said.append((what, count)))
        follower.advance()
        waits = store.append([NewEvent("u00001", "later", 5, NOW)])[0].seq
        store.append([NewEvent("u00002", f"b0000{number}", 5, number) for number in range(1, 4)])
        follower.advance()
        assert (follower.left_out(waits), follower.counts.left_out) == (Why.NO_ITEM, {Why.NO_ITEM: 1, Why.LATE: 3})
        store.add_items([{"item": "later"}])
        follower.advance()
        assert (follower.left_out(waits), follower.counts.left_out, said) == (None, {Why.LATE: 3}, [])
        (row,) = context.dataset.log.rows_of(int(context.dataset.users.inside(["u00001"])[0]))[-1:]
        assert context.dataset.items.outside([int(context.dataset.item_N[row])]) == ["later"]
        seqs = [one.seq for one in store.append([NewEvent("guest", f"away-{n}", 5, NOW + n) for n in range(3)])]
        follower.advance()
        assert [follower.left_out(seq) for seq in seqs] == [None, Why.NO_ITEM, Why.NO_ITEM]
        assert said == [("too many events wait for their items", {"events": 1})]
        store.forget("guest")
        follower.advance()
        assert [follower.left_out(seq) for seq in seqs] == [None] * 3, "nothing of a forgotten user is left"


def test_an_item_is_told_of_once_it_can_be_read(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The database is gone between the pages of two items, and comes back."""
    context = opened(plain).context
    with Store.open(tmp_path / "events.db", form := Form.of(context.stages.data.require())) as store:
        store.add_items([{"item": "first"}, {"item": "second"}])
        items, follower = store.items, Follower(OpenRun(context), store, form, lambda *_, **__: None)

        def gone(since: int = 0) -> Iterator[Any]:
            yield next(items(since))
            raise StoreError("the database does not answer")

        with monkeypatch.context() as patch:
            patch.setattr(store, "items", gone)
            with pytest.raises(StoreError):
                follower.advance()
        follower.advance()
    assert [item in context.dataset.items for item in ("first", "second")] == [True, True]


def test_items_whose_vectors_cannot_be_made_wait_and_all_else_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The endpoint is down while an item is told, and at a start; it is asked once, and not again by a request."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    endpoint, down = Server(), (503, {}, {"error": "away"})
    personal = RECIPE["systems"]["personal"] | {"behaviours": {"kind": "most-similar", "k": 3}}
    item, bulk = {"item": "new", "title": "The Quiet Harbour"}, {"events": [event("u00001", "new"), event("u00001", "b00001", 1)]}
    try:
        vectors = {"kind": "endpoint", "url": endpoint.url, "model": "embed"}
        folder = made(tmp_path / "run", vectors=vectors, systems={"personal": personal})
        asked, endpoint.planned = len(endpoint.requests), [down] * 10_000
        with serving(folder, tmp_path / "events.db") as client:
            for is_new in (True, False):
                came = client.post("/v1/items", json={"items": [item]})
                assert (came.status_code, came.json()["new"], came.json()["notes"]) == (200, is_new, [module.ITEMS_WAIT])
            told = client.post("/v1/events", json=bulk).json()["events"]
            assert [(one["new"], one["used"]) for one in told] == [(True, False), (True, True)]
            assert client.post("/v1/score", json={"user": "u00001", "candidates": ["b00002"]}).status_code == 200
            assert len(endpoint.requests) == asked + 1
        monkeypatch.setattr(module, "PAUSE", 0.0)
        monkeypatch.setattr(module, "EVERY", 0.05)
        with serving(folder, tmp_path / "events.db") as client:
            assert client.get("/health/ready").status_code == 200
            assert client.get("/v1/items?q=The Quiet Harbour").json()["items"] == []
            endpoint.planned = []
            until, done = time.monotonic() + 60, [("new", True), ("b00001", True)]

            def did() -> list[tuple[str, bool]]:
                events = client.get("/v1/users/u00001").json()["events"]
                return [(one["item"], one["used"]) for one in events if one["time"] >= NOW]

            while did() != done and time.monotonic() < until:
                time.sleep(0.05)
            assert did() == done
            assert client.get("/v1/items?q=The Quiet Harbour").json()["items"]
            bare = client.post("/v1/items", json={"items": [{"item": "bare"}]}).json()  # no word is no reason to wait
            assert (bare["new"], bare["notes"]) == (1, ["no new item has a word, so each is like no other."])
            assert client.post("/v1/score", json={"user": "u00001", "candidates": ["bare"]}).status_code == 200
    finally:
        endpoint.stop()
