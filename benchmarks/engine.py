"""Requests a CPU second of an engine, cold and warm, against scoring request by request; one thread, one simulated run.

Ways: ``prompts`` (a prompt for each candidate, request by request), ``trees`` (a user's history read once a request, request by
request), ``cold`` (an engine that was asked of none of these users before), ``warm`` (one that was), ``anew`` (warm, but for u
and C(u), which it has lost) and ``single`` (warm, each request after the answer to the one before, as in ``grown``, where an
event of the user comes in before each). The ways take turns, so that what else the machine does befalls all of them; ratios are
of each round. Time is that of the process on a CPU, which other processes do not change much.
"""

import argparse
import json
import shlex
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from lifelora.data.extend import Event
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.serving.engine import Engine
from lifelora.serving.engine.kept import COUPLING, U

OPTIONS = Options(device="cpu", progress=False)
TRAINING = {"batch_size": 32, "epochs": 1, "max_steps": 4}
SYSTEM = {
    "behaviours": {"kind": "most-recent", "k": 24},
    "representation": {"model": "sasrec"},
    "coupling": {"kind": "full"},
    "train_samples": 64,
    "validation_samples": 32,
    "training": {"batch_size": 32, "epochs": 1},
}
RECIPE: dict[str, Any] = {
    "name": "engine",
    "data": {"source": {"kind": "simulated", "users": 80, "items": 200, "events_per_user": 40}},
    "conventional": {"sasrec": {"model": {"kind": "sasrec"}, "training": TRAINING}},
    "backbone": {"kind": "nano", "training": {"epochs": 1, "batch_size": 32}},
    "systems": {
        "own": SYSTEM,
        "growing": SYSTEM | {"history": "growing", "block": 8},
        "question": SYSTEM | {"coupling_on": "question", "history": "growing", "block": 8},
    },
    "evaluation": {"test_samples": 16, "resamples": 100},
}
QUICK: dict[str, Any] = {"kind": "nano", "width": 16, "layers": 1, "heads": 2, "vocabulary": 500, "training": {"epochs": 1}}


def seconds(work: Callable[[], object]) -> float:
    """That it takes of a CPU."""
    began = time.process_time()
    work()
    return time.process_time() - began


def measured(run: Run, plain: Run, engine: Engine, system: str, users: int, candidates: int, rounds: int) -> dict[str, Any]:
    """Requests a second of each way, and how many times as many each way has as ``trees``, by round."""
    dataset = run.context.dataset
    names, items = dataset.users.outside(np.arange(users)), np.arange(candidates)
    ids = dataset.items.outside(items)

    def one_by_one(run: Run) -> None:
        for user in range(users):
            run.scorers[system].score(run.task.now(user, items))

    def asked() -> None:
        for future in [engine.score(name, ids, system, reasons=False) for name in names]:
            future.result()

    def grown() -> None:
        now = int(np.asarray(engine.run.context.dataset.time_N).max()) + 1
        for place, name in enumerate(names):
            engine.add_events([Event(name, ids[place % candidates], dataset.rating_levels[0], now + place)]).result()
            engine.score(name, ids, system, reasons=False).result()

    def single() -> None:
        for name in names:
            engine.score(name, ids, system, reasons=False).result()

    def cold() -> None:
        engine.work.kept.clear()
        asked()

    def anew() -> None:
        for kind in (U, COUPLING):
            engine.work.kept.warm.clear(kind)
        asked()

    ways: dict[str, Callable[[], None]] = {
        "prompts": lambda: one_by_one(plain),
        "trees": lambda: one_by_one(run),
        "cold": cold,
        "warm": asked,
        "anew": anew,
        "single": single,
        "grown": grown,
    }
    took: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, work in ways.items():
            spent = seconds(work)
            if number:  # what is loaded by the first one does not count
                took[way].append(spent)
    rate = {way: round(median(users / one for one in spent), 2) for way, spent in took.items()}
    ratio = {way: [round(a / b, 3) for a, b in zip(took["trees"], spent, strict=True)] for way, spent in took.items()}
    return {"system": system, "requests a CPU second": rate, "times trees, by round": ratio}


def main() -> None:
    """Print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="As small as it can be: says that it runs, and no more.")
    parser.add_argument("--users", type=int, default=24, help="Requests a round, each of another user.")
    parser.add_argument("--candidates", type=int, default=50)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--systems", nargs="+", default=list(RECIPE["systems"]))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    users, candidates, rounds = (4, 5, 1) if arguments.quick else (arguments.users, arguments.candidates, arguments.rounds)
    with TemporaryDirectory() as folder:
        values = RECIPE | ({"backbone": QUICK} if arguments.quick else {})
        whole = Run(parse(values, "the benchmark"), Path(folder) / "run", OPTIONS)
        whole.prepare()
        whole.embed()
        whole.fit()
        whole.train()
        run, plain, live = (Run.open(whole.folder, one) for one in (OPTIONS, replace(OPTIONS, trees=False), OPTIONS))
        with Engine(live, arguments.systems) as engine:
            found = [measured(run, plain, engine, system, users, candidates, rounds) for system in arguments.systems]
            state = engine.state()
    print(
        json.dumps(
            {
                "command": shlex.join(["python", "benchmarks/engine.py", *sys.argv[1:]]),
                "date": datetime.now(UTC).date().isoformat(),
                "users": users,
                "candidates": candidates,
                "rounds": rounds,
                "found": found,
                "state": state,
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
