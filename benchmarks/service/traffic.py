"""Requests to a server, by plan or as fast as it answers; what became of each. Knows HTTP, and no model.

Open loop: requests are sent at planned times, whatever the answers do, and a latency counts from the planned time. Who waits for
an answer before the next request is sent does not see how long the others would have waited (coordinated omission).
"""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

OK, STOOD_IN = "ok", "stood in"
LATE = 0.9
"""A server that answers less than this share of what it is offered does not keep up."""


@dataclass(frozen=True)
class Sent:
    """A request, and what became of it; seconds since the start."""

    planned: float
    sent: float
    ended: float
    outcome: str
    "OK; STOOD_IN where another system answered in time; else the status, or the error's name."


class Client:
    """Of one server: a connection for each request, so that none is one that the server has just closed."""

    def __init__(self, host: str, port: int, patience: float, headers: Sequence[str] = ()) -> None:
        """``patience``: seconds after which a request without an answer is an error."""
        self.host, self.port, self.patience = host, port, patience
        self._more = "".join(f"{line}\r\n" for line in headers)

    async def ask(self, method: str, path: str, body: Any = None) -> tuple[int, bytes]:
        """Status and body; OSError, EOFError or TimeoutError."""
        async with asyncio.timeout(self.patience):
            reader, writer = await asyncio.open_connection(self.host, self.port)
            try:
                content = b"" if body is None else json.dumps(body).encode()
                head = (
                    f"{method} {path} HTTP/1.1\r\nHost: {self.host}:{self.port}\r\nConnection: close\r\n{self._more}"
                    f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n\r\n"
                )
                writer.write(head.encode() + content)
                await writer.drain()
                told = await reader.readuntil(b"\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", told)
                return int(told[9:12]), await reader.readexactly(int(length[1])) if length else await reader.read()
            finally:
                writer.close()

    async def outcome(self, body: Any) -> str:
        """What becomes of a request for scores."""
        try:
            status, content = await self.ask("POST", "/v1/score", body)
        except TimeoutError:
            return "no answer"
        except (OSError, EOFError) as error:
            return type(error).__name__
        if status != 200:
            return str(status)
        return STOOD_IN if json.loads(content).get("fallback") else OK


def asks(
    users: Sequence[str], items: Sequence[str], candidates: int, more: dict[str, Any], seed: int
) -> Iterator[dict[str, Any]]:
    """Requests for scores without end: users by Zipf's law, the first the most, and candidates at random."""
    draw = np.random.default_rng(seed)
    share_U = 1 / np.arange(1, len(users) + 1)
    share_U /= share_U.sum()
    while True:
        chosen = draw.choice(len(items), candidates, replace=False).tolist()
        yield {"user": users[draw.choice(len(users), p=share_U)], "candidates": [items[one] for one in chosen], **more}


def arrivals(rate: float, count: int, seed: int) -> list[float]:
    """Planned times of a Poisson process."""
    return np.random.default_rng(seed).exponential(1 / rate, count).cumsum().tolist()  # type: ignore[no-any-return]


async def open_loop(client: Client, bodies: Iterator[dict[str, Any]], planned: Sequence[float]) -> list[Sent]:
    """Each request at its time."""
    began = time.perf_counter()

    async def one(at: float, body: dict[str, Any]) -> Sent:
        sent = time.perf_counter() - began
        outcome = await client.outcome(body)
        return Sent(at, sent, time.perf_counter() - began, outcome)

    tasks = []
    for at in planned:
        body = next(bodies)
        if (wait := at - (time.perf_counter() - began)) > 0:
            await asyncio.sleep(wait)
        tasks.append(asyncio.create_task(one(at, body)))
    return await asyncio.gather(*tasks)


async def closed_loop(
    client: Client, bodies: Iterator[dict[str, Any]], clients: int, goes_on: Callable[[float, int], bool]
) -> list[Sent]:
    """``clients`` at a time, each the next as soon as it has an answer, while ``goes_on(seconds, answered)``."""
    began, done = time.perf_counter(), list[Sent]()

    async def one() -> None:
        while goes_on(sent := time.perf_counter() - began, len(done)):
            outcome = await client.outcome(next(bodies))
            done.append(Sent(sent, sent, time.perf_counter() - began, outcome))

    await asyncio.gather(*(one() for _ in range(clients)))
    return done


def summary(sent: Sequence[Sent], window: float | None = None) -> dict[str, Any]:
    """Rates and latencies; ``window``: for how many seconds requests were planned. Latencies are of all that were answered."""
    outcomes = Counter(one.outcome for one in sent)
    answered = [one for one in sent if one.outcome in (OK, STOOD_IN)]
    took = np.array([one.ended - one.planned for one in answered] or [np.nan])
    ends = max(one.ended for one in sent)
    if window is not None:  # the last one is planned at its end, and has to be answered after it
        ends = max(window, ends - float(np.nan_to_num(took.min())))
    found: dict[str, Any] = {
        "requests": len(sent),
        "answered a second": round(len(answered) / ends, 4),
        "outcomes": dict(outcomes),
        "seconds": {f"p{q}": _rounded(np.percentile(took, q)) for q in (50, 90, 99)} | {"max": _rounded(took.max())},
    }
    if window is not None:
        inside = sum(one.ended <= window for one in answered)
        found |= {
            "offered a second": round(len(sent) / window, 4),
            "answered in the window": round(inside / len(sent), 3),
            "sent late, seconds": {"p99": _rounded(np.percentile([one.sent - one.planned for one in sent], 99))},
        }
    return found


def keeps_up(found: dict[str, Any], limit: float) -> bool:
    """Whether all were answered by the system that was asked, and in time."""
    slow = not found["seconds"]["p99"] <= limit
    behind = found["answered a second"] < LATE * found["offered a second"]
    return set(found["outcomes"]) == {OK} and not slow and not behind


def _rounded(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 4)
