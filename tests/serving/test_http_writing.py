"""Events, items and users over HTTP: what is acknowledged is kept, what is not used is said, what is forgotten is gone."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from fastapi.testclient import TestClient
from http_world import NOW, conventional, event, opened, serving

from lifelora.data.extend import Event
from lifelora.serving.app.service import THEN
from lifelora.serving.following import follower
from lifelora.serving.following.fitting import SECONDS_BEGIN, Why, fitting
from lifelora.serving.store import Form, Kept, NewEvent, Store

LATE, NO_ITEM = (why + THEN[why] for why in (Why.LATE, Why.NO_ITEM))


def sent(client: TestClient, *events: dict[str, Any], method: str = "POST") -> dict[str, Any]:
    came = client.request(method, "/v1/events", json={"events": list(events)})
    assert came.status_code == 200, came.text
    answer: dict[str, Any] = came.json()
    return answer


def did(client: TestClient, user: str) -> list[tuple[str, int, bool]]:
    """What a user did after the run: items, seconds after NOW, and whether the models know it."""
    events = client.get(f"/v1/users/{user}").json()["events"]
    return [(one["item"], one["time"] - NOW, one["used"]) for one in events if one["time"] >= NOW - 1000]


def test_events_are_kept_and_known_and_sent_again_they_are_one(plain: Path, url: str):
    with serving(plain, url) as client:
        before = len(client.get("/v1/users/u00001").json()["events"])
        bulk = [event("u00001", "b00001", id="one"), event("u00001", "b00002", 5), event("u00001", "b00003", 2)]
        first = sent(client, *bulk)
        assert [(one["new"], one["used"], one["why"]) for one in first["events"]] == [(True, True, "")] * 3
        again = sent(client, *bulk)
        assert [one["seq"] for one in again["events"]] == [one["seq"] for one in first["events"]]
        assert (again["new"], again["used"]) == (0, 3)
        assert did(client, "u00001") == [("b00001", 0, True), ("b00003", 2, True), ("b00002", 5, True)]
        events = client.get("/v1/users/u00001").json()["events"]
        assert len(events) == before + 3
        assert events[-1]["title"]
        assert events[-1]["rating"] == "5 stars"
    with serving(plain, url) as client:  # another process would know the same
        assert did(client, "u00001") == [("b00001", 0, True), ("b00003", 2, True), ("b00002", 5, True)]


def test_events_that_come_late_are_used_in_their_place(plain: Path, url: str, monkeypatch: pytest.MonkeyPatch):
    with serving(plain, url) as client:
        sent(client, event("u00002", "b00001", 100), event("new", "b00001", 100))
        late = sent(client, event("u00002", "b00002", 50), event("new", "b00004", 90), event("u00002", "b00003", 150))
        assert [(one["new"], one["used"], one["why"]) for one in late["events"]] == [(True, True, "")] * 3
        told = [("b00002", 50, True), ("b00001", 100, True), ("b00003", 150, True)]
        assert did(client, "u00002") == told
        assert did(client, "new") == [("b00004", 90, True), ("b00001", 100, True)]
        assert sent(client, event("u00002", "b00002", 50))["new"] == 0
        assert client.app.state.service.live.engine.state()["events"] == 5  # type: ignore[attr-defined]
    for at_once in (1, 3):  # the late event and the others of its user are read together, and far from one another
        monkeypatch.setattr(follower, "AT_ONCE", at_once)
        with serving(plain, url) as client:
            assert did(client, "u00002") == told
            assert did(client, "new") == [("b00004", 90, True), ("b00001", 100, True)]


def test_scores_after_late_events_are_those_of_a_run_that_was_told_in_order(shop: Path, tmp_path: Path):
    """Whatever is warm; the reference is a run that is opened for itself."""
    items = {f"u0000{user}": [f"b000{n:02}" for n in range(10 * user, 10 * user + 6)] for user in (1, 2, 3)}
    wanted = [(user, item, 10.0 * place) for user, some in items.items() for place, item in enumerate(some)]
    order = [5, 2, 0, 1, 4, 3, 11, 10, 9, 12, 17, 7, 6, 8, 13, 14, 16, 15]
    asks = [(user, system) for user in items for system in ("din", "personal")]

    def scores(client: TestClient, user: str, system: str) -> list[float]:
        body = {"user": user, "candidates": ["b00050", "b00060"], "system": system, "reasons": False}
        return [one["score"] for one in client.post("/v1/score", json=body).json()["items"]]

    with serving(shop, tmp_path / "events.db") as client:
        before = [scores(client, *ask) for ask in asks]
        for start, end in ((0, 4), (4, 5), (5, 10), (10, 18)):
            bulk = [event(user, item, after) for user, item, after in (wanted[place] for place in order[start:end])]
            assert sent(client, *bulk)["used"] == end - start
            live = [scores(client, *ask) for ask in asks]
    run = opened(shop)
    run.context.extend([Event(user, item, 5.0, NOW + after) for user, item, after in wanted])
    candidates = run.context.dataset.items.inside(["b00050", "b00060"]).astype(np.int64)
    for (user, system), old, came in zip(asks, before, live, strict=True):
        number = int(run.context.dataset.users.inside([user])[0])
        expected = run.scorers[system].score(run.task.now(number, candidates)).ravel()
        np.testing.assert_allclose(came, expected, rtol=0, atol=5e-7)
        assert np.abs(np.subtract(came, old)).max() > 5e-6


def test_what_is_before_the_end_of_the_runs_own_data_is_kept_and_said(plain: Path, url: str):
    with serving(plain, url) as client:
        ancient = sent(client, {"user": "u00002", "item": "b00009", "rating": 3, "time": 5}, event("u00002", "b00001"))
        assert [(one["new"], one["used"], one["why"]) for one in ancient["events"]] == [(True, False, LATE), (True, True, "")]
        assert client.get("/v1/users/u00002").json()["events"][0] | {"why": ""} == {
            "item": "b00009", "title": None, "rating": "3", "time": 5, "used": False, "why": "",
        }  # fmt: skip


def test_of_a_key_the_first_stays_and_put_is_refused(plain: Path, url: str):
    with serving(plain, url) as client:
        first = sent(client, event("u00003", "b00001", id="k"))["events"][0]
        other = sent(client, event("u00003", "b00002", 9, id="k"), event("u00003", "b00004", 10, id="l"))
        assert [(one["seq"], one["new"], one["used"]) for one in other["events"]] == [
            (None, False, False),
            (first["seq"] + 1, True, True),
        ]
        assert sent(client, event("u00003", "b00001", id="k"), method="PUT")["events"][0]["seq"] == first["seq"]
        both = {"events": [event("u00003", "b00005", 11, id="m"), event("u00003", "b00002", 9, id="k")]}
        refused = client.put("/v1/events", json=both)
        assert refused.status_code == 409
        assert [one["field"] for one in refused.json()["errors"]] == ["events[1].id"]
        assert did(client, "u00003") == [("b00001", 0, True), ("b00004", 10, True)]  # nothing of the bulk was kept
        refused = client.put("/v1/events", json={"events": [event("u00003", "b00001")]})
        assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "events[0].id")


def test_two_lines_of_an_order_are_both_shown(plain: Path, url: str):
    """Of one item in one second, under two keys: both are kept, and the models' log has the one."""
    with serving(plain, url) as client:
        sent(client, *(event("u00003", "b00001", id=key) for key in ("line-1", "line-2")))
        assert did(client, "u00003") == [("b00001", 0, True)] * 2


