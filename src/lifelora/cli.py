"""The command line: words in, one call down, a line or a table out. Knows no arithmetic.

Nothing heavy is imported before a command is chosen, so that ``--help`` answers at once.
"""

import argparse
import difflib
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from lifelora.recipe.recipe import Recipe
    from lifelora.run import Options, Run

Handler = Callable[[argparse.Namespace], int]
STAGES = {
    "prepare": "read the log and the texts, check them, split them, write them as memory-mapped tables",
    "fit": "train the conventional models",
    "embed": "make the language model ready and turn item words into vectors",
    "train": "train the language-model systems",
    "evaluate": "score the test rows, compare, and write the report",
}
SOURCES = (
    "simulated | movielens:PATH (folder or zip) | movielens:100k|1m|25m|latest-small (with --download) | bookcrossing:PATH | "
    "goodreads:PATH | amazon:PATH | llara:PATH | tables:PATH"
)


RENAMED = {"import": "inspect"}
"Commands by their old names."


class _Parser(argparse.ArgumentParser):
    """argparse, but a wrong word is answered with the near ones and all that is allowed."""

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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lifelora", description="Language-model recommenders that adapt to each person.",
                     epilog="First time here? `lifelora demo` shows everything in four minutes, with nothing at hand.")
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, about: str, handler: Handler) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about[0].upper() + about[1:] + ".")
        sub.set_defaults(handler=handler)
        return sub

    def settings(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                         help="change one value of the recipe, as in --set seed=1 (repeatable)")

    def options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default: auto)")
        sub.add_argument("--download", action="store_true", help="allow fetching the named data set or model")
        sub.add_argument("--quiet", action="store_true", help="no progress")

    def training(sub: argparse.ArgumentParser) -> None:
        options(sub)
        sub.add_argument("--checkpointing", action="store_true",
                         help="train language models in less memory and more time: layers run again during backward")

    demo = command("demo", "the whole path on a simulated world: four minutes on two cores", _demo)
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="the run's folder (default: runs/demo)")
    settings(demo)
    training(demo)

    data = command("data", "read and check a data set, and say what is in it", _data)
    data.add_argument("source", help=SOURCES)
    data.add_argument("--download", action="store_true", help="allow fetching the named data set")

    for name, about in [*STAGES.items(), ("run", "all stages in order, skipping finished ones")]:
        sub = command(name, about, _run)
        sub.add_argument("recipe", metavar="RECIPE", help="a built-in recipe, a TOML file, or the folder of a run")
        sub.add_argument("--data", metavar="SOURCE", help=SOURCES)
        sub.add_argument("--out", type=Path, help="the run's folder (default: runs/RECIPE-SOURCE)")
        settings(sub)
        training(sub)

    enhance = command("enhance", "a conventional model beside itself with what a language model knows", _enhance)
    enhance.add_argument("--data", metavar="SOURCE", help=SOURCES)
    enhance.add_argument("--model", default="din", help="the conventional model (default: din)",
                         choices=("deepfm", "autoint", "dcnv2", "gru4rec", "caser", "sasrec", "din"))
    enhance.add_argument("--knowledge", default="prompt", metavar="WHAT",
                         help="prompt: the language model reads questions about items and people (default); lm: it writes "
                              "answers and reads those; or a sentence encoder (folder, package, hub name) in its place")
    enhance.add_argument("--out", type=Path, help="the run's folder (default: runs/enhance-MODEL-SOURCE)")
    settings(enhance)
    training(enhance)

    recommend = command("recommend", "a ranked list for one user, with what the model was shown", _recommend)
    recommend.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run")
    recommend.add_argument("--user", required=True, help="the user's id, as in the log")
    recommend.add_argument("--items", nargs="+", metavar="ITEM", help="rank these items (default: what the user has not met)")
    recommend.add_argument("-k", type=int, default=10, help="how many (default: 10)")
    recommend.add_argument("--system", help="which system of the run (default: the best on validation)")
    recommend.add_argument("--json", action="store_true", help="print JSON")
    options(recommend)

    export = command("export", "a person's adapter as an ordinary LoRA, which PEFT and vLLM load", _export)
    export.add_argument("run", type=Path, metavar="RUN", help="the folder of a finished run")
    whose = export.add_mutually_exclusive_group()
    whose.add_argument("--user", help="the user's id, as in the log (none for a system that is the same for everybody)")
    whose.add_argument("--cohort", type=Path, metavar="FILE", help="many users: a text file with one id per line")
    export.add_argument("--item", help="the target, where the adapter depends on it, too")
    export.add_argument("--system", help="which system of the run (default: the best on validation)")
    export.add_argument("--out", type=Path, required=True, help="the folder to write; with --cohort one in it for each user")
    options(export)

    imported = command("inspect", "read an ordinary LoRA, and say how a recipe starts from it", _inspect)
    imported.add_argument("adapter", type=Path, metavar="FOLDER", help="a folder with the two files that PEFT saves")

    show = command("show", "the table and the paths of a run", _show)
    show.add_argument("run", type=Path, metavar="RUN", help="the folder of a run")
    show.add_argument("--against", type=Path, metavar="RUN", help="another run on the same rows: a paired test, system by system")

    seeds = command("seeds", "finished runs of one recipe under several seeds, told as one", _seeds)
    seeds.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the folder of a finished run")
    seeds.add_argument("--minus", metavar="NAME", help="the system that is taken away from every other (default: the first)")
    seeds.add_argument("--json", action="store_true", help="print JSON, with the values of every run")

    doctor = command("doctor", "versions, devices, free memory and disk, and what is missing; or whether a run is sound", _doctor)
    doctor.add_argument("run", type=Path, nargs="?", metavar="RUN", help="the folder of a run: hash all its files")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point of ``lifelora``; returns the exit status."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.version:
        from lifelora import __version__

        print(f"lifelora {__version__}")
        return 0
    if arguments.command is None:
        parser.print_help()
        return 2
    from lifelora.door import through

    # The tokenizers library warns when a process that used its threads forks; we never fork while tokenising.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
    # Before torch is imported: a thread that has finished its part of a product sleeps until the others have. By default it
    # spins, and beside one busy core two threads took five times as long as one over the small products of a small LM.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    handler: Handler = arguments.handler
    return through(lambda: handler(arguments), sys.argv[1:] if argv is None else argv)


