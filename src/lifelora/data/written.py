"""Which files hold a table of a user's, and how these are written. Knows no column's meaning, and reads nothing of them."""

import difflib
import glob
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Discriminator, Field, Tag, field_validator

from lifelora import foreign
from lifelora.data.encodings import known
from lifelora.data.opened import Opened
from lifelora.errors import ConfigError
from lifelora.types import PARTS, Frozen, Part, PathText

NEAR = 8
"""Files that are named where one is looked for in vain."""


class Form(Frozen):
    """How files are written. What is left out is found from the file, or is as most files are."""

    format: Literal["csv", "tsv", "parquet", "json", "jsonl"] | None = None
    "Found from the ending, and else delimited text; json and jsonl are an array of objects, or one object a line."
    delimiter: str | None = Field(default=None, min_length=1, max_length=8)
    "Found from the header, or from the number of names, where it is left out: one of , ; tab | :: ||."
    encoding: str | None = None
    "UTF-8 where it is left out."
    quoted: bool | None = None
    "False where quotes are letters like others."
    escape: str | None = None
    "What stands before a quote inside of a quoted field, where quotes are not doubled."
    header: bool | None = None
    "False where the first line is a row; then there are names."
    names: tuple[str, ...] | None = Field(default=None, min_length=1)
    decimal: Literal[".", ","] | None = None
    "What stands before the fraction of a rating or a count."
    paths: dict[str, str] | None = None
    "Where a column is in an object of JSON: { brand = '$.maker.name', genres = '$.tags[*].text' }."

    @field_validator("encoding")
    @classmethod
    def _known_encoding(cls, value: str | None) -> str | None:
        name = None if value is None else known(value)
        if value is not None and name is None:
            raise ValueError(f"there is no text encoding '{value[:40]}' for files; try 'utf-8', 'iso-8859-1' or 'cp1252'")
        return name

    @field_validator("delimiter")
    @classmethod
    def _separates(cls, value: str | None) -> str | None:
        if value is not None and (not value.isascii() or set(value) & set('\r\n"\0')):
            raise ValueError("a delimiter is one or a few ASCII characters, none a quote or an end of line: , ; tab | ::")
        return value

    @field_validator("escape")
    @classmethod
    def _stands_before_quotes(cls, value: str | None) -> str | None:
        if value is not None and (len(value) != 1 or not value.isascii() or value in '\r\n"\0'):
            raise ValueError("an escape is one ASCII character, as \\; a quote that is doubled needs none")
        return value

    @field_validator("paths")
    @classmethod
    def _lead_into_json(cls, value: dict[str, str] | None) -> dict[str, str] | None:
        import duckdb

        for path in (value or {}).values():
            try:
                with duckdb.connect() as connection:
                    connection.execute("SELECT json_extract_string('{}', ?)", [path])
            except duckdb.Error as error:
                reason = str(error).partition("\n")[0][:200]
                raise ValueError(
                    f"'{path[:80]}' is no path into JSON ({reason}); write '$.maker.name' or '$.tags[*].text'"
                ) from error
            if not path.startswith(("$", "/")):
                raise ValueError(f"'{path[:80]}' is no path into JSON; write '$.{path[:80]}'")
        return value

    def over(self, defaults: "Form") -> "Form":
        """This form, with what it leaves out from another one; ValueError where they do not go together."""
        own = {name: value for name in Form.model_fields if (value := getattr(self, name)) is not None}
        other = {name: value for name in Form.model_fields if (value := getattr(defaults, name)) is not None}
        if own.get("header"):
            other.pop("names", None)
        whole = Form.model_validate(other | own)
        if whole.header is False and not whole.names:
            raise ValueError("header = false needs names = [...], one for each field of a row")
        if whole.names and whole.header is not False:
            raise ValueError("names are for a file without a header: say header = false; columns are mapped in [columns]")
        if whole.names and len(set(whole.names)) < len(whole.names):
            raise ValueError("names holds a name twice; each field of a row needs its own")
        return whole


class Written(Form):
    """Files that are written alike: { path = "old/*.csv", encoding = "cp1252" }."""

    path: PathText | tuple[PathText, ...]
    member: str | None = None
    "Which file of a zip is meant; may be left out where it holds one."


def _shape(value: Any) -> str:
    return "a list" if isinstance(value, list | tuple) else "a table" if isinstance(value, dict | Written) else "a path"


