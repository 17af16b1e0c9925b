"""Files that outlive a kill: written whole or not at all, hashed, and read with the place of what is wrong. Knows no stage."""

import errno
import hashlib
import json
import os
import re
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lifelora.errors import ArtefactError

TORN = re.compile(r"\..+\.\d+\.part")
"""What ``write_atomically`` calls a file that it has not finished."""


def canonical(value: Any) -> str:
    """JSON with sorted keys and no spaces: equal values give equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def key_of(value: Any) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of ``canonical(value)``."""
    return hashlib.sha256(canonical(value).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def kept_hash(path: Path) -> str:
    """The same, computed once a process while nothing touches the file."""
    now = path.stat()
    return _hash_at(path, now.st_size, now.st_mtime_ns, now.st_ctime_ns)


@lru_cache(maxsize=1 << 14)
def _hash_at(path: Path, size: int, mtime_ns: int, ctime_ns: int) -> str:
    return file_hash(path)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write beside ``path``, flush to disk, then rename: readers see the old file or the new one, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Names in a folder to disk: a rename or a removal there outlives a power cut."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows opens no folders
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # file systems that cannot, such as some network ones
            raise
    finally:
        os.close(descriptor)


def reserve(path: Path) -> None:
    """Disk for the whole of a file as long as it says: a full disk is an OSError now, and not SIGBUS in a memory map later."""
    if hasattr(os, "posix_fallocate") and path.stat().st_size:
        with path.open("rb+") as stream:
            os.posix_fallocate(stream.fileno(), 0, path.stat().st_size)


def clear_torn(folder: Path, name: str | None = None) -> None:
    """Remove the half-written files that a killed process left anywhere in ``folder``, one of ours; or, of one that is not ours
    alone, the half-written ``name`` beside it.
    """
    for path in folder.rglob(".*.part") if name is None else folder.glob(f".{name}.*.part"):
        if TORN.fullmatch(path.name) and path.is_file():
            path.unlink(missing_ok=True)


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``; ArtefactError, with the place, when it is missing or damaged."""
    mend = f"move {path.parent} away, and `lifelora run` makes it again"
    try:
        value = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ArtefactError(f"{path} does not exist; run the stage that makes it.") from None
    except (ValueError, RecursionError, IsADirectoryError) as error:  # UnicodeDecodeError is a ValueError, too
        raise ArtefactError(f"{path} is damaged ({error}); {mend}.") from error
    if not isinstance(value, dict):
        raise ArtefactError(f"{path} is damaged (its JSON is no object); {mend}.")
    return value


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of ``packages``; absent ones are 'absent'."""

    def one(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "absent"

    return {package: one(package) for package in packages}
