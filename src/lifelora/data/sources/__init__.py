"""Where data come from: a closed list of sources, each of which reads itself into ``RawTables``.

A source says how the command line writes it (``at``, from the words behind its kind and a colon) and what reports call it
(``label``); nothing here knows more of one.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Annotated

from pydantic import Field

from lifelora.data.raw import RawTables
from lifelora.data.sources.amazon import Amazon
from lifelora.data.sources.bookcrossing import Bookcrossing
from lifelora.data.sources.goodreads import Goodreads
from lifelora.data.sources.llara import Llara
from lifelora.data.sources.movielens import NAMES, Movielens
from lifelora.data.sources.simulated import Simulated
from lifelora.data.sources.tables import Tables
from lifelora.errors import ConfigError

Source = Simulated | Movielens | Bookcrossing | Goodreads | Amazon | Llara | Tables
AnySource = Annotated[Source, Field(discriminator="kind")]
PLACED: Mapping[str, Callable[[str], Source]] = {
    "movielens": Movielens.at, "bookcrossing": Bookcrossing.at, "goodreads": Goodreads.at, "amazon": Amazon.at,
    "llara": Llara.at, "tables": Tables.at,
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
        return PLACED[kind](place)
    near = difflib.get_close_matches(kind, ["simulated", *PLACED], n=1)
    guess = f" did you mean '{near[0]}'?" if near else ""
    raise ConfigError(f"there is no data source '{text}';{guess} Write one of: {FORMS}.")


def read(source: Source, download: bool = False) -> RawTables:
    """The source's tables; only a source that can be fetched cares whether that is allowed."""
    return source.read(download) if isinstance(source, Movielens) else source.read()


def name_of(source: Source) -> str:
    """What reports call the data set."""
    return source.label
