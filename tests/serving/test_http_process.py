"""`lifelora serve` as a process: it says what it loads and where it is, drains, ends with 0, and loses nothing by a kill."""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from contextlib import suppress
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from http_process import process
from http_world import event, opened

from lifelora.cli import main
from lifelora.serving.app.app import create
from lifelora.serving.app.keys import Keys
from lifelora.serving.app.limits import Limits
from lifelora.serving.app.server import bound
from lifelora.serving.app.service import Service
from lifelora.serving.engine import EngineOptions


def call(address: str, body: Any = None, key: str = "") -> Any:
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    with urllib.request.urlopen(urllib.request.Request(address, data, headers), timeout=60) as came:
        return json.loads(came.read())


def text(address: str) -> str:
    with urllib.request.urlopen(address, timeout=60) as came:
        read: str = came.read().decode()
        return read


def test_it_says_what_it_loads_answers_and_drains(plain: Path, tmp_path: Path):
    with process(plain, "--store", str(tmp_path / "events.db")) as (running, address, said):
        assert re.match(r"loading .*run: popular, din \(\d+ MB\), and up to 0 events of .*; that takes about \d+ s\.", said[0])
        assert address.startswith("http://127.0.0.1:")
        assert call(f"{address}/health/ready")["state"] == "ready"
        assert call(f"{address}/v1/score", {"user": "u00001", "candidates": ["b00001"]})["items"][0]["rank"] == 1
        log = [json.loads(running.line())]
        running.send_signal(signal.SIGHUP)  # the same run, opened anew
        log.append(json.loads(running.line()))
        body = json.dumps({"user": "u00001", "candidates": ["b00001"]}).encode()
        head = "POST /v1/score HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2])), timeout=120) as half:
            half.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[:9])
            while "lifelora_working_requests 2.0" not in text(f"{address}/metrics"):  # that one, and this
                pass
            running.send_signal(signal.SIGTERM)
            while True:  # until no connection is taken any more
                try:
                    call(f"{address}/health/live")
                except OSError:
                    break
            half.sendall(body[9:])
            assert half.makefile("rb").readline() == b"HTTP/1.1 200 OK\r\n"
        out, rest = running.ended()
        assert running.returncode == 0, rest
        assert out == ""
        log += [json.loads(line) for line in rest]
        assert [line["event"] for line in log] == ["request", "run changed", "request", "stopped"]


SLOWLY = """
import sys, time
from lifelora.cli import main
from lifelora.run import Run

opens, opened = Run.open, []

def slowly(*words):
    opened.append(words)
    if len(opened) == 3:  # the first says what will be loaded
        print("opened anew", file=sys.stderr, flush=True)
        time.sleep(600)
    return opens(*words)

Run.open = slowly
raise SystemExit(main())
"""


@pytest.mark.parametrize("how", ["signal", "call"])
def test_it_ends_while_another_run_is_loaded(plain: Path, tmp_path: Path, how: str):
    """It would take ten minutes, and the process does not wait for it: by SIGHUP, and by a request."""
    key, file = "admin-key-0123456789", tmp_path / "keys.toml"
    file.write_text(f'[keys.office]\nrole = "admin"\nkey = "{key}"\n[limits]\ndrain = 1\n')
    words = ("--store", str(tmp_path / "events.db"), "--keys", str(file))

    def ask(where: str) -> None:
        with suppress(OSError, HTTPException):  # cut off
            call(where, {}, key)

    with process(plain, *words, program=("-c", SLOWLY)) as (running, address, _):
        if how == "signal":
            running.send_signal(signal.SIGHUP)
        else:
            threading.Thread(target=ask, args=(f"{address}/v1/admin/run",), daemon=True).start()
        while "opened anew" not in running.line():
            pass
        running.send_signal(signal.SIGTERM)
        _, rest = running.ended()
        assert running.returncode == 0, rest
        assert "stopped" in "".join(rest)


def test_keys_are_read_anew_with_the_run(plain: Path, tmp_path: Path):
    """A file that is damaged changes nothing, and the log says what is wrong, without a key; the mended one has another key."""
    old, new, file = "old-key-0123456789", "new-key-0123456789", tmp_path / "keys.toml"
    file.write_text(f'[keys.old]\nrole = "read"\nkey = "{old}"\n')
    with process(plain, "--store", str(tmp_path / "events.db"), "--keys", str(file)) as (running, address, _):

        def told_anew() -> list[dict[str, Any]]:
            running.send_signal(signal.SIGHUP)
            log = list[dict[str, Any]]()
            while not log or log[-1]["event"] != "run changed":
                log.append(json.loads(running.line()))
            return log

        def may(key: str) -> bool:
            with suppress(urllib.error.HTTPError):
                call(f"{address}/v1/run", key=key)
            status: int = json.loads(running.line())["status"]
            assert status in (200, 401)
            return status == 200

        assert may(old)
        file.write_text(f'[keys.new]\nrole = "nobody"\nkey = "{new}"\n')
        why, _ = told_anew()
        assert (why["event"], why["error"]) == ("keys not changed", "ConfigError")
        assert "keys.new.role: Input should be 'read', 'write' or 'admin'" in why["why"]
        assert new not in str(why)
        assert may(old)
        assert not may(new)
        file.write_text(file.read_text().replace("nobody", "read"))
        assert [line["event"] for line in told_anew()] == ["keys changed", "run changed"]
        assert may(new)
        assert not may(old)
        assert [line["event"] for line in told_anew()] == ["run changed"]


