"""A batch of recommendations as a file that outlives a kill: finished blocks are kept beside it, and it is put there whole.

``recs.csv.about.json`` says what ``recs.csv`` was made of, and proves that lifelora made it. While it is being made,
``recs.csv.parts`` holds the finished blocks. Knows a batch, no scorer.
"""

import json
import os
import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq

from lifelora.artefacts import file_hash, flush_folder, key_of, read_json, write_atomically
from lifelora.errors import ArtefactError, ConfigError
from lifelora.owner import LOCK, owned
from lifelora.progress import Progress, duration, say
from lifelora.run.recommend.many import SCHEMA, Batch

ENDINGS = (".parquet", ".csv", ".jsonl")
PART = re.compile(r"\d{7}\.parquet|\.\d{7}\.parquet\.\d+\.part")
FORMAT = 1
"""Raised when the meaning of the file changes."""
SHORT = 30.0
"""Seconds: how long shorter work takes is not said."""


class Out:
    """The file of a batch, and what stands beside it."""

    def __init__(self, path: Path) -> None:
        if path.suffix not in ENDINGS:
            raise ConfigError(f"--out {path}: the ending says what is written; give one of {', '.join(ENDINGS)}.")
        self.path = path
        self.about, self.parts = path.with_name(f"{path.name}.about.json"), path.with_name(f"{path.name}.parts")

    @property
    def as_of(self) -> list[int]:
        """Of a file that is being made, what ``write`` was told; nothing of others."""
        if self.path.exists() or not (self.parts.is_dir() and self.about.is_file()):
            return []
        as_of = read_json(self.about).get("as of")
        return as_of if isinstance(as_of, list) and all(type(one) is int for one in as_of) else []

    def write(self, batch: Batch, progress: bool = True, as_of: Sequence[int] = ()) -> list[str]:
        """Make the file, or go on with it, or leave it as it is where it is whole; notes for a reader.

        ``as_of`` says how far was read what goes on meanwhile, so that the same can be read again.

        Raises ArtefactError, with nothing touched, for a file that lifelora did not make, that was made with other settings, or
        that was changed since; BusyError where another process makes it.
        """
        settings = batch.settings | {"format": FORMAT}
        if self._finished(settings):
            self._tidy()
            return [f"{self.path} is there already, made with the same settings; it stays as it is."]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        told = {"settings": settings, "key": key_of(settings), "as of": list(as_of)}
        write_atomically(self.about, json.dumps(told, indent=1))
        with owned(self.parts):
            self._make(batch, progress)
            notes = batch.notes(self._tables(batch.blocks))
            self._put_together(batch.blocks, told)
        self._tidy()
        return notes

    def _finished(self, settings: dict[str, Any]) -> bool:
        """Whether the file is whole; ArtefactError where it, or what stands beside it, is not of these settings."""
        if not self.about.exists():
            there = next((path for path in (self.path, self.parts) if path.exists() or path.is_symlink()), None)
            if there is not None:
                raise ArtefactError(
                    f"{there} is there, and not made by this command; choose another --out. It was left as it is."
                )
            return False
        about = read_json(self.about)
        if about.get("key") != key_of(settings):
            old = about.get("settings", {})
            changed = [name for name in settings if not isinstance(old, dict) or old.get(name) != settings[name]]
            raise ArtefactError(
                f"{self.path} was made, or is being made, with other settings ({', '.join(changed)} differ); choose another "
                f"--out, or remove it with {self.about.name} and {self.parts.name}. It was left as it is."
            )
        if not self.path.exists():
            return False
        if about.get("sha256") != file_hash(self.path):
            raise ArtefactError(f"{self.path} was changed since it was made; choose another --out. It was left as it is.")
        return True

    def _part(self, number: int) -> Path:
        return self.parts / f"{number:07}.parquet"

    def _make(self, batch: Batch, progress: bool) -> None:
        """Every block that is not there yet, each written whole."""
        missing = [number for number in range(batch.blocks) if not self._part(number).exists()]
        done = len(batch.users) - sum(len(batch.of_block(number)) for number in missing)
        with Progress("recommend", len(batch.users), unit="users", done=done, enabled=progress) as ticker:
            for number in missing:
                began, sink = time.monotonic(), pa.BufferOutputStream()
                pq.write_table(batch.block(number), sink)
                write_atomically(self._part(number), sink.getvalue().to_pybytes())
                ticker.advance(len(batch.of_block(number)))
                left = (time.monotonic() - began) * (len(missing) - 1)
                if number == missing[0] and progress and left > SHORT:
                    say(f"recommend: {len(batch.users) - done:,} users by '{batch.scorer.name}', about {duration(left)}")

    def _tables(self, blocks: int) -> Iterator[pa.Table]:
        for number in range(blocks):
            yield pq.read_table(self._part(number), schema=SCHEMA)

    def _put_together(self, blocks: int, told: dict[str, Any]) -> None:
        """All blocks in one file: what it is said first, and its place is taken last."""
        temporary = self.parts / f"whole{self.path.suffix}"
        with temporary.open("wb") as stream:
            _write(self._tables(blocks), self.path.suffix, stream)
            stream.flush()
            os.fsync(stream.fileno())
        write_atomically(self.about, json.dumps(told | {"sha256": file_hash(temporary)}, indent=1))
        temporary.replace(self.path)
        flush_folder(self.path.parent)

    def _tidy(self) -> None:
        """Remove the blocks, and nothing that is not one."""
        if not self.parts.is_dir() or self.parts.is_symlink():
            return
        for path in self.parts.iterdir():
            if PART.fullmatch(path.name) or path.name in (LOCK, f"whole{self.path.suffix}"):
                path.unlink(missing_ok=True)
        if not any(self.parts.iterdir()):
            self.parts.rmdir()


def _write(tables: Iterator[pa.Table], ending: str, stream: Any) -> None:
    if ending == ".jsonl":
        for table in tables:
            stream.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in table.to_pylist()).encode())
        return
    writer = pq.ParquetWriter(stream, SCHEMA) if ending == ".parquet" else pacsv.CSVWriter(stream, SCHEMA)
    with writer:
        for table in tables:
            writer.write_table(table)
