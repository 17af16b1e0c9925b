"""POST /v1/admin/run: another run in the place of the one that answers. Knows no model."""

import asyncio
import logging

from lifelora.errors import BusyError, LifeloraError
from lifelora.serving.app.doors import Ruling
from lifelora.serving.app.logs import tell
from lifelora.serving.app.problems import Refusal
from lifelora.serving.app.routes.common import REFUSALS, Request, Response, answer, service
from lifelora.serving.app.waiting import begun
from lifelora.serving.app.web import fastapi

router = fastapi.APIRouter(route_class=Ruling, responses=REFUSALS, tags=["admin"])


@router.post("/v1/admin/run", response_model=dict[str, str], summary="Serve the run that is at RUN now")
async def change(request: Request) -> Response:
    """Open what is at the place with which the service was started (a link that leads to a new run now), and let it take over
    once it has caught up with the store. It answers with the run that is served then; until then the old one answers.
    """
    try:
        return answer(await asyncio.wrap_future(begun(service(request).change)))
    except BusyError:
        raise Refusal(409, "busy", "the run is being changed already, or another process makes it; ask again later.") from None
    except LifeloraError as error:
        tell("run not changed", level=logging.ERROR, error=error)
        raise Refusal(
            409, "run", "what is at RUN cannot be served, and the old run goes on; `lifelora show RUN` says why."
        ) from None
