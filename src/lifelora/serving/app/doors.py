"""The doors before an endpoint, passed before a body is read: key, role, rate, how many are inside. Knows no endpoint."""

import math
from collections.abc import Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar
from urllib.parse import urlsplit

from lifelora.serving.app.keys import Keys, Role, allows, loopback
from lifelora.serving.app.limits import Limits, Rate
from lifelora.serving.app.metrics import Metrics
from lifelora.serving.app.problems import AGAIN, Refusal, Wrong, values
from lifelora.serving.app.strict import StrictRequest, takes_json
from lifelora.serving.app.web import fastapi, starlette

Request = starlette.requests.Request
Response = starlette.responses.Response
WHO = {"WWW-Authenticate": 'Bearer realm="lifelora"'}


class Doors:
    """Of one service."""

    def __init__(self, keys: Keys, limits: Limits, metrics: Metrics) -> None:
        self.limits, self._metrics = limits, metrics
        self._inside = 0
        self.change(keys)

    def change(self, keys: Keys) -> None:
        """From the next request on these are the keys."""
        rate = self.limits.rate
        rates = {name: key.rate or rate for name, key in keys.named.items()} if keys.named else {"": rate}
        self.keys = keys
        self._rates = {name: Rate(rate) for name, rate in rates.items() if rate is not None}

    @contextmanager
    def through(self, request: Request, role: Role) -> Iterator[None]:
        """While a request is inside; Refusal for one that may not come in."""
        name = self._who(request, role)
        if name in self._rates and (wait := self._rates[name].wait()):
            seconds = str(math.ceil(wait))
            raise Refusal(
                429, "rate", f"too many requests with this key; ask again in {seconds} s.", headers={"Retry-After": seconds}
            )
        if self._inside >= self.limits.concurrent:
            raise Refusal(
                503, "full", f"{self._inside:,} requests are worked on ([limits] concurrent); ask again.", headers=AGAIN
            )
        self._inside += 1
        self._metrics.working.set(self._inside)
        try:
            yield
        finally:
            self._inside -= 1
            self._metrics.working.set(self._inside)

    def _who(self, request: Request, role: Role) -> str:
        if not self.keys.named:
            _from_here(request)
            return ""
        found = self.keys.find(request.headers.get("authorization"))
        if found is None:
            came = "an unknown key" if "authorization" in request.headers else "no key"
            raise Refusal(401, "key", f"{came} came; send the header 'Authorization: Bearer KEY'.", headers=WHO)
        name, key = found
        if not allows(key, role):
            raise Refusal(403, "role", f"this needs a key with the role '{role}'; yours has '{key.role}'.")
        return name


class Door(fastapi.routing.APIRoute):
    """An endpoint behind the doors; a class for each role."""

    role: ClassVar[Role] = "read"

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's own, behind the doors, with JSON that is read strictly."""
        inside, takes_body = super().get_route_handler(), self.body_field is not None
        known = [one.alias for one in self.dependant.query_params]

        async def handled(request: Request) -> Response:
            doors: Doors = request.app.state.doors
            with doors.through(request, self.role):
                _asks_for(known, request.query_params)
                if takes_body:
                    takes_json(request.headers.get("content-type"), request.headers.get("content-encoding"))
                return await inside(StrictRequest(request.scope, request.receive))

        return handled


class Reading(Door):
    """For any key."""


class Writing(Door):
    """For a key that may write."""

    role = "write"


class Ruling(Door):
    """For a key that may do all."""

    role = "admin"


def _asks_for(known: Sequence[str], came: Iterable[str]) -> None:
    """A word in the query that says nothing here is one that was meant otherwise."""
    if wrong := [name for name in dict.fromkeys(came) if name not in known]:
        there = f"it takes {', '.join(known)}" if known else "it takes none"
        told = [Wrong(f"{name} (query)", f"this address takes no such parameter; {there}") for name in wrong]
        raise Refusal(422, "invalid", values(len(wrong)), told)


def _from_here(request: Request) -> None:
    """Without keys a page of another site in a browser on this machine may not call, by whatever name it calls it."""
    came, origin = request.headers.get("host", ""), request.headers.get("origin")
    if not loopback(_name(f"//{came}")):
        raise Refusal(403, "host", "without keys this service answers to names of this machine only: 127.0.0.1 or localhost.")
    if origin is not None and origin.partition("://")[2] != came:
        raise Refusal(403, "origin", "without keys this service answers no page of another site.")


def _name(address: str) -> str:
    try:
        return urlsplit(address).hostname or ""
    except ValueError:
        return ""
