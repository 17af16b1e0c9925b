"""How many requests a second `lifelora serve` answers, warm, without warm trunks, and beside a plain server with a LoRA per user.

``python benchmarks/service/load.py RUN --work FOLDER --out FILE``. Every server is a process with one thread on the first core;
what asks is this process, on the last one. Parts, each resumed from FILE where it was finished:

``equal``: that all servers give the same scores. ``closed``: as fast as each answers, in turns (A B A B), so that what else the
machine does befalls all of them. ``open``: Poisson arrivals at rates that are multiples of what ``closed`` found, rising until
the server does not keep up: it leaves less than nine tenths answered, errs, lets another system stand in, or p99 is over --limit.
"""

import argparse
import asyncio
import json
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from adapters import users_of, written
from machine import facts, identity, say, write
from servers import Served, orderly, plain_words, serve_words, served, without_trunks
from traffic import OK, STOOD_IN, Client, Sent, arrivals, asks, closed_loop, keeps_up, open_loop, summary

from lifelora.run import Options, Run

SERVERS = ("warm", "cold", "plain")
PARTS = ("equal", "closed", "open")
ASKED = ("system", "servers", "candidates", "reasons", "clients", "rounds", "seconds", "least", "shares", "limit", "patience")
"""Options that change what is measured."""
RATE, BY_CPU = "answered a second", "answered a CPU second"
COMPARED = 10
"""Candidates of each of three users whose scores are compared."""
FLOOR = 0.5
"""Seconds that p99 may always have."""
CLOSE = 2e-6
"""Scores of two servers differ by rounding up to this; another user's adapter gives others than that."""


