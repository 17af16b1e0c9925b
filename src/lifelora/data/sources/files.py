"""Files by name out of a folder or a zip, as bytes. Knows no format; nothing of a zip is ever unpacked to disk."""

import zipfile
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from fnmatch import fnmatch
from io import BufferedIOBase
from pathlib import Path
from typing import cast

from lifelora import foreign
from lifelora.data.unpacked import UNREADABLE, most
from lifelora.errors import ConfigError, DataError, Problem

MAX_MEMBER = 4 << 30
"""Bytes that one file of a zip may have once unpacked; MovieLens-25M's largest has 0.7e9."""


class Files:
    """The files directly in a folder, or anywhere in a zip (of equal names the least deep one)."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._members: dict[str, zipfile.ZipInfo] = {}
        if not foreign.exists(place):
            raise ConfigError(f"there is no folder or zip '{place}'; check the path.")
        try:
            if place.is_dir():
                self.names = {path.name for path in place.iterdir() if path.is_file()}
                return
            with zipfile.ZipFile(place) as archive:
                members = [m for m in archive.infolist() if not m.is_dir() and not m.filename.startswith("__MACOSX/")]
        except UNREADABLE as error:
            what = f"neither a folder nor a sound zip ({error})"
            raise DataError([Problem(str(place), None, None, None, what)]) from error
        for member in sorted(members, key=lambda m: (-m.filename.count("/"), m.filename)):
            self._members[member.filename.rpartition("/")[2]] = member
        self.names = set(self._members)

    def paths(self, names: Iterable[str]) -> list[Path]:
        """Where these are on disk, in the order of their names: files of a folder, or the zip that has all of them."""
        return [self.place] if self._members else [self.place / name for name in sorted(names)]

    def where(self, name: str) -> str:
        """The file as a user would look for it."""
        return str(self.place / (self._members[name].filename if name in self._members else name))

    def packed(self, name: str) -> int:
        """Bytes that a file takes, in the zip or in the folder."""
        try:
            return self._members[name].compress_size if name in self._members else (self.place / name).stat().st_size
        except OSError as error:
            raise self._cannot_read(name, error) from error

    def read(self, name: str) -> bytes:
        """The bytes of a file; DataError when it cannot be read, or a zip is damaged, encrypted, or unpacks to too much."""
        if name not in self._members:
            try:
                return (self.place / name).read_bytes()
            except OSError as error:
                raise self._cannot_read(name, error) from error
        allowed = min(MAX_MEMBER, most(self.packed(name)))
        try:
            with zipfile.ZipFile(self.place) as archive, archive.open(self._members[name]) as stream:
                data = stream.read(allowed + 1)  # the size that a zip declares is only a claim
        except UNREADABLE as error:
            raise self._cannot_unpack(name, error) from error
        if len(data) > allowed:
            what = f"unpacks to more than {allowed:,} bytes; if that is right, unpack it and give the folder"
            raise DataError([Problem(self.where(name), None, None, None, what)])
        return data

    @contextmanager
    def open(self, name: str) -> Iterator[BufferedIOBase]:
        """A file to read piece by piece, for one that is too large for ``read``; who reads it bounds what comes."""
        if name not in self._members:
            try:
                plain = (self.place / name).open("rb")
            except OSError as error:
                raise self._cannot_read(name, error) from error
            with plain:
                yield plain
            return
        with ExitStack() as opened:  # closes the archive, too, where its member cannot be opened
            try:
                archive = opened.enter_context(zipfile.ZipFile(self.place))
                stream = cast(BufferedIOBase, opened.enter_context(archive.open(self._members[name])))
            except UNREADABLE as error:
                raise self._cannot_unpack(name, error) from error
            yield stream

    def _cannot_unpack(self, name: str, error: Exception) -> DataError:
        what = f"cannot be unpacked ({error}); fetch the zip again"
        return DataError([Problem(self.where(name), None, None, None, what)])

    def _cannot_read(self, name: str, error: OSError) -> DataError:
        return DataError([Problem(self.where(name), None, None, None, f"cannot be read ({error.strerror or error})")])

    def only(self, what: str, patterns: tuple[str, ...], besides: tuple[str, ...] = ()) -> str | None:
        """The one file whose name fits, None where there is none; ConfigError where there are several."""
        fit = sorted(
            name for name in self.names if any(fnmatch(name, p) for p in patterns) and not any(fnmatch(name, p) for p in besides)
        )
        if len(fit) > 1:
            raise ConfigError(
                f"'{self.place}' holds {len(fit)} files of {what} ({', '.join(fit[:5])}); leave the one that is meant, "
                "or give a folder of its own."
            )
        return fit[0] if fit else None

    def lacks(self, what: str) -> ConfigError:
        """The error of a place that lacks something, with what it has."""
        return ConfigError(f"'{self.place}' holds no {what}. It has: {', '.join(sorted(self.names)[:20]) or 'no files'}.")
