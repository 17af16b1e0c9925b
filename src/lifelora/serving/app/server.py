"""The process: a socket, the application on it, signals, and the end. Knows no endpoint.

SIGTERM (or Ctrl-C): /health/ready says 503 at once, no connection is taken any more, what is being answered is answered, then it
ends with 0. A second one ends it at once. SIGHUP: the keys are read anew, and the run at the same place is opened
anew and takes over.
"""

import asyncio
import errno
import signal
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from types import FrameType

from lifelora.errors import ConfigError, LifeloraError
from lifelora.serving.app.app import create
from lifelora.serving.app.doors import Doors
from lifelora.serving.app.keys import Keys
from lifelora.serving.app.limits import Limits
from lifelora.serving.app.logs import begin, tell
from lifelora.serving.app.service import Service
from lifelora.serving.app.waiting import begun, in_thread
from lifelora.serving.app.web import fastapi, uvicorn

ENDS = (signal.SIGTERM, signal.SIGINT)
BACKLOG = 2048
"""Connections that may wait to be taken."""


def bound(host: str, port: int) -> socket.socket:
    """A socket that listens there; ConfigError where none can."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        found = socket.socket(family, kind, protocol)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(address)
            found.listen(BACKLOG)
        except BaseException:
            found.close()
            raise
    except (OSError, UnicodeError, OverflowError) as error:
        number = getattr(error, "errno", None)
        if number == errno.EADDRINUSE:
            raise ConfigError(
                f"--port {port}: another process listens there; choose another port, or 0 for any that is free."
            ) from None
        if number == errno.EACCES:
            raise ConfigError(f"--port {port} may not be used by you; choose one above 1023.") from None
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"--host {host} --port {port}: {why}; give an address of this machine and a port.") from None
    return found


def address(listening: socket.socket) -> str:
    """Where a socket can be reached."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class Process(uvicorn.Server):
    """A server that ends with 0 when it is told to stop."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self.changes = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own way raises the signal again at the end."""
        handlers: dict[int, Callable[[int, FrameType | None], None]] = dict.fromkeys(ENDS, self.handle_exit)
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = lambda number, frame: self.changes.set()
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Drain; the second time, stop."""
        self.force_exit = self.should_exit
        self.should_exit = True
        self._service.state = "draining"


def serve(
    service: Service,
    listening: socket.socket,
    keys: Keys,
    limits: Limits,
    ready: Callable[[], None],
    read_keys: Callable[[], Keys],
) -> None:
    """Load and answer until a signal ends it. ``ready`` is called once, ``read_keys`` at each SIGHUP. Raises what loading
    raises.
    """
    begin()
    failed = list[BaseException]()

    async def load() -> None:
        try:
            await asyncio.wrap_future(begun(service.start))
            if service.state == "ready":
                ready()
            while True:
                await process.changes.wait()
                process.changes.clear()
                await change_keys(app.state.doors)
                try:
                    await asyncio.wrap_future(begun(service.change))
                except LifeloraError as error:
                    tell("run not changed", error=error)
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - the process ends with it
            failed.append(error)
            process.should_exit = True

    async def change_keys(doors: Doors) -> None:
        try:
            read = await in_thread(read_keys)
        except ConfigError as error:
            tell("keys not changed", error=error, why=str(error))
            return
        if read != doors.keys:
            doors.change(read)
            tell("keys changed")

    @asynccontextmanager
    async def lifespan(app: fastapi.FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(load())
        yield
        task.cancel()

    app = create(service, keys, limits, lifespan)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        timeout_graceful_shutdown=max(1, round(limits.drain)),
    )
    process = Process(config, service)
    process.run([listening])
    service.close(drain=not process.force_exit)
    if failed:
        raise failed[0]
    tell("stopped")
