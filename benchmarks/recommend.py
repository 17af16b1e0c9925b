"""Seconds to recommend for many users out of a finished run, for each system: one thread, all items of the catalogue.

Run ``python benchmarks/recommend.py RUN [--systems NAME …]``; without a RUN a small one of the simulated world is made. A first
user is not counted: models and texts are loaded for it. CPU seconds, for other work on a machine says nothing of ours.
"""

import argparse
import json
import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.recommend import many

OPTIONS = Options(device="cpu", progress=False)
TRAINING = {"batch_size": 64, "epochs": 1, "max_steps": 4}
SMALL = {
    "name": "small",
    "data": {"source": {"kind": "simulated", "users": 30, "items": 100, "events_per_user": 16}},
    "conventional": {
        "popularity": {"model": {"kind": "popularity"}},
        "sasrec": {"model": {"kind": "sasrec"}, "training": TRAINING},
        "din": {"model": {"kind": "din"}, "training": TRAINING},
    },
    "evaluation": {"test_samples": 10, "resamples": 100},
}


def measured(run: Run, system: str, users: int, k: int) -> dict[str, object]:
    """Of one system."""
    dataset = run.context.dataset
    names = dataset.users.outside(np.arange(users))
    many(run, names[:1], k, system=system)
    began = time.process_time()
    rows = many(run, names, k, system=system).num_rows
    seconds = time.process_time() - began
    return {"system": system, "users": users, "rows": rows, "seconds": round(seconds, 3)}


def main() -> None:
    """Print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, nargs="?")
    parser.add_argument("--systems", nargs="+")
    parser.add_argument("--users", type=int, default=100)
    parser.add_argument("-k", type=int, default=10)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with TemporaryDirectory() as folder:
        run = Run.open(arguments.run, OPTIONS) if arguments.run else Run(parse(SMALL, "small"), Path(folder) / "run", OPTIONS)
        if arguments.run is None:
            run.all()
        users = min(arguments.users, run.context.dataset.n_users)
        print(
            json.dumps(
                {
                    "command": shlex.join(["python", "benchmarks/recommend.py", *sys.argv[1:]]),
                    "date": datetime.now(UTC).date().isoformat(),
                    "task": run.recipe.task,
                    "data": run.context.dataset.name,
                    "items": run.context.dataset.n_items,
                    "k": arguments.k,
                    "found": [measured(run, name, users, arguments.k) for name in arguments.systems or run.scorers],
                },
                indent=1,
            )
        )


if __name__ == "__main__":
    main()
