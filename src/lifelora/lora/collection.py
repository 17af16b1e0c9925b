"""Many users' adapters side by side, each in a folder whose name is never used twice, and their index. Knows files, no model.

A server keeps what it has computed with an adapter under the adapter's name, so another adapter needs another name:

    NAME = USER@HASH,   HASH = the first 16 hexadecimal digits of SHA-256 over the user's id and the two files

USER is the id in characters that every file system takes. Its ``@`` is written %40, so a name has one. Ids that differ by case
alone have other hashes, since the id is hashed, too.
"""

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, TypeAlias, final
from urllib.parse import quote

from lifelora import foreign
from lifelora.artefacts import TORN, flush_folder, key_of, write_atomically
from lifelora.errors import ArtefactError, ConfigError
from lifelora.folders import KEY
from lifelora.lora.export import CONFIG, TENSORS

INDEX = "adapters.json"
FORMAT = 1
LONGEST = 200
"""Characters of an id as part of a folder's name: no file system takes names of more than 255 bytes."""
MAX_INDEX = 1 << 32
"""Bytes of an index."""
Files: TypeAlias = Mapping[str, bytes]
"""The two files of an adapter by name, as ``packed`` gives them."""


def as_name(user: str) -> str:
    """An id as part of a folder's name: what is no letter, digit, '_' or '-' becomes %XX, and a long one ends in its hash."""
    name = quote(user, safe="").replace(".", "%2E").replace("~", "%7E")
    return name if len(name) <= LONGEST else f"{name[: LONGEST - 17]}-{key_of(user)}"


def hash_of(user: str, files: Files) -> str:
    """HASH."""
    return key_of([user, {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}])


@final
@dataclass(frozen=True)
class Entry:
    """One adapter."""

    user: str
    "The id, as in the log; the system's name where one adapter serves all users."
    name: str
    path: str
    "Its folder, seen from the index."
    bytes: int
    hash: str
    rank: int

    @classmethod
    def of(cls, user: str, files: Files, rank: int) -> "Entry":
        """Of the files that it consists of."""
        made = hash_of(user, files)
        name = f"{as_name(user)}@{made}"
        return cls(user, name, name, sum(map(len, files.values())), made, rank)


