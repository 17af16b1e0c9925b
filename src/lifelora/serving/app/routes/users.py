"""GET and DELETE /v1/users/{user}: what is kept of a user, and forgetting it. Knows no model."""

from typing import Annotated

from lifelora.serving.app.bodies import Id, UserOut
from lifelora.serving.app.doors import Reading, Ruling
from lifelora.serving.app.routes.common import NO_USER, REFUSALS, Request, Response, answer, no_user, service
from lifelora.serving.app.waiting import in_thread
from lifelora.serving.app.web import fastapi

reading = fastapi.APIRouter(route_class=Reading, responses=REFUSALS, tags=["users"])
ruling = fastapi.APIRouter(route_class=Ruling, responses=REFUSALS, tags=["users"])
User = Annotated[Id, fastapi.Path(description="A user's id, percent-encoded; slashes may stay.", examples=["u00007"])]


@reading.get("/v1/users/{user:path}", response_model=UserOut, responses=NO_USER, summary="What a user did")
async def history(request: Request, user: User) -> Response:
    """All that is kept of what a user did, oldest first, with times; and which of it the models know."""
    events = await in_thread(service(request).history, user)
    if events is None:
        raise no_user()
    return answer({"user": user, "events": events})


@ruling.delete("/v1/users/{user:path}", status_code=204, summary="Forget a user")
async def forget(request: Request, user: User) -> Response:
    """Nothing is left of a user in the store and in what answers; an import does not bring them back.

    It is the same for an unknown one: a later import of an old data set does not bring that user in.
    """
    await in_thread(service(request).forget, user)
    return Response(status_code=204)
