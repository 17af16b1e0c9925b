"""The runs that the service is measured with, made once: a nano LM or a pretrained one, with systems whose trunks can stay warm.

How well they rank does not matter here, so they learn from a handful of samples, by large steps: C(u) is not I, and a user's
scores are the user's own. Run ``python benchmarks/service/runs.py FOLDER [--data SOURCE] [--backbone PATH]``; what is finished is
not made again.
"""

import argparse
from pathlib import Path
from typing import Any

from lifelora.data.sources import parse_source
from lifelora.recipe.files import parse
from lifelora.run import Options, Run

QUIET = Options(device="cpu", progress=False)
OWN: dict[str, Any] = {
    "behaviours": {"kind": "most-recent", "k": 30},
    "history": "growing",
    "block": 8,
    "representation": {"model": "sasrec"},
    "coupling": {"kind": "full", "rank": 8},
    "train_samples": 16,
    "validation_samples": 8,
    "training": {"batch_size": 8, "epochs": 1, "learning_rate": 3e-3},
}
SHORT = {"train_samples": 1024, "validation_samples": 64, "training": {"batch_size": 256, "epochs": 1, "max_steps": 4}}
RECIPE: dict[str, Any] = {
    "name": "served",
    "conventional": {
        "popularity": {"model": {"kind": "popularity"}},
        "sasrec": {"model": {"kind": "sasrec", "history_length": 30}, **SHORT},
    },
    "systems": {"own": OWN, "question": OWN | {"coupling_on": "question"}},
    "evaluation": {"test_samples": 16, "resamples": 100},
}
NANO = {"kind": "nano", "histories": 0.05, "training": {"epochs": 1}}
TINY: dict[str, Any] = {"kind": "nano", "width": 16, "layers": 1, "heads": 2, "vocabulary": 500, "training": {"epochs": 1}}
"""As small as it can be: for what is not about speed."""
SIMULATED = {"kind": "simulated", "users": 60, "items": 200, "events_per_user": 16}


def made(folder: Path, data: str | None = None, backbone: str | None = None, *, tiny: bool = False) -> Run:
    """A run in a folder, trained and not evaluated; ``data`` is a source (``movielens:PATH``), or the simulated world."""
    source = parse_source(data) if data else None
    lm: dict[str, Any] = {"kind": "pretrained", "path": backbone} if backbone else TINY if tiny else NANO
    values = RECIPE | {"backbone": lm, "data": {"source": source.model_dump(mode="json") if source else SIMULATED}}
    run = Run(parse(values, "the benchmark"), folder, QUIET)
    for stage in (run.prepare, run.embed, run.fit, run.train):
        stage()
    return run


def main() -> None:
    """Say what was made."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", help="As `lifelora run --data`; the simulated world by default.")
    parser.add_argument("--backbone", help="A folder of a pretrained model; a nano LM by default.")
    parser.add_argument("--tiny", action="store_true", help="A nano LM as small as it can be.")
    arguments = parser.parse_args()
    run = made(arguments.folder, arguments.data, arguments.backbone, tiny=arguments.tiny)
    print(f"{run.folder}: {', '.join(run.scorers)}; {run.context.dataset.n_users} users, {run.context.dataset.n_items} items")


if __name__ == "__main__":
    main()
