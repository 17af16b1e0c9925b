"""A client of the fault run: it appends events of its own users and asks for answers until it is killed. Knows no supervisor.

``python fault_client.py PORT DIARY NAME SEED PLAN``; PLAN is JSON with items, ratings, systems, users and the first time.
Whatever fails is tried again: an event under the same id until it is acknowledged.
"""

import http.client
import json
import random
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from diary import Pen

AGAIN = 0.2
"""Seconds before something is tried again."""
PAUSE = 0.02
CANDIDATES = 8
LISTED = 5
FORBIDDEN = {400, 401, 403, 404, 409, 413, 415, 422, 500}
"""None of these may ever come: the client asks for nothing that is wrong."""


class Client:
    """One process."""

    def __init__(self, port: int, pen: Pen, name: str, seed: int, plan: dict[str, Any]) -> None:
        self.port, self.pen, self.name, self.plan, self.draw = port, pen, name, plan, random.Random(seed)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """An answer's body; None where none came or it was refused, which is written down."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), {"Content-Type": "application/json"})
            came = connection.getresponse()
            content = came.read()
        except (OSError, http.client.HTTPException) as error:
            self.pen.write({"failed": type(error).__name__})
        else:
            if came.status == 200:
                return json.loads(content)
            wrong = {"wrong": content.decode(errors="replace")[:1000]} if came.status in FORBIDDEN else {}
            self.pen.write({"failed": str(came.status), **wrong})
        finally:
            connection.close()
        time.sleep(AGAIN)
        return None

    def append(self) -> None:
        """The next event of a user, or the one that is pending, until it is acknowledged as one that the models know."""
        event = self.pen.diary.pending
        if event is None:
            user = f"{self.name}-{self.draw.randrange(self.plan['users'])}"
            number = len(self.pen.diary.kept.get(user, ()))
            event = {
                "user": user,
                "item": self.draw.choice(self.plan["items"]),
                "rating": self.draw.choice(self.plan["ratings"]),
                "time": self.plan["time"] + number,
                "id": f"{user}/{number}",
            }
            self.pen.write({"sends": event})
        told = None
        while told is None or not told["events"][0]["used"]:
            told = self.call("POST", "/v1/events", {"events": [event]})
        self.pen.write({"kept": event["id"], "seq": told["events"][0]["seq"]})

    def ask(self) -> None:
        """For scores or a list, of a user all of whose events were acknowledged."""
        user, system = self.draw.choice(sorted(self.pen.diary.kept)), self.draw.choice(self.plan["systems"])
        asked: dict[str, Any] = {"user": user, "events": len(self.pen.diary.kept[user]), "system": system}
        if self.draw.random() < 0.7:
            asked["candidates"] = self.draw.sample(self.plan["items"], CANDIDATES)
            body = {"user": user, "candidates": asked["candidates"], "system": system, "reasons": False}
            told = self.call("POST", "/v1/score", body)
        else:
            told = self.call("GET", f"/v1/recommend/{quote(user)}?n={LISTED}&system={system}&reasons=false")
        if told is not None:
            items = [[one["item"], one["score"]] for one in told["items"]]
            self.pen.write({"asked": asked, "by": told["system"], "fallback": told["fallback"], "items": items})

    def work(self) -> None:
        """For ever."""
        if self.pen.diary.pending is not None:
            self.append()
        while True:
            if self.draw.random() < 0.4 or not self.pen.diary.kept:
                self.append()
            else:
                self.ask()
            time.sleep(PAUSE)


if __name__ == "__main__":
    port, path, name, seed, plan = sys.argv[1:]
    Client(int(port), Pen(Path(path)), name, int(seed), json.loads(plan)).work()
