"""An endpoint on this machine that answers as told: success, retries, refusals, a key that nobody sees, going on later."""

import contextlib
import html
import json
import socket
import threading
import time
import urllib.parse
from email.utils import formatdate

import pytest
from pydantic import ValidationError

from endpoint_world import usual
from lifelora.endpoint import caller
from lifelora.endpoint.caller import EndpointError
from lifelora.endpoint.request import Deadline, anyhow_written
from lifelora.errors import ConfigError
from lifelora.knowledge.write import FILE, EndpointWriter
from lifelora.vectors.base import Tools


def write(prompts, config, folder):
    return config.write(prompts, Tools(folder=folder))


KEY = "sk-very/secret-0123456789"


def test_it_is_asked_as_the_protocol_says(server, tmp_path):
    config = EndpointWriter(url=server.url + "/", model="m", max_tokens=7)
    assert write(["a", "", "b", "a"], config, tmp_path) == ["You said a.", "", "You said b.", "You said a."]
    assert len(server.requests) == 2  # nothing for the empty one, and 'a' once
    path, body, headers = min(server.requests, key=lambda request: request[1]["messages"][0]["content"])
    assert path == "/v1/chat/completions"
    assert body == {"model": "m", "messages": [{"role": "user", "content": "a"}], "temperature": 0, "max_tokens": 7}
    assert "Authorization" not in headers
    assert write(["b", "c"], config, tmp_path) == ["You said b.", "You said c."]
    assert len(server.requests) == 3


def test_429_and_5xx_are_tried_again(server, tmp_path, waits):
    in_a_while = formatdate(time.time() + 20, usegmt=True)
    server.planned = [
        (429, {"Retry-After": "3"}, b"slow down"),
        (503, {}, b""),
        (500, {"Retry-After": "soon"}, b""),
        (529, {"Retry-After": "86400"}, b""),
        (429, {"Retry-After": in_a_while}, b""),
    ]
    assert write(["a"], EndpointWriter(url=server.url, model="m"), tmp_path) == ["You said a."]
    assert waits[:4] == [3, 2, 4, 60]  # as asked, 2^1, 2^2, and never longer than a minute
    assert 15 < waits[4] <= 20


def test_after_the_last_retry_it_says_so_and_keeps_what_was_done(server, tmp_path, waits):
    config = EndpointWriter(url=server.url, model="m", retries=2, together=1)
    first = usual("/chat/completions", {"messages": [{"content": "a"}]})
    server.planned = [(200, {}, first), *[(502, {}, b"bad\n gateway")] * 3]
    with pytest.raises(EndpointError, match=r"failed 3 times, the last time with: status 502 \(bad gateway\)\. What was"):
        write(["a", "b", "c"], config, tmp_path)
    assert waits == [1, 2]
    assert len((tmp_path / FILE).read_text().splitlines()) == 1
    before = len(server.requests)
    assert write(["a", "b", "c"], config, tmp_path) == ["You said a.", "You said b.", "You said c."]
    assert len(server.requests) == before + 2


def test_nobody_there_and_nobody_answers(tmp_path, server, waits):
    with pytest.raises(EndpointError, match=r"failed 2 times, the last time with: .*(refused|111)"):
        write(["a"], EndpointWriter(url="http://127.0.0.1:9/v1", model="m", retries=1), tmp_path)
    server.slow = 0.5
    with pytest.raises(EndpointError, match="timed out"):
        write(["a"], EndpointWriter(url=server.url, model="m", retries=0, timeout=0.1), tmp_path)
    server.slow = 0.0
    server.planned = [(200, {"Content-Length": "5000"}, b'{"choices"')]
    with pytest.raises(EndpointError, match=r"ended 4,990 bytes before the end|timed out"):
        write(["a"], EndpointWriter(url=server.url, model="m", retries=0, timeout=2), tmp_path)


