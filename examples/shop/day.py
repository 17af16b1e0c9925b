"""Plays a day of this shop against its service: what customers do is told as it happens, and lists are asked for meanwhile.

    python day.py [URL] [--minutes 2] [--key KEY]

It is what a shop's own side of the wire may look like, in the standard library alone:

* Orders, new teas and wishes to be forgotten go through one outbox, in the order in which they happened. What is not
  acknowledged is sent again, with the same ids, until it is: a service that is stopped, killed or replaced in the middle of the
  day loses nothing and counts nothing twice.
* Lists are asked for at the times of the day, whether earlier ones have been answered or not. One that does not come is not
  asked for again: the customer has gone on.

At the end it prints what was acknowledged, how often a customer's list had what he or she then bought, what moved, and how long
answers took. It knows the service's addresses, and nothing of lifelora.
"""

import argparse
import csv
import json
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from http.client import HTTPException
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import quote

HERE = Path(__file__).parent
PLACES = 10
"""Teas of a list."""
BEFORE = 300
"""Seconds of the shop from a list to the order."""
DEADLINE = "2"
"""Seconds that a customer waits for a list."""
PATIENCE = 180.0
"""Seconds after which who asks again gives up."""
Row = dict[str, str]
List = list[dict[str, Any]]
Found = dict[str, List]
"""By customer, or by order."""