class Bench:
    """The servers, what they are asked, and what was found so far."""

    def __init__(self, arguments: argparse.Namespace, run: Run, users: list[str], found: dict[str, Any]) -> None:
        self.arguments, self.users, self.found = arguments, users, found
        self.items = [str(item) for item in run.context.dataset.items.outside(np.arange(run.context.dataset.n_items))]

    def client(self, server: Served) -> Client:
        """With a deadline that no request of the closed loop misses."""
        return Client(
            server.host, server.port, self.arguments.patience, [f"Lifelora-Deadline: {min(600.0, self.arguments.patience)}"]
        )

    def bodies(self, server: Served, seed: int) -> Iterator[dict[str, Any]]:
        """Requests; the plain server knows one system and no reasons."""
        more = {} if server.name == "plain" else {"system": self.arguments.system, "reasons": self.arguments.reasons}
        return asks(self.users, self.items, self.arguments.candidates, more, seed)

    def equal(self, servers: list[Served]) -> dict[str, Any]:
        """The largest difference of two servers' scores, beside how far two users' scores are apart."""
        scores: dict[str, list[list[float]]] = {}
        items = self.items[: min(COMPARED, self.arguments.candidates)]
        for server in servers:
            client, more = self.client(server), {} if server.name == "plain" else {"system": self.arguments.system}
            scores[server.name] = []
            for user in self.users[:3]:
                status, content = asyncio.run(client.ask("POST", "/v1/score", {"user": user, "candidates": items, **more}))
                if status != 200:
                    raise SystemExit(f"{server.name} answered {status}: {content.decode()[:500]}")
                scores[server.name].append([one["score"] for one in json.loads(content)["items"]])
        first, *others = (np.array(one) for one in scores.values())
        apart = max([float(np.abs(first - one).max()) for one in others], default=0.0)
        if apart > CLOSE:
            raise SystemExit(f"the servers' scores differ by {apart:.2g}: they do not do the same work.")
        return {
            "largest difference": apart,
            "two users differ by": float(np.abs(first[0] - first[-1]).max()),
            "scores": first.size,
        }

    def warmed(self, server: Served) -> None:
        """What is loaded for the first requests does not count; of each user a trunk is read."""
        client, more = self.client(server), {} if server.name == "plain" else {"system": self.arguments.system}
        users = self.users if server.name == "warm" else self.users[:1]
        for user in users:
            asyncio.run(client.ask("POST", "/v1/score", {"user": user, "candidates": self.items[:1], **more}))

    def closed(self, servers: list[Served]) -> dict[str, Any]:
        """Answers a second, and a CPU second, of each server by round, and how many times as many as the plain one's."""
        arguments, rounds = self.arguments, {server.name: list[dict[str, Any]]() for server in servers}
        for turn in range(arguments.rounds):
            for server in servers:
                bodies, cpu = self.bodies(server, arguments.seed + turn), server.cpu()
                sent = asyncio.run(
                    closed_loop(
                        self.client(server),
                        bodies,
                        arguments.clients,
                        lambda seconds, answered: seconds < arguments.seconds or answered < arguments.least,
                    )
                )
                made = summary(sent) | _used(server, cpu, sent)
                rounds[server.name].append(made)
                rate, by_cpu = made[RATE], made[BY_CPU]
                told = f"{rate:.3f} a second, {by_cpu:.3f} a CPU second, {made['outcomes']}"
                say(f"closed, round {turn + 1} of {arguments.rounds}: {server.name} {told}")
        found: dict[str, Any] = {"clients": arguments.clients}
        for what in (RATE, BY_CPU):
            rates = {name: [one[what] for one in every] for name, every in rounds.items()}
            found[f"{what}, by round"] = rates
            found[f"{what}, times plain"] = {
                name: [round(a / b, 2) for a, b in zip(every, rates.get("plain", []), strict=False)]
                for name, every in rates.items()
            }
        return found | {"last round": {name: every[-1] for name, every in rounds.items()}}

    def open(self, server: Served, capacity: float) -> dict[str, Any]:
        """Each step, and the highest rate at which the server kept up."""
        arguments, steps, sustained = self.arguments, list[dict[str, Any]](), 0.0
        limit = max(FLOOR, arguments.limit / capacity)
        for number, share in enumerate(arguments.shares):
            rate = share * capacity
            count = max(arguments.least, round(rate * arguments.seconds))
            planned, cpu = arrivals(rate, count, arguments.seed + number), server.cpu()
            sent = asyncio.run(open_loop(self.client(server), self.bodies(server, arguments.seed + 100 + number), planned))
            made = summary(sent, planned[-1]) | _used(server, cpu, sent)
            made |= {"of what closed found": share, "kept up": keeps_up(made, limit)}
            steps.append(made)
            say(f"open, {server.name} at {rate:.3f} a second: {made['seconds']}, {made['outcomes']}, kept up: {made['kept up']}")
            if made["kept up"]:
                sustained = max(sustained, made["offered a second"])
            elif len(steps) > 1 and not steps[-2]["kept up"]:
                break
        return {"limit of p99, seconds": round(limit, 3), "sustained a second": sustained, "steps": steps}

    def keep(self, part: str, found: Any) -> None:
        """What is finished is not measured again."""
        self.found[part] = found
        write_quietly(self.arguments.out, self.found)


def _used(server: Served, cpu_before: float, sent: list[Sent]) -> dict[str, Any]:
    """Of the server, since some requests began."""
    cpu, answered = server.cpu() - cpu_before, sum(one.outcome in (OK, STOOD_IN) for one in sent)
    return {
        BY_CPU: round(answered / cpu, 4) if cpu else None,
        "cpu of the core": round(cpu / max(one.ended for one in sent), 3),
        "rss_mb": round(server.rss() / 1e6),
    }


def write_quietly(out: Path | None, found: dict[str, Any]) -> None:
    """Between two parts."""
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(found, indent=1) + "\n")


