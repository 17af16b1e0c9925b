"""Frames as a data set: their rows through the same layout and the same checks as a user's files. Knows no kind of frame."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import tomli_w

from lifelora.artefacts import write_atomically
from lifelora.data.dataset import Dataset
from lifelora.data.layout import Layout, laid_out, made
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables
from lifelora.data.rows import Meaning, Problems
from lifelora.data.synonyms import by_names
from lifelora.data.typed import called_by_row, typed_rows
from lifelora.errors import DataError
from lifelora.frames import AnyFrame, Frame
from lifelora.stage import Stage

KEYS = {"interactions": "interactions", "items": "catalogue", "users": "profiles"}
"""What a TOML file calls the frames."""
TOML = "tables.toml"


@dataclass(frozen=True)
class Frames:
    """Up to three frames by what they are called in ``from_frames``, and what their columns mean."""

    frames: Mapping[str, Frame]
    layout: Layout

    @classmethod
    def of(cls, interactions: AnyFrame, items: AnyFrame | None, users: AnyFrame | None, layout: Mapping[str, Any]) -> "Frames":
        """Frames and a layout's keys; ConfigError for what is no frame, and for a wrong key."""
        given = {"interactions": interactions, "items": items, "users": users}
        frames = {called: Frame(one, called) for called, one in given.items() if one is not None or called == "interactions"}
        return cls(frames, made(Layout, _with_names(layout, frames), "from_frames"))

    def wanted(self, called: str) -> Mapping[str, Meaning]:
        """What the columns of a frame are that the layout names."""
        return {"interactions": self.layout.of_log, "items": self.layout.of_items, "users": self.layout.of_users}[called]

    def columns(self, called: str) -> dict[str, pa.ChunkedArray]:
        """These columns, as far as they are there."""
        frame = self.frames[called]
        return {name: frame.column(name) for name in self.wanted(called) if name in frame.names}

    def read(self) -> RawTables:
        """Checked tables; DataError calls a row by its frame and its number from 0, as ``interactions[7]``."""
        problems, notes = Problems(), list[str]()
        rows = {
            called: typed_rows(self.columns(called), frame.names, called, 0, problems, self.wanted(called), notes)
            for called, frame in self.frames.items()
        }
        try:
            return laid_out(self.layout, rows["interactions"], rows.get("items"), rows.get("users"), problems, notes)
        except DataError as error:
            raise called_by_row(error) from None

    def prepared(self, folder: Path, rules: Rules | Mapping[str, Any] | None, name: str) -> Dataset:
        """See ``Dataset.from_frames``."""
        rules = rules if isinstance(rules, Rules) else made(Rules, rules or {}, "rules")
        raw = self.read()
        with _into(folder, "prepared-frames") as place:
            prepare(raw, rules, place, name)
        return Dataset(folder)

    def written(self, folder: Path) -> Path:
        """See ``Tables.from_frames``: the frames as Parquet and their layout as TOML, whose path is given back."""
        self.read()  # what is wrong is said now, and of the frames
        values = self.layout.model_dump(mode="json", exclude_defaults=True, exclude_none=True)
        with _into(folder, "frames") as place:
            for called in self.frames:
                pq.write_table(pa.table(self.columns(called)), place / f"{called}.parquet")
                values[KEYS[called]] = f"{called}.parquet"
            write_atomically(place / TOML, tomli_w.dumps(values))
        return folder / TOML


def _with_names(layout: Mapping[str, Any], frames: Mapping[str, Frame]) -> dict[str, Any]:
    """A layout with what it does not say, by the names of columns; one that it calls the title, say, is not a field as well."""
    names = {called: frame.names for called, frame in frames.items()}
    values = by_names(names["interactions"], names.get("items", ()), names.get("users", ()), layout)
    return values | dict(layout) | ({"columns": values["columns"]} if isinstance(layout.get("columns", {}), Mapping) else {})


@contextmanager
def _into(folder: Path, name: str) -> Iterator[Path]:
    """A folder to fill, which takes the place of an older one of the same name; ArtefactError where others' files are there."""
    stage = Stage(folder, name, {})
    stage.lacking()  # refuses what another stage has made
    with stage.making() as place:
        yield place
