"""What is kept, and what the models could not be told of yet: it is not said to be used, and they are told of it later."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_world import NOW, event, opened, serving

from lifelora.errors import BusyError, StoreError
from lifelora.serving.following import Follower
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
