"""How an endpoint waits: for an engine's answer, or for work of a thread. A client that has gone cancels what it asked for."""

import asyncio
from concurrent.futures import Future
from typing import TypeVar

from lifelora.serving.app.problems import Refusal
from lifelora.serving.app.web import starlette

Made = TypeVar("Made")
in_thread = starlette.concurrency.run_in_threadpool


async def answered(request: starlette.requests.Request, future: "Future[Made]") -> Made:
    """The result of a future, or its error; it is cancelled where the client goes away before."""
    waiting = asyncio.wrap_future(future)
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            gone.result()  # or what was wrong with a body that was too large
            raise Refusal(400, "gone", "the client went away before the answer.")
        return waiting.result()
    finally:
        gone.cancel()
        if not waiting.done():
            waiting.cancel()


async def _gone(request: starlette.requests.Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
