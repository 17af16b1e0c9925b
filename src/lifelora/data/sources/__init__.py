"""Where data come from: a closed list of sources, each of which reads itself into ``RawTables``."""

import difflib
from pathlib import Path
from typing import Annotated

from pydantic import Field

from lifelora.data.raw import RawTables
from lifelora.data.sources.movielens import NAMES, Movielens
from lifelora.data.sources.simulated import Simulated
from lifelora.data.sources.tables import Tables
from lifelora.errors import ConfigError

AnySource = Annotated[Movielens | Tables | Simulated, Field(discriminator="kind")]
FORMS = f"simulated, movielens:PATH (folder or zip), movielens:{'|'.join(NAMES)}, tables:PATH (TOML file or folder)"


def parse_source(text: str) -> Movielens | Tables | Simulated:
    """A source in the words of the command line; ConfigError answers a wrong one with those that are right."""
    kind, colon, place = text.partition(":")
    if kind == "simulated" and not colon:
        return Simulated()
    if kind in ("movielens", "tables") and not place:
        raise ConfigError(f"'{text}' lacks its place; write one of: {FORMS}.")
    if kind == "movielens":
        _check_name(place)
        return Movielens(path=place)
    if kind == "tables":
        path = Path(place).expanduser()
        return Tables.from_toml(path) if path.suffix == ".toml" else Tables.of_folder(path)
    near = difflib.get_close_matches(kind, ["simulated", "movielens", "tables"], n=1)
    guess = f" did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"there is no data source '{text}';{guess} Write one of: {FORMS}.")


def _check_name(place: str) -> None:
    """A word that is neither a path nor a set's name is answered here, before any work."""
    if place in NAMES or Path(place).expanduser().exists():
        return
    near = difflib.get_close_matches(place.lower().removeprefix("ml-"), NAMES, n=1)
    guess = f"; did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"movielens: '{place}' is no folder or zip here{guess} Sets by name: {', '.join(NAMES)}.")


def read(source: Movielens | Tables | Simulated, download: bool = False) -> RawTables:
    """The source's tables; only a source that can be fetched cares whether that is allowed."""
    return source.read(download) if isinstance(source, Movielens) else source.read()


def name_of(source: Movielens | Tables | Simulated) -> str:
    """What reports call the data set."""
    match source:
        case Simulated():
            return "the simulated world"
        case Movielens(path=path):
            return f"MovieLens {path}" if path in NAMES else f"MovieLens ({Path(path).name})"
        case Tables(interactions=path):
            return Path(path).stem
