"""One file of a user's, perhaps packed (gzip, zstd, zip), as bytes or as a stream. Knows no format of what is in it."""

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from lifelora.data.unpacked import UNREADABLE, most, plain
from lifelora.foreign import Unreadable

ZIP = b"PK\x03\x04"
BLOCK = 1 << 26
"""Bytes unpacked at a time."""
ENDINGS = (".gz", ".zst", ".zip")
"""What names of packed files end in. Whether a file is packed is seen from its first bytes."""


@dataclass(frozen=True)
class Opened:
    """A file, or one member of a zip. Every method raises ``Unreadable`` where it cannot be read, or unpacks to too much."""

    path: Path
    member: str | None = None
    "Which file of a zip is meant; may be left out where it holds one."

    @contextmanager
    def stream(self) -> Iterator[tuple[BufferedIOBase, str]]:
        """The bytes, out of a zip yet perhaps still in gzip or zstd, and the name that the file has (in a zip: there)."""
        try:
            with self.path.open("rb") as outer:
                start = outer.read(len(ZIP))
                outer.seek(0)
                if start != ZIP:
                    yield outer, self.path.name
                    return
                with zipfile.ZipFile(outer) as archive, archive.open(name := self._meant(archive)) as inner:
                    yield cast(BufferedIOBase, inner), name
        except UNREADABLE as error:
            raise Unreadable(getattr(error, "strerror", None) or error) from error

    def start(self, length: int) -> tuple[bytes, str]:
        """The first bytes, unpacked, and the file's name without the ending of what it is packed in."""
        with self.stream() as (stream, name):
            for ending in ENDINGS:
                name = name.removesuffix(ending)
            return plain(stream).read(length), name

    def content(self) -> bytes:
        """All bytes, unpacked."""
        allowed, come, blocks = most(self.size()), 0, list[bytes]()
        with self.stream() as (stream, _):
            inner = plain(stream)
            while block := inner.read(BLOCK):
                come += len(block)
                if come > allowed:
                    raise Unreadable(f"it unpacks to more than {allowed:,} bytes; if that is right, unpack it")
                blocks.append(block)
        return b"".join(blocks)

    def size(self) -> int:
        """Bytes on disk."""
        try:
            return self.path.stat().st_size
        except (OSError, ValueError) as error:
            raise Unreadable(getattr(error, "strerror", None) or error) from error

    def _meant(self, archive: zipfile.ZipFile) -> str:
        names = [m.filename for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
        if self.member in names:
            return str(self.member)
        if self.member is None and len(names) == 1:
            return names[0]
        said = f"the zip holds {len(names)} files ({', '.join(names[:10])})"
        raise Unreadable(f"{said}; name one: {{ path = ..., member = ... }}")
