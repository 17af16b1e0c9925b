"""`lifelora demo`: every stage on a simulated world."""

import argparse
import os
from pathlib import Path

from lifelora.commands.opening import closing, options_of, say
from lifelora.commands.words import Add, settings, training

THREADS = "2"


def add(command: Add) -> None:
    """demo."""
    sub = command("demo", "Run every stage on a simulated world (four minutes on two cores).", handle)
    sub.add_argument("--out", type=Path, default=Path("runs/demo"), help="The run's folder. By default runs/demo.")
    settings(sub)
    training(sub)


def handle(arguments: argparse.Namespace) -> int:
    """Run, print the table, and say what to try next."""
    # Sums of more threads are rounded in another order, and training carries that on: the README's table is of two.
    os.environ.setdefault("OMP_NUM_THREADS", THREADS)
    from lifelora.recipe.files import load
    from lifelora.run import Run

    run = Run(load("demo", settings=arguments.set), arguments.out, options_of(arguments))
    run.all()
    say(closing(run))
    say(
        f"\nNext:\n  lifelora recommend {run.folder} --user {run.task.example_user()}\n  lifelora show {run.folder}\n"
        "  lifelora run demo --data movielens:PATH/TO/ml-100k"
    )
    return 0
