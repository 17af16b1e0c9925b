"""Server, database and clients are killed at random under load: no acknowledged event may be lost, and no answer may be wrong.

``python benchmarks/service/faults.py RUN --database postgresql --minutes 10 --work FOLDER --out FILE``. Clients append events and
ask for scores and lists; each kill is SIGKILL, at times drawn by seed, and what was killed is started again. At the end the store
is held against what the clients wrote down, every answer is computed again by a fresh engine, and a fresh service is asked for
every user. With SQLite the database is in the server's process.
"""

import argparse
import json
import random
import socket
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import fault_check
import numpy as np
import torch
from diary import Diary
from machine import begin_in, facts, identity, say, write
from postgres import Postgres
from servers import begun, ended, orderly, serve_words, served

from lifelora.run import Options, Run
from lifelora.serving.store import Form, Store

HERE = Path(__file__).parent
EVERY = {"server": 30.0, "database": 25.0, "client": 10.0}
"""Seconds from one kill to the next, in the mean."""
DOWN = 2.0
"""Seconds that a thing stays down, at most."""
USERS = 8
"""Of each client."""


class Scene:
    """The processes, and when which is killed or started next."""

    def __init__(self, arguments: argparse.Namespace, store: str, postgres: Postgres | None, plan: dict[str, Any]) -> None:
        self.arguments, self.store, self.postgres, self.plan = arguments, store, postgres, plan
        self.draw, self.counts = random.Random(arguments.seed), Counter[str]()
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port: int = free.getsockname()[1]
        self.log = arguments.work / "server.log"
        self.server = self._server()
        self.clients = {f"c{number}": self._client(f"c{number}") for number in range(arguments.clients)}

    def play(self, seconds: float) -> None:
        """Once the first server is ready: kill and start, until the time is over; then kill all."""
        while not self._ready():
            time.sleep(0.1)
        began = time.monotonic()
        kinds = [kind for kind in EVERY if kind != "database" or self.postgres is not None]
        due = {kind: began + self._next(kind) for kind in kinds}
        told = began
        while (now := time.monotonic()) < began + seconds:
            for kind in kinds:
                if now >= due[kind]:
                    getattr(self, f"_kill_{kind}")()
                    self.counts[f"kills of a {kind}"] += 1
                    due[kind] = time.monotonic() + self._next(kind)
            if self.server.poll() is not None:  # it could not open its store: the database was down
                self.counts[f"server ended by itself with {self.server.returncode}"] += 1
                self.server = self._server()
            for name, client in self.clients.items():
                if client.poll() is not None:
                    raise SystemExit(f"{name} ended by itself; see {self.arguments.work / f'{name}.log'}")
            if now - told > 30:
                told = now
                say(f"{now - began:.0f} of {seconds:.0f} s: {dict(self.counts)}")
            time.sleep(0.05)
        for client in self.clients.values():
            _killed(client)
        _killed(self.server)

    def _ready(self) -> bool:
        if self.server.poll() is not None:
            raise SystemExit(f"the server ended by itself; see {self.log}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health/ready", timeout=5):
                return True
        except OSError:
            return False

    def _next(self, kind: str) -> float:
        return EVERY[kind] * self.draw.uniform(0.1, 1.9)

    def _down(self) -> None:
        time.sleep(self.draw.uniform(0, DOWN))

    def _kill_server(self) -> None:
        _killed(self.server)
        self._down()
        self.server = self._server()

    def _kill_database(self) -> None:
        assert self.postgres is not None
        self.postgres.kill()
        self._down()
        self.postgres.start()

    def _kill_client(self) -> None:
        name = self.draw.choice(sorted(self.clients))
        _killed(self.clients[name])
        self.clients[name] = self._client(name)

    def _server(self) -> subprocess.Popen[str]:
        return begun(serve_words(self.arguments.run, self.store, self.port), self.log, quiet=True)

    def _client(self, name: str) -> subprocess.Popen[str]:
        words = [str(HERE / "fault_client.py"), str(self.port), str(self.arguments.work / f"{name}.jsonl"), name]
        seed = self.draw.randrange(2**32)
        return begun([*words, str(seed), json.dumps(self.plan)], self.arguments.work / f"{name}.log", quiet=True)


def _killed(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()


def served_histories(arguments: argparse.Namespace, store: str, diaries: Sequence[Diary]) -> dict[str, int]:
    """Whether a service that is started anew gives every user's events, in order, and uses all of them."""
    found = Counter[str](users=0, differ=0)
    with served("service", serve_words(arguments.run, store), arguments.work / "last.log") as service:
        for diary in diaries:
            for user, sent in diary.kept.items():
                address = f"http://{service.host}:{service.port}/v1/users/{quote(user)}"
                with urllib.request.urlopen(address, timeout=60) as came:
                    events = json.loads(came.read())["events"]
                right = [(one["item"], one["time"]) for one in sent]
                there = [(one["item"], one["time"]) for one in events if one["used"]]
                found["users"] += 1
                found["differ"] += there[: len(right)] != right or len(there) > len(right) + 1
    return dict(found)


def main() -> None:
    """Print JSON; the status is 1 where anything was lost or wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="A finished run, as small as it can be (runs.py --tiny).")
    parser.add_argument("--work", type=Path, required=True, help="A new folder for the store, diaries and logs.")
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=4)
    parser.add_argument("--systems", nargs="+", default=["sasrec", "own", "question"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    orderly()
    torch.set_num_threads(1)
    begin_in(arguments.work)
    run = Run.open(arguments.run.resolve(), Options(device="cpu", progress=False))
    dataset = run.context.dataset
    plan = {
        "items": dataset.items.outside(np.arange(dataset.n_items)),
        "ratings": list(dataset.rating_levels),
        "systems": arguments.systems,
        "users": USERS,
        "time": int(np.asarray(dataset.time_N).max()) + 1,
    }
    found: dict[str, Any] = facts(arguments.seed) | {"run": identity(run), "database": arguments.database}
    postgres = Postgres() if arguments.database == "postgresql" else None
    store = postgres.url if postgres else str(arguments.work / "events.db")
    try:
        scene = Scene(arguments, store, postgres, plan)
        try:
            scene.play(60 * arguments.minutes)
        finally:
            for process in (*scene.clients.values(), scene.server):
                ended(process)
        diaries = [Diary.read(arguments.work / f"{name}.jsonl") for name in scene.clients]
        failures = [failure for diary in diaries for failure in diary.failures]
        say("the store against the diaries")
        with Store.open(store, Form.of(run.stages.data.require())) as opened:
            found["events"] = fault_check.events(diaries, opened)
        say("a fresh service")
        found["served histories"] = served_histories(arguments, store, diaries)
        say(f"{sum(len(diary.answers) for diary in diaries):,} answers again")
        found["answers"] = fault_check.answers(diaries, run)
    finally:
        if postgres is not None:
            postgres.end()
    found |= {"minutes": arguments.minutes, "clients": arguments.clients, "kills": dict(scene.counts)}
    found["requests that failed"] = dict(Counter(one["failed"] for one in failures))
    found["never to come"] = [one for one in failures if "wrong" in one][:3]
    found["faults in the server's log"] = sum('"event": "fault"' in line for line in scene.log.read_text().splitlines())
    write(arguments.out, found)
    bad = [found["events"][name] for name in ("lost", "doubled", "misplaced", "unknown")]
    sys.exit(any([*bad, found["served histories"]["differ"], found["answers"]["wrong"], found["never to come"]]))


if __name__ == "__main__":
    main()
