"""The commands, a module each: its words, its help, and one call down. Knows no arithmetic, and imports nothing heavy.

A new command is a module here and its place in ``COMMANDS``.
"""

from lifelora.commands import (
    data,
    demo,
    doctor,
    enhance,
    export,
    measure,
    models,
    prompt,
    recipe,
    recommend,
    serve,
    show,
    stages,
    store,
)
from lifelora.commands.words import Handler, Parser

COMMANDS = (demo, data, recipe, prompt, stages, enhance, recommend, serve, store, export, show, measure, models, doctor)
"""In the order of the help."""


def parser() -> Parser:
    """The whole command line; ``arguments.handler`` is what does the command."""
    words = Parser(
        prog="lifelora",
        description="Language-model recommenders that adapt to each user.",
        epilog="New here? Run `lifelora demo`. It needs no data and takes about four minutes.",
    )
    words.add_argument("--version", action="store_true", help="Print the version and stop.")
    subparsers = words.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)

    def command(name: str, about: str, handler: Handler) -> Parser:
        sub = subparsers.add_parser(name, help=about, description=about)
        sub.set_defaults(handler=handler)
        return sub

    for module in COMMANDS:
        module.add(command)
    return words
