"""The doors: keys and roles, limits, strict JSON, one form of refusals, traces, numbers and a log without anything of a user."""

import asyncio
import hashlib
import json
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from http_world import ADMIN, READ, WRITE, event, keys, serving

from lifelora.errors import ConfigError
from lifelora.serving.app.keys import Key, Keys, allows, may_bind, opened
from lifelora.serving.app.limits import Limits, Rate
from lifelora.serving.app.logs import Json
from lifelora.serving.app.problems import Refusal
from lifelora.serving.app.strict import read
from lifelora.serving.app.trace import Trace

SCORE = {"user": "u00001", "candidates": ["b00001"]}


@pytest.fixture(scope="module")
def client(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    with serving(plain, tmp_path_factory.mktemp("store") / "events.db") as client:
        yield client


@pytest.fixture(scope="module")
def locked(plain: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    limits = Limits(body=2000, candidates=3, events=2)
    with serving(plain, tmp_path_factory.mktemp("store") / "events.db", keys(), limits) as client:
        yield client


def problem(came: Any, status: int, kind: str) -> dict[str, Any]:
    """RFC 9457's members, and ours."""
    assert came.status_code == status, came.text
    assert came.headers["content-type"] == "application/problem+json"
    told: dict[str, Any] = came.json()
    assert (told["type"], told["status"]) == (f"urn:lifelora:problem:{kind}", status)
    assert told["title"]
    assert told["detail"].endswith(".")
    assert told["trace"] == came.headers["traceparent"].split("-")[1]
    return told


def test_roles_open_what_they_may(locked: TestClient):
    bulk = {"events": [event("u00001", "b00001", id="x")]}
    calls = [
        ("POST", "/v1/score", SCORE, "read"),
        ("GET", "/v1/recommend/u00001?n=2", None, "read"),
        ("POST", "/v1/rerank", {"query": "u00001", "documents": ["b00001"]}, "read"),
        ("GET", "/v1/users/u00001", None, "read"),
        ("GET", "/metrics", None, "read"),
        ("POST", "/v1/events", bulk, "write"),
        ("PUT", "/v1/events", bulk, "write"),
        ("POST", "/v1/items", {"items": [{"item": "n"}]}, "write"),
        ("DELETE", "/v1/users/u00011", None, "admin"),
        ("POST", "/v1/admin/run", None, "admin"),
    ]
    order = ["read", "write", "admin"]
    for method, address, body, least in calls:
        for role, header in zip(order, (READ, WRITE, ADMIN), strict=True):
            came = locked.request(method, address, json=body, headers=header)
            if order.index(role) >= order.index(least):
                assert came.status_code in (200, 204), (method, address, role, came.text)
            else:
                problem(came, 403, "role")
        for wrong in ({}, {"Authorization": "Bearer no"}, {"Authorization": "Basic " + READ["Authorization"][7:]}):
            told = problem(locked.request(method, address, json=body, headers=wrong), 401, "key")
            assert "0123456789" not in json.dumps(told)
    for address in ("/health/live", "/health/ready", "/openapi.json"):
        assert locked.get(address).status_code == 200


def test_a_body_is_not_read_before_the_key(locked: TestClient):
    problem(locked.post("/v1/score", content=b"{", headers={"Content-Type": "text/plain"}), 401, "key")
    came = locked.post("/v1/score", json=SCORE, headers={"Authorization": b"Bearer \xff\xfe"})
    problem(came, 401, "key")


def test_limits_are_said(locked: TestClient):
    many = {"user": "u00001", "candidates": ["b00001"] * 4}
    told = problem(locked.post("/v1/score", json=many, headers=READ), 422, "too-many")
    assert told["errors"] == [
        {"field": "candidates", "what": "4 came; 3 may ([limits] candidates). Ask several times"},
    ]
    bulk = {"events": [event("u00001", "b00001", n) for n in range(3)]}
    problem(locked.post("/v1/events", json=bulk, headers=WRITE), 422, "too-many")
    problem(locked.get("/v1/recommend/u00001?n=4", headers=READ), 422, "too-many")
    problem(locked.post("/v1/rerank", json={"query": "u", "documents": ["x"] * 4}, headers=READ), 422, "too-many")
    large = b'{"user": "' + b"x" * 2000 + b'"}'
    kind = {"Content-Type": "application/json"}
    told = problem(locked.post("/v1/score", content=large, headers=READ | kind), 413, "too-large")
    assert "2,000" in told["detail"]
    parts = iter([large[:1500], large[1500:]])  # no length is said beforehand
    problem(locked.post("/v1/score", content=parts, headers=READ | kind), 413, "too-large")


def test_too_many_at_a_time_are_told_to_come_again(plain: Path, tmp_path: Path):
    with serving(plain, tmp_path / "events.db", limits=Limits(concurrent=1)) as client:
        inside, go_on = threading.Event(), threading.Event()
        service = client.app.state.service  # type: ignore[attr-defined]
        service.forget = lambda user: (inside.set(), go_on.wait(60))
        first = threading.Thread(target=lambda: client.delete("/v1/users/u"))
        first.start()
        assert inside.wait(60)
        came = client.post("/v1/score", json=SCORE)
        assert client.get("/health/ready").status_code == 200
        go_on.set()
        first.join()
        assert came.headers["retry-after"] == "1"
        problem(came, 503, "full")
        assert client.post("/v1/score", json=SCORE).status_code == 200


def test_each_key_has_its_rate(plain: Path, tmp_path: Path):
    named = {"slow": Key(role="read", key="s" * 16, rate=0.001), "free": Key(role="read", key="f" * 16)}
    with serving(plain, tmp_path / "events.db", Keys(named)) as client:
        slow, free = ({"Authorization": f"Bearer {sign * 16}"} for sign in "sf")
        assert client.post("/v1/score", json=SCORE, headers=slow).status_code == 200
        came = client.post("/v1/score", json=SCORE, headers=slow)
        problem(came, 429, "rate")
        assert 900 < int(came.headers["retry-after"]) <= 1000
        assert {client.post("/v1/score", json=SCORE, headers=free).status_code for _ in range(5)} == {200}


def test_a_rate_is_so_many_a_second_and_as_many_at_once():
    now = [0.0]
    rate = Rate(2.0, lambda: now[0])
    assert [rate.wait() for _ in range(3)] == [0.0, 0.0, 0.5]
    now[0] = 0.25
    assert rate.wait() == 0.25
    now[0] = 0.5
    assert [rate.wait(), rate.wait()] == [0.0, 0.5]
    now[0] = 1000.0
    assert [rate.wait() for _ in range(3)] == [0.0, 0.0, 0.5]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting"),
        (b'{"user": "\xff"}', "byte 10 is not UTF-8"),
        ('{"user": "u"}'.encode("utf-16"), "not UTF-8"),
        (b'{"user": NaN}', "NaN is no number"),
        (b'{"user": -Infinity}', "-Infinity is no number"),
        (b'{"user": 1e400}', "1e400 is too large"),
        (b'{"user": ' + b"9" * 5000 + b"}", "has 5,000"),
        (b'{"user": "u", "user": "v"}', "'user' stands in one object twice"),
        (b'{"user": "\\ud800"}', "half of a surrogate pair"),
        (b'{"\\udfff": 1}', "half of a surrogate pair"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
    ],
)
def test_json_is_read_strictly(body: bytes, says: str):
    with pytest.raises(Refusal) as refused:
        read(body)
    assert refused.value.status_code == 400
    assert says in refused.value.detail


def test_json_that_is_good_is_read_as_python_reads_it():
    text = '\ufeff{"a": [1, -2.5e3, "\\ud83d\\ude00 ü", null, true], "b": 18446744073709551615}'
    assert read(text.encode()) == json.loads(text[1:])


def test_what_is_no_json_is_told_so(client: TestClient):
    problem(client.post("/v1/score", content=b"{}", headers={"Content-Type": "application/xml"}), 415, "not-json")
    problem(client.post("/v1/score", data={"user": "u"}), 415, "not-json")
    problem(client.post("/v1/score", content=b"{}"), 415, "not-json")
    good = json.dumps(SCORE).encode()
    for coding in ("gzip", "br, identity"):
        packed = client.post("/v1/score", content=good, headers={"Content-Type": "application/json", "Content-Encoding": coding})
        problem(packed, 415, "packed")
        assert packed.headers["accept-encoding"] == "identity"
    for kind in ("application/json; charset=utf-8", "application/vnd.shop+json", "Application/JSON"):
        assert client.post("/v1/score", content=good, headers={"Content-Type": kind}).status_code == 200
    problem(client.post("/v1/score", content=b"[1,", headers={"Content-Type": "application/json"}), 400, "not-json")
    told = problem(client.post("/v1/score", content=b"", headers={"Content-Type": "application/json"}), 422, "invalid")
    assert told["errors"][0]["field"] == "body"


def test_addresses_and_methods_that_are_none(client: TestClient):
    problem(client.get("/v2/score"), 404, "no-such-address")
    came = client.get("/v1/score")
    problem(came, 405, "method")
    assert came.headers["allow"] == "POST"
    assert came.headers["cache-control"] == "no-store"
    for method, address, allowed in (
        ("OPTIONS", "/v1/events", "POST, PUT"),
        ("DELETE", "/v1/events", "POST, PUT"),
        ("PATCH", "/v1/users/u00001", "GET, DELETE, HEAD"),
        ("BREW", "/health/live", "GET, HEAD"),
    ):
        refused = client.request(method, address)
        assert problem(refused, 405, "method")["detail"].endswith(f"it takes {allowed}.")
        assert refused.headers["allow"] == allowed
    assert "access-control-allow-origin" not in client.options("/v1/events", headers={"Origin": "http://127.0.0.1"}).headers
    problem(client.get("/v1/users/%ff%fe"), 400, "address")
    problem(client.get("/v1/users/"), 422, "invalid")
    problem(client.get("/v1/users/%00"), 422, "invalid")
    problem(client.get("/v1/users/" + "x" * 1001), 422, "invalid")
    told = problem(client.get("/v1/recommend/u00001?n=1e400"), 422, "invalid")
    assert told["errors"][0] | {"what": ""} == {"field": "n (query)", "what": "", "came": "'1e400'"}


def test_head_is_get_without_a_body(client: TestClient):
    for address in ("/health/ready", "/v1/users/u00001", "/v1/users/nobody", "/", "/openapi.json"):
        got, head = client.get(address), client.head(address)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-length"] == got.headers["content-length"]
    assert client.head("/v1/score").status_code == 405
    assert 'method="HEAD",route="/health/ready"' in client.get("/metrics").text


def test_a_parameter_that_is_none_is_named(client: TestClient):
    told = problem(client.get("/v1/recommend/u00001?allow_sen=true&n=1"), 422, "invalid")
    (one,) = told["errors"]
    assert one["field"] == "allow_sen (query)"
    assert "allow_seen" in one["what"]
    assert told["detail"].startswith("1 value is")
    assert "takes none" in problem(client.get("/v1/run?x=1"), 422, "invalid")["errors"][0]["what"]
    told = problem(client.get("/v1/recommend/u00001?where=nonsense"), 422, "invalid")
    assert not told["detail"].startswith("--")  # no option of a command


def test_without_keys_only_this_machine_is_answered(client: TestClient):
    """A page of another site in a browser here, by a name of its own that leads here (DNS rebinding) or from elsewhere."""
    problem(client.post("/v1/score", json=SCORE, headers={"Host": "evil.example"}), 403, "host")
    problem(client.post("/v1/score", json=SCORE, headers={"Host": "[::1"}), 403, "host")
    problem(client.delete("/v1/users/u00012", headers={"Origin": "https://evil.example"}), 403, "origin")
    for host in ("localhost:8000", "127.0.0.1", "[::1]:80"):
        assert client.post("/v1/score", json=SCORE, headers={"Host": host, "Origin": f"http://{host}"}).status_code == 200
    may_bind("127.0.0.1", Keys())
    may_bind("::1", Keys())
    may_bind("0.0.0.0", keys())
    for host in ("0.0.0.0", "::", "shop.example", "192.168.1.2"):
        with pytest.raises(ConfigError, match="--keys FILE"):
            may_bind(host, Keys())


def test_a_trace_is_passed_on_and_one_that_is_none_begins_anew(client: TestClient):
    """The examples of W3C's Trace Context, level 1."""
    parent, state = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "rojo=00f067aa0ba902b7,congo=t61rcWkgMzE"
    came = client.post("/v1/score", json=SCORE, headers={"traceparent": parent, "tracestate": state})
    version, trace, span, flags = came.headers["traceparent"].split("-")
    assert (version, trace, flags) == ("00", "4bf92f3577b34da6a3ce929d0e0e4736", "01")
    assert span != "00f067aa0ba902b7"
    assert came.headers["tracestate"] == state
    lines = [("traceparent", parent), ("tracestate", "rojo=1"), ("tracestate", "congo=2")]
    assert client.get("/health/live", headers=lines).headers["tracestate"] == "rojo=1,congo=2"
    twice = client.get("/health/live", headers=[("traceparent", parent)] * 2)
    assert trace not in twice.headers["traceparent"]
    refused = client.get("/nowhere", headers={"traceparent": parent})
    assert refused.json()["trace"] == trace
    for wrong in (
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
        "x",
    ):
        begun = Trace.of(wrong, state)
        assert begun.id not in wrong
        assert begun.state is None
    assert Trace.of("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more", None).id == trace  # a later version
    for wrong in ("a", "=x", "A=x", "a=x,a=y", "a=" + "x" * 257, ",".join(f"k{n}=v" for n in range(33)), "a=ü"):
        assert Trace.of(parent, wrong).state is None, wrong
    assert Trace.of(parent, "a=x, tenant@system=y").state == "a=x, tenant@system=y"


def test_neither_numbers_nor_the_log_tell_of_a_user(plain: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture):
    secret = "marie-curie"
    with caplog.at_level(logging.INFO, "lifelora.serving"), serving(plain, tmp_path / "events.db", keys()) as client:
        client.post("/v1/events", json={"events": [event(secret, "b00001", id="key-of-marie-curie")]}, headers=WRITE)
        client.get(f"/v1/recommend/{secret}", headers=READ)
        client.post("/v1/score", json={"user": secret, "candidates": [secret]}, headers=READ)
        client.get(f"/{secret}", headers=READ)
        client.app.state.service.history = lambda user: 1 / int(f"0{len(user)}"[:1])  # type: ignore[attr-defined]
        fault = client.get(f"/v1/users/{secret}", headers=READ)
        told = problem(fault, 500, "fault")
        numbers = client.get("/metrics", headers=READ).text
    lines = [Json().format(record) for record in caplog.records if record.name == "lifelora.serving"]
    for text in (numbers, *lines, json.dumps(told)):
        assert secret not in text
        assert "0123456789" not in text
        assert str(tmp_path) not in text
    read_back = [json.loads(line) for line in lines]
    assert all({"time", "level", "event"} <= set(line) for line in read_back)
    asked = [(line["method"], line["route"], line["status"]) for line in read_back if line["event"] == "request"]
    assert asked == [
        ("POST", "/v1/events", 200),
        ("GET", "/v1/recommend/{user:path}", 200),
        ("POST", "/v1/score", 422),
        ("GET", "none", 404),
        ("GET", "/v1/users/{user:path}", 500),
    ]
    (of_fault,) = [line for line in read_back if line["event"] == "fault"]
    assert (of_fault["error"], of_fault["trace"]) == ("ZeroDivisionError", told["trace"])
    assert 'lifelora_request_seconds_count{method="GET",route="/v1/recommend/{user:path}",status="200"} 1.0' in numbers
    assert 'lifelora_events_total{outcome="used"} 1.0' in numbers
    assert 'lifelora_answers_total{kind="recommend",stood_in="false",system="' in numbers
    assert "lifelora_engine_waiting_requests 0.0" in numbers
    assert 'lifelora_engine_work_total{what="events"} 1.0' in numbers


def test_the_document_of_the_api_is_openapi_3_1_with_examples(client: TestClient):
    document = client.get("/openapi.json").json()
    assert document["openapi"].startswith("3.1")
    for path, methods in document["paths"].items():
        for method, told in methods.items():
            assert told["summary"], (method, path)
            if path.startswith("/v1"):
                assert {"401", "403", "429", "503"} <= set(told["responses"])
    bodies = {"ScoreBody": "score", "EventsBody": "events", "ItemsBody": "items", "RerankBody": "rerank", "ToldBody": "recommend"}
    for name, address in bodies.items():
        (example,) = document["components"]["schemas"][name]["examples"]
        came = client.post(f"/v1/{address}", json=example | ({"system": "din"} if name == "ScoreBody" else {}))
        assert came.status_code == 200, came.text


def test_the_document_says_which_key_an_endpoint_needs(plain: Path, tmp_path: Path):
    """Of a service with keys: a client that is made from it knows of the header and, by the roles in it, of which key."""
    with serving(plain, tmp_path / "events.db", keys=keys()) as client:
        document = client.get("/openapi.json").json()
    (name,) = document["components"]["securitySchemes"]
    assert (
        document["components"]["securitySchemes"][name]["type"],
        document["components"]["securitySchemes"][name]["scheme"],
    ) == (
        "http",
        "bearer",
    )
    needs = {(path, method): told.get("security") for path, of in document["paths"].items() for method, told in of.items()}
    assert needs["/v1/score", "post"] == [{name: ["read"]}]
    assert needs["/v1/events", "post"] == [{name: ["write"]}]
    assert needs["/v1/admin/run", "post"] == [{name: ["admin"]}]
    assert needs["/health/live", "get"] is None


def test_a_file_of_keys_is_read_and_what_is_wrong_with_one_is_said(tmp_path: Path):
    digest = hashlib.sha256(b"a-key-of-sixteen").hexdigest()
    good = f'[keys.shop]\nrole = "write"\nsha256 = "{digest}"\nrate = 5\n\n[limits]\nbody = 1000\n'
    (tmp_path / "keys.toml").write_text(good)
    found, limits = opened(tmp_path / "keys.toml")
    assert limits == Limits(body=1000)
    name, key = found.find("Bearer a-key-of-sixteen") or ("", Key(role="read", key="x" * 16))
    assert (name, key.rate, allows(key, "write"), allows(key, "admin")) == ("shop", 5, True, False)
    assert found.find("Bearer a-key-of-sixteeN") is None
    assert found.find(None) is None
    assert digest not in repr(found)
    (tmp_path / "keys.json").write_text(json.dumps({"keys": {"shop": {"role": "read", "key": "a-key-of-sixteen"}}}))
    assert opened(tmp_path / "keys.json")[0].find("bearer a-key-of-sixteen")
    two = '[keys.a]\nrole = "read"\nkey = "a-key-of-sixteen"\n[keys.b]\nrole = "read"\nkey = "a-key-of-sixteen"\n'
    for text, says in (
        ("keys = 1", "keys"),
        ("[keys]", "has no key"),
        ("x = [", "cannot be read"),
        ('[keys.a]\nrole = "boss"\nkey = "secret-secret-secret"', "keys.a.role"),
        ('[keys.a]\nrole = "read"\nkey = "secret"', "at least 16"),
        ('[keys.a]\nrole = "read"', "sha256 or key"),
        ('[keys.a]\nrole = "read"\nsha256 = "secret"', "64 hexadecimal"),
        (two, "two names"),
        (good + "secret = 1", "limits.secret"),
    ):
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(ConfigError, match=says) as refused:
            opened(tmp_path / "bad.toml")
        assert "secret-secret" not in str(refused.value)
        assert "a-key-of" not in str(refused.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        opened(tmp_path / "none.toml")


def test_a_client_that_goes_away_is_not_computed_for(client: TestClient):
    """Its future is cancelled before its turn."""
    from concurrent.futures import Future

    from starlette.requests import Request

    from lifelora.serving.app.waiting import answered

    async def gone() -> dict[str, str]:
        return {"type": "http.disconnect"}

    never: Future[int] = Future()
    with pytest.raises(Refusal):
        asyncio.run(answered(Request({"type": "http", "headers": []}, gone), never))
    assert never.cancelled()
