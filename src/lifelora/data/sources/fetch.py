"""Fetching one published file with its published checksum. Knows no data set and opens no archive."""

import hashlib
import os
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from http.client import HTTPException
from pathlib import Path
from typing import Any

from lifelora.errors import DataError, Problem

TIMEOUT = 30.0
BLOCK = 1 << 20
LARGEST = 1 << 34
"""Bytes of a file; the largest published set has 1.6e9."""
Watch = Callable[[int, int | None], None]
"""Called with the bytes that have come and, where the server says so, the bytes due."""


def fetch(url: str, to: Path, watch: Watch | None = None) -> Path:
    """``url`` as a file in the folder ``to``, checked against the MD5 published at ``url`` + '.md5'.

    A file of that name that is there already is not fetched again. The file appears under its name only when it is
    complete and its checksum is right.
    """
    target = to / url.rpartition("/")[2]
    if target.exists():
        return target
    with _opened(f"{url}.md5", target) as answer:
        published = re.search(r"\b[0-9a-f]{32}\b", answer.read(4096).decode("ascii", "replace").lower())
    if not published:
        raise _failure(f"{url}.md5", target, "it holds no MD5 checksum")
    to.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    digest, come = hashlib.md5(usedforsecurity=False), 0
    try:
        with _opened(url, target) as answer, temporary.open("wb") as stream:
            said = answer.headers["Content-Length"] or ""
            due = int(said) if said.isascii() and said.isdigit() and len(said) < 16 else None
            while block := answer.read(BLOCK):
                stream.write(block)
                digest.update(block)
                come += len(block)
                if come > LARGEST:
                    raise _failure(url, target, f"it has more than {LARGEST:,} bytes")
                if watch:
                    watch(come, due)
        if due is not None and come < due:
            raise _failure(url, target, f"the connection ended after {come:,} of {due:,} bytes")
        if digest.hexdigest() != published[0]:
            why = f"its MD5 is {digest.hexdigest()} and the published one {published[0]}: it was cut or altered"
            raise _failure(url, target, why)
        temporary.replace(target)
    except (OSError, HTTPException) as error:
        raise _failure(url, target, f"the connection broke ({error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _opened(url: str, target: Path) -> Any:
    try:
        return urllib.request.urlopen(url, timeout=TIMEOUT)
    except (urllib.error.URLError, OSError, HTTPException) as error:
        raise _failure(url, target, str(error)) from error


def _failure(url: str, target: Path, why: str) -> DataError:
    mend = f"try again, or fetch it on a machine with a connection and put it at {target}"
    return DataError([Problem(url, None, None, None, f"cannot be fetched: {why}; {mend}")])