def test_of_two_ratings_in_one_second_the_first_is_used_and_that_is_said(plain: Path, url: str):
    """In one bulk and across bulks, when both are told anew, and of an event that the run's own data have."""
    with serving(plain, url) as client:
        sent(client, event("u00003", "b00009", 50))
        seen, bought, later = (event("u00003", "b00001", rating=rating, id=f"{rating}") for rating in (1, 5, 3))
        came = [
            *sent(client, seen, bought)["events"],
            *sent(client, later)["events"],
            *sent(client, event("u00003", "b00004", 9))["events"],
        ]
        assert [(one["new"], one["used"]) for one in came] == [(True, True), (True, False), (True, False), (True, True)]
        assert [one["why"] for one in came] == ["", Why.SECOND, Why.SECOND, ""]
        told = [("b00001", 0, True), ("b00001", 0, False), ("b00001", 0, False), ("b00004", 9, True), ("b00009", 50, True)]
        assert did(client, "u00003") == told
        own = client.get("/v1/users/u00004").json()["events"][0]
        other = 1 + int(own["rating"][0]) % 5
        again = sent(client, {"user": "u00004", "item": own["item"], "time": own["time"], "rating": other})
        assert again["events"][0]["why"] == Why.SECOND
    with serving(plain, url) as client:
        assert did(client, "u00003") == told


