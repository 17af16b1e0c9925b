"""The words of the command line: commands, their arguments, their help. Knows none of what they do, and imports nothing heavy."""

import argparse
import difflib
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

Handler = Callable[[argparse.Namespace], int]
STAGES = {
    "prepare": "Read the log and the texts, check them, split them, and write them as tables.",
    "embed": "Load or pre-train the language model, and turn item texts into vectors.",
    "fit": "Train the conventional models.",
    "train": "Train the language-model systems.",
    "evaluate": "Score the test samples, compare the systems, and write the report.",
}
SOURCES = (
    "The data: simulated, movielens:PATH (a folder or a zip), movielens:100k|1m|25m|latest-small (with --download), "
    "bookcrossing:PATH, goodreads:PATH, amazon:PATH, llara:PATH or tables:PATH."
)
SYSTEM = "The system of the run. By default the best one on the validation samples."
FINISHED = "The folder of a finished run."
RENAMED = {"import": "inspect"}
"Commands by their old names."


class _Parser(argparse.ArgumentParser):
    """argparse, but the answer to a wrong word names the nearest one and all that are allowed."""

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


def parser(handlers: Mapping[str, Handler]) -> argparse.ArgumentParser:
    """The whole command line; ``arguments.handler`` is what ``handlers`` has for the command."""
    words = _Parser(
        prog="lifelora",
        description="Language-model recommenders that adapt to each user.",
        epilog="New here? Run `lifelora demo`. It needs no data and takes about four minutes.",
    )
    words.add_argument("--version", action="store_true", help="Print the version and stop.")
    commands = words.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, about: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about)
        sub.set_defaults(handler=handlers[name])
        return sub

    def settings(sub: argparse.ArgumentParser) -> None:
        sub.add_argument(
            "--set",
            action="append",
            default=[],
            metavar="KEY=VALUE",
            help="Change one value of the recipe, as in --set seed=1. Can be repeated.",
        )

    def options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", default="auto", help="auto (the default), cpu, cuda, cuda:1 or mps.")
        sub.add_argument("--download", action="store_true", help="Allow lifelora to download the named data set or model.")
        sub.add_argument(
            "--tokens-at-once",
            type=_at_least_one,
            metavar="N",
            help="Ask language models N tokens of prompts at a time. By default what the free memory bears.",
        )
        sub.add_argument("--quiet", action="store_true", help="Show no progress.")

    def training(sub: argparse.ArgumentParser) -> None:
        options(sub)
        sub.add_argument(
            "--checkpointing",
            action="store_true",
            help="Train language models in less memory and more time: layers run again during backward.",
        )

    demo = command("demo", "Run every stage on a simulated world (four minutes on two cores).")
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="The run's folder. By default runs/demo.")
    settings(demo)
    training(demo)

    data = command("data", "Read and check a data set, and print what is in it.")
    data.add_argument("source", help=SOURCES)
    data.add_argument("--download", action="store_true", help="Allow lifelora to download the named data set.")

    for name, about in [*STAGES.items(), ("run", "Run all stages in order, and skip the finished ones.")]:
        sub = command(name, about)
        sub.add_argument("recipe", metavar="RECIPE", help="A built-in recipe, a TOML file, or the folder of a run.")
        sub.add_argument("--data", metavar="SOURCE", help=SOURCES)
        sub.add_argument("--out", type=Path, help="The run's folder. By default runs/RECIPE-SOURCE.")
        settings(sub)
        training(sub)

    enhance = command("enhance", "Compare a conventional model with and without a language model's knowledge.")
    enhance.add_argument("--data", metavar="SOURCE", help=SOURCES)
    enhance.add_argument(
        "--model",
        default="din",
        metavar="KIND",
        help="The conventional model. By default din. Plug-ins are allowed.",
    )
    enhance.add_argument(
        "--knowledge",
        default="prompt",
        metavar="WHAT",
        help="prompt (the default): the language model reads questions about items and users. lm: it writes "
        "answers and reads those. Or a sentence encoder: a folder, a package or a hub name.",
    )
    enhance.add_argument("--out", type=Path, help="The run's folder. By default runs/enhance-MODEL-SOURCE.")
    settings(enhance)
    training(enhance)

    recommend = command("recommend", "Rank items for one user, and print what the model was shown.")
    recommend.add_argument("run", type=Path, metavar="RUN", help=FINISHED)
    recommend.add_argument("--user", required=True, help="The user's id, as in the log.")
    recommend.add_argument(
        "--items", nargs="+", metavar="ITEM", help="Rank these items. By default all items that the user has not seen."
    )
    recommend.add_argument("-k", type=int, default=10, help="The number of items to print. By default 10.")
    recommend.add_argument("--system", help=SYSTEM)
    recommend.add_argument("--json", action="store_true", help="Print JSON.")
    options(recommend)

    export = command("export", "Write a user's adapter as an ordinary LoRA, which PEFT and vLLM load.")
    export.add_argument("run", type=Path, metavar="RUN", help=FINISHED)
    whose = export.add_mutually_exclusive_group()
    whose.add_argument("--user", help="The user's id, as in the log. Omit it for a system with one adapter for all users.")
    whose.add_argument("--cohort", type=Path, metavar="FILE", help="Many users: a text file with one id per line.")
    export.add_argument("--item", help="The target's id, for an adapter that also depends on the target.")
    export.add_argument("--system", help=SYSTEM)
    export.add_argument("--out", type=Path, required=True, help="The folder to write. With --cohort it gets one folder per user.")
    options(export)

    inspect = command("inspect", "Read an ordinary LoRA, and print the recipe that starts from it.")
    inspect.add_argument("adapter", type=Path, metavar="FOLDER", help="A folder with the two files that PEFT saves.")

    show = command("show", "Print the table and the paths of a run, or compare two runs.")
    show.add_argument("run", type=Path, metavar="RUN", help="The folder of a run.")
    show.add_argument(
        "--against",
        type=Path,
        metavar="RUN",
        help="Another run on the same test samples. A paired test compares each system of both.",
    )

    seeds = command("seeds", "Summarise finished runs of one recipe under several seeds.")
    seeds.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=FINISHED)
    seeds.add_argument("--minus", metavar="NAME", help="Subtract this system from every other. By default the first.")
    seeds.add_argument("--json", action="store_true", help="Print JSON, with the values of every run.")

    doctor = command("doctor", "Check this machine and what is installed, or check the files of a run.")
    doctor.add_argument(
        "run",
        type=Path,
        nargs="?",
        metavar="RUN",
        help="The folder of a run. All its files are hashed and compared with its manifests.",
    )
    return words


def _at_least_one(word: str) -> int:
    """A whole number that an option takes."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"'{word}' is not a whole number from 1")
    return int(word)
