"""Whether the memory of `lifelora serve` stays flat: requests of every kind, RSS by their number, and the slope of that.

``python benchmarks/service/memory.py RUN --work FOLDER --out FILE``. What may grow is told from what may not: in the first part
the events are of a bounded pool, each sent again and again under its id, so that nothing may grow once the pool is in; in the
second one every event is new, and the slope is what a kept event costs. The slope is by least squares, after the first requests
(--after), and its standard error takes steps of RSS as independent, as of a random walk: a sample says little that the one before
did not.
"""

import argparse
import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from machine import begin_in, facts, identity, say, write
from servers import Served, orderly, serve_words, served

from lifelora.run import Options, Run

EVERY = 1000
"""Requests from one sample of RSS to the next."""
POOL, NEW_USERS = 1000, 100
"""Events that are sent again and again, and whose they are."""
Asked = tuple[str, str, Any]
"""Method, path, body."""


class Mix:
    """Requests of every kind; a number draws one, the same for the same number."""

    def __init__(self, run: Run, seed: int, *, bounded: bool) -> None:
        dataset = run.context.dataset
        self.items = [str(item) for item in dataset.items.outside(np.arange(dataset.n_items))]
        self.users = [str(user) for user in dataset.users.outside(np.arange(min(200, dataset.n_users)))]
        self.ratings, self.now = list(dataset.rating_levels), int(np.asarray(dataset.time_N).max()) + 1
        self.systems = [name for name, one in run.scorers.items() if not one.ids_alone]
        self.models = [name for name, one in run.scorers.items() if one.ids_alone]
        self.seed, self._bounded, self._event = seed, bounded, count()
        self.kinds: dict[str, tuple[int, Callable[[random.Random, int], Asked]]] = {
            "score": (20, lambda draw, number: self._score(draw, draw.choice(self.models), 20)),
            "score, language model": (25, lambda draw, number: self._score(draw, draw.choice(self.systems), 4)),
            "recommend": (
                10,
                lambda draw, number: ("GET", f"/v1/recommend/{self._user(draw)}?n=5&system={self.models[-1]}", None),
            ),
            "recommend, told": (4, self._told),
            "events": (15, self._events),
            "users": (8, lambda draw, number: ("GET", f"/v1/users/{self._user(draw)}", None)),
            "rerank": (8, self._rerank),
            "unknown user": (4, self._unknown),
            "wrong": (5, self._wrong),
            "metrics": (1, lambda draw, number: ("GET", "/metrics", None)),
        }

    def asked(self, number: int, kinds: list[str]) -> tuple[str, Asked]:
        """The request of a number, and its kind."""
        draw = random.Random(self.seed * 1_000_003 + number)
        kind = draw.choices(kinds, [self.kinds[one][0] for one in kinds])[0]
        return kind, self.kinds[kind][1](draw, number)

    def _user(self, draw: random.Random) -> str:
        return quote(draw.choice(self.users))

    def _score(self, draw: random.Random, system: str, candidates: int) -> Asked:
        body = {"user": draw.choice(self.users), "candidates": draw.sample(self.items, candidates), "system": system}
        return "POST", "/v1/score", body | {"reasons": draw.random() < 0.5}

    def _told(self, draw: random.Random, number: int) -> Asked:
        history = [{"item": item} for item in draw.sample(self.items, 5)]
        return "POST", "/v1/recommend", {"history": history, "n": 5, "system": self.models[-1]}

    def _events(self, draw: random.Random, number: int) -> Asked:
        place = next(self._event)
        if self._bounded:
            place %= POOL
        of = random.Random(place)
        event = {"user": f"new-{place % NEW_USERS}", "item": of.choice(self.items), "rating": of.choice(self.ratings)}
        return "POST", "/v1/events", {"events": [event | {"time": self.now + place, "id": f"memory-{place}"}]}

    def _rerank(self, draw: random.Random, number: int) -> Asked:
        body = {"query": draw.choice(self.users), "documents": draw.sample(self.items, 4), "model": self.models[-1]}
        return "POST", "/v1/rerank", body

    def _unknown(self, draw: random.Random, number: int) -> Asked:
        body = {"user": f"nobody-{number}", "candidates": draw.sample(self.items, 4)}
        return draw.choice([("GET", f"/v1/users/nobody-{number}", None), ("POST", "/v1/score", body)])

    def _wrong(self, draw: random.Random, number: int) -> Asked:
        wrong = [
            ("POST", "/v1/score", {"user": self.users[0], "candidates": [f"no-item-{number}"]}),
            ("POST", "/v1/score", {"user": self.users[0]}),
            ("POST", "/v1/events", {"events": [{"user": "u", "item": "x" * 2000}]}),
            ("GET", f"/nowhere/{number}", None),
            ("PATCH", "/v1/score", None),
        ]
        return draw.choice(wrong)