def read(name: str) -> list[Row]:
    """The rows of a file beside this one."""
    with (HERE / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


class NoAnswerError(Exception):
    """What became of a request is not known: it may be sent again."""


class BusyError(NoAnswerError):
    """The service is there, and did not come to it."""


class Service:
    """The addresses of one."""

    def __init__(self, url: str, key: str | None = None) -> None:
        self._url, self._headers = url.rstrip("/"), {"Content-Type": "application/json"}
        if key:
            self._headers["Authorization"] = f"Bearer {key}"
        self._open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open  # the service is next door

    def call(self, method: str, path: str, body: Any = None, **more: str) -> Any:
        """What it answers; NoAnswerError where it is away, BusyError where it has no time, HTTPError where it refuses."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._url + path, data, self._headers | more, method=method)
        try:
            with self._open(request, timeout=10) as came:
                text = came.read()
        except urllib.error.HTTPError as refused:
            if refused.code in (429, 502, 503, 504):
                raise BusyError(f"{refused.code} {refused.read().decode(errors='replace')}") from refused
            raise
        except (OSError, HTTPException) as cut:
            late = isinstance(getattr(cut, "reason", cut), TimeoutError)
            raise (BusyError if late else NoAnswerError)(str(cut) or type(cut).__name__) from cut
        return json.loads(text) if text else None

    def list_for(self, user: str, system: str = "", **more: str) -> Any:
        """The answer for a customer; its ``items`` are the best teas, the best first."""
        asked = f"n={PLACES}" + (f"&system={quote(system)}" if system else "")
        return self.call("GET", f"/v1/recommend/{quote(user, safe='')}?{asked}", **more)


@dataclass
class Outbox:
    """What has happened, in order; one thread sends what is not acknowledged yet."""

    service: Service
    rows: list[Row] = field(default_factory=list)
    sent: int = 0
    closed: bool = False
    "Whether the day is over."
    counts: Counter[str] = field(default_factory=Counter)
    not_used: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    "Of each bulk, until it was acknowledged."

    def work(self) -> None:
        """Orders that wait together go together, in one bulk; the next one goes when this one is acknowledged."""
        begin = time.monotonic()
        while not (self.closed and self.sent == len(self.rows)):
            bulk = self.rows[self.sent : self.sent + 500]
            bulk = list(takewhile(lambda row: row["what"] == "order", bulk)) or bulk[:1]
            if not bulk:
                time.sleep(0.01)
                begin = time.monotonic()
                continue
            try:
                self._send(bulk)
            except NoAnswerError:
                if time.monotonic() - begin > PATIENCE:
                    raise
                self.counts["sent again"] += 1
                time.sleep(0.3)
                continue
            self.seconds.append(time.monotonic() - begin)
            self.sent += len(bulk)
            begin = time.monotonic()

    def _send(self, bulk: list[Row]) -> None:
        first = bulk[0]
        match first["what"]:
            case "launch":
                teas = [tea for tea in read("new-teas.csv") if tea["item"] == first["item"]]
                self.service.call("POST", "/v1/items", {"items": teas})
            case "forget":
                self.service.call("DELETE", f"/v1/users/{quote(first['user'], safe='')}")
            case "order":
                events = [{name: row[name] for name in ("user", "item", "id")} | {"time": int(row["time"])} for row in bulk]
                told = self.service.call("POST", "/v1/events", {"events": events})
                self.counts.update({"bulks": 1, "new": told["new"], "used": told["used"]})
                self.not_used.update(event["why"] for event in told["events"] if not event["used"])
        self.counts[first["what"]] += len(bulk)


class Lists:
    """Lists that are asked for, each in a thread of its own, and how long after their time they came."""

    def __init__(self, service: Service) -> None:
        self._service, self._pool = service, ThreadPoolExecutor(32)
        self.seconds, self.counts = list[float](), Counter[str]()

    def ask(self, user: str) -> "Future[List | None]":
        """One list, for a customer who waits a little; None where no answer came."""
        due = time.monotonic()

        def asked() -> List | None:
            try:
                answer = self._service.list_for(user, **{"Lifelora-Deadline": DEADLINE})
            except NoAnswerError:
                self.counts["none"] += 1
                return None
            self.seconds.append(time.monotonic() - due)
            self.counts["of another model" if answer["fallback"] else "of the model"] += 1
            items: List = answer["items"]
            return items

        return self._pool.submit(asked)

    def of_all(self, users: Iterable[str], system: str = "") -> Found:
        """Of many customers, none of whom waits: while the service is busy, it is asked again."""
        found, end = Found(), time.monotonic() + PATIENCE
        for user in users:
            while user not in found:
                try:
                    found[user] = self._service.list_for(user, system)["items"]
                except BusyError:
                    if time.monotonic() > end:
                        raise
                    time.sleep(0.3)
        return found


def play(service: Service, rows: list[Row], minutes: float) -> str:
    """The day, and what became of it."""
    lists, outbox = Lists(service), Outbox(service)
    orders = [row for row in rows if row["what"] == "order"]
    gone, new = ({row["user"] for row in rows if row["what"] == what} for what in ("forget", "sign-up"))
    users = list(dict.fromkeys(row["user"] for row in orders))
    morning, sellers = lists.of_all(users), lists.of_all(users, "popularity")
    seen = dict[str, "Future[List | None]"]()
    in_time: Found = {}

    def look(row: Row) -> None:
        seen[row["id"] or row["user"]] = lists.ask(row["user"])

    def happen(row: Row) -> None:
        if row["what"] == "order" and seen[row["id"]].done() and (items := seen[row["id"]].result()) is not None:
            in_time[row["id"]] = items
        if row["what"] != "sign-up":  # which is a customer who looks at a list; the service knows users by what they do
            outbox.rows.append(row)

    moments: list[tuple[int, Callable[[Row], None], Row]] = [(int(row["time"]), happen, row) for row in rows]
    moments += [(int(row["time"]) - BEFORE, look, row) for row in orders]
    moments += [(int(row["time"]), look, row) for row in rows if row["what"] == "sign-up"]
    moments.sort(key=lambda moment: moment[0])
    sender = ThreadPoolExecutor(1).submit(outbox.work)
    begin, first = time.monotonic(), moments[0][0]
    speed = (moments[-1][0] - first) / (60 * minutes)
    try:
        for at, do, row in moments:
            time.sleep(max(0.0, begin + (at - first) / speed - time.monotonic()))
            do(row)
    finally:
        outbox.closed = True
    sender.result()
    evening = lists.of_all(user for user in users if user not in gone | new)
    return "\n".join(
        [
            *told(outbox, lists, speed, minutes),
            *kept(service, orders, users, gone),
            *hits(orders, new, sellers, morning, in_time),
            *moved(orders, morning, evening),
            f"Seconds of a list:  {percentiles(sorted(lists.seconds))}",
            f"Seconds of a bulk:  {percentiles(sorted(outbox.seconds))}",
        ]
    )


def told(outbox: Outbox, lists: Lists, speed: float, minutes: float) -> list[str]:
    """What was acknowledged."""
    counts, why = outbox.counts, [f"  {count} not used yet: {why}" for why, count in outbox.not_used.items()]
    return [
        f"A day of the shop in {minutes:g} minutes, {speed:,.0f} times as fast.",
        f"Orders: {counts['order']} acknowledged in {counts['bulks']} bulks, {counts['new']} of them new, "
        f"{counts['used']} used by the models; {counts['sent again']} times something was sent again.",
        *why,
        f"New teas: {counts['launch']}. Forgotten: {counts['forget']}.",
        f"Lists: {lists.counts['of the model']} of the model, {lists.counts['of another model']} of one that stood in "
        f"(who is new gets best sellers), {lists.counts['none']} did not come.",
    ]


def kept(service: Service, orders: list[Row], users: list[str], gone: set[str]) -> list[str]:
    """Whether the service has every order of the day once, and nothing of who is forgotten."""
    there = Counter[tuple[str, str, int]]()
    for user in users:
        try:
            events = service.call("GET", f"/v1/users/{quote(user, safe='')}")["events"]
        except urllib.error.HTTPError as refused:
            if refused.code != 404:
                raise
            events = []
        there.update((user, event["item"], event["time"]) for event in events)
    counts = [there[row["user"], row["item"], int(row["time"])] for row in orders if row["user"] not in gone]
    left = sum(count for (user, *_), count in there.items() if user in gone)
    return [
        f"Kept: of {len(counts)} orders of all others {counts.count(1)} once, {counts.count(0)} not at all, "
        f"{sum(count > 1 for count in counts)} more than once; {left} events of who is forgotten."
    ]


def hits(orders: list[Row], new: set[str], sellers: Found, morning: Found, in_time: Found) -> list[str]:
    """How often what was bought stood in a list."""
    asked = [row for row in orders if row["id"] in in_time]
    theirs = [row for row in asked if row["user"] in new]

    def rates(of: Callable[[Row], List]) -> str:
        counts = [sum(row["item"] in [one["item"] for one in of(row)] for row in some) for some in (asked, theirs)]
        return f"{counts[0]:4} ({counts[0] / max(1, len(asked)):.1%}){counts[1]:20}"

    return [
        f"{len(asked)} orders came after a list of {PLACES} teas had, {len(theirs)} of them by customers who signed up today.",
        "The tea stood in the list:           by all     by who signed up",
        f"  of best sellers                {rates(lambda row: sellers[row['user']])}",
        f"  of the morning                 {rates(lambda row: morning[row['user']])}",
        f"  of the minutes before          {rates(lambda row: in_time[row['id']])}",
    ]


def moved(orders: list[Row], morning: Found, evening: Found) -> list[str]:
    """The three customers whose lists changed most."""
    bought = Counter(row["user"] for row in orders)
    before = {user: {one["item"] for one in items} for user, items in morning.items()}
    new = {user: [one["title"] for one in items if one["item"] not in before[user]] for user, items in evening.items()}
    return [
        f"{user} bought {bought[user]}; {len(new[user])} of {PLACES} teas are new in the list, {new[user][0]} the first."
        for user in sorted(new, key=lambda user: (-len(new[user]), user))[:3]
        if new[user]
    ]


def percentiles(seconds: list[float]) -> str:
    """Of sorted numbers."""
    if not seconds:
        return "none"
    half, most, nearly, last = (seconds[min(len(seconds) - 1, int(share * len(seconds)))] for share in (0.5, 0.95, 0.99, 1.0))
    return f"median {half:.3f}, 95 % {most:.3f}, 99 % {nearly:.3f}, longest {last:.3f} (n = {len(seconds)})"


if __name__ == "__main__":
    words = argparse.ArgumentParser(description="Play a day of the shop against its service.")
    words.add_argument("url", nargs="?", default="http://127.0.0.1:8000")
    words.add_argument("--minutes", type=float, default=2.0, help="How long the day's twelve hours take.")
    words.add_argument("--key", help="A key with the role admin, where the service has keys: a customer is forgotten.")
    given = words.parse_args()
    try:
        print(play(Service(given.url, given.key), read("day.csv"), given.minutes))
    except NoAnswerError as cut:
        sys.exit(f"day: no service answers at {given.url} ({cut}). Start it, and play the day again: nothing is counted twice.")
    except urllib.error.HTTPError as refused:
        sys.exit(f"day: the service refused: {refused.code} {refused.read().decode(errors='replace')}")
