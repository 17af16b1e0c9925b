"""`lifelora recipe`: the recipes that come with lifelora."""

import argparse

from lifelora.commands.opening import say
from lifelora.commands.words import Add, recipes


def add(command: Add) -> None:
    """recipe."""
    sub = command("recipe", "Print a built-in recipe, to read it or to start one of your own; without a name, list them.", handle)
    sub.add_argument("name", nargs="?", metavar="NAME", help="The recipe's name.")


def handle(arguments: argparse.Namespace) -> int:
    """The text of one, with its comments, or the list."""
    from lifelora.errors import ConfigError
    from lifelora.recipe.shipped import built_in

    if arguments.name is None:
        say(recipes())
        return 0
    texts = built_in()
    if arguments.name not in texts:
        raise ConfigError(f"there is no built-in recipe '{arguments.name}'; choose one of {', '.join(texts)}.")
    say(texts[arguments.name].rstrip())
    return 0