def test_what_is_wrong_in_a_bulk_is_named_and_nothing_of_it_kept(plain: Path, url: str):
    with serving(plain, url) as client:
        bulk = [event("u00004", "b00001"), event("u00004", "b00002", rating=4.5), event("u00004", "b00003", time=NOW * 1000)]
        refused = client.post("/v1/events", json={"events": bulk})
        assert refused.status_code == 422
        told = {one["field"]: one["what"] for one in refused.json()["errors"]}
        assert told["events[1].rating"] == "this data set has no such rating; its ratings are 1, 2, 3, 4, 5"
        assert told["events[2].time"] == "this looks like milliseconds since 1970; a time is in seconds"
        assert did(client, "u00004") == []
        refused = client.post("/v1/events", json={"events": [{"user": " ", "item": 7, "when": 1}]})
        assert {one["field"] for one in refused.json()["errors"]} == {"events[0].user", "events[0].item", "events[0].when"}


def test_an_item_is_told_of_once_and_is_known_after_a_start(plain: Path, url: str):
    item = {"item": "new", "title": "The Quiet Harbour", "description": "A novel."}
    with serving(plain, url) as client:
        early = sent(client, event("u00005", "new"))["events"][0]
        assert (early["new"], early["used"], early["why"]) == (True, False, NO_ITEM)
        bad = client.post("/v1/items", json={"items": [item | {"colour": "red"}, {"title": "no id"}]})
        assert {one["field"] for one in bad.json()["errors"]} == {"items[1].item"}
        bad = client.post("/v1/items", json={"items": [{"item": "b00001"}, item | {"colour": "red"}]})
        assert (bad.status_code, bad.json()["errors"][0]["field"]) == (422, "items[1].colour")
        came = client.post("/v1/items", json={"items": [item, {"item": "b00001", "title": "Another"}]}).json()
        assert came["items"] == [{"item": "new", "new": True}, {"item": "b00001", "new": False}]
        again = client.post("/v1/items", json={"items": [item | {"title": "Otherwise"}]}).json()
        assert again["items"] == [{"item": "new", "new": False}]
        assert did(client, "u00005") == [("new", 0, True)]  # the early one counts from now on
        assert sent(client, event("u00005", "new", 7))["used"] == 1
        scored = client.post("/v1/score", json={"user": "u00005", "candidates": ["new"], "system": "din"}).json()
        assert (scored["items"][0]["title"], scored["items"][0]["score"]) == ("The Quiet Harbour", None)
    with serving(plain, url) as client:
        assert did(client, "u00005") == [("new", 0, True), ("new", 7, True)]
        assert client.get("/v1/users/u00005").json()["events"][-1]["title"] == "The Quiet Harbour"


def test_a_forgotten_user_is_gone_and_no_import_brings_them_back(plain: Path, url: str):
    with serving(plain, url) as client:
        sent(client, event("u00006", "b00001"), event("u00007", "b00001"))
        assert client.delete("/v1/users/u00006").status_code == 204
        assert client.get("/v1/users/u00006").status_code == 404
        assert client.get("/v1/recommend/u00006").json()["why"] == "the user is unknown"
        assert did(client, "u00007") == [("b00001", 0, True)]
        assert client.delete("/v1/users/u00006").status_code == 204
        assert client.delete("/v1/users/never-seen").status_code == 204
    data = opened(plain).stages.data.require()
    with Store.open(url, Form.of(data)) as store:
        assert store.import_data(data).forgotten == 1
    with serving(plain, url) as client:  # the run's own data has them still
        assert client.get("/v1/users/u00006").status_code == 404
        assert did(client, "u00007") == [("b00001", 0, True)]
        assert sent(client, event("u00006", "b00002", 20))["used"] == 1  # a new history
        assert [one["item"] for one in client.get("/v1/users/u00006").json()["events"]] == ["b00002"]
    with serving(plain, url) as client:
        assert [one["item"] for one in client.get("/v1/users/u00006").json()["events"]] == ["b00002"]


def test_what_another_process_writes_is_followed(plain: Path, url: str):
    """Events, and a user whom it forgot and who came again."""
    data = opened(plain).stages.data.require()
    with serving(plain, url) as client, Store.open(url, Form.of(data)) as store:
        store.append([NewEvent("u00008", "b00001", 5.0, NOW)])
        sent(client, event("u00009", "b00001"))
        assert did(client, "u00008") == [("b00001", 0, True)]
        store.forget("u00008")
        store.append([NewEvent("u00008", "b00002", 5.0, NOW + 1)])
        sent(client, event("u00009", "b00002", 1))
        assert [one["item"] for one in client.get("/v1/users/u00008").json()["events"]] == ["b00002"]