@pytest.mark.parametrize(("answer", "kind", "message"), [
    ((401, {}, {"error": "no"}), ConfigError, r"refused model 'm' with status 401 .*check the key in the variable"),
    ((404, {}, b""), ConfigError, "status 404: check url"),
    ((302, {"Location": "http://127.0.0.1:9/"}, b""), ConfigError, "status 302: give the endpoint's final address"),
    ((200, {}, b"<html>"), EndpointError, "answered no JSON: <html>; check url"),
    ((200, {}, b"[" * 100_000), EndpointError, "answered no JSON"),
    ((200, {}, {"choices": []}), EndpointError, r'did not answer as .*\{"choices": \[\]\}'),
    ((200, {}, {"choices": [{"message": {"content": 5}}]}), EndpointError, "did not answer as an OpenAI-compatible"),
    ((200, {}, b" " * 3000), EndpointError, "answered over 2,000 bytes"),
])  # fmt: skip
def test_other_answers_are_errors_at_once(server, tmp_path, waits, monkeypatch, answer, kind, message):
    if "2,000" in message:
        monkeypatch.setattr(caller, "LARGEST", 2000)
    server.planned = [answer]
    with pytest.raises(kind, match=message):
        write(["a"], EndpointWriter(url=server.url, model="m"), tmp_path)
    assert waits == []
    assert len(server.requests) == 1


def test_the_key_is_sent_and_seen_nowhere(server, tmp_path, waits, monkeypatch, capfd):
    monkeypatch.setenv("MY_KEY", f" {KEY}\n")
    config = EndpointWriter(url=server.url, model="m", key_variable="MY_KEY", retries=1)
    echo = {"choices": [{"message": {"content": f"your key is {KEY}"}}]}
    server.planned = [(200, {}, echo)]
    assert write(["a"], config, tmp_path) == ["your key is ***"]
    assert server.requests[0][2]["Authorization"] == f"Bearer {KEY}"
    said = []
    escaped = json.dumps({"error": KEY}).replace("/", "\\/").encode()
    for answer in (
        (401, {}, {"error": f"{'x' * 280} wrong key {KEY}"}),
        (400, {}, escaped),
        (200, {}, KEY.encode()),
        (200, {}, {"choices": KEY}),
        (500, {}, KEY.encode()),
    ):
        server.planned = [answer] * 2
        with pytest.raises((ConfigError, EndpointError)) as caught:
            write(["b"], config, tmp_path)
        server.planned = []
        error = caught.value
        while error is not None:
            said += [str(error), repr(error)]
            error = error.__cause__
    out, err = capfd.readouterr()
    files = "".join(path.read_text() for path in tmp_path.rglob("*") if path.is_file())
    assert "sk-very" not in "".join([*said, out, err, files, repr(config), config.model_dump_json()])


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "MY_KEY, which key_variable names, is not set"),
        (" ", "is not set"),
        ("sk-a b", "holds a space"),
        ("sk-\nx", "a sign"),
        ("schlüssel", "a sign"),
    ],
)
def test_a_key_that_cannot_be_one(server, tmp_path, monkeypatch, value, message):
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    with pytest.raises(ConfigError, match=message) as caught:
        write(["a"], EndpointWriter(url=server.url, model="m", key_variable="MY_KEY"), tmp_path)
    assert "sk-" not in str(caught.value)
    assert server.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://host/v1",
        "localhost:8000",
        "http://",
        "http://me:word@host/v1",
        "http://host/v1?key=1",
        "http://host/v1#x",
        "http://host /v1",
    ],
)
def test_addresses_that_are_refused(url):
    with pytest.raises(ValidationError, match="url must"):
        EndpointWriter(url=url, model="m")


def test_there_is_no_default_address():
    with pytest.raises(ValidationError, match="url"):
        EndpointWriter(model="m")


def drip(first: bytes, seconds: float = 30.0, every: float = 0.05):
    """A server that sends ``first`` and then a byte now and then, for one connection after another."""
    listening = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve():
        while not stop.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.recv(1 << 16)
                connection.sendall(first)
                end = time.monotonic() + seconds
                while time.monotonic() < end and not stop.wait(every):
                    connection.sendall(b"x")

    thread = threading.Thread(target=serve)
    thread.start()

    def close():
        stop.set()
        listening.shutdown(socket.SHUT_RDWR)
        listening.close()
        thread.join()

    return f"http://127.0.0.1:{listening.getsockname()[1]}/v1", close


