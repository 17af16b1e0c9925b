"""`lifelora prompt`: what a language-model system reads about a user and an item."""

import argparse
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lifelora.commands.opening import existing, options_of, reading, say
from lifelora.commands.words import SOURCES, Add, at_least_one, recipes, settings

if TYPE_CHECKING:
    from lifelora.run import Run


def add(command: Add) -> None:
    """prompt."""
    sub = command("prompt", "Print a prompt with the tokens of every line. No language model is trained or loaded.", handle)
    sub.add_argument("recipe", metavar="RUN|RECIPE", help="The folder of a run, a built-in recipe, or a TOML file.")
    sub.add_argument("--data", metavar="SOURCE", help=SOURCES)
    sub.add_argument("--system", metavar="NAME", help="The system whose prompt it is. By default the recipe's first one.")
    sub.add_argument("--user", help="The user's id, as in the log. By default the user of the report's example.")
    sub.add_argument("--item", help="Ask about this item now. By default the target of a sample, of test if there is one.")
    sub.add_argument("--json", action="store_true", help="Print JSON, which has the ids of the tokens, too.")
    sub.add_argument(
        "--vllm",
        type=Path,
        metavar="FOLDER",
        help="Of a run: print a request to vLLM's /generative_scoring, by the adapters that `export --layout vllm` wrote there.",
    )
    sub.add_argument("--items", nargs="+", metavar="ITEM", help="With --vllm: the candidates.")
    sub.add_argument("--max-model-len", type=at_least_one, metavar="N", help="With --vllm: refuse prompts that vLLM would cut.")
    sub.add_argument("--download", action="store_true", help="Allow lifelora to download the named data set or tokenizer.")
    settings(sub)
    sub.closing = recipes


def handle(arguments: argparse.Namespace) -> int:
    """Open or prepare, and print."""
    from lifelora.errors import ConfigError
    from lifelora.run.prompts import prompt

    vllm = arguments.vllm is not None
    for wrong, what in (
        ((arguments.items or arguments.max_model_len) and not vllm, "--items and --max-model-len belong to --vllm"),
        (vllm and not (arguments.user and arguments.items), "--vllm needs --user and --items"),
        (
            vllm and (arguments.item or arguments.system),
            "--vllm takes --items and the system of its folder; remove --item, --system",
        ),
        (vllm and existing(arguments.recipe) is None, f"--vllm needs the folder of a run, and '{arguments.recipe}' is none"),
    ):
        if wrong:
            raise ConfigError(f"{what}.")
    if vllm:
        return _request(arguments)
    with _prepared(arguments) as run:
        found = prompt(run, arguments.system, arguments.user, arguments.item)
        rest = [name for name in (*run.recipe.systems, *run.recipe.two_towers) if name != found.system]
    if arguments.json:
        say(json.dumps(found.as_json(), ensure_ascii=False, indent=1))
    else:
        say(f"{found}\nother systems, for --system: {', '.join(rest)}" if rest and not arguments.system else str(found))
    return 0


def _request(arguments: argparse.Namespace) -> int:
    from lifelora.run.generative_scoring import GenerativeScoring

    with reading(arguments, Path(arguments.recipe)) as (run,):
        scoring = GenerativeScoring.of(run, arguments.vllm)
        say(json.dumps(scoring.body(arguments.user, arguments.items, arguments.max_model_len)))
    return 0


@contextmanager
def _prepared(arguments: argparse.Namespace) -> Iterator["Run"]:
    """A run that exists, or one of a recipe whose data are prepared in a folder that goes away."""
    from lifelora.data.sources import parse_source
    from lifelora.errors import ConfigError
    from lifelora.recipe.files import load
    from lifelora.run import Run

    if (run_folder := existing(arguments.recipe)) is not None:
        if arguments.data or arguments.set:
            raise ConfigError(f"'{run_folder}' is a run, which has its own recipe. Remove --data and --set, or give a recipe.")
        with reading(arguments, run_folder) as (run,):
            yield run
        return
    recipe = load(arguments.recipe, parse_source(arguments.data) if arguments.data else None, arguments.set)
    with TemporaryDirectory(prefix="lifelora-") as folder:
        run = Run(recipe, Path(folder), options_of(arguments))
        run.prepare()
        yield run
