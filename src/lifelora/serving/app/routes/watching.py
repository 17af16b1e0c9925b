"""/health/live, /health/ready and /metrics: for who watches the service. Knows no model."""

from typing import Any

from lifelora.serving.app.bodies import ProblemOut
from lifelora.serving.app.doors import Reading
from lifelora.serving.app.metrics import MEDIA as NUMBERS
from lifelora.serving.app.problems import AGAIN, MEDIA, Refusal
from lifelora.serving.app.routes.common import REFUSALS, Request, Response, answer, metrics, service
from lifelora.serving.app.service import identity
from lifelora.serving.app.web import fastapi, starlette

open_to_all = fastapi.APIRouter(tags=["watch"])
reading = fastapi.APIRouter(route_class=Reading, responses=REFUSALS, tags=["watch"])
NOT_READY: dict[int | str, dict[str, Any]] = {
    503: {"description": "Loading, or draining.", "content": {MEDIA: {"schema": ProblemOut.model_json_schema()}}}
}


@open_to_all.get("/health/live", response_model=dict[str, str], summary="Whether the process is alive")
async def live() -> Response:
    """It is, if it answers."""
    return answer({"state": "live"})


@open_to_all.get("/health/ready", response_model=dict[str, str], responses=NOT_READY, summary="Whether to send requests here")
async def ready(request: Request) -> Response:
    """200 with the run that answers; 503 while it is loaded, and from the moment in which the service is told to stop."""
    if service(request).state != "ready":
        raise Refusal(503, service(request).state, f"the service is {service(request).state}.", headers=AGAIN)
    return answer({"state": "ready", **identity(service(request).live.engine.run)})


@reading.get("/metrics", response_class=starlette.responses.PlainTextResponse, summary="Numbers in Prometheus's form")
async def numbers(request: Request) -> Response:
    """Without anything about a user."""
    return Response(metrics(request).text(), headers={"Content-Type": NUMBERS})
