"""What unpacking may raise, and how much may come out. Knows archives, and no format of what is in them."""

import lzma
import struct
import zipfile
import zlib

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
"""What zipfile and gzip raise for damage: a cut member (EOFError), an encrypted one (RuntimeError), one packed in a way that
they do not know (NotImplementedError), a wrong sum (BadZipFile, OSError), and impossible numbers (the last three)."""
FREE = 1 << 30
"""Bytes that any archive may unpack to."""
GROWTH = 100
"""Beyond that, how many times its size: JSON lines pack to a tenth, nothing but ends of lines to a thousandth."""


def most(packed: int) -> int:
    """Bytes that an archive of this size may unpack to."""
    return max(FREE, GROWTH * packed)
