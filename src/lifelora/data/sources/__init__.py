"""Where data come from: sources, each of which names its files and reads itself into ``RawTables``."""

import difflib
from typing import Annotated

from lifelora.data.sources.base import Source
from lifelora.errors import ConfigError
from lifelora.kinds import SOURCES

AnySource = Annotated[Source, SOURCES.unless_said("simulated")]


def parse_source(text: str) -> Source:
    """A source in the words of the command line; ConfigError answers a wrong one with those that are right."""
    kind, _, place = text.partition(":")
    if kind not in SOURCES.kinds:
        near = difflib.get_close_matches(kind, SOURCES.kinds, n=1)
        guess = f" did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"there is no data source '{text}';{guess} Write one of: {forms()}.")
    source: type[Source] = SOURCES.find(kind)
    if ":" in source.form and not place:
        raise ConfigError(f"'{text}' lacks its place; write one of: {forms()}.")
    return source.at(place)


def forms() -> str:
    """What the command line may say; plug-ins by their names, for they are not imported to be listed."""
    ours = [SOURCES.find(kind).form for kind in SOURCES.ours]
    return ", ".join([*ours, *(kind for kind in SOURCES.kinds if kind not in SOURCES.ours)])