def _say(text: str) -> None:
    """Print what may hold texts of a data set or of an adapter: none of them is an order to the terminal."""
    from lifelora.errors import harmless

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
            raise ConfigError(f"'{folder}' is a run with a recipe of its own; leave --data, --set and --out away, "
                              f"or start another run with `lifelora run {folder / RECIPE_FILE} --out ELSEWHERE`.")
        return Run.open(folder, _options(arguments))
    source = parse_source(arguments.data) if arguments.data else None
    return _begun(load(arguments.recipe, source, arguments.set), arguments)


def _begun(recipe: "Recipe", arguments: argparse.Namespace) -> "Run":
    """A run in --out, or in a folder that says what of which data."""
    from lifelora.run import Run

    kind, _, place = (arguments.data or recipe.data.source.kind).partition(":")
    folder = f"{recipe.name}-{kind}-{Path(place).stem}" if place else f"{recipe.name}-{kind}"
    return Run(recipe, arguments.out or Path("runs") / folder, _options(arguments))


def _options(arguments: argparse.Namespace) -> "Options":
    from lifelora.run import Options

    given = vars(arguments)
    return Options(device=given.get("device", "cpu"), download=given.get("download", False),
                   progress=not given.get("quiet", False), checkpointing=given.get("checkpointing", False))


@contextmanager
def _reading(arguments: argparse.Namespace, *folders: Path) -> Iterator[list["Run"]]:
    """Runs that nobody writes in while they are read."""
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
    from lifelora.run.findings import example_user

    run = Run(load("demo", settings=arguments.set), arguments.out, _options(arguments))
    run.all()
    _say(_closing(run))
    _say(f"\nNext:\n  lifelora recommend {run.folder} --user {example_user(run.parts)}\n  lifelora show {run.folder}\n"
          "  lifelora run demo --data movielens:PATH/TO/ml-100k")
    return 0


def _enhance(arguments: argparse.Namespace) -> int:
    from lifelora.data.sources import parse_source
    from lifelora.recipe.files import enhanced
    from lifelora.run.recommend import served

    source = parse_source(arguments.data) if arguments.data else None
    run = _begun(enhanced(arguments.model, arguments.knowledge, source, arguments.set), arguments)
    run.all()
    _say(_closing(run))
    for name, (median, high) in served(run.parts, list(run.recipe.conventional)).items():
        _say(f"{name}: {median:.1f} ms of CPU to score 100 items for one person (median; 95th percentile {high:.1f} ms)")
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
        answer = recommend(run.parts, arguments.user, arguments.items, arguments.k, arguments.system)
    _say(json.dumps(answer.as_json(), ensure_ascii=False, indent=1) if arguments.json else str(answer))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from lifelora.run.export import export, read_cohort

    users = read_cohort(arguments.cohort) if arguments.cohort else None if arguments.user is None else [arguments.user]
    with _reading(arguments, arguments.run) as (run,):
        written = export(run.parts, arguments.out, system=arguments.system, users=users, item=arguments.item)
        _say(f"export: {len(written):,} adapter{'s' * (len(written) > 1)} in {arguments.out}, for {run.parts.base_model}")
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
            _say(f"at work on it: {who}")
        return 0
    from lifelora.run.compare import compare

    with _reading(arguments, arguments.run, arguments.against) as (run, other):
        _say(compare(run.parts, other.parts))
    return 0


def _seeds(arguments: argparse.Namespace) -> int:
    from lifelora.run.seeds import over_seeds

    with _reading(arguments, *arguments.runs) as runs:
        found = over_seeds([run.parts for run in runs], arguments.minus)
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


if __name__ == "__main__":
    raise SystemExit(main())
