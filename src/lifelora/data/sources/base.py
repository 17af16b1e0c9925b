"""What every source of data promises: it names the files that it reads, and reads them. Knows no data set."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar, final

from lifelora.artefacts import file_hash
from lifelora.data.raw import RawTables
from lifelora.errors import ConfigError, DataError, Problem
from lifelora.kinds import Variant, path_of


class Source(Variant, ABC):
    """Where a log, a catalogue and profiles come from; the fields of a subclass say which, in a recipe's words.

    A subclass is final. ``files`` has to name every file whose contents reach ``read``: a finished stage is used again
    as long as they are the same.
    """

    form: ClassVar[str] = ""
    "How the command line writes it, for messages: ``KIND:PLACE``; empty where a recipe alone can name it."
    published: ClassVar[Mapping[str, str]] = {}
    """MD5, by the file's name, of files that are fetched when they are needed. By it such a file is known before it is there."""

    @classmethod
    def at(cls, place: str) -> "Source":
        """The source that the command line writes as ``KIND:PLACE``; ConfigError where it has no such place."""
        raise ConfigError(f"'{path_of(cls)}' cannot be written on the command line; name it in a recipe, in [data.source].")

    @property
    @abstractmethod
    def label(self) -> str:
        """What reports call the data set."""

    @abstractmethod
    def files(self) -> list[Path]:
        """Every file that ``read`` reads, a zip as one file; none where the data are computed.

        Raises ConfigError where they are not there; one that is fetched when it is needed may be missing.
        """

    @abstractmethod
    def read(self, download: bool = False) -> RawTables:
        """The checked tables; only a source that can be fetched cares whether that is allowed.

        Raises ConfigError where there is nothing to read, and DataError, with all that is wrong, for bad rows.
        """

    @final
    def fingerprint(self) -> str:
        """SHA-256 over the names and contents of ``files``: names as they stand below the folder that holds all of them.

        A file that is still to be fetched counts as what its publisher says that it is, so fetching it changes nothing.
        Raises ConfigError for a missing file of which nothing is known, and DataError for one that cannot be read.
        """
        paths = [path.absolute() for path in self.files()]
        root = os.path.commonpath([path.parent for path in paths]) if paths else ""
        digest = hashlib.sha256()
        for path in paths:
            digest.update(f"{path.relative_to(root).as_posix()} {self._sum(path)}\n".encode())
        return digest.hexdigest()

    def _sum(self, path: Path) -> str:
        published = self.published.get(path.name)
        try:
            if published is None:
                return file_hash(path)
            with path.open("rb") as stream:
                return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        except FileNotFoundError as error:
            if published is not None:
                return published
            raise ConfigError(f"there is no file '{path}', which {self.label} reads; check the path.") from error
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or error
            raise DataError([Problem(str(path), None, None, None, f"cannot be read ({why})")]) from error
