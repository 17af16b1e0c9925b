"""Files by name out of a folder or a zip, as bytes. Knows no format; nothing of a zip is ever unpacked to disk."""

import zipfile
import zlib
from pathlib import Path

from lifelora.errors import ConfigError, DataError, Problem

MAX_MEMBER = 4 << 30
"""Bytes that one file of a zip may have once unpacked; MovieLens-25M's largest has 0.7e9."""


class Files:
    """The files directly in a folder, or anywhere in a zip (of equal names the least deep one)."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._members: dict[str, str] = {}
        if place.is_dir():
            self.names = {path.name for path in place.iterdir() if path.is_file()}
            return
        if not place.is_file():
            raise ConfigError(f"there is no folder or zip '{place}'; check the path.")
        try:
            with zipfile.ZipFile(place) as archive:
                members = [m for m in archive.namelist() if not m.endswith("/") and not m.startswith("__MACOSX/")]
        except zipfile.BadZipFile as error:
            what = f"neither a folder nor a sound zip ({error})"
            raise DataError([Problem(str(place), None, None, None, what)]) from error
        for member in sorted(members, key=lambda m: (-m.count("/"), m)):
            self._members[member.rpartition("/")[2]] = member
        self.names = set(self._members)

    def where(self, name: str) -> str:
        """The file as a person would look for it."""
        return str(self.place / self._members.get(name, name))

    def read(self, name: str) -> bytes:
        """The bytes of a file; DataError when a zip is damaged, encrypted, or unpacks to more than ``MAX_MEMBER``."""
        if name not in self._members:
            return (self.place / name).read_bytes()
        try:
            with zipfile.ZipFile(self.place) as archive, archive.open(self._members[name]) as stream:
                data = stream.read(MAX_MEMBER + 1)  # the size that a zip declares is only a claim
        except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError, EOFError) as error:
            what = f"cannot be unpacked ({error}); fetch the zip again"
            raise DataError([Problem(self.where(name), None, None, None, what)]) from error
        if len(data) > MAX_MEMBER:
            what = f"unpacks to more than {MAX_MEMBER:,} bytes; if that is right, unpack it and give the folder"
            raise DataError([Problem(self.where(name), None, None, None, what)])
        return data
