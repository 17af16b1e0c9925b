"""`lifelora doctor`: whether this machine, or a run's files, are sound."""

import argparse
from pathlib import Path

from lifelora.commands.opening import say
from lifelora.commands.words import Add


def add(command: Add) -> None:
    """doctor."""
    sub = command("doctor", "Check this machine and what is installed, or check the files of a run.", handle)
    sub.add_argument(
        "run",
        type=Path,
        nargs="?",
        metavar="RUN",
        help="The folder of a run. All its files are hashed and compared with its manifests.",
    )


def handle(arguments: argparse.Namespace) -> int:
    """Check and tell; 1 where something is wrong."""
    if arguments.run is not None:
        from lifelora.run.stages import Stages

        text, healthy = Stages.open(arguments.run).verified()
    else:
        from lifelora.doctor import report

        text, healthy = report()
    say(text)
    return 0 if healthy else 1
