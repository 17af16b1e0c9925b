"""A user's own log, catalogue and profiles in files of any usual form, with a mapping of columns. Knows no one data set."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pydantic import model_validator

from lifelora import foreign
from lifelora.data.layout import Layout, laid_out, made
from lifelora.data.listed import LISTED, SEPARATOR, checked_lists, of_lists
from lifelora.data.opened import ENDINGS as PACKED
from lifelora.data.raw import RawTables
from lifelora.data.reading import names, read
from lifelora.data.rows import Meaning, Problems, Rows
from lifelora.data.sources.base import Source
from lifelora.data.sources.folder import tables_in
from lifelora.data.synonyms import by_names
from lifelora.data.written import Files, Form, InParts, LogFiles, Written, each, located, shifted
from lifelora.errors import ConfigError
from lifelora.frames import AnyFrame
from lifelora.types import Frozen

TABLES = ("interactions", "catalogue", "profiles", "candidates")
PART = "part"


class Tables(Layout, Form, Source):
    """Up to three tables of a user's own. What is said of the form of files here goes for all that do not say it themselves."""

    form: ClassVar[str] = "tables:PATH (TOML file or folder)"
    PARTS: ClassVar[Mapping[str, type[Frozen]]] = {**dict.fromkeys(TABLES, Written), "a split": InParts}
    kind: Literal["tables"] = "tables"
    interactions: LogFiles
    """The log: a path, a pattern of paths, a table { path, format, delimiter, ... }, or a list of these; of a published split
    { train, valid, test }, each of these."""
    catalogue: Files | None = None
    "The items' texts; without it, items are called by their ids."
    profiles: Files | None = None
    candidates: Files | None = None
    "The lists that targets have to stand out from, where a published protocol has some: user, item and candidates."

    @model_validator(mode="after")
    def _of_files_that_there_are(self) -> "Tables":
        if (self.item_fields and not self.catalogue) or (self.user_fields and not self.profiles):
            raise ValueError("item_fields need a catalogue, and user_fields need profiles")
        if isinstance(self.interactions, InParts) and PART in self.columns.names:
            raise ValueError(f"interactions come part by part, and columns names a column '{PART}'; keep one, or rename it")
        for _, files in self._each():
            for written in each(files):
                written.over(self)  # says what does not go together
        return self

    @classmethod
    def at(cls, place: str) -> "Tables":
        """The tables at a place, in the words of the command line: a TOML file, or a folder with names that are known."""
        path = foreign.place(place)
        return cls.from_toml(path) if path.suffix == ".toml" else cls.of_folder(path)

    @property
    def label(self) -> str:
        """What reports call them."""
        path = each(self.interactions)[0].path
        place = Path(path if isinstance(path, str) else path[0])
        name = place.parent.name or place.name if isinstance(self.interactions, InParts) else place.name  # not "train"
        for ending in PACKED:
            name = name.removesuffix(ending)
        return Path(name).stem

    @classmethod
    def from_toml(cls, path: str | Path) -> "Tables":
        """The configuration in a TOML file, whose relative paths count from that file's folder."""
        path = foreign.place(str(path))
        if not foreign.is_file(path):
            raise ConfigError(f"there is no file '{path}'; check the path.")
        try:
            values = foreign.toml(foreign.text(path))
        except foreign.Unreadable as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
        return made(cls, values | {key: shifted(values[key], path.parent) for key in TABLES if key in values}, str(path))

    @classmethod
    def of_folder(cls, folder: str | Path) -> "Tables":
        """A log, a catalogue, profiles and candidate lists by the usual names of files and of columns: ``folder``, ``synonyms``.

        All but the log may be absent. Raises ConfigError where a file or a column may be two things, or a file none.
        """
        files, notes = tables_in(foreign.place(str(folder)))
        problems, ours = Problems(), {"interactions": ("user", "item", "rating", "time"), "catalogue": ("item", "title")}
        first = {table: of if isinstance(of, str) else of["train"] for table, of in files.items() if table != "candidates"}
        found = {table: names(located(path, Form())[0], ours.get(table, ("user",)), problems) for table, path in first.items()}
        problems.refuse()
        said = {} if isinstance(files["interactions"], str) else {"columns": {"part": None}}  # the files tell it
        values = by_names(found["interactions"], found.get("catalogue", ()), found.get("profiles", ()), said)
        values["notes"] += notes
        return made(cls, values | files, str(folder))

    @classmethod
    def from_frames(
        cls,
        folder: str | Path,
        interactions: AnyFrame,
        items: AnyFrame | None = None,
        users: AnyFrame | None = None,
        **layout: Any,
    ) -> "Tables":
        """Frames written into ``folder``, as Parquet and a TOML file, so that a recipe can hold them and read them again.

        Frames and ``layout`` are as for ``Dataset.from_frames``, and so are the errors. What this has written into ``folder``
        before is replaced; a folder with other files is refused (ArtefactError).
        """
        from lifelora.data.frames import Frames  # with what prepares data sets, which is heavy

        return cls.from_toml(Frames.of(interactions, items, users, layout).written(Path(folder).absolute()))

    def files(self) -> list[Path]:
        """Every file of the log and, where they are given, of the catalogue and the profiles."""
        return [one.path for _, files in self._each() for one in located(files, self)]

    def read(self, download: bool = False) -> RawTables:
        """The checked tables; DataError lists everything that is wrong with the files."""
        problems, notes = Problems(), list[str]()
        meant: dict[str, dict[str, Meaning]] = {
            "interactions": self.of_log,
            "catalogue": self.of_items,
            "profiles": self.of_users,
            "candidates": of_lists(self.columns.user, self.columns.item),
        }
        rows: dict[str, Rows | None] = {
            table: read(located(files, self), meant[table], problems, notes) for table, files in self._each()
        }
        log, layout = rows["interactions"], self
        if isinstance(self.interactions, InParts):
            layout = self.model_copy(update={"columns": self.columns.model_copy(update={"part": PART})})
            log = log and self._with_parts(log, self.interactions)
        raw = laid_out(layout, log, rows.get("catalogue"), rows.get("profiles"), problems, notes)
        if (lists := rows.get("candidates")) is None:
            return raw
        known = pc.unique(
            pa.concat_arrays([table.column("item").combine_chunks() for table in (raw.catalogue, raw.interactions)])
        )
        separator = self.lists.get(LISTED, SEPARATOR)
        listed = checked_lists(lists, self.columns.user, self.columns.item, separator, known, problems)
        problems.refuse()
        return replace(raw, candidates=listed)

    def _with_parts(self, log: Rows, files: InParts) -> Rows:
        """The log with a column of the part that each row's file is of."""
        if log.file_N is None:  # the other files could not be read, which is among the problems
            return log.with_columns(**{PART: pa.array(np.repeat("", len(log)), pa.string())})
        part_F = np.concatenate([np.repeat(part, len(located(of_part, self))) for part, of_part in files.of.items()])
        return log.with_columns(**{PART: pa.array(part_F[log.file_N], pa.string())})

    def _each(self) -> list[tuple[str, Files | InParts]]:
        return [(table, files) for table in TABLES if (files := getattr(self, table))]
