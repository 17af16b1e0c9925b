"""What endpoints share: the service behind a request, a deadline, answers as JSON, what they refuse. Knows no endpoint."""

import json
from typing import Annotated, Any

from lifelora.serving.app.bodies import ProblemOut
from lifelora.serving.app.doors import Doors
from lifelora.serving.app.metrics import Metrics
from lifelora.serving.app.problems import MEDIA, Refusal, Wrong
from lifelora.serving.app.service import Service
from lifelora.serving.app.web import fastapi, starlette

Request = starlette.requests.Request
Response = starlette.responses.Response

Deadline = Annotated[
    float | None,
    fastapi.Header(
        alias="Lifelora-Deadline",
        gt=0,
        le=600,
        allow_inf_nan=False,
        description="Seconds that the answer may take. Where the system takes longer, the run's best conventional model answers.",
    ),
]
REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": what, "content": {MEDIA: {"schema": ProblemOut.model_json_schema()}}}
    for status, what in {
        400: "The body is no JSON that is taken, or the address no UTF-8.",
        401: "No key, or an unknown one.",
        403: "The key's role is not enough.",
        408: "The body did not come in time.",
        409: "A key stands for another event already.",
        413: "The body is too large.",
        415: "The body is not said to be JSON.",
        422: "Values are not as they should be; `errors` names the fields.",
        429: "Too many requests with this key; see `Retry-After`.",
        503: "Loading, full, or the store does not answer; see `Retry-After`.",
        504: "No system can answer before the deadline.",
    }.items()
}
"""What every endpoint may refuse."""
NO_USER: dict[int | str, dict[str, Any]] = {
    404: {"description": "There is no such user.", "content": {MEDIA: {"schema": ProblemOut.model_json_schema()}}}
}


def service(request: Request) -> Service:
    """The one behind a request."""
    found: Service = request.app.state.service
    return found


def metrics(request: Request) -> Metrics:
    """Its numbers."""
    found: Metrics = request.app.state.metrics
    return found


def seconds(request: Request, deadline: float | None) -> float:
    """How long an answer may take."""
    doors: Doors = request.app.state.doors
    return doors.limits.deadline if deadline is None else deadline


def few(field: str, count: int, most: int, limit: str) -> None:
    """Refusal (422) for more than may come."""
    if count > most:
        what = f"{count:,} came; {most:,} may ([limits] {limit}). Ask several times"
        raise Refusal(422, "too-many", f"too many {field} for one request; nothing was done.", [Wrong(field, what)])


def no_user(why: str = "there is no such user here: none has events, or the user was forgotten.") -> Refusal:
    """404 for an unknown user."""
    return Refusal(404, "no-such-user", why)


def answer(value: Any, status: int = 200) -> Response:
    """A value as JSON."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return Response(text.encode(), status, {"Cache-Control": "no-store"}, "application/json")
