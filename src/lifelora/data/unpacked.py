"""Unpacking a stream: what it may raise, and how much may come out. Knows archives, and no format of what is in them."""

import gzip
import lzma
import struct
import zipfile
import zlib
from io import BufferedIOBase
from typing import cast

import pyarrow as pa

UNREADABLE = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    RuntimeError,
    NotImplementedError,
    ValueError,
    OverflowError,
    struct.error,
)
"""What zipfile, gzip and Arrow's zstd raise for damage: a cut member (EOFError), an encrypted one (RuntimeError), one packed in a
way that they do not know (NotImplementedError), a wrong sum (BadZipFile, OSError), and impossible numbers (the last three)."""
FREE = 1 << 30
"""Bytes that any archive may unpack to."""
GROWTH = 100
"""Beyond that, how many times its size: JSON lines pack to a tenth, nothing but ends of lines to a thousandth."""
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
"""First bytes. Names say .gz of files that are none, and the other way round."""


def most(packed: int) -> int:
    """Bytes that an archive of this size may unpack to."""
    return max(FREE, GROWTH * packed)


def plain(stream: BufferedIOBase) -> BufferedIOBase:
    """What a stream holds, unpacked where it begins as gzip or zstd does; reading it may raise any of ``UNREADABLE``."""
    start = stream.read(len(ZSTD))
    stream.seek(0)
    if start.startswith(GZIP):
        return gzip.GzipFile(fileobj=stream)
    if start == ZSTD:
        return cast(BufferedIOBase, pa.CompressedInputStream(stream, "zstd"))
    return stream
