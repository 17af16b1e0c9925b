"""Stages on disk: a folder is complete when its manifest is there and its files are what it says. Knows not what they mean.

A stage is built beside its place, in ``NAME.working``, and moved there when it is whole. Its manifest holds the configuration,
the versions, the keys of its inputs, and size, time and hash of every file. A stage whose key matches is not computed again; one
whose key differs is made anew, and why is said; one that was interrupted keeps its working files only if it was making the very
same thing. What has no manifest and no marker of ours is never removed.
"""

import json
import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Any

from lifelora.artefacts import clear_torn, file_hash, flush_folder, kept_hash, key_of, versions, write_atomically
from lifelora.errors import ArtefactError
from lifelora.folders import MANIFEST, WORKING, being_made, manifest_of, own, remove, sealed, some_of

FORMAT = 2
"""Raised when the meaning of a stage's files changes, so that older ones are made anew."""
CURVES = "tensorboard"
NOT_MADE = "not made yet"
ALWAYS_HASHED = 64 << 20
"""Files up to so many bytes are hashed whenever they are opened; larger ones where their size or time differs, or on demand."""


class Stage:
    """One step of a run and its folder.

    ``config`` is whatever decides the result (JSON values); ``inputs`` are the stages it reads. ``key`` is a hash of
    both, so a change anywhere upstream reaches every stage below it.
    """

    def __init__(self, folder: Path, name: str, config: Mapping[str, Any], inputs: Mapping[str, "Stage"] | None = None):
        self.folder = folder
        self.name = name
        self.config = dict(config)
        self.inputs: dict[str, str] = {label: stage.key for label, stage in (inputs or {}).items()}
        self.key: str = key_of({"format": FORMAT, "name": name, "config": self.config, "inputs": self.inputs})

    def at(self, folder: Path) -> "Stage":
        """The same stage in another place."""
        other = copy(self)
        other.folder = folder
        return other

    # A stage's name has no dot, so neither of these is the place of another.
    @property
    def working(self) -> Path:
        """Where it is made."""
        return self.folder.with_name(f"{self.folder.name}.working")

    @property
    def _old(self) -> Path:
        """Where what it replaces waits to be removed."""
        return self.folder.with_name(f"{self.folder.name}.old")

    def complete(self) -> bool:
        """Whether the folder holds this very stage, finished and sound."""
        return self.why_not() is None

    def why_not(self) -> str | None:
        """One line that says why this stage has to be computed; None where it is ready."""
        damage = self.damage() if (lacking := self.lacking()) is None else []
        return f"damaged: {some_of(damage, '; ')}" if damage else lacking

    def lacking(self) -> str | None:
        """One line that says why the folder's stage, sound or not, is not this one; None where it is.

        Raises ArtefactError where the folder holds files that no manifest, or that of another stage, speaks for.
        """
        old = manifest_of(self.folder)
        if old is None:
            own(self.folder)
            return NOT_MADE
        if old["key"] == self.key:
            return None
        if old.get("name") != self.name:
            raise ArtefactError(
                f"{self.folder / MANIFEST} is of another stage, '{old.get('name')}', and not of '{self.name}': "
                f"move {self.folder} away, and `lifelora run` makes it again."
            )
        changed = _changes(old["config"], self.config)
        changed += [f"its input '{k}' changed" for k, v in self.inputs.items() if old["inputs"].get(k) != v]
        return "made differently before: " + ("; ".join(changed)[:400] or "another version of lifelora")

    def damage(self, *, thorough: bool = False) -> list[str]:
        """What of a finished stage's files is not as its manifest says, a line for each; without ``thorough`` large files are
        hashed only where their size or time differs. Curves for TensorBoard do not count: nothing is made from them.
        """
        found = []
        for name, kept in (manifest_of(self.folder) or {"files": {}})["files"].items():
            path = self.folder / name
            if CURVES in Path(name).parts:
                continue
            try:
                now = path.stat()
            except (FileNotFoundError, NotADirectoryError):
                found.append(f"{path} is missing")
                continue
            if not stat.S_ISREG(now.st_mode):
                found.append(f"{path} is no file")
            elif now.st_size != kept["size"]:
                found.append(f"{path} has {now.st_size:,} bytes, not {kept['size']:,}")
            elif (thorough or now.st_size <= ALWAYS_HASHED or now.st_mtime_ns != kept["mtime_ns"]) and (
                kept_hash(path) != kept["sha256"]
            ):
                found.append(f"{path} is not what was written (its hash differs)")
        return found

    def require(self) -> Path:
        """The folder of a finished stage, or ArtefactError with the command that makes it."""
        command = self.name.split("/")[0]
        if lacking := self.lacking():
            raise ArtefactError(
                f"stage '{self.name}' in {self.folder} is not ready ({lacking}); run `lifelora {command}` with "
                "the same recipe and --out first, or `lifelora run`."
            )
        if damage := self.damage():
            raise ArtefactError(
                f"stage '{self.name}' in {self.folder} is damaged: {some_of(damage, '; ')}. `lifelora {command}` "
                "or `lifelora run` with the same recipe and --out makes it again."
            )
        return self.folder

    def begun(self) -> bool:
        """Whether an interrupted attempt at this very stage is there to be gone on with."""
        return being_made(self.working) == self.key

    def tidy(self) -> None:
        """Remove what is left of an older one whose removal was killed; where nothing can be removed, it may stay."""
        with suppress(OSError):
            remove(self._old)

    @contextmanager
    def making(self, facts: Mapping[str, Any] | None = None) -> Iterator[Path]:
        """A folder to fill; on leaving without an error it gets its manifest (with ``facts``) and becomes the stage's folder.

        Files of an interrupted attempt at the same key are still there (a training checkpoint, say); those of another key are
        removed. What the stage's folder holds is replaced at the end. Raises ArtefactError, with nothing changed, where it or
        the working folder holds what lifelora did not make.
        """
        for folder in (self._old, self.working, self.folder):
            own(folder)
        remove(self._old)
        if self.working.exists() and not self.begun():
            remove(self.working)
        self.working.mkdir(parents=True, exist_ok=True)
        write_atomically(self.working / WORKING, json.dumps({"key": self.key}))
        (self.working / MANIFEST).unlink(missing_ok=True)
        clear_torn(self.working)
        yield self.working
        clear_torn(self.working)
        manifest = {
            "key": self.key,
            "name": self.name,
            "config": self.config,
            "inputs": self.inputs,
            **(facts or {}),
            "versions": versions("lifelora", "torch", "transformers", "numpy", "pyarrow", "duckdb"),
            "files": _flushed(self.working),
        }
        # Read back as JSON will give it: what was a tuple is a list.
        manifest = json.loads(json.dumps(manifest))
        text = json.dumps(manifest | {"sha256": sealed(manifest)}, indent=1, sort_keys=True, ensure_ascii=False)
        write_atomically(self.working / MANIFEST, text)
        (self.working / WORKING).unlink()
        own(self.folder)  # the work may have taken days
        if self.folder.exists():
            self.folder.rename(self._old)
        self.working.rename(self.folder)
        flush_folder(self.folder.parent)
        remove(self._old)


def _changes(old: Any, new: Any, place: str = "") -> list[str]:
    """What differs, by its full key."""
    if isinstance(old, dict) and isinstance(new, dict):
        return [line for key in old | new for line in _changes(old.get(key), new.get(key), f"{place}.{key}" if place else key)]
    return [] if old == new else [f"{place}: {old!r} → {new!r}"]


def _flushed(folder: Path) -> dict[str, dict[str, Any]]:
    """Size, time and hash of every file in a folder, all of it on disk."""
    files = {}
    for root, _, names in os.walk(folder):
        for path in (Path(root, name) for name in names):
            if path == folder / WORKING:
                continue
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
            now = path.stat()
            files[path.relative_to(folder).as_posix()] = {
                "size": now.st_size,
                "mtime_ns": now.st_mtime_ns,
                "sha256": file_hash(path),
            }
        flush_folder(Path(root))
    return files
