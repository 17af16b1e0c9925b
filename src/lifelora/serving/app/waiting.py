"""How an endpoint waits: for an engine's answer, or for work of a thread. A client that has gone cancels what it asked for."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
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


def begun(work: Callable[[], Made]) -> "Future[Made]":
    """Work in a thread that the end of the process does not wait for: who stops a service that loads does not want it loaded."""
    future: Future[Made] = Future()

    def do() -> None:
        try:
            made = work()
        except BaseException as error:  # noqa: BLE001 - who waits gets it
            with suppress(InvalidStateError):  # no caller waits any more
                future.set_exception(error)
        else:
            with suppress(InvalidStateError):
                future.set_result(made)

    threading.Thread(target=do, name="lifelora loading", daemon=True).start()
    return future


async def _gone(request: starlette.requests.Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