def test_how_much_stays_warm_is_said(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By the engine that is to be started; 1.5 GiB are 1.5 · 2³⁰ bytes."""
    held = list[int]()

    def instead(service: Service, *_: object) -> None:
        service.start()
        held.append(service.live.engine.options.warm_bytes)
        service.close()

    monkeypatch.setattr("lifelora.serving.app.server.serve", instead)
    words = ["serve", str(plain), "--port", "0", "--store", str(tmp_path / "events.db")]
    for given in ([], ["--warm-memory", "0"], ["--warm-memory", "1.5GiB"]):
        assert main([*words, *given]) == 0
    assert held == [EngineOptions().warm_bytes, 0, 3 << 29]


def test_more_candidates_may_come_where_limits_say_so(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And what is more than that is refused by the name of what its owner can set."""
    file, told = tmp_path / "keys.toml", list[Any]()
    file.write_text(f'[keys.office]\nrole = "read"\nkey = "{"k" * 20}"\n[limits]\ncandidates = 1500\n')

    def instead(service: Service, _: object, keys: Keys, limits: Limits, *__: object) -> None:
        service.start()
        with TestClient(create(service, keys, limits), headers={"Authorization": f"Bearer {'k' * 20}"}) as client:
            for count in (1500, 1501):
                told.append(client.post("/v1/score", json={"user": "u00001", "candidates": ["b00001"] * count, "system": "din"}))
        service.close()

    monkeypatch.setattr("lifelora.serving.app.server.serve", instead)
    words = ["serve", str(plain), "--port", "0", "--store", str(tmp_path / "events.db"), "--keys", str(file)]
    assert main(words) == 0
    assert [one.status_code for one in told] == [200, 422]
    assert len(told[0].json()["items"]) == 1500
    assert told[1].json()["errors"] == [
        {"field": "candidates", "what": "1,501 came; 1,500 may ([limits] candidates). Ask several times"}
    ]


@pytest.mark.parametrize("size", ["512", "-1MiB", "2GB", "GiB", "1e9KiB", "٣MiB"])
def test_a_size_without_a_unit_is_refused(size: str, capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        main(["serve", "run", f"--warm-memory={size}"])
    assert "give a number with KiB, MiB, GiB or TiB" in capsys.readouterr().err


def test_every_acknowledged_event_outlives_a_kill(plain: Path, tmp_path: Path):
    """Bulks are sent by four clients until it is killed in the middle of them; what was acknowledged is there again, and used."""
    acknowledged, store = set[tuple[str, str, int]](), ("--store", str(tmp_path / "events.db"))
    with process(plain, *store) as (running, address, _):
        enough = threading.Event()

        def send(client: int) -> None:
            for number in range(10_000):
                bulk = [event(f"new-{client}", f"b{1 + (number + n) % 70:05}", 10 * number + n) for n in range(5)]
                try:
                    call(f"{address}/v1/events", {"events": bulk})
                except (OSError, ValueError, HTTPException):  # cut off at any byte
                    return
                acknowledged.update((one["user"], one["item"], one["time"]) for one in bulk)
                if len(acknowledged) > 100:
                    enough.set()

        clients = [threading.Thread(target=send, args=(client,)) for client in range(4)]
        for client in clients:
            client.start()
        assert enough.wait(120)
        os.kill(running.pid, signal.SIGKILL)
        for client in clients:
            client.join()
    with process(plain, *store) as (_, address, said):
        there = set()
        for client in range(4):
            told = call(f"{address}/v1/users/new-{client}")
            assert all(one["used"] for one in told["events"])
            there |= {(told["user"], one["item"], one["time"]) for one in told["events"]}
        assert acknowledged <= there
        assert len(acknowledged) > 100
        assert f"up to {len(there):,} events" in said[0]


def test_what_cannot_be_served_is_said(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    def said(*words: str) -> str:
        assert main(["serve", "--port", "0", *words]) == 1  # the usual port may be taken
        return capsys.readouterr().err

    store = ("--store", str(tmp_path / "events.db"))
    assert "nowhere" in said(str(tmp_path / "nowhere"), *store)
    assert "--keys FILE" in said(str(plain), "--host", "0.0.0.0", *store)
    assert "cannot be read" in said(str(plain), "--keys", str(tmp_path / "no.toml"), *store)
    assert "a store is sqlite:///FILE" in said(str(plain), "--store", "mysql://x/y")
    with socket.socket() as silent:  # bound, and nobody listens
        silent.bind(("127.0.0.1", 0))
        away = f"postgresql://nobody@127.0.0.1:{silent.getsockname()[1]}/events"
        assert "cannot be reached" in said(str(plain), "--store", away)
    with bound("127.0.0.1", 0) as taken:
        port = str(taken.getsockname()[1])
        assert "another process listens there" in said(str(plain), "--port", port, *store)
    shutil.copytree(plain, tmp_path / "copy")
    shutil.rmtree(opened(tmp_path / "copy").scorers["din"].stage.folder)
    assert "din of it are not trained" in said(str(tmp_path / "copy"), *store)
    with pytest.raises(SystemExit):
        main(["serve", str(plain), "--port", "70000"])
    assert "give a number from 0 to 65535" in capsys.readouterr().err


def test_help_and_import_need_nothing_of_the_extra():
    code = (
        "import sys\n"
        "for name in ('fastapi', 'uvicorn', 'prometheus_client', 'sqlalchemy', 'starlette'): sys.modules[name] = None\n"
        "import lifelora\n"
        "from lifelora.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "try: main(['serve', '--help'])\n"
        "except SystemExit: pass\n"
        "print('status', main(['serve', 'nowhere']))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "status 1" in ran.stdout, ran.stderr
    assert "pip install 'lifelora[serve]'" in ran.stderr