One: TypeAlias = Annotated[Annotated[PathText, Tag("a path")] | Annotated[Written, Tag("a table")], Discriminator(_shape)]
Files: TypeAlias = Annotated[
    Annotated[PathText, Tag("a path")] | Annotated[Written, Tag("a table")] | Annotated[tuple[One, ...], Tag("a list")],
    Discriminator(_shape),
]
"""A path, a pattern of paths, a table that says how they are written, or a list of these."""


class InParts(Frozen):
    """The files of a log that is published in three parts: { train = "a.csv", valid = "b.csv", test = "c.csv" }."""

    train: Files
    valid: Files
    test: Files

    @property
    def of(self) -> dict[Part, Files]:
        """By their names."""
        return {"train": self.train, "valid": self.valid, "test": self.test}


def _log_shape(value: Any) -> str:
    in_parts = isinstance(value, InParts) or (isinstance(value, dict) and not value.keys().isdisjoint(PARTS))
    return "a split" if in_parts else _shape(value)


LogFiles: TypeAlias = Annotated[
    Annotated[PathText, Tag("a path")]
    | Annotated[Written, Tag("a table")]
    | Annotated[tuple[One, ...], Tag("a list")]
    | Annotated[InParts, Tag("a split")],
    Discriminator(_log_shape),
]
"""``Files``, or those of each part."""


@dataclass(frozen=True)
class Located:
    """A file that is there, and how it is written."""

    opened: Opened
    form: Form

    @property
    def path(self) -> Path:
        """Where it is."""
        return self.opened.path


def each(files: Files | InParts) -> list[Written]:
    """All as tables, part by part."""
    if isinstance(files, InParts):
        return [written for of_part in files.of.values() for written in each(of_part)]
    listed = files if isinstance(files, tuple) else (files,)
    return [Written(path=one) if isinstance(one, str) else one for one in listed]


def located(files: Files | InParts, defaults: Form) -> list[Located]:
    """The files that are meant, those of a pattern by name; ConfigError where one is not there, or is named twice."""
    found = [
        Located(Opened(path, written.member), written.over(defaults))
        for written in each(files)
        for pattern in ([written.path] if isinstance(written.path, str) else written.path)
        for path in _matching(pattern)
    ]
    names = [(one.path.absolute(), one.opened.member) for one in found]
    twice = (
        [path for (path, _), name in zip(names, names, strict=True) if names.count(name) > 1]
        if len(set(names)) < len(names)
        else []
    )
    if twice:
        raise ConfigError(f"'{twice[0]}' is named twice; name each file once.")
    return found


def shifted(files: Any, folder: Path) -> Any:
    """What a TOML file says of files, whose relative paths count from its folder."""
    if isinstance(files, str):
        place = foreign.place(files)
        pattern = _is_pattern(files) and not foreign.exists(folder / place)
        return str((Path(glob.escape(str(folder))) if pattern else folder) / place)
    if isinstance(files, list):
        return [shifted(one, folder) for one in files]
    if isinstance(files, dict) and not files.keys().isdisjoint(PARTS):
        return {key: shifted(of_part, folder) for key, of_part in files.items()}
    if isinstance(files, dict) and "path" in files:
        return files | {"path": shifted(files["path"], folder)}
    return files


def _is_pattern(path: str) -> bool:
    return any(sign in path for sign in "*?[")


def _matching(written: str) -> Sequence[Path]:
    place = foreign.place(written)
    if foreign.is_file(place):
        return [place]
    if foreign.exists(place):
        raise ConfigError(f"'{written}' is a folder; name its files, as '{written.rstrip('/')}/*.csv'.")
    if _is_pattern(written):
        found = [path for path in map(Path, glob.glob(str(place), recursive=True)) if foreign.is_file(path)]
        if found:
            return sorted(found)
        raise ConfigError(f"no file is like '{written}'; {_near(place)}")
    raise ConfigError(f"there is no file '{written}'; check the path. {_near(place)}")


def _near(place: Path) -> str:
    folder = next((one for one in place.parents if not _is_pattern(str(one)) and foreign.exists(one)), Path())
    try:
        names = sorted(path.name for path in folder.iterdir())
    except (OSError, ValueError):
        names = []
    first = difflib.get_close_matches(place.name, names, n=NEAR, cutoff=0.5)
    listed = [*first, *(name for name in names if name not in first)]
    more = f", and {len(listed) - NEAR:,} more" if len(listed) > NEAR else ""
    return f"'{folder}' holds: {', '.join(listed[:NEAR]) or 'nothing'}{more}."
