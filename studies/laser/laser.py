r"""Conventional models at shares of the training samples, each without and with what a language model knows (Laser).

    python studies/laser/laser.py vectors studies/laser/ml-1m.toml --data PATH/TO/ml-1m --out runs/known
    for seed in 0 1 2; do python studies/laser/laser.py run studies/laser/ml-1m.toml --data PATH/TO/ml-1m --known runs/known \
      --seed $seed --out runs/laser-$seed; done

The vectors are made once, and lie in Parquet files. A run holds every model at every share of the training samples, each on the
same samples without and with knowledge: the first so many of one draw by seed. The same validation samples choose the epoch;
the same test samples judge. What was done is kept: called again, with more shares or models, a run goes on. added.py tells them.
"""

import argparse
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lifelora.knowledge.questions import shown
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.knowledge import ITEMS, USERS
from lifelora.vectors.base import Vectors

SHARES = (1, 2, 5, 10, 20, 50, 100)
MODELS = ("deepfm", "autoint", "dcnv2", "gru4rec", "caser", "sasrec", "din")
COUNTED = {"popularity": {"model": {"kind": "popularity"}}}


def values_of(arguments: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """The recipe's values, with the data where they are said to be, and the [study] that stands beside them in the file."""
    values = tomllib.loads(arguments.recipe.read_text(encoding="utf-8"))
    if arguments.data is not None:
        values["data"]["source"]["path"] = str(arguments.data)
    return values, values.pop("study")


def vectors(arguments: argparse.Namespace) -> None:
    """All knowledge of the recipe into OUT/NAME-items.parquet and OUT/NAME-users.parquet."""
    values, _ = values_of(arguments)
    run = Run(parse(values | {"conventional": COUNTED}, str(arguments.recipe)), arguments.out, options(arguments))
    run.prepare()
    run.embed()
    dataset = run.context.dataset
    for name, asked in run.recipe.knowledge.items():
        folder = run.stages.knowledge(name).require()
        items_ME, states_NE = (Vectors.load(folder / file).vectors_NE for file in (ITEMS, USERS))
        of = shown(dataset, asked.every, 1)
        known_M, known_N = items_ME.any(dim=1).numpy(), states_NE.any(dim=1).numpy()
        pq.write_table(
            pa.table({"item": dataset.items.outside(np.flatnonzero(known_M)), "vector": list(items_ME.numpy()[known_M])}),
            arguments.out / f"{name}-items.parquet",
        )
        pq.write_table(
            pa.table(
                {
                    "user": dataset.users.outside(of.user_N[known_N]),
                    "events": of.number_N[known_N] * asked.every,
                    "vector": list(states_NE.numpy()[known_N]),
                }
            ),
            arguments.out / f"{name}-users.parquet",
        )


def run(arguments: argparse.Namespace) -> None:
    """One seed: models at shares, without and with knowledge."""
    values, study = values_of(arguments)
    every = {
        name: asked["every"]
        for name, asked in values["knowledge"].items()
        if arguments.knowledge is None or name in arguments.knowledge
    }
    values.pop("backbone", None)
    values |= {
        "seed": arguments.seed,
        "conventional": COUNTED,
        "knowledge": {
            name: {
                "every": every[name],
                "vectors": {
                    "kind": "precomputed",
                    "items": str(arguments.known / f"{name}-items.parquet"),
                    "users": str(arguments.known / f"{name}-users.parquet"),
                    "dimensions": study["dimensions"],
                },
            }
            for name in every
        },
    }
    first = Run(parse(values, "the study"), arguments.out, options(arguments))
    first.prepare()
    steps = steps_of(study, len(first.context.dataset.samples["train"]), [*every])
    asked = {
        name: step
        for name, step in steps.items()
        if step["model"]["kind"] in arguments.models and int(name.split("-")[1]) in arguments.shares
    }
    some = Run(parse(values | {"conventional": COUNTED | asked}, "the study"), arguments.out, options(arguments))
    some.prepare()
    some.embed()
    some.fit()
    some.score()
    # What the folder says that it holds is the whole study, so that what earlier calls made is told, too.
    Run(parse(values | {"conventional": COUNTED | steps}, "the study"), arguments.out, options(arguments)).prepare()


def steps_of(study: dict[str, Any], samples: int, known: list[str]) -> dict[str, dict[str, Any]]:
    """Every model at every share, by its name: MODEL-SHARE, or MODEL-SHARE-KNOWLEDGE."""
    steps: dict[str, dict[str, Any]] = {}
    for share in SHARES:
        for model in MODELS:
            count = max(1, samples * share // 100)
            training = next(one["training"] for one in study["training"] if count <= one["rows"])
            step = {
                "model": {"kind": model, "history_length": 30} | study.get("model", {}),
                "training": training,
                "train_samples": count,
                "validation_samples": study.get("validation_samples"),
            }
            steps[f"{model}-{share}"] = step
            for name in known:
                steps[f"{model}-{share}-{name}"] = step | {"knowledge": name, "knowledge_experts": study["knowledge_experts"]}
    return steps


def options(arguments: argparse.Namespace) -> Options:
    return Options(device="cpu", progress=not arguments.quiet)


def main() -> None:
    """``vectors`` or ``run``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(required=True)
    for name, action in (("vectors", vectors), ("run", run)):
        one = actions.add_parser(name)
        one.add_argument("recipe", type=Path)
        one.add_argument("--data", type=Path, help="the data set's folder")
        one.add_argument("--out", type=Path, required=True)
        one.add_argument("--quiet", action="store_true")
        one.set_defaults(action=action)
    one.add_argument("--known", type=Path, required=True)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--models", nargs="+", default=list(MODELS))
    one.add_argument("--shares", nargs="+", type=int, default=SHARES)
    one.add_argument("--knowledge", nargs="*")
    arguments = parser.parse_args()
    arguments.action(arguments)


if __name__ == "__main__":
    main()
