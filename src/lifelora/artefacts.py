"""Stages on disk: a folder is complete when its manifest is there. Knows files and hashes, not what they mean.

A manifest holds the configuration, the versions, the keys of the stage's inputs and the hashes of its files. It is
written last and atomically. A stage whose key matches is not computed again; one whose key differs is made anew, and
why is said; one that was interrupted keeps its working files only if it was making the very same thing.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from lifelora.errors import ArtefactError

MANIFEST = "manifest.json"
WORKING = "working.json"
FORMAT = 1
"""Raised when the meaning of a stage's files changes, so that older ones are made anew."""


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


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write beside ``path``, flush to disk, then rename: readers see the old file or the new one, never a half."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as stream:
        stream.write(content.encode() if isinstance(content, str) else content)
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def read_json(path: Path) -> Any:
    """The JSON in ``path``; ArtefactError, with the place, when it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise ArtefactError(f"{path} does not exist; run the stage that makes it.") from None
    except json.JSONDecodeError as error:
        raise ArtefactError(f"{path} is damaged ({error}); delete its folder and run the stage again.") from error


def versions(*packages: str) -> dict[str, str]:
    """Installed versions of ``packages``; absent ones are 'absent'."""

    def one(package: str) -> str:
        try:
            return version(package)
        except PackageNotFoundError:
            return "absent"

    return {package: one(package) for package in packages}


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

    def complete(self) -> bool:
        """Whether the folder holds this very stage, finished."""
        manifest = self.folder / MANIFEST
        return manifest.exists() and read_json(manifest).get("key") == self.key

    def why_not(self) -> str:
        """One line for a person: why this stage has to be computed."""
        manifest = self.folder / MANIFEST
        if not manifest.exists():
            return "not made yet"
        old = read_json(manifest)
        changed = [f"{k}: {old.get('config', {}).get(k)!r} → {v!r}" for k, v in self.config.items()
                   if old.get("config", {}).get(k) != v]
        changed += [f"its input '{k}' changed" for k, v in self.inputs.items() if old.get("inputs", {}).get(k) != v]
        return "made differently before: " + ("; ".join(changed)[:400] or "another version of lifelora")

    def require(self) -> Path:
        """The folder of a finished stage, or ArtefactError with the command that makes it."""
        if not self.complete():
            raise ArtefactError(
                f"stage '{self.name}' of {self.folder.parent} is not ready ({self.why_not()}); "
                f"run `lifelora {self.name.split('/')[0]}` with the same recipe and --out first, or `lifelora run`."
            )
        return self.folder

    def verify(self) -> None:
        """Check every file against the manifest's hash; ArtefactError names the first that differs."""
        for name, digest in read_json(self.require() / MANIFEST)["files"].items():
            path = self.folder / name
            if not path.exists() or file_hash(path) != digest:
                raise ArtefactError(f"{path} is missing or not what was written; delete {self.folder} and run again.")

    @contextmanager
    def making(self) -> Iterator[Path]:
        """A folder to fill; on leaving without an error the manifest is written and the stage is complete.

        Files of an interrupted attempt at the same key are still there (a training checkpoint, say); files of any
        other key are removed first.
        """
        working = self.folder / WORKING
        if self.folder.exists() and (not working.exists() or read_json(working).get("key") != self.key):
            shutil.rmtree(self.folder)
        (self.folder / MANIFEST).unlink(missing_ok=True)
        write_atomically(working, json.dumps({"key": self.key}))
        yield self.folder
        files = sorted(p for p in self.folder.rglob("*") if p.is_file() and p.name not in (WORKING, MANIFEST))
        manifest = {
            "key": self.key, "name": self.name, "config": self.config, "inputs": self.inputs,
            "versions": versions("lifelora", "torch", "transformers", "numpy", "pyarrow", "duckdb"),
            "files": {p.relative_to(self.folder).as_posix(): file_hash(p) for p in files},
        }
        write_atomically(self.folder / MANIFEST, json.dumps(manifest, indent=1, sort_keys=True, ensure_ascii=False))
        working.unlink()
