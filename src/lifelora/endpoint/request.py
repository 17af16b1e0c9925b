"""One HTTP request that ends in time, and a key that is kept out of what is said. Knows no protocol above HTTP.

A timeout of a socket begins anew with every byte, so that a server may drip a status, headers or a body for hours. A
``Deadline`` is one for all of it: when it is over, the connection is cut, whatever it is doing.
"""

import http.client
import re
import socket
import threading
import urllib.request
from contextlib import suppress
from types import TracebackType
from typing import Any, final

MOST_BACKSLASHES = 4
"""Of JSON inside of JSON inside of JSON; a bound, so that a text of nothing else is searched in linear time."""


@final
class Deadline:
    """``with Deadline(seconds) as deadline, deadline.opened(request) as answer:``"""

    def __init__(self, seconds: float) -> None:
        self.over = False
        self._seconds = seconds
        self._lock = threading.Lock()
        self._connection: http.client.HTTPConnection | None = None
        self._socket: socket.socket | None = None
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> "Deadline":
        self._timer.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._timer.cancel()

    def opened(self, request: urllib.request.Request) -> Any:
        """The answer, as ``urlopen`` gives it, but no redirect is followed; its errors are urllib's and http.client's."""
        opener = urllib.request.build_opener(_NoRedirect, _Http(self), _Https(self))
        return opener.open(request, timeout=self._seconds)

    def watch(self, connection: http.client.HTTPConnection) -> None:
        """Cut this connection; its socket is known once it is connected, and no longer once an answer has it."""
        connect = connection.connect

        def connected() -> None:
            connect()
            with self._lock:
                self._socket = connection.sock
            if self.over:
                self._cut()

        self._connection = connection
        connection.connect = connected  # type: ignore[method-assign]

    def _cut(self) -> None:
        self.over = True
        with self._lock:
            # Before it is connected it may wait for a proxy, whose socket the connection has.
            found = self._socket or (self._connection.sock if self._connection else None)
        if found is not None:
            with suppress(OSError):  # it has ended by itself
                socket.socket.shutdown(found, socket.SHUT_RDWR)  # an SSL socket's own would first forget its session


class _Http(urllib.request.HTTPHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def do_open(self, http_class: Any, req: urllib.request.Request, **options: Any) -> Any:
        return super().do_open(_watched(http_class, self._deadline), req, **options)


class _Https(urllib.request.HTTPSHandler):
    def __init__(self, deadline: Deadline) -> None:
        super().__init__()
        self._deadline = deadline

    def do_open(self, http_class: Any, req: urllib.request.Request, **options: Any) -> Any:
        return super().do_open(_watched(http_class, self._deadline), req, **options)


def _watched(kind: Any, deadline: Deadline) -> Any:
    def made(*place: Any, **options: Any) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection = kind(*place, **options)
        deadline.watch(connection)
        return connection

    return made


@final
class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """None makes of a redirect an HTTPError: the key must not go elsewhere."""


def anyhow_written(secret: str) -> re.Pattern[str]:
    r"""Finds a secret as it is, and as JSON (``\u0041``, ``\/``, also inside of other JSON), an address (``%41``) or a page
    (``&#65;``, ``&#x41;``) may write any of its characters."""

    def one(sign: str) -> str:
        code = "".join(f"[{digit}{digit.upper()}]" if digit.isalpha() else digit for digit in f"{ord(sign):02x}")
        some = rf"\\{{1,{MOST_BACKSLASHES}}}"
        return rf"(?:(?:{some})?{re.escape(sign)}|{some}u00{code}|%{code}|&#0{{0,4}}{ord(sign)};|&#[xX]0{{0,4}}{code};)"

    return re.compile("".join(map(one, secret)))
