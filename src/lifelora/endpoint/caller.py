"""An OpenAI-compatible endpoint and how it is called. Contacts the one that a recipe names; knows not what is asked of it.

The key comes from the environment variable that the recipe names; it is in no log, no error and no file. Redirects are
not followed, because they would carry the key elsewhere.
"""

import json
import math
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.client import HTTPException
from time import sleep
from typing import Any, TypeVar, final
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from lifelora.endpoint.request import Deadline, anyhow_written
from lifelora.errors import ConfigError, LifeloraError
from lifelora.types import Frozen

LARGEST = 1 << 26
"Bytes of an answer; what is larger is refused."
BLOCK = 1 << 16
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"Seconds before the first retry, doubled at each; and the longest, whatever the endpoint asks for."
SECRET = 8
"A shorter key is a placeholder (EMPTY, none) for a server that checks none."
MENDS = {
    400: "the request may be longer than the model reads, or a setting unknown to it",
    401: "check the key in the variable that key_variable names",
    403: "check the key and what it is allowed",
    404: "check url (it ends before /chat/completions or /embeddings; often in /v1) and model",
    413: "send less at once (batch_size, behaviours)",
}
A = TypeVar("A")


class EndpointError(LifeloraError, RuntimeError):
    """An endpoint did not answer, or not as it should; what was finished before is kept."""


class Endpoint(Frozen):
    """What both kinds of use have in common."""

    url: str
    "Where it is, up to what comes before /chat/completions: http://localhost:8000/v1."
    model: str = Field(min_length=1)
    "As the endpoint calls it."
    key_variable: str | None = Field(default=None, pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")
    "The environment variable that holds the key; no key is sent when left out."
    timeout: float = Field(default=120.0, gt=0, le=3600)
    "Seconds for one answer, from the connection to the last byte."
    retries: int = Field(default=5, ge=0, le=20)
    "How often one request is sent again after 429, 5xx or a broken connection."
    together: int = Field(default=4, ge=1, le=256)
    "Requests on their way at one time."

    @field_validator("url")
    @classmethod
    def _plain(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("url must begin with http:// or https:// and name a host")
        if parts.username or parts.password or parts.query or parts.fragment or not url.isprintable() or " " in url:
            raise ValueError("url must have no password, no '?' and no '#' in it; a key goes into the variable key_variable")
        return url.rstrip("/")


@final
@dataclass(frozen=True)
class _Wait:
    """Why a request is sent again, and how long the endpoint asks to wait (None: it does not say)."""

    why: str
    seconds: float | None = None


@final
class Caller:
    """Sends requests to one endpoint, again where that may help."""

    def __init__(self, config: Endpoint) -> None:
        self.config, self._key = config, _key(config.key_variable)
        self._found = anyhow_written(self._key) if self._key and len(self._key) >= SECRET else None

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """The JSON that comes back."""
        data = json.dumps(body).encode()
        for tried in range(self.config.retries + 1):
            answer = self._once(path, data)
            if not isinstance(answer, _Wait):
                return answer
            if tried < self.config.retries:
                asked = FIRST_WAIT * 2**tried if answer.seconds is None else answer.seconds
                sleep(min(asked, LONGEST_WAIT))
        raise EndpointError(
            f"{self.config.url}{path} failed {self.config.retries + 1} times, the last time with: {answer.why}. "
            "What was finished is kept: go on later, or raise retries."
        )

    def understood(self, answer: Any, read: Callable[[Any], A], path: str) -> A:
        """What ``read`` makes of an answer; EndpointError where it has another form."""
        try:
            return read(answer)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
            raise EndpointError(
                f"{self.config.url}{path} did not answer as an OpenAI-compatible endpoint does: "
                f"{self._shown(_again(answer))}; check url and model."
            ) from None

    def without_key(self, text: str) -> str:
        """The text with *** for the key, in case that an endpoint repeats it."""
        return text if self._found is None else self._found.sub("***", text)

    def _once(self, path: str, data: bytes) -> Any:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "lifelora"}
        if self._key:
            headers["Authorization"] = f"Bearer {self._key}"
        request = urllib.request.Request(self.config.url + path, data, headers, method="POST")
        with Deadline(self.config.timeout) as deadline:
            try:
                with deadline.opened(request) as answer:
                    body = self._read(answer, path)
                why = ""
            except urllib.error.HTTPError as error:
                with error:
                    return self._refused(error, path)
            except (OSError, HTTPException) as error:
                # The error's own context may hold the request; its text does not.
                why = str(getattr(error, "reason", error)) or type(error).__name__
        if deadline.over:
            why = f"timed out: there was no whole answer after {self.config.timeout:g} s"
        return _Wait(self._shown(why)) if why else self._json(body, path)

    def _read(self, answer: Any, path: str) -> bytes:
        """The body, unless it is too large or ends too early."""
        parts, size = [], 0
        while part := answer.read1(BLOCK):
            parts.append(part)
            size += len(part)
            if size > LARGEST:
                raise EndpointError(f"{self.config.url}{path} answered over {LARGEST:,} bytes; lower batch_size or check url.")
        if answer.length:
            raise ConnectionError(f"the connection ended {answer.length:,} bytes before the end of the answer")
        return b"".join(parts)

    def _json(self, body: bytes, path: str) -> Any:
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            shown = self._shown(body[:BLOCK].decode(errors="replace"))
            raise EndpointError(f"{self.config.url}{path} answered no JSON: {shown}; check url.") from None

    def _refused(self, error: urllib.error.HTTPError, path: str) -> _Wait:
        try:
            said = self._shown(error.read(BLOCK).decode(errors="replace"))
        except (OSError, HTTPException):
            said = ""
        what = f"status {error.code}{f' ({said})' if said else ''}"
        if error.code == 429 or error.code >= 500:
            return _Wait(what, _seconds(error.headers.get("Retry-After")))
        mend = MENDS.get(error.code, "give the endpoint's final address" if 300 <= error.code < 400 else "check url and model")
        raise ConfigError(f"{self.config.url}{path} refused model '{self.config.model}' with {what}: {mend}.") from None

    def _shown(self, text: str) -> str:
        # The key goes first: cut in two, it would no longer be found.
        return " ".join(self.without_key(text).split())[:300]


def _key(variable: str | None) -> str | None:
    if variable is None:
        return None
    key = os.environ.get(variable, "").strip()
    if not key:
        raise ConfigError(f"the environment variable {variable}, which key_variable names, is not set; set it to the key.")
    # http.client would show it in its own error.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise ConfigError(f"the environment variable {variable} holds a space or a sign that no key has; set it to the key.")
    return key


def _seconds(retry_after: str | None) -> float | None:
    """Seconds, given as such or as a date; None for anything else."""
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = parsedate_to_datetime(retry_after).timestamp() - time.time()
        except (ValueError, TypeError, IndexError, OverflowError, OSError):  # years that no clock has, among others
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _again(answer: Any) -> str:
    try:
        return json.dumps(answer)
    except (ValueError, RecursionError):  # what could just be read may be nested too deeply to be written
        return f"a value of type {type(answer).__name__}"


def together(work: Callable[[Any], None], pieces: Sequence[Any], workers: int) -> None:
    """All pieces, several at one time; after an error those on their way still finish, and no other begins."""
    failed = threading.Event()

    def unless_failed(piece: Any) -> None:
        if failed.is_set():
            return
        try:
            work(piece)
        except BaseException:
            failed.set()
            raise

    with ThreadPoolExecutor(workers) as pool:
        for _ in pool.map(unless_failed, pieces):
            pass
