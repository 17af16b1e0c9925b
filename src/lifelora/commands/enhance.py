"""`lifelora enhance`: a conventional model with and without what a language model knows."""

import argparse
from pathlib import Path

from lifelora.commands.opening import begun, closing, say
from lifelora.commands.words import SOURCES, Add, settings, training


def add(command: Add) -> None:
    """enhance."""
    sub = command("enhance", "Compare a conventional model with and without a language model's knowledge.", handle)
    sub.add_argument("--data", metavar="SOURCE", help=SOURCES)
    sub.add_argument(
        "--model",
        default="din",
        metavar="KIND",
        help="The conventional model. By default din. Plug-ins are allowed.",
    )
    sub.add_argument(
        "--knowledge",
        default="prompt",
        metavar="WHAT",
        help="prompt (the default): the language model reads questions about items and users. lm: it writes "
        "answers and reads those. Or a sentence encoder: a folder, a package or a hub name.",
    )
    sub.add_argument("--out", type=Path, help="The run's folder. By default runs/enhance-MODEL-SOURCE.")
    settings(sub)
    training(sub)


def handle(arguments: argparse.Namespace) -> int:
    """Run both, print the table and what scoring takes."""
    from lifelora.data.sources import parse_source
    from lifelora.recipe.files import enhanced
    from lifelora.run.recommend import served

    source = parse_source(arguments.data) if arguments.data else None
    run = begun(enhanced(arguments.model, arguments.knowledge, source, arguments.set), arguments)
    run.all()
    say(closing(run))
    for name, (median, high) in served(run).items():
        say(f"{name}: {median:.1f} ms of CPU to score 100 items for one user (median; 95th percentile {high:.1f} ms)")
    return 0
