"""`lifelora data`: what is in a data set."""

import argparse

from lifelora.commands.opening import say
from lifelora.commands.words import SOURCES, Add


def add(command: Add) -> None:
    """data."""
    sub = command("data", "Read and check a data set, and print what is in it.", handle)
    sub.add_argument("source", help=SOURCES)
    sub.add_argument("--download", action="store_true", help="Allow lifelora to download the named data set.")


def handle(arguments: argparse.Namespace) -> int:
    """Read, check, describe."""
    from lifelora.data.describe import describe
    from lifelora.data.sources import parse_source

    source = parse_source(arguments.source)
    say(describe(source.read(arguments.download), source.label))
    return 0