class Load:
    """Requests by several connections, and RSS between them."""

    def __init__(self, server: Served, mix: Mix, connections: int, kinds: list[str]) -> None:
        self.server, self.mix, self.connections, self.kinds = server, mix, connections, kinds
        self.outcomes = Counter[str]()
        self._held, self._lock = threading.local(), threading.Lock()

    def sampled(self, requests: int) -> list[int]:
        """RSS after each ``EVERY`` requests."""
        found, began = list[int](), time.monotonic()
        with ThreadPoolExecutor(self.connections) as pool:
            for start in range(0, requests, EVERY):
                numbers = range(start, min(start + EVERY, requests))
                for one in [pool.submit(self._one, number) for number in numbers]:
                    one.result()
                found.append(self.server.rss())
                if len(found) % 5 == 0 or numbers.stop == requests:
                    rate = numbers.stop / (time.monotonic() - began)
                    say(f"{numbers.stop:,} of {requests:,} requests, {rate:.0f} a second; RSS {found[-1] / 1e6:.1f} MB")
        return found

    def _one(self, number: int) -> None:
        kind, (method, path, body) = self.mix.asked(number, self.kinds)
        if not hasattr(self._held, "connection"):
            self._held.connection = http.client.HTTPConnection(self.server.host, self.server.port, timeout=120)
        content = None if body is None else json.dumps(body)
        try:
            self._held.connection.request(method, path, content, {"Content-Type": "application/json"})
            came = self._held.connection.getresponse()
            came.read()
            outcome = str(came.status)
        except (OSError, http.client.HTTPException) as error:
            outcome = type(error).__name__
            self._held.connection.close()
        with self._lock:
            self.outcomes[f"{kind}: {outcome}"] += 1


def slope(rss_S: list[int], after: int) -> dict[str, float | None]:
    """Bytes a request after the first ``after`` requests, with standard errors."""
    y = np.array(rss_S[after // EVERY :], float)
    if len(y) < 4:
        return {"bytes a request": None}
    x = EVERY * np.arange(len(y))
    b, _ = np.polyfit(x, y, 1)
    steps = np.diff(y) / EVERY
    return {
        "bytes a request": round(float(b), 1),
        "bytes a request, last half": round(float(np.polyfit(x[len(x) // 2 :], y[len(y) // 2 :], 1)[0]), 1),
        "mean of steps": round(float(steps.mean()), 1),
        "its standard error": round(float(steps.std(ddof=1) / np.sqrt(len(steps))), 1),
        "grew by, MB": round((y[-1] - y[0]) / 1e6, 2),
    }


def main() -> None:
    """Print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="A finished run with a small language model (runs.py --tiny).")
    parser.add_argument("--work", type=Path, required=True, help="A new folder for the store and the log.")
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--growing", type=int, default=20_000, help="Requests of the second part, whose events are new.")
    parser.add_argument("--after", type=int, default=10_000, help="Requests that the slope leaves out.")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--kinds", nargs="+", help="Some kinds of requests alone, to find what grows.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    orderly()
    begin_in(arguments.work)
    run = Run.open(arguments.run.resolve(), Options(device="cpu", progress=False))
    bounded, growing = (Mix(run, arguments.seed + part, bounded=not part) for part in range(2))
    kinds = arguments.kinds or list(bounded.kinds)
    found: dict[str, Any] = facts(arguments.seed) | {"run": identity(run)}
    words = serve_words(arguments.run, str(arguments.work / "events.db"))
    with served("service", words, arguments.work / "server.log") as server:
        for name, mix, requests in (("bounded", bounded, arguments.requests), ("growing", growing, arguments.growing)):
            if not requests:
                continue
            load, began, cpu = Load(server, mix, arguments.connections, kinds), time.monotonic(), server.cpu()
            rss_S = load.sampled(requests)
            seconds = time.monotonic() - began
            found[name] = {
                "requests": requests,
                "a second": round(requests / seconds, 1),
                "cpu milliseconds a request": round(1e3 * (server.cpu() - cpu) / requests, 2),
                **slope(rss_S, min(arguments.after, requests // 4)),
                "outcomes": dict(sorted(load.outcomes.items())),
                "rss_mb": [round(one / 1e6, 2) for one in rss_S],
            }
    if "growing" in found and (sent := found["growing"]["outcomes"].get("events: 200")):
        share = sent / found["growing"]["requests"]
        mean = found["growing"].get("mean of steps")
        found["growing"]["bytes a new event"] = None if mean is None else round(mean / share)
    write(arguments.out, found)


if __name__ == "__main__":
    main()
