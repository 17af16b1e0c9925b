"""The door to FastAPI, uvicorn and prometheus-client, which the extra ``serve`` brings. Knows no endpoint."""

from lifelora.errors import MissingExtraError

try:
    import fastapi.exceptions
    import fastapi.routing
    import fastapi.security
    import prometheus_client
    import prometheus_client.core
    import prometheus_client.registry
    import starlette.concurrency
    import starlette.exceptions
    import starlette.requests
    import starlette.responses
    import starlette.routing
    import starlette.types
    import uvicorn
except ImportError as error:
    raise MissingExtraError(str(error.name or "fastapi").partition(".")[0], "serve", "the live service") from None

__all__ = ["fastapi", "prometheus_client", "starlette", "uvicorn"]
