"""An OpenAI-compatible endpoint that writes texts or makes vectors. Contacts the one that a recipe names, and nothing else.

The key comes from the environment variable that the recipe names; it is in no log, no error and no file. Redirects are
not followed, because they would carry the key elsewhere.
"""

import base64
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
from pathlib import Path
from time import sleep
from typing import Any, Literal, TypeVar, final
from urllib.parse import urlsplit

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field, field_validator
from torch import Tensor

from lifelora.errors import ArtefactError, ConfigError, LifeloraError
from lifelora.knowledge.request import Deadline, anyhow_written
from lifelora.knowledge.write import FILE, Keep, Store, finished
from lifelora.types import Frozen

VECTORS_FILE = "embedded.jsonl"
LARGEST = 1 << 26
"Bytes of an answer; what is larger is refused."
BLOCK = 1 << 16
FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0
"Seconds before the first retry, doubled at each; and the longest, whatever the endpoint asks for."
SECRET = 8
"A shorter key is a placeholder (EMPTY, none) for a server that checks none."
MENDS = {
    400: "the request may be longer than the model reads, or a setting unknown to it",
    401: "check the key in the variable that key_variable names", 403: "check the key and what it is allowed",
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


class EndpointWriter(Endpoint):
    """A chat model behind an endpoint writes."""

    kind: Literal["endpoint"] = "endpoint"
    max_tokens: int = Field(default=128, ge=1)


class EndpointVectors(Endpoint):
    """An embedding model behind an endpoint makes vectors."""

    kind: Literal["endpoint"] = "endpoint"
    batch_size: int = Field(default=64, ge=1)
    "Texts in one request."
    dimensions: int | None = Field(default=None, ge=1)
    "Kept by PCA; the vectors as they are when left out."


def write(prompts: Sequence[str], config: EndpointWriter, folder: Path, *, progress: bool = True) -> list[str]:
    """The endpoint's answer to every prompt, at temperature 0; finished ones are read from ``folder``.

    Raises ConfigError for what the endpoint refuses and EndpointError for what it cannot do now; going on later asks for
    what is missing only.
    """
    store = Store(folder / FILE, {"url": config.url, "model": config.model, "max_tokens": config.max_tokens, "temperature": 0})
    caller = Caller(config)

    def one(prompt: str) -> str:
        answer = caller.post("/chat/completions", {
            "model": config.model, "messages": [{"role": "user", "content": prompt}], "temperature": 0,
            "max_tokens": config.max_tokens,
        })
        return caller.without_key(caller.understood(answer, _content, "/chat/completions"))

    def make(some: list[str], keep: Keep) -> None:
        def work(prompt: str) -> None:
            keep([prompt], [one(prompt)])

        _together(work, some, config.together)

    return finished(prompts, store, make, "write", progress)


def embed(
    texts: Sequence[str], config: EndpointVectors, folder: Path, *, progress: bool = True
) -> Float[Tensor, "N D"]:
    """The endpoint's vector of every text, none of which may be empty; finished ones are read from ``folder``."""
    store = Store(folder / VECTORS_FILE, {"url": config.url, "model": config.model})
    caller = Caller(config)

    def make(some: list[str], keep: Keep) -> None:
        def work(batch: list[str]) -> None:
            answer = caller.post("/embeddings", {"model": config.model, "input": batch})
            vectors_ND = caller.understood(answer, lambda body: _vectors(body, len(batch)), "/embeddings")
            keep(batch, [base64.b64encode(row.astype("<f4").tobytes()).decode() for row in vectors_ND])

        _together(work, [some[at : at + config.batch_size] for at in range(0, len(some), config.batch_size)], config.together)

    written = finished(texts, store, make, "embed", progress)
    try:
        rows = [np.frombuffer(base64.b64decode(row, validate=True), "<f4") for row in written]
    except ValueError as error:
        raise ArtefactError(f"{store.path} holds a vector that is none ({error}); delete it: all are asked for again.") from error
    widths = {len(row) for row in rows}
    if len(widths) != 1:
        raise EndpointError(f"{config.url}/embeddings has given vectors of different lengths ({sorted(widths)}); delete "
                            f"{store.path} and ask one model for all.")
    vectors_ND = np.stack(rows).astype(np.float32)
    if not np.isfinite(vectors_ND).all():
        raise ArtefactError(f"{store.path} holds a vector with NaN or infinity; delete it: all are asked for again.")
    return torch.from_numpy(vectors_ND)


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
        raise EndpointError(f"{self.config.url}{path} failed {self.config.retries + 1} times, the last time with: {answer.why}. "
                            "What was finished is kept: go on later, or raise retries.")

    def understood(self, answer: Any, read: Callable[[Any], A], path: str) -> A:
        """What ``read`` makes of an answer; EndpointError where it has another form."""
        try:
            return read(answer)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError):
            raise EndpointError(f"{self.config.url}{path} answered something else than an OpenAI-compatible endpoint does: "
                                f"{self._shown(_again(answer))}; check url and model.") from None

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
        raise ConfigError(f"the environment variable {variable} holds a space or a sign that is in no key; set it to the key.")
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


def _content(answer: Any) -> str:
    content = answer["choices"][0]["message"]["content"]
    if not isinstance(content, str | None):
        raise TypeError
    # A lone surrogate could be written to no file and read by no tokenizer.
    return (content or "").strip().encode(errors="replace").decode()


def _vectors(answer: Any, count: int) -> Float[np.ndarray, "N D"]:
    by_place = {row["index"]: row["embedding"] for row in answer["data"]}
    vectors_ND = np.array([by_place[place] for place in range(count)], np.float32)
    if vectors_ND.ndim != 2 or not vectors_ND.size or not np.isfinite(vectors_ND).all():
        raise ValueError
    return vectors_ND


def _together(work: Callable[[Any], None], pieces: Sequence[Any], workers: int) -> None:
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
