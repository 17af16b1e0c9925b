"""What is refused, as every endpoint says it: RFC 9457's problem details, with the fields that are wrong. Knows no endpoint.

``detail`` says what came, what is allowed, and the mend. Nothing of this machine is told: no path, no stack, no other user's id.
"""

import json
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, NamedTuple

from lifelora import foreign
from lifelora.errors import (
    BusyError,
    ClosedError,
    ConfigError,
    ConflictError,
    DataError,
    DeadlineError,
    FullError,
    LifeloraError,
    StoreError,
    harmless,
)
from lifelora.serving.app.web import fastapi, starlette

MEDIA = "application/problem+json"
SHOWN = 20
"""Fields that one answer names."""
TYPE = "urn:lifelora:problem:"
AGAIN = {"Retry-After": "1"}


class Wrong(NamedTuple):
    """A field that is not as it should be."""

    field: str
    what: str
    came: str | None = None


class Refusal(starlette.exceptions.HTTPException):
    """A request that is not answered, and why."""

    def __init__(
        self, status: int, kind: str, detail: str, wrong: Sequence[Wrong] = (), headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(status, detail, None if headers is None else dict(headers))
        self.kind, self.wrong = kind, tuple(wrong)


def response(error: Refusal, trace: str | None = None) -> starlette.responses.Response:
    """A refusal as it is sent."""
    body: dict[str, Any] = {
        "type": TYPE + error.kind,
        "title": HTTPStatus(error.status_code).phrase,
        "status": error.status_code,
        "detail": harmless(error.detail),
    }
    if error.wrong:
        more = len(error.wrong) - SHOWN
        body["errors"] = [
            {"field": harmless(one.field), "what": harmless(one.what)}
            | ({} if one.came is None else {"came": harmless(one.came)})
            for one in error.wrong[:SHOWN]
        ]
        if more > 0:
            body["more_errors"] = more
    if trace is not None:
        body["trace"] = trace
    headers = {"Cache-Control": "no-store", **(error.headers or {})}
    return starlette.responses.Response(json.dumps(body), error.status_code, headers, MEDIA)


def of_error(error: Exception, allowed: str = "") -> Refusal | None:
    """What a client is told of an error, ``allowed`` being the methods of the address; None for one that is a fault of ours."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, fastapi.exceptions.RequestValidationError):
        return _of_values(error)
    if isinstance(error, starlette.exceptions.HTTPException):
        return _of_http(error, allowed)
    if isinstance(error, ConflictError):
        return Refusal(409, "conflict", "a key stands for another event already; nothing was kept.", _of_data(error))
    if isinstance(error, DataError):
        return Refusal(422, "invalid", values(error.count), _of_data(error))
    if isinstance(error, DeadlineError):
        return Refusal(504, "deadline", str(error))
    if isinstance(error, FullError):
        return Refusal(503, "full", "as many requests wait as may wait; ask again.", headers=AGAIN)
    if isinstance(error, ClosedError):
        return Refusal(503, "closed", "a run is being loaded, or the service ends; ask again.", headers=AGAIN)
    if isinstance(error, StoreError | BusyError):
        return Refusal(503, "store", "the event store does not answer now; sending the same again is safe.", headers=AGAIN)
    if isinstance(error, ConfigError):
        return Refusal(422, "invalid", str(error).removeprefix("--"))
    if isinstance(error, LifeloraError):
        return Refusal(500, "fault", "the run cannot answer this; the service's log says why.")
    return None


def name_of(place: Sequence[str | int]) -> str:
    """``events[3].rating``: where a value stands."""
    name = ""
    for part in place:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else str(part)
    return name


def _of_values(error: fastapi.exceptions.RequestValidationError) -> Refusal:
    wrong = []
    for one in error.errors():
        where, *place = one["loc"]
        if where == "path" or where == "query" or where == "header":
            field = f"{name_of(place)} ({where})"
        else:
            field = name_of(place) or "body"
        came = None if one["type"] == "missing" else foreign.shown(one.get("input"))
        wrong.append(Wrong(field, one["msg"].removeprefix("Value error, "), came))
    return Refusal(422, "invalid", values(len(wrong)), wrong)


def values(count: int) -> str:
    """How many are wrong."""
    told = "1 value is not as it should be" if count == 1 else f"{count:,} values are not as they should be"
    return f"{told}; nothing was done."


def _of_http(error: starlette.exceptions.HTTPException, allowed: str) -> Refusal:
    if error.status_code == 404:
        return Refusal(404, "no-such-address", "there is nothing at this address; /openapi.json tells of all that there is.")
    if error.status_code == 405:
        told = f"this address does not take this method; it takes {allowed}."
        return Refusal(405, "method", told, headers={"Allow": allowed})
    return Refusal(error.status_code, "refused", str(error.detail), headers=error.headers)


def _of_data(error: DataError) -> list[Wrong]:
    wrong = []
    for one in error.problems:
        what = "there is no such user" if one.file == "users" else one.what  # a near id would be another user's
        place: list[str | int] = [one.file, *([] if one.line is None else [one.line - 1]), *([one.column] if one.column else [])]
        wrong.append(Wrong(name_of(place), what, one.value))
    return wrong
