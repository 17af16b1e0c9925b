"""Clients as they are: slow, gone before the answer, many at once with events of one user."""

import json
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from http_world import NOW, at_a_port, event, opened

from lifelora.data.extend import Event
from lifelora.serving.app.limits import Limits
from lifelora.serving.app.service import Service

Place = tuple[str, Service, Any]


@pytest.fixture(scope="module")
def place(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with at_a_port(plain, tmp_path_factory.mktemp("store") / "events.db") as made:
        yield made


def call(address: str, body: Any = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(address, data, {"Content-Type": "application/json"}), timeout=60) as came:
        return json.loads(came.read())


def connected(address: str, start: str, body: bytes = b"") -> socket.socket:
    """A client that has sent so much and waits."""
    client = socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=60)
    client.sendall(f"{start} HTTP/1.1\r\nHost: localhost\r\n".encode() + body)
    return client


def asking(address: str, path: str, body: Any) -> socket.socket:
    sent = json.dumps(body).encode()
    return connected(address, f"POST {path}", b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(sent) + sent)


def test_a_body_that_does_not_come_gives_its_place_up(plain: Path, tmp_path: Path):
    with at_a_port(plain, tmp_path / "events.db", limits=Limits(deadline=0.2, concurrent=1)) as (address, _, app):
        for start in (b"Content-Length: 50\r\n\r\n{", b"Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"):
            with connected(address, "POST /v1/events", b"Content-Type: application/json\r\n" + start) as slow:
                came = slow.makefile("rb").read().decode()  # until the service ends the connection
            assert came.startswith("HTTP/1.1 408 ")
            assert "connection: close" in came.lower()
            assert '"type": "urn:lifelora:problem:slow"' in came
            assert app.state.doors._inside == 0


def test_what_clients_asked_who_went_away_is_not_computed(place: Place):
    address, service, app = place
    engine, doors, go_on = service.live.engine, app.state.doors, threading.Event()
    before = engine.state()
    held = engine._worker.do(go_on.wait)  # until then nothing has its turn
    score = {"user": "u00001", "candidates": ["b00001"]}
    clients = [asking(address, "/v1/score", score) for _ in range(3)]
    clients += [connected(address, "GET /v1/recommend/u00001", b"\r\n") for _ in range(2)]
    clients += [asking(address, "/v1/recommend", {"history": [{"item": "b00001"}]})]
    while engine.state()["waiting"] < 6 or doors._inside < 6:
        time.sleep(0.01)
    for client in clients:
        client.close()
    while doors._inside:
        time.sleep(0.01)
    call(f"{address}/health/live")  # so what their end set off is done
    go_on.set()
    held.result()
    assert call(f"{address}/v1/score", score)["items"]
    while (after := engine.state())["waiting"]:  # it is off the list a moment after its answer
        time.sleep(0.01)
    assert (after["cancelled"] - before["cancelled"], after["answered"] - before["answered"]) == (6, 1)
    assert doors._inside == 0


def test_many_clients_write_of_one_user_and_ask(place: Place, plain: Path):
    """Each sends its events in an order of its own; the reference is a run that is opened for itself and told all in order."""
    address, failed, candidates = place[0], list[BaseException](), ["b00070", "b00071", "b00072"]
    wanted = [(f"b{1 + place:05}", float(place)) for place in range(48)]

    def work(client: int) -> None:
        try:
            for number in np.random.default_rng(client).permutation(6).tolist():
                item, after = wanted[8 * number + client]
                assert call(f"{address}/v1/events", {"events": [event("u00004", item, after)]})["used"] == 1
                shown = [one["item"] for one in call(f"{address}/v1/users/u00004")["events"] if one["used"]]
                assert item in shown
                assert call(f"{address}/v1/score", {"user": "u00004", "candidates": candidates, "system": "din"})["items"]
        except BaseException as error:  # noqa: BLE001 - the test fails with it
            failed.append(error)

    clients = [threading.Thread(target=work, args=(client,)) for client in range(8)]
    for client in clients:
        client.start()
    for client in clients:
        client.join()
    assert not failed
    told = [one for one in call(f"{address}/v1/users/u00004")["events"] if one["time"] >= NOW]
    assert [(one["item"], one["time"] - NOW, one["used"]) for one in told] == [(*one, True) for one in wanted]
    came = call(f"{address}/v1/score", {"user": "u00004", "candidates": candidates, "system": "din"})["items"]
    run = opened(plain)
    run.context.extend([Event("u00004", item, 5.0, NOW + after) for item, after in wanted])
    number = int(run.context.dataset.users.inside(["u00004"])[0])
    asked = run.task.now(number, run.context.dataset.items.inside(candidates).astype(np.int64))
    np.testing.assert_allclose([one["score"] for one in came], run.scorers["din"].score(asked).ravel(), rtol=1e-5, atol=1e-6)
