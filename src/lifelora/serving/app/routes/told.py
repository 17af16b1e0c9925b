"""POST /v1/recommend: a list for a history that is told, and not kept. Knows no model."""

from dataclasses import replace

from lifelora.errors import DataError
from lifelora.serving.app.bodies import AnswerOut, ToldBody
from lifelora.serving.app.doors import Doors, Reading
from lifelora.serving.app.routes.common import REFUSALS, Deadline, Request, Response, answer, few, metrics, seconds, service
from lifelora.serving.app.waiting import answered
from lifelora.serving.app.web import fastapi

router = fastapi.APIRouter(route_class=Reading, responses=REFUSALS, tags=["ask"])


@router.post("/v1/recommend", response_model=AnswerOut, summary="Items for a history")
async def told(request: Request, body: ToldBody, deadline: Deadline = None) -> Response:
    """The best items for a user whom the log lacks, by a history that comes along, as `lifelora recommend --history` ranks them.

    Nothing of it is kept.
    """
    doors: Doors = request.app.state.doors
    few("n", body.n, doors.limits.candidates, "candidates")
    few("history", len(body.history), doors.limits.events, "events")
    history = [(one.item, one.rating) for one in body.history]
    future = service(request).ask(
        lambda engine: engine.recommend_told(
            history, body.n, body.system, deadline=seconds(request, deadline), reasons=body.reasons
        )
    )
    try:
        made = await answered(request, future)
    except DataError as error:
        raise DataError([replace(one, file="history") for one in error.problems], error.count) from None
    metrics(request).answer("recommend", made.system, made.fallback)
    return answer(made.as_json())
