"""`lifelora run` and its stages: a recipe becomes a folder of results."""

import argparse
from pathlib import Path

from lifelora.commands.opening import closing, opened, say
from lifelora.commands.words import SOURCES, Add, recipes, settings, training

STAGES = {
    "prepare": "Read the log and the texts, check them, split them, and write them as tables.",
    "embed": "Load or pre-train the language model, and turn item texts into vectors.",
    "fit": "Train the conventional models.",
    "train": "Train the language-model systems.",
    "evaluate": "Score the test samples, compare the systems, and write the report.",
}


def add(command: Add) -> None:
    """run, and each stage."""
    for name, about in [*STAGES.items(), ("run", "Run all stages in order, and skip the finished ones.")]:
        sub = command(name, about, handle)
        sub.add_argument("recipe", metavar="RECIPE", help="A built-in recipe (see below), a TOML file, or the folder of a run.")
        sub.add_argument("--data", metavar="SOURCE", help=SOURCES)
        sub.add_argument("--out", type=Path, help="The run's folder. By default runs/RECIPE-SOURCE.")
        settings(sub)
        training(sub)
        if name == "run":
            sub.add_argument(
                "--estimate",
                action="store_true",
                help="Make the data and the language model ready, say what time and memory the rest will take, and stop.",
            )
        sub.closing = recipes


def handle(arguments: argparse.Namespace) -> int:
    """One stage, or all."""
    run = opened(arguments)
    if arguments.command == "run" and arguments.estimate:
        ahead = run.estimate()
        say(str(ahead))
        ahead.refuse(checkpointing=run.options.checkpointing)
    elif arguments.command == "run":
        run.all()
        say(closing(run))
    else:
        getattr(run, arguments.command)()
        say(f"{arguments.command}: done, in {run.folder}")
    return 0