@final
class Collection:
    """A folder of adapters of one system. What is changed here is on disk after ``save``."""

    def __init__(self, folder: Path, system: str, base_model: str) -> None:
        self.folder, self.system, self.base_model = folder, system, base_model
        self.current: dict[str, Entry] = {}
        "The newest adapter of each user."
        self.old: dict[str, Entry] = {}
        "Those that newer ones have replaced, by name."

    @classmethod
    def read(cls, folder: Path) -> "Collection":
        """What the index says. Raises ConfigError where there is none, ArtefactError where it is damaged."""
        path = folder / INDEX
        if not foreign.is_file(path):
            raise ConfigError(f"'{folder}' holds no {INDEX}; give a folder that `lifelora export --layout vllm` made.")
        try:
            told = foreign.json_value(foreign.text(path, MAX_INDEX))
            if told["format"] != FORMAT:
                raise foreign.Unreadable(f"its format is {told['format']!r}, and this lifelora knows {FORMAT}")
            found = cls(folder, str(told["system"]), str(told["base_model"]))
            found.current = {one.user: one for one in map(_entry, told["adapters"])}
            found.old = {one.name: one for one in map(_entry, told["old"])}
        except (foreign.Unreadable, KeyError, TypeError, ValueError) as error:  # ValueError: an id that is no text
            raise ArtefactError(f"{path} is damaged ({error}); move {folder} away, and export again.") from error
        return found

    @classmethod
    def open(cls, folder: Path, system: str, base_model: str) -> "Collection":
        """One that is there, or a new one. Raises ConfigError where something else is there, and nothing is changed."""
        if not (folder / INDEX).exists():
            if any((folder / name).exists() for name in (CONFIG, TENSORS)):
                raise ConfigError(f"'{folder}' is itself an adapter; choose another folder.")
            return cls(folder, system, base_model)
        found = cls.read(folder)
        if (found.system, found.base_model) != (system, base_model):
            raise ConfigError(
                f"'{folder}' holds adapters of system '{found.system}' for {found.base_model}, and these are of '{system}' for "
                f"{base_model}; choose another folder."
            )
        return found

    def add(self, user: str, files: Files, rank: int) -> bool:
        """Make these a user's newest adapter; whether anything was written: an adapter that is there is not written again.

        Its folder appears whole or not at all. Raises ArtefactError where something else has its name.
        """
        entry = Entry.of(user, files, rank)
        place = self.folder / entry.path
        written = not (place.exists() or place.is_symlink())
        if written:
            self._write(place, files)
        elif {name: _size(place / name) for name in files} != {name: len(content) for name, content in files.items()}:
            raise ArtefactError(f"{place} is there and is not the adapter of that name; move it away. It was left as it is.")
        before = self.current.get(user)
        if before is not None and before.name != entry.name:
            self.old[before.name] = before
        self.old.pop(entry.name, None)
        self.current[user] = entry
        return written

    def save(self) -> None:
        """Write the index; what is no longer on disk is not in it."""
        self.old = {name: one for name, one in self.old.items() if (self.folder / one.path).exists()}
        told = {"format": FORMAT, "system": self.system, "base_model": self.base_model}
        entries = {"adapters": list(self.current.values()), "old": list(self.old.values())}
        lines = {name: [asdict(one) for one in some] for name, some in entries.items()}
        write_atomically(self.folder / INDEX, json.dumps(told | lines, indent=1))

    def prune(self) -> tuple[int, list[Path]]:
        """Remove the old adapters: how many, and the folders that stay since they hold what lifelora did not put there."""
        places = [self.folder / entry.path for entry in self.old.values()]
        stay = [place for place in places if place.is_symlink() or not _ours(place)]
        gone = [place for place in places if place not in stay]
        for place in gone:
            _remove(place)
        self.save()
        return len(gone), stay

    def clear_torn(self) -> None:
        """Remove the folders that a killed process has not finished; the collection's folder must be owned."""
        for place in self.folder.glob(".*.part"):
            if TORN.fullmatch(place.name) and place.is_dir() and not place.is_symlink() and _ours(place):
                _remove(place)

    def _write(self, place: Path, files: Files) -> None:
        torn = place.with_name(f".{place.name}.0.part")
        torn.mkdir(parents=True, exist_ok=True)
        try:
            for name, content in files.items():
                write_atomically(torn / name, content)
            torn.rename(place)
        except BaseException:
            with contextlib.suppress(OSError):
                _remove(torn)
            raise
        flush_folder(self.folder)


def _entry(told: Any) -> Entry:
    """Of an index, whose paths lead nowhere but to the folders that their names say."""
    values = {field.name: told[field.name] for field in fields(Entry)}
    if not all(isinstance(value, int if name in ("bytes", "rank") else str) for name, value in values.items()):
        raise foreign.Unreadable(f"{foreign.shown(told)} is no adapter")
    entry = Entry(**values)
    if not KEY.fullmatch(entry.hash) or not entry.path == entry.name == f"{as_name(entry.user)}@{entry.hash}":
        raise foreign.Unreadable(f"{foreign.shown(entry.name)} is not the name of that user's adapter")
    return entry


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1


def _ours(place: Path) -> bool:
    """Whether a folder holds an adapter's files, or half-written ones of these, and nothing else."""
    return all(one.name in (CONFIG, TENSORS) or TORN.fullmatch(one.name) for one in place.iterdir()) if place.is_dir() else False


def _remove(place: Path) -> None:
    """One of ours; the configuration first, by which a server finds an adapter."""
    for path in sorted(place.iterdir(), key=lambda path: path.name != CONFIG):
        path.unlink()
    place.rmdir()