@pytest.mark.parametrize(("first", "kind", "message"), [
    (b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n{", EndpointError, "timed out: there was no whole answer after 0.4 s"),
    (b"HTTP/1.1 200 OK\r\n\r\n{", EndpointError, "timed out"),  # nothing says how long it is: cut, it looks whole
    (b"HTTP/1.1 200 OK\r\nX-Long: ", EndpointError, "timed out"),
    (b"HTT", EndpointError, "timed out"),
    (b"HTTP/1.1 503 Busy\r\nContent-Length: 1000000\r\n\r\n", EndpointError, "status 503"),
    (b"HTTP/1.1 401 No\r\nContent-Length: 1000000\r\n\r\n", ConfigError, "refused model 'm' with status 401"),
])  # fmt: skip
def test_one_deadline_holds_for_all_of_a_request(tmp_path, monkeypatch, first, kind, message):
    """Every byte comes long before a timeout of the socket, which begins anew with each: without a deadline this takes 30 s."""
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    url, close = drip(first)
    cut = []
    monkeypatch.setattr(Deadline, "_cut", lambda self, cut_=Deadline._cut: (cut.append(self), cut_(self)))
    try:
        with pytest.raises(kind, match=message):
            write(["a"], EndpointWriter(url=url, model="m", retries=0, timeout=0.4), tmp_path)
    finally:
        close()
    assert len(cut) == 1


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("1e999", None),
        ("nan", None),
        ("-5", 0.0),
        ("", None),
        ("9" * 400, None),
        ("Fri, 31 Dec 99999 23:59:59 GMT", None),
        ("Fri, 31 Dec 9999 23:59:59 -2359", None),
        ("Fri, 99999999999999999999 Dec 2024 23:59:59 GMT", None),
        ("1 2 3 4 5 6", None),
        ("Mon, 01 Jan 0001 00:00:00 +2359", None),
        ("120", 120.0),
    ],
)
def test_whatever_retry_after_says(asked, seconds):
    found = caller._seconds(asked)
    assert found == seconds if seconds is not None else found is None or found >= 0


SECRET = 'sk-A/b+c=d\\e"f~0123'


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        json.dumps(SECRET),
        json.dumps(json.dumps({"key": SECRET})),
        json.dumps({"e": SECRET}).replace("/", "\\/"),
        "".join(f"\\u{ord(sign):04x}" for sign in SECRET),
        "".join(f"\\u{ord(sign):04X}" for sign in SECRET),
        json.dumps("".join(f"\\u{ord(sign):04x}" for sign in SECRET)),
        SECRET.replace("-", "\\u002d"),
        urllib.parse.quote(SECRET, safe=""),
        html.escape(SECRET).replace("&quot;", "&#34;"),
        "".join(f"&#{ord(s)};" for s in SECRET),
        "".join(f"&#x{ord(s):x};" for s in SECRET),
    ],
)
def test_a_key_is_found_however_it_is_written(written):
    found = anyhow_written(SECRET)
    assert found.sub("***", f"before {written} after").replace('"', "") in (
        "before *** after",
        "before {e: ***} after",
        "before {\\key\\: \\***\\} after",
        "before \\***\\ after",
    )


def test_a_piece_of_a_key_is_none():
    assert anyhow_written(SECRET).search(SECRET[:-1] + " " + SECRET[1:]) is None


def test_a_text_of_backslashes_is_searched_in_linear_time():
    """Every backslash may begin an escape: looked at without a bound, 200,000 of them take 2e10 steps."""
    assert anyhow_written(SECRET).search("\\" * 200_000) is None


def test_a_key_that_comes_back_escaped_is_masked(server, tmp_path, waits, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    config = EndpointWriter(url=server.url, model="m", key_variable="MY_KEY", retries=0)
    for body in (KEY.replace("-", "\\u002d"), json.dumps({"error": json.dumps({"key": KEY})}).replace("/", "\\u002f")):
        server.planned = [(401, {}, body.encode())]
        with pytest.raises(ConfigError) as caught:
            write(["a"], config, tmp_path)
        assert "secret" not in str(caught.value)
        assert "***" in str(caught.value)