def test_any_id_has_an_address(plain: Path, url: str):
    """Slashes, percent signs, what else means something in an address, other scripts, and as long as an id may be."""
    with serving(plain, url) as client:
        for user in ("a/b", "a%2Fb", "50% off", "ü 你好", "a?b#c", "x" * 1000, "ends/"):
            sent(client, event(user, "b00001"))
            came = client.get(f"/v1/users/{quote(user, safe='')}").json()
            assert came["user"] == user
            assert [one["item"] for one in came["events"]] == ["b00001"]
            assert client.get(f"/v1/recommend/{quote(user)}?n=1&reasons=false&system=din").json()["user"] == user
            assert client.delete(f"/v1/users/{quote(user, safe='')}").status_code == 204
            assert client.get(f"/v1/users/{quote(user, safe='')}").status_code == 404


def test_what_a_log_takes_is_what_fitting_says(plain: Path):
    """The data set takes each bulk whole; worked by hand for every rule."""
    dataset, form = opened(plain).context.dataset, Form.of(opened(plain).stages.data.require())
    user, last = "u00001", int(dataset.time_N[dataset.log.rows_of(int(dataset.users.inside(["u00001"])[0]))][-1])
    events = [
        Kept(1, user, "b00001", 5.0, last + 1, None),
        Kept(2, user, "b00001", 4.0, last + 1, "same second, another key"),
        Kept(3, user, "nothing", 5.0, last + 2, None),
        Kept(4, user, "b00002", 5.0, last - 10**6, None),
        Kept(5, "somebody new", "b00002", 2.0, 7, None),
        Kept(6, user, "b00001", 5.0, last + 1, "the first again, under a key"),
        Kept(7, "somebody new", "b00003", 4.5, 8, "kept while a run with half stars was served"),
    ]
    made = fitting(dataset, events, form)
    assert [[one.seq for one in bulk] for bulk in made.bulks] == [[1, 5]]
    assert made.there == 1
    assert made.left_out == {2: Why.SECOND, 3: Why.NO_ITEM, 4: Why.LATE, 7: Why.NO_RATING}
    low = fitting(dataset, events, Form(form.levels, keep_from=3.0))
    assert (low.left_out[5], [one.seq for one in low.bulks[0]]) == (Why.LOW, [1])


def test_without_times_repeated_events_go_in_several_bulks(tmp_path: Path):
    """A log takes the same event of a bulk once, and in the next bulk again; an imported one is in the run's data already."""
    shop = tmp_path / "shop"
    shop.mkdir()
    rows = "\n".join(f"c{c},A-{(c * 5 + e) % 40},{(c * e) % 5 + 1}" for c in range(20) for e in range(20))
    (shop / "log.csv").write_text(f"user,item,rating\n{rows}\n")
    columns = {"user": "user", "item": "item", "rating": "rating"}
    source = {"kind": "tables", "interactions": str(shop / "log.csv"), "columns": columns}
    folder = conventional(
        tmp_path / "run",
        data={"source": source, "rules": {"min_history": 3, "label_above": 3, "split": {"kind": "leave-one-out"}}},
    )
    a, b = ("c1", "A-1", 5.0), ("c1", "A-2", 5.0)
    events = [Kept(n, *what, SECONDS_BEGIN + n, None) for n, what in enumerate([a, b, a, b, b], start=1)]
    imported = Kept(9, "c2", "A-3", 1.0, 17, None)
    run = opened(folder)
    made = fitting(run.context.dataset, [*events, imported], Form.of(run.stages.data.require()))
    assert [[one.seq for one in bulk] for bulk in made.bulks] == [[1, 2], [3, 4], [5]]
    with serving(folder, tmp_path / "events.db") as client:
        bulk = [{"user": user, "item": item, "rating": rating} for user, item, rating in (a, b, a, b, b)]
        assert sent(client, *bulk)["used"] == 5
        told = client.get("/v1/users/c1").json()["events"]
        assert [one["item"] for one in told[-5:]] == ["A-1", "A-2", "A-1", "A-2", "A-2"]
        assert told[-1]["time"] is None


def test_who_has_only_events_that_are_not_used_is_told_so(plain: Path, tmp_path: Path):
    """The store has such a user, and the models have not."""
    with serving(plain, tmp_path / "events.db") as client:
        assert sent(client, event("ghost", "no such item"))["used"] == 0
        assert [one["used"] for one in client.get("/v1/users/ghost").json()["events"]] == [False]
        refused = client.get("/v1/recommend/ghost?cold=refuse")
        assert (refused.status_code, refused.json()["type"]) == (404, "urn:lifelora:problem:no-such-user")
        assert (
            refused.json()["detail"]
            == "the models know no such user: there is no event that they use, or the user was forgotten."
        )
