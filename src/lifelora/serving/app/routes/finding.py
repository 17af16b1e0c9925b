"""GET /v1/run, /v1/users, /v1/items and /v1/report: what a page chooses from and links to. Knows no model."""

from typing import Annotated, Any

from lifelora.serving.app import finding
from lifelora.serving.app.bodies import Text
from lifelora.serving.app.doors import Reading
from lifelora.serving.app.finding import FactsOut, ItemsFoundOut, UsersFoundOut
from lifelora.serving.app.problems import Refusal
from lifelora.serving.app.routes.common import NO_USER, REFUSALS, Request, Response, answer, service
from lifelora.serving.app.waiting import in_thread
from lifelora.serving.app.web import fastapi

router = fastapi.APIRouter(route_class=Reading, responses=REFUSALS, tags=["find"])
NO_REPORT: dict[int | str, dict[str, Any]] = {
    404: {**NO_USER[404], "description": "The run has no report."},
    200: {"content": {"text/html": {}}},
}
REPORT_MAY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox"
"""What a report needs: its own styles, and no script."""
Few = Annotated[int, fastapi.Query(ge=1, le=50, description="How many at most.")]


@router.get("/v1/run", response_model=FactsOut, summary="The run that answers, its systems and ratings")
async def facts(request: Request) -> Response:
    """What can be asked and told: systems, the best one on the validation samples, ratings, sizes."""
    return answer(await in_thread(finding.facts, service(request).live.engine))


@router.get("/v1/users", response_model=UsersFoundOut, summary="Users by their ids, or some of them")
async def users(
    request: Request,
    q: Annotated[
        Text | None, fastapi.Query(min_length=1, max_length=200, description="An id, or a part of one.", examples=["u0"])
    ] = None,
    n: Few = 20,
) -> Response:
    """The user with this id, then users whose id begins with it, then users whose id has it; without `q` a few users, spread
    over the log.
    """
    dataset = service(request).live.engine.dataset
    found = in_thread(finding.some_users, dataset, n) if q is None else in_thread(finding.users_like, dataset, q, n)
    return answer({"users": await found})


@router.get("/v1/items", response_model=ItemsFoundOut, summary="Items by their titles")
async def items(
    request: Request,
    q: Annotated[Text, fastapi.Query(min_length=1, max_length=200, description="An id, or a part of a title.", examples=["har"])],
    n: Few = 10,
) -> Response:
    """The item with this id, then items whose title begins with these words, then items whose title has them."""
    dataset = service(request).live.engine.dataset
    return answer({"items": await in_thread(finding.items_like, dataset, q, n)})


@router.get("/v1/report", response_class=Response, responses=NO_REPORT, summary="The run's report")
async def report(request: Request) -> Response:
    """One page of HTML, which holds its pictures."""
    stage = service(request).live.engine.run.stages.report
    file = stage.folder / finding.SHARED
    if stage.lacking() or not file.is_file():
        raise Refusal(404, "no-report", "this run has no report yet; `lifelora run RUN` makes it.")
    headers = {"Content-Security-Policy": REPORT_MAY, "Cache-Control": "no-store", "Referrer-Policy": "no-referrer"}
    return Response(await in_thread(file.read_bytes), headers=headers, media_type="text/html; charset=utf-8")
