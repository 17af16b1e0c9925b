"""`lifelora show` and `lifelora seeds`: what runs found, one or several side by side."""

import argparse
import json
from pathlib import Path

from lifelora.commands.opening import options_of, reading, say
from lifelora.commands.words import FINISHED, Add


def add(command: Add) -> None:
    """show and seeds."""
    sub = command("show", "Print the table and the paths of a run, or compare its systems, or two runs.", handle)
    sub.add_argument("run", type=Path, metavar="RUN", help="The folder of a run.")
    sub.add_argument(
        "--against",
        type=Path,
        metavar="RUN",
        help="Another run on the same test samples. A paired test compares each system of both.",
    )
    sub.add_argument("--minus", metavar="NAME", help="Subtract this system from every other, paired, by all metrics.")
    sub.add_argument("--json", action="store_true", help="With --minus: print JSON.")

    sub = command("seeds", "Summarise finished runs of one recipe under several seeds.", seeds)
    sub.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=FINISHED)
    sub.add_argument("--minus", metavar="NAME", help="Subtract this system from every other. By default the first.")
    sub.add_argument("--json", action="store_true", help="Print JSON, with the values of every run.")


def handle(arguments: argparse.Namespace) -> int:
    """A run's state and table, two runs compared, or its systems minus one of them."""
    from lifelora.errors import ConfigError

    if arguments.against is not None and arguments.minus is not None:
        raise ConfigError("--against compares two runs, and --minus the systems of one; give one of them.")
    if arguments.json and arguments.minus is None:
        raise ConfigError(f"--json needs --minus NAME; all figures of a run are in {arguments.run / '6-report/evaluation.json'}.")
    if arguments.minus is not None:
        from lifelora.study.compare import minus

        with reading(arguments, arguments.run) as (run,):
            found = minus(run, arguments.minus)
        say(json.dumps(found.as_json(), indent=1, ensure_ascii=False) if arguments.json else f"{run.folder}, each system {found}")
        return 0
    if arguments.against is None:
        from lifelora.owner import at_work
        from lifelora.run import Run

        say(Run.open(arguments.run, options_of(arguments)).status())
        if who := at_work(arguments.run):
            say(f"working on it: {who}")
        return 0
    from lifelora.study.compare import compare

    with reading(arguments, arguments.run, arguments.against) as (run, other):
        say(compare(run, other))
    return 0


def seeds(arguments: argparse.Namespace) -> int:
    """Runs of one recipe, summarised."""
    from lifelora.study.seeds import over_seeds

    with reading(arguments, *arguments.runs) as runs:
        found = over_seeds(runs, arguments.minus)
    say(json.dumps(found.as_json(), indent=1) if arguments.json else str(found))
    return 0