@contextmanager
def all_of(arguments: argparse.Namespace, cores: tuple[int, int]) -> Iterator[list[Served]]:
    """The servers that are asked for, side by side; those that wait use nothing."""
    words = {
        "warm": serve_words(arguments.run, str(arguments.work / "warm.db")),
        "cold": without_trunks(arguments.run, str(arguments.work / "cold.db")),
        "plain": plain_words(arguments.work),
    }
    with ExitStack() as stack:
        yield [
            stack.enter_context(served(name, words[name], arguments.work / f"{name}.log", cores[0])) for name in arguments.servers
        ]


def main() -> None:
    """Print JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="A finished run (benchmarks/service/runs.py makes one).")
    parser.add_argument("--work", type=Path, required=True, help="A folder for stores, adapters and logs.")
    parser.add_argument("--system", default="own")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--open", nargs="+", choices=SERVERS, default=list(SERVERS), help="Servers of the open loop.")
    parser.add_argument("--users", type=int, default=32, help="The users with the most events, each with an adapter of its own.")
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--reasons", action="store_true", help="Let lifelora say why, which the plain server cannot.")
    parser.add_argument("--clients", type=int, default=8, help="Of the closed loop.")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="Of a turn, or of a step of the open loop.")
    parser.add_argument("--least", type=int, default=20, help="Requests of a turn or step, however long they take.")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.25, 0.5, 0.7, 0.8, 0.9, 1.0, 1.2, 1.5])
    parser.add_argument("--limit", type=float, default=20.0, help="p99 may be so many times 1 / (answers a second of closed).")
    parser.add_argument("--patience", type=float, default=600.0, help="Seconds after which no answer is an error.")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    orderly()
    torch.set_num_threads(1)
    cores = sorted(os.sched_getaffinity(0))
    arguments.work.mkdir(parents=True, exist_ok=True)
    run = Run.open(arguments.run.resolve(), Options(device="cpu", progress=False))
    users = users_of(run, arguments.users)
    asked = {name: getattr(arguments, name) for name in ASKED} | {"users": len(users)}
    found: dict[str, Any] = {**facts(arguments.seed), "run": identity(run), "asked": asked}
    if "plain" in arguments.servers:
        say(f"adapters and texts of {len(users)} users")
        found["prompts"] = written(run, arguments.system, users, arguments.work)
    bench = Bench(arguments, run, users, found)
    del run
    if arguments.out is not None and arguments.out.is_file():
        before = json.loads(arguments.out.read_text())
        if any(before.get(name) != found[name] for name in ("run", "asked")):
            raise SystemExit(f"{arguments.out} holds what was found of another run, or asked otherwise; give another file.")
        found |= {part: before[part] for part in PARTS if part in before}
    os.sched_setaffinity(0, {cores[-1]})
    say(f"starting {', '.join(arguments.servers)}")
    with all_of(arguments, (cores[0], cores[-1])) as servers:
        if "equal" in arguments.parts and "equal" not in found:
            bench.keep("equal", bench.equal(servers))
            say(f"equal: {found['equal']}")
        for server in servers:
            bench.warmed(server)
        if "closed" in arguments.parts and "closed" not in found:
            bench.keep("closed", bench.closed(servers))
        for server in servers if "open" in arguments.parts and "closed" in found else []:
            if server.name in arguments.open and server.name not in (steps := found.get("open", {})):
                capacity = median(found["closed"][f"{RATE}, by round"][server.name])
                bench.keep("open", {**steps, server.name: bench.open(server, capacity)})
        found["peak_mb"] = {server.name: round(server.peak() / 1e6) for server in servers}
    if "plain" in arguments.servers and "closed" in found:
        most = median(found["closed"][f"{RATE}, by round"]["plain"])  # a plan that it keeps up with is below this
        rates = {name: one["sustained a second"] for name, one in found.get("open", {}).items() if name != "plain"}
        found["sustained, times the most of plain"] = {name: round(rate / most, 2) for name, rate in rates.items()}
    write(arguments.out, found)


if __name__ == "__main__":
    main()
