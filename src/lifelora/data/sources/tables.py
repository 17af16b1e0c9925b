"""A user's own log, catalogue and profiles as CSV or Parquet, with a mapping of columns. Knows no one data set."""

from pathlib import Path
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator, model_validator

from lifelora import foreign
from lifelora.data.delimited import column_names, read_delimited
from lifelora.data.encodings import known
from lifelora.data.layout import Layout, by_names, laid_out, made
from lifelora.data.parquet import read_parquet
from lifelora.data.raw import RawTables
from lifelora.data.rows import Meaning, Problems, Rows
from lifelora.data.sources.base import Source
from lifelora.errors import ConfigError
from lifelora.frames import AnyFrame

ENDINGS = (".csv", ".tsv", ".txt", ".parquet")


class Tables(Layout, Source):
    """One to three files of a user's own."""

    form: ClassVar[str] = "tables:PATH (TOML file or folder)"
    kind: Literal["tables"] = "tables"
    interactions: str
    "Path of the log: .parquet, or delimited text with a header."
    catalogue: str | None = None
    "Path of the items' texts; without it, items are called by their ids."
    profiles: str | None = None
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    "One of , ; tab | is found from the header where this is left out."
    encoding: str = "utf-8"

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str) -> str:
        name = known(value)
        if name is None:
            raise ValueError(f"there is no text encoding '{value[:40]}' for files; try 'utf-8', 'iso-8859-1' or 'cp1252'")
        return name

    @field_validator("delimiter")
    @classmethod
    def _separates(cls, value: str | None) -> str | None:
        if value is not None and (not value.isascii() or value in '\r\n"\0'):
            raise ValueError("a delimiter is one ASCII character other than a quote and the ends of lines: , ; tab |")
        return value

    @model_validator(mode="after")
    def _of_files_that_there_are(self) -> "Tables":
        if (self.item_fields and not self.catalogue) or (self.user_fields and not self.profiles):
            raise ValueError("item_fields need a catalogue, and user_fields need profiles")
        return self

    @classmethod
    def at(cls, place: str) -> "Tables":
        """The tables at a place, in the words of the command line: a TOML file, or a folder with our own names."""
        path = foreign.place(place)
        return cls.from_toml(path) if path.suffix == ".toml" else cls.of_folder(path)

    @property
    def label(self) -> str:
        """What reports call them."""
        return Path(self.interactions).stem

    @classmethod
    def from_toml(cls, path: Path) -> "Tables":
        """The configuration in a TOML file, whose relative paths count from that file's folder."""
        if not foreign.is_file(path):
            raise ConfigError(f"there is no file '{path}'; check the path.")
        try:
            values = foreign.toml(foreign.text(path))
        except foreign.Unreadable as error:
            raise ConfigError(f"{path} is not TOML: {error}") from error
        for key in ("interactions", "catalogue", "profiles"):
            if isinstance(values.get(key), str):
                values[key] = str(path.parent / foreign.place(values[key]))
        return made(cls, values, str(path))

    @classmethod
    def of_folder(cls, folder: Path) -> "Tables":
        """interactions, items and users (.csv, .tsv, .txt or .parquet) with our own column names.

        The last two may be absent. Columns: user, item, rating, perhaps time; item, title, perhaps description and
        fields; user and fields.
        """

        def find(stem: str) -> Path | None:
            return next((p for p in (folder / f"{stem}{ending}" for ending in ENDINGS) if foreign.is_file(p)), None)

        log, items, users = find("interactions"), find("items"), find("users")
        if log is None:
            there = _listing(folder)
            raise ConfigError(
                f"'{folder}' holds no interactions.csv (or {', '.join(ENDINGS[1:])}) ({there}); "
                "name your files in a TOML file and give its path: tables:PATH.toml."
            )
        names = {key: _names(path) for key, path in (("log", log), ("items", items), ("users", users)) if path}
        values = by_names(**names) | {"interactions": str(log)}
        values |= {key: str(path) for key, path in (("catalogue", items), ("profiles", users)) if path}
        return made(cls, values, str(folder))

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
        """The log and, where they are given, the catalogue and the profiles."""
        return [foreign.place(file) for file in (self.interactions, self.catalogue, self.profiles) if file]

    def read(self, download: bool = False) -> RawTables:
        """The checked tables; DataError lists everything that is wrong with the files."""
        problems, notes = Problems(), list[str]()
        log = self._rows(self.interactions, self.of_log, problems, notes)
        items = self._rows(self.catalogue, self.of_items, problems, notes) if self.catalogue else None
        users = self._rows(self.profiles, self.of_users, problems, notes) if self.profiles else None
        return laid_out(self, log, items, users, problems, notes)

    def _rows(self, file: str, wanted: dict[str, Meaning], problems: Problems, notes: list[str]) -> Rows | None:
        path = foreign.place(file)
        if not foreign.is_file(path):
            raise ConfigError(f"there is no file '{file}'; check the path.")
        try:
            data = foreign.content(path)
        except foreign.Unreadable as error:
            problems.add_file(file, f"this cannot be read ({error})")
            return None
        if path.suffix == ".parquet":
            return read_parquet(data, file, problems, wanted, notes)
        return read_delimited(
            data, file, problems, delimiter=self.delimiter, encoding=self.encoding, wanted=list(wanted), notes=notes
        )


def _listing(folder: Path) -> str:
    try:
        return ", ".join(sorted(p.name for p in folder.iterdir())[:20])
    except (OSError, ValueError):
        return "no such folder, or none that may be seen"


def _names(path: Path) -> list[str]:
    problems = Problems()
    names = column_names(path, problems)
    problems.refuse()
    return names
