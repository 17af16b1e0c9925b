"""The command line: words in, one call down, a line or a table out. Knows no arithmetic.

Nothing heavy is imported before a command is chosen, so that ``--help`` answers at once.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lifelora.arguments import STAGES, Handler, parser

if TYPE_CHECKING:
    from lifelora.recipe.recipe import Recipe
    from lifelora.run import Options, Run


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in ``argv`` (by default the process's own); return the exit status."""
    words = parser(HANDLERS)
    arguments = words.parse_args(argv)
    if arguments.version:
        from lifelora import __version__

        print(f"lifelora {__version__}")
        return 0
    if arguments.command is None:
        words.print_help()
        return 2
    from lifelora.door import through

    # The tokenizers library warns when a process that used its threads forks; we never fork while tokenising.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # This must be set before torch is imported. A thread that has finished its part of a product then sleeps; by default it
    # spins. With one busy core, two spinning threads took five times as long as one thread for a small LM.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "RANK" in os.environ:  # of several processes each would warn that no parameter was unused in its first batch
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    handler: Handler = arguments.handler
    return through(lambda: handler(arguments), sys.argv[1:] if argv is None else argv)


def _say(text: str) -> None:
    """Print text that may come from a data set or an adapter; its control characters are shown, not obeyed."""
    from lifelora.errors import harmless
    from lifelora.progress import speaks

    if speaks():
        print(harmless(text))


def _open(arguments: argparse.Namespace) -> "Run":
    from lifelora.data.sources import parse_source
    from lifelora.errors import ConfigError
    from lifelora.recipe.files import built_in, load
    from lifelora.run import Run
    from lifelora.run.stages import RECIPE_FILE

    folder = Path(arguments.recipe)
    # A built-in recipe's name wins over a run's folder of that name, which can be written as ./NAME.
    if arguments.recipe not in built_in() and (folder / RECIPE_FILE).is_file():
        if arguments.data or arguments.set or arguments.out:
            raise ConfigError(
                f"'{folder}' is a run, which has its own recipe. Remove --data, --set and --out, "
                f"or start another run: `lifelora run {folder / RECIPE_FILE} --out ELSEWHERE`."
            )
        return Run.open(folder, _options(arguments))
    source = parse_source(arguments.data) if arguments.data else None
    return _begun(load(arguments.recipe, source, arguments.set), arguments)


def _begun(recipe: "Recipe", arguments: argparse.Namespace) -> "Run":
    """A run in --out, or in runs/RECIPE-SOURCE."""
    from lifelora.run import Run

    kind, _, place = (arguments.data or recipe.data.source.kind).partition(":")
    folder = f"{recipe.name}-{kind}-{Path(place).stem}" if place else f"{recipe.name}-{kind}"
    return Run(recipe, arguments.out or Path("runs") / folder, _options(arguments))


def _options(arguments: argparse.Namespace) -> "Options":
    from lifelora.run import Options

    given = vars(arguments)
    return Options(
        device=given.get("device", "cpu"),
        download=given.get("download", False),
        progress=not given.get("quiet", False),
        checkpointing=given.get("checkpointing", False),
        tokens_at_once=given.get("tokens_at_once"),
    )


@contextmanager
def _reading(arguments: argparse.Namespace, *folders: Path) -> Iterator[list["Run"]]:
    """Open runs, and keep other processes from writing in them until the end."""
    from lifelora.owner import read
    from lifelora.run import Run

    with ExitStack() as readers:
        for folder in folders:
            readers.enter_context(read(folder))
        yield [Run.open(folder, _options(arguments)) for folder in folders]


def _run(arguments: argparse.Namespace) -> int:
    run = _open(arguments)
    if arguments.command == "run":
        run.all()
        _say(_closing(run))
    else:
        getattr(run, arguments.command)()
        _say(f"{arguments.command}: done, in {run.folder}")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from lifelora.recipe.files import load
    from lifelora.run import Run

    run = Run(load("demo", settings=arguments.set), arguments.out, _options(arguments))
    run.all()
    _say(_closing(run))
    _say(
        f"\nNext:\n  lifelora recommend {run.folder} --user {run.task.example_user()}\n  lifelora show {run.folder}\n"
        "  lifelora run demo --data movielens:PATH/TO/ml-100k"
    )
    return 0


def _enhance(arguments: argparse.Namespace) -> int:
    from lifelora.data.sources import parse_source
    from lifelora.recipe.files import enhanced
    from lifelora.run.recommend import served

    source = parse_source(arguments.data) if arguments.data else None
    run = _begun(enhanced(arguments.model, arguments.knowledge, source, arguments.set), arguments)
    run.all()
    _say(_closing(run))
    for name, (median, high) in served(run).items():
        _say(f"{name}: {median:.1f} ms of CPU to score 100 items for one user (median; 95th percentile {high:.1f} ms)")
    return 0


def _closing(run: "Run") -> str:
    return f"\n{run.table()}\n\nReport: {run.stages.report.folder / 'report.html'}"


def _data(arguments: argparse.Namespace) -> int:
    from lifelora.data.describe import describe
    from lifelora.data.sources import parse_source

    source = parse_source(arguments.source)
    _say(describe(source.read(arguments.download), source.label))
    return 0


def _recommend(arguments: argparse.Namespace) -> int:
    from lifelora.run.recommend import recommend

    with _reading(arguments, arguments.run) as (run,):
        answer = recommend(run, arguments.user, arguments.items, arguments.k, arguments.system)
    _say(json.dumps(answer.as_json(), ensure_ascii=False, indent=1) if arguments.json else str(answer))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from lifelora.run.export import export, read_cohort

    users = read_cohort(arguments.cohort) if arguments.cohort else None if arguments.user is None else [arguments.user]
    with _reading(arguments, arguments.run) as (run,):
        written = export(run, arguments.out, system=arguments.system, users=users, item=arguments.item)
        _say(f"export: {len(written):,} adapter{'s' * (len(written) > 1)} in {arguments.out}, for {run.context.base_model}")
    return 0


def _inspect(arguments: argparse.Namespace) -> int:
    from lifelora.run.export import how_to_start

    _say(how_to_start(arguments.adapter))
    return 0


def _show(arguments: argparse.Namespace) -> int:
    if arguments.against is None:
        from lifelora.owner import at_work
        from lifelora.run import Run

        _say(Run.open(arguments.run, _options(arguments)).status())
        if who := at_work(arguments.run):
            _say(f"working on it: {who}")
        return 0
    from lifelora.study.compare import compare

    with _reading(arguments, arguments.run, arguments.against) as (run, other):
        _say(compare(run, other))
    return 0


def _seeds(arguments: argparse.Namespace) -> int:
    from lifelora.study.seeds import over_seeds

    with _reading(arguments, *arguments.runs) as runs:
        found = over_seeds(runs, arguments.minus)
    _say(json.dumps(found.as_json(), indent=1) if arguments.json else str(found))
    return 0


def _doctor(arguments: argparse.Namespace) -> int:
    if arguments.run is not None:
        from lifelora.run.stages import Stages

        text, healthy = Stages.open(arguments.run).verified()
    else:
        from lifelora.doctor import report

        text, healthy = report()
    _say(text)
    return 0 if healthy else 1


HANDLERS: dict[str, Handler] = {
    "demo": _demo,
    "data": _data,
    **dict.fromkeys([*STAGES, "run"], _run),
    "enhance": _enhance,
    "recommend": _recommend,
    "export": _export,
    "inspect": _inspect,
    "show": _show,
    "seeds": _seeds,
    "doctor": _doctor,
}


if __name__ == "__main__":
    raise SystemExit(main())
