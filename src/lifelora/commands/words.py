"""The words that commands share: the parser, and the options that many of them take. Imports nothing heavy."""

import argparse
import difflib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

Handler = Callable[[argparse.Namespace], int]
Add = Callable[[str, str, Handler], "Parser"]
"""Makes a command: its name, what it does, and what does it; gives the parser of its arguments."""
SOURCES = (
    "The data: simulated, movielens:PATH (a folder or a zip), movielens:100k|1m|25m|latest-small (with --download), "
    "bookcrossing:PATH, goodreads:PATH, amazon:PATH, llara:PATH or tables:PATH."
)
SYSTEM = "The system of the run. By default the best one on the validation samples."
FINISHED = "The folder of a finished run."
RENAMED = {"import": "inspect"}
"Commands by their old names."


class Parser(argparse.ArgumentParser):
    """argparse, but the answer to a wrong word names the nearest one and all that are allowed."""

    closing: Callable[[], str] | None = None
    "What ends the help; it is made when help is asked for."

    def format_help(self) -> str:
        return super().format_help() + (f"\n{self.closing()}\n" if self.closing else "")

    def error(self, message: str) -> NoReturn:
        if "invalid choice: '" in message:
            word = message.split("invalid choice: '")[1].split("'")[0]
            allowed = [c for a in self._actions if a.choices is not None for c in a.choices]
            near = difflib.get_close_matches(word, allowed, n=1)
            guess = f" Did you mean '{near[0]}'?" if near else ""
            if word in RENAMED:
                guess = f" It is called '{RENAMED[word]}' now."
            message = f"unknown word '{word}'.{guess} Allowed: {', '.join(allowed)}."
        sys.stderr.write(f"lifelora: {message}\nTry: {self.prog} --help\n")
        raise SystemExit(2)


def recipes() -> str:
    """The built-in recipes, a line each."""
    from lifelora.recipe.shipped import in_one_line

    told = in_one_line()
    width = max(map(len, told))
    lines = [f"  {name:<{width}}  {about}".rstrip() for name, about in told.items()]
    return "\n".join(["built-in recipes:", *lines, "`lifelora recipe NAME` prints one."])


def finished(sub: argparse.ArgumentParser) -> None:
    """The folder of a run to read from."""
    sub.add_argument("run", type=Path, metavar="RUN", help=FINISHED)


def kept(sub: argparse.ArgumentParser) -> None:
    """--store."""
    sub.add_argument(
        "--store", metavar="URL", help="Where events are kept: a file, or postgresql://…. By default the file RUN.events.db."
    )


def settings(sub: argparse.ArgumentParser) -> None:
    """--set."""
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="Change one value of the recipe, as in --set seed=1. Can be repeated.",
    )


def options(sub: argparse.ArgumentParser) -> None:
    """What changes no result."""
    sub.add_argument("--device", default="auto", help="auto (the default), cpu, cuda, cuda:1 or mps.")
    sub.add_argument("--download", action="store_true", help="Allow lifelora to download the named data set or model.")
    sub.add_argument(
        "--tokens-at-once",
        type=at_least_one,
        metavar="N",
        help="Ask language models N tokens of prompts at a time. By default what the free memory bears.",
    )
    sub.add_argument("--quiet", action="store_true", help="Show no progress.")


def training(sub: argparse.ArgumentParser) -> None:
    """What changes no result, of commands that train."""
    options(sub)
    sub.add_argument(
        "--checkpointing",
        action="store_true",
        help="Train language models in less memory and more time: layers run again during backward.",
    )


def at_least_one(word: str) -> int:
    """A whole number that an option takes."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"'{word}' is not a whole number from 1")
    return int(word)
