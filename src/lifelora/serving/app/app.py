"""The application: endpoints behind the gate and the doors, and how errors are answered. Knows no model and no socket."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from lifelora import __version__
from lifelora.errors import LifeloraError
from lifelora.serving.app.doors import Door, Doors
from lifelora.serving.app.gate import Gate
from lifelora.serving.app.keys import Keys
from lifelora.serving.app.limits import Limits
from lifelora.serving.app.metrics import Metrics
from lifelora.serving.app.problems import of_error, response
from lifelora.serving.app.routes import admin, asking, finding, page, told, users, watching, writing
from lifelora.serving.app.routes.common import Request, Response
from lifelora.serving.app.service import Service
from lifelora.serving.app.web import fastapi, starlette

ABOUT = "Scores and recommendations by a run of lifelora, and events that it is told of. Refusals are RFC 9457 problem details."
Lifespan = Callable[[fastapi.FastAPI], AbstractAsyncContextManager[None]]


def create(
    service: Service, keys: Keys | None = None, limits: Limits | None = None, lifespan: Lifespan | None = None
) -> fastapi.FastAPI:
    """The application of a service, which may be loading still."""
    keys, limits, metrics = keys or Keys(), limits or Limits(), Metrics(service.state_of_engine)
    app = fastapi.FastAPI(
        title="lifelora",
        version=__version__,
        description=ABOUT,
        docs_url=None,  # its page would load from other hosts
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan or _nothing,
    )
    app.state.service, app.state.metrics, app.state.doors = service, metrics, Doors(keys, limits, metrics)
    for router in (
        page.router,
        finding.router,
        asking.router,
        told.router,
        writing.router,
        users.reading,
        users.ruling,
        watching.open_to_all,
        watching.reading,
        admin.router,
    ):
        app.include_router(router, dependencies=_needed(router, keys))
    for kind in (starlette.exceptions.HTTPException, fastapi.exceptions.RequestValidationError, LifeloraError):
        app.add_exception_handler(kind, _refused)
    app.add_middleware(
        Gate, metrics=metrics, body=limits.body, patience=limits.deadline, draining=lambda: service.state == "draining"
    )
    return app


def _needed(router: fastapi.APIRouter, keys: Keys) -> list[Any]:
    """What the document says of the key that the endpoints of a router need. The doors ask for it themselves."""
    if not keys.named or not issubclass(router.route_class, Door):
        return []
    bearer = fastapi.security.HTTPBearer(auto_error=False, scheme_name="key", description="A key of the service's file of keys.")
    return [fastapi.Security(bearer, scopes=[router.route_class.role])]


async def _refused(request: Request, error: Exception) -> Response:
    is_method = isinstance(error, starlette.exceptions.HTTPException) and error.status_code == 405
    refusal = of_error(error, _allowed(request) if is_method else "")
    if refusal is None or refusal.status_code == 500:
        raise error  # the gate tells the log
    return response(refusal, request.scope["lifelora.trace"].id)


def _allowed(request: Request) -> str:
    """The methods of all endpoints at an address: who refuses one knows those of the first alone."""

    def taken(method: str) -> bool:
        asked = {**request.scope, "method": method}
        return any(route.matches(asked)[0] is starlette.routing.Match.FULL for route in request.app.router.routes)

    allowed = [method for method in ("GET", "POST", "PUT", "DELETE") if taken(method)]
    return ", ".join([*allowed, *(["HEAD"] if "GET" in allowed else [])])


@asynccontextmanager
async def _nothing(app: fastapi.FastAPI) -> AsyncIterator[None]:
    yield
