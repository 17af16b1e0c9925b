"""Where data come from: a closed list of sources, each of which names its files and reads itself into ``RawTables``."""

import difflib
from collections.abc import Mapping
from typing import Annotated

from pydantic import Field

from lifelora.data.sources.amazon import Amazon
from lifelora.data.sources.base import Source
from lifelora.data.sources.bookcrossing import Bookcrossing
from lifelora.data.sources.goodreads import Goodreads
from lifelora.data.sources.llara import Llara
from lifelora.data.sources.movielens import NAMES, Movielens
from lifelora.data.sources.simulated import Simulated
from lifelora.data.sources.tables import Tables
from lifelora.errors import ConfigError

AnySource = Annotated[
    Simulated | Movielens | Bookcrossing | Goodreads | Amazon | Llara | Tables, Field(discriminator="kind")]
PLACED: Mapping[str, type[Source]] = {
    "movielens": Movielens, "bookcrossing": Bookcrossing, "goodreads": Goodreads, "amazon": Amazon, "llara": Llara,
    "tables": Tables,
}
FORMS = (
    f"simulated, movielens:PATH (folder or zip), movielens:{'|'.join(NAMES)}, bookcrossing:PATH, goodreads:PATH, amazon:PATH, "
    "llara:PATH, tables:PATH (TOML file or folder)"
)


def parse_source(text: str) -> Source:
    """A source in the words of the command line; ConfigError answers a wrong one with those that are right."""
    kind, colon, place = text.partition(":")
    if kind == "simulated" and not colon:
        return Simulated()
    if kind in PLACED and not place:
        raise ConfigError(f"'{text}' lacks its place; write one of: {FORMS}.")
    if kind in PLACED:
        return PLACED[kind].at(place)
    near = difflib.get_close_matches(kind, ["simulated", *PLACED], n=1)
    guess = f" did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"there is no data source '{text}';{guess} Write one of: {FORMS}.")
