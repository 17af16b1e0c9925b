"""What commands do first and last: open runs, print text. Knows no command, and imports what is heavy when it is called."""

import argparse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lifelora.recipe.recipe import Recipe
    from lifelora.run import Options, Run


def say(text: str) -> None:
    """Print text that may come from a data set or an adapter; its control characters are shown, not obeyed."""
    from lifelora.errors import harmless
    from lifelora.progress import speaks

    if speaks():
        print(harmless(text))


def opened(arguments: argparse.Namespace) -> "Run":
    """A run that exists (its folder), or a new one of a recipe."""
    from lifelora.data.sources import parse_source
    from lifelora.errors import ConfigError
    from lifelora.recipe.files import load
    from lifelora.run import Run
    from lifelora.run.stages import RECIPE_FILE

    if (folder := existing(arguments.recipe)) is not None:
        if arguments.data or arguments.set or arguments.out:
            raise ConfigError(
                f"'{folder}' is a run, which has its own recipe. Remove --data, --set and --out, "
                f"or start another run: `lifelora run {folder / RECIPE_FILE} --out ELSEWHERE`."
            )
        return Run.open(folder, options_of(arguments))
    source = parse_source(arguments.data) if arguments.data else None
    return begun(load(arguments.recipe, source, arguments.set), arguments)


def existing(word: str) -> Path | None:
    """The folder of a run, where the word names one and no recipe."""
    from lifelora.recipe.shipped import built_in
    from lifelora.run.stages import RECIPE_FILE

    # A built-in recipe's name wins over a run's folder of that name, which can be written as ./NAME.
    return Path(word) if word not in built_in() and (Path(word) / RECIPE_FILE).is_file() else None


def begun(recipe: "Recipe", arguments: argparse.Namespace) -> "Run":
    """A run in --out, or in runs/RECIPE-SOURCE."""
    from lifelora.run import Run

    kind, _, place = (arguments.data or recipe.data.source.kind).partition(":")
    folder = f"{recipe.name}-{kind}-{Path(place).stem}" if place else f"{recipe.name}-{kind}"
    return Run(recipe, arguments.out or Path("runs") / folder, options_of(arguments))


def options_of(arguments: argparse.Namespace) -> "Options":
    """What changes no result, as it was given."""
    from lifelora.run import Options

    given = vars(arguments)
    return Options(
        device=given.get("device", "cpu"),
        download=given.get("download", False),
        progress=not given.get("quiet", False),
        checkpointing=given.get("checkpointing", False),
        tokens_at_once=given.get("tokens_at_once"),
    )


def store_of(arguments: argparse.Namespace) -> "str | Path":
    """Where a run's events are kept: what --store says, or the file beside the run's folder or the link to it."""
    place: Path = arguments.run.absolute()
    return arguments.store or place.parent / f"{place.name}.events.db"


@contextmanager
def reading(arguments: argparse.Namespace, *folders: Path) -> Iterator[list["Run"]]:
    """Open runs, and keep other processes from writing in them until the end."""
    from lifelora.owner import read
    from lifelora.run import Run

    with ExitStack() as readers:
        for folder in folders:
            readers.enter_context(read(folder))
        yield [Run.open(folder, options_of(arguments)) for folder in folders]


def closing(run: "Run") -> str:
    """The table, and where the report is."""
    return f"\n{run.table()}\n\nReport: {run.stages.report.folder / 'report.html'}"
