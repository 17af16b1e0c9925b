"""What every request passes first and every answer last: trace, size of the body, log, numbers. Knows no endpoint."""

import asyncio
import logging
import time
from collections.abc import Callable
from urllib.parse import unquote_to_bytes

from lifelora.serving.app.logs import tell
from lifelora.serving.app.metrics import Metrics
from lifelora.serving.app.problems import Refusal, response
from lifelora.serving.app.trace import Trace
from lifelora.serving.app.web import starlette

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""All else a client may call a method is counted as one."""
QUIET = frozenset({"/health/live", "/health/ready", "/metrics"})
"""Routes that are asked every few seconds: a line in the log only where they fail."""


class Gate:
    """Around an ASGI application."""

    def __init__(
        self, app: starlette.types.ASGIApp, metrics: Metrics, body: int, patience: float, draining: Callable[[], bool]
    ) -> None:
        """``body`` is how many bytes a request's may have, and ``patience`` in how many seconds all of it has to be there. Who is
        answered while the service is ``draining`` is told that the connection ends.
        """
        self._app, self._metrics, self._most = app, metrics, body
        self._patience, self._draining = patience, draining

    async def __call__(self, scope: starlette.types.Scope, receive: starlette.types.Receive, send: starlette.types.Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if scope["method"] == "HEAD":  # as GET; the server leaves the body out
            scope = {**scope, "method": "GET", "lifelora.method": "HEAD"}
        headers = dict[bytes, str]()
        for name, value in scope["headers"]:  # what comes in several lines is one list
            headers[name] = ",".join(filter(None, (headers.get(name), value.decode("latin-1"))))
        trace = scope["lifelora.trace"] = Trace.of(headers.get(b"traceparent"), headers.get(b"tracestate"))
        began, status, read, whole = time.perf_counter(), 0, 0, False

        async def receiving() -> starlette.types.Message:
            nonlocal read, whole
            if whole:  # what may come still is that the client goes away
                return await receive()
            try:
                async with asyncio.timeout(max(0.0, began + self._patience - time.perf_counter())):
                    message = await receive()
            except TimeoutError:
                raise self._slow() from None
            whole = not message.get("more_body", False)
            read += len(message.get("body", b""))
            if read > self._most:
                raise self._large(f"more than {self._most:,} bytes")
            return message

        async def sending(message: starlette.types.Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                own = [(b"traceparent", trace.parent.encode()), (b"x-content-type-options", b"nosniff")]
                own += [(b"tracestate", trace.state.encode())] if trace.state else []
                own += [(b"connection", b"close")] if self._draining() else []
                message["headers"] = [*message.get("headers", []), *own]
            await send(message)

        try:
            self._look(scope, headers)
            await self._app(scope, receiving, sending)
        except Refusal as refusal:
            if not status:
                await response(refusal, trace.id)(scope, receive, sending)
        except Exception as error:  # noqa: BLE001 - a fault of ours is an answer, too
            tell("fault", level=logging.ERROR, error=error, trace=trace.id)
            if not status:
                fault = Refusal(500, "fault", "a fault of the service; its log tells more under this trace.")
                await response(fault, trace.id)(scope, receive, sending)
        finally:
            self._seen(scope, trace, status or 500, time.perf_counter() - began)

    def _look(self, scope: starlette.types.Scope, headers: dict[bytes, str]) -> None:
        try:
            if raw := scope.get("raw_path"):  # servers put a sign in the place of such bytes, and another id would be meant
                scope["path"] = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            raise Refusal(
                400, "address", "the address has bytes that are not UTF-8; write ids in UTF-8, percent-encoded."
            ) from None
        length = headers.get(b"content-length", "0")
        if length.isdecimal() and int(length[:20]) > self._most:
            raise self._large(f"{int(length[:20]):,} bytes")

    def _large(self, came: str) -> Refusal:
        return Refusal(413, "too-large", f"the body has {came}; it may have {self._most:,} ([limits] body). Send it in parts.")

    def _slow(self) -> Refusal:
        told = f"the body was not there after {self._patience:g} s ([limits] deadline); send it again, in smaller parts."
        return Refusal(408, "slow", told, headers={"Connection": "close"})

    def _seen(self, scope: starlette.types.Scope, trace: Trace, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", "none")
        method = scope.get("lifelora.method", scope["method"])
        method = method if method in METHODS else "other"
        self._metrics.request(route, method, status, seconds)
        if route not in QUIET or status >= 500:
            tell("request", route=route, method=method, status=status, seconds=round(seconds, 6), trace=trace.id, span=trace.span)
