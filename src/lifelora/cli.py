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
    "prepare": "Read the log and the texts, check them, split them, and write them as tables.",
    "fit": "Train the conventional models.",
    "embed": "Load or pre-train the language model, and turn item texts into vectors.",
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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="lifelora", description="Language-model recommenders that adapt to each user.",
                     epilog="New here? Run `lifelora demo`. It needs no data and takes about four minutes.")
    parser.add_argument("--version", action="store_true", help="Print the version and stop.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)

    def command(name: str, about: str, handler: Handler) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=about, description=about)
        sub.set_defaults(handler=handler)
        return sub

    def settings(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE",
                         help="Change one value of the recipe, as in --set seed=1. Can be repeated.")

    def options(sub: argparse.ArgumentParser) -> None:
        sub.add_argument("--device", default="auto", help="auto (the default), cpu, cuda, cuda:1 or mps.")
        sub.add_argument("--download", action="store_true", help="Allow lifelora to download the named data set or model.")
        sub.add_argument("--tokens-at-once", type=_at_least_one, metavar="N",
                         help="Ask language models N tokens of prompts at a time. By default what the free memory bears.")
        sub.add_argument("--quiet", action="store_true", help="Show no progress.")

    def training(sub: argparse.ArgumentParser) -> None:
        options(sub)
        sub.add_argument("--checkpointing", action="store_true",
                         help="Train language models in less memory and more time: layers run again during backward.")

    demo = command("demo", "Run every stage on a simulated world (four minutes on two cores).", _demo)
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="The run's folder. By default runs/demo.")
    settings(demo)
    training(demo)

    data = command("data", "Read and check a data set, and print what is in it.", _data)
    data.add_argument("source", help=SOURCES)
    data.add_argument("--download", action="store_true", help="Allow lifelora to download the named data set.")

    for name, about in [*STAGES.items(), ("run", "Run all stages in order, and skip the finished ones.")]:
        sub = command(name, about, _run)
        sub.add_argument("recipe", metavar="RECIPE", help="A built-in recipe, a TOML file, or the folder of a run.")
        sub.add_argument("--data", metavar="SOURCE", help=SOURCES)
        sub.add_argument("--out", type=Path, help="The run's folder. By default runs/RECIPE-SOURCE.")
        settings(sub)
        training(sub)

    enhance = command("enhance", "Compare a conventional model with and without a language model's knowledge.", _enhance)
    enhance.add_argument("--data", metavar="SOURCE", help=SOURCES)
    enhance.add_argument("--model", default="din", help="The conventional model. By default din.",
                         choices=("deepfm", "autoint", "dcnv2", "gru4rec", "caser", "sasrec", "din"))
    enhance.add_argument("--knowledge", default="prompt", metavar="WHAT",
                         help="prompt (the default): the language model reads questions about items and users. lm: it writes "
                              "answers and reads those. Or a sentence encoder: a folder, a package or a hub name.")
    enhance.add_argument("--out", type=Path, help="The run's folder. By default runs/enhance-MODEL-SOURCE.")
    settings(enhance)
    training(enhance)

    recommend = command("recommend", "Rank items for one user, and print what the model was shown.", _recommend)
    recommend.add_argument("run", type=Path, metavar="RUN", help=FINISHED)
    recommend.add_argument("--user", required=True, help="The user's id, as in the log.")
    recommend.add_argument("--items", nargs="+", metavar="ITEM",
                           help="Rank these items. By default all items that the user has not seen.")
    recommend.add_argument("-k", type=int, default=10, help="The number of items to print. By default 10.")
    recommend.add_argument("--system", help=SYSTEM)
    recommend.add_argument("--json", action="store_true", help="Print JSON.")
    options(recommend)

    export = command("export", "Write a user's adapter as an ordinary LoRA, which PEFT and vLLM load.", _export)
    export.add_argument("run", type=Path, metavar="RUN", help=FINISHED)
    whose = export.add_mutually_exclusive_group()
    whose.add_argument("--user", help="The user's id, as in the log. Omit it for a system with one adapter for all users.")
    whose.add_argument("--cohort", type=Path, metavar="FILE", help="Many users: a text file with one id per line.")
    export.add_argument("--item", help="The target's id, for an adapter that also depends on the target.")
    export.add_argument("--system", help=SYSTEM)
    export.add_argument("--out", type=Path, required=True,
                        help="The folder to write. With --cohort it gets one folder per user.")
    options(export)

    inspect = command("inspect", "Read an ordinary LoRA, and print the recipe that starts from it.", _inspect)
    inspect.add_argument("adapter", type=Path, metavar="FOLDER", help="A folder with the two files that PEFT saves.")

    show = command("show", "Print the table and the paths of a run, or compare two runs.", _show)
    show.add_argument("run", type=Path, metavar="RUN", help="The folder of a run.")
    show.add_argument("--against", type=Path, metavar="RUN",
                      help="Another run on the same test samples. A paired test compares each system of both.")

    seeds = command("seeds", "Summarise finished runs of one recipe under several seeds.", _seeds)
    seeds.add_argument("runs", type=Path, nargs="+", metavar="RUN", help=FINISHED)
    seeds.add_argument("--minus", metavar="NAME", help="Subtract this system from every other. By default the first.")
    seeds.add_argument("--json", action="store_true", help="Print JSON, with the values of every run.")

    doctor = command("doctor", "Check this machine and what is installed, or check the files of a run.", _doctor)
    doctor.add_argument("run", type=Path, nargs="?", metavar="RUN",
                        help="The folder of a run. All its files are hashed and compared with its manifests.")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command in ``argv`` (by default the process's own); return the exit status."""
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
    # This must be set before torch is imported. A thread that has finished its part of a product then sleeps; by default it
    # spins. With one busy core, two spinning threads took five times as long as one thread for a small LM.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if "RANK" in os.environ:  # of several processes each would warn that no parameter was unused in its first batch
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    handler: Handler = arguments.handler
    return through(lambda: handler(arguments), sys.argv[1:] if argv is None else argv)


def _at_least_one(word: str) -> int:
    """A whole number that an option takes."""
    if not word.isdecimal() or int(word) < 1:
        raise argparse.ArgumentTypeError(f"'{word}' is not a whole number from 1")
    return int(word)


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
            raise ConfigError(f"'{folder}' is a run, which has its own recipe. Remove --data, --set and --out, "
                              f"or start another run: `lifelora run {folder / RECIPE_FILE} --out ELSEWHERE`.")
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
    return Options(device=given.get("device", "cpu"), download=given.get("download", False),
                   progress=not given.get("quiet", False), checkpointing=given.get("checkpointing", False),
                   tokens_at_once=given.get("tokens_at_once"))


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
    _say(f"\nNext:\n  lifelora recommend {run.folder} --user {run.task.example_user()}\n  lifelora show {run.folder}\n"
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


if __name__ == "__main__":
    raise SystemExit(main())
