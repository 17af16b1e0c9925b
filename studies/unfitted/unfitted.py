r"""What a conventional model says of samples that it was fitted on, that it held out, and of test, over the runs of recipe.toml.

    python studies/unfitted/unfitted.py runs/unfitted --out studies/unfitted/results.json

The conventional models and their copies have to be trained (``lifelora fit``); no system is asked.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int
from scipy.special import expit

from lifelora.artefacts import write_atomically
from lifelora.conventional.collaborative import platt
from lifelora.evaluation.metrics import auc, log_loss
from lifelora.run import Options, Run
from lifelora.run.scorers.like import LikeModel


def figures(run: Run, model: LikeModel, rows_N: Int[np.ndarray, "N"], *, prior: bool = False) -> dict[str, float]:
    """Of a model, or of the prior that it gives, on samples; the slope is b of σ(a + b · logit), by logistic regression: below 1
    the model is too sure."""
    targets = run.context.dataset.targets(rows_N)
    logit_N = (model.prior(targets) if prior else model.logits(targets)).double().numpy()
    label_N = targets.label_B
    return {
        "n": len(rows_N),
        "auc": round(auc(label_N, expit(logit_N)), 4),
        "log_loss": round(log_loss(label_N, expit(logit_N)), 4),
        "slope": round(platt(logit_N, label_N.astype(np.float64))[1], 3),
    }


def told(run: Run) -> dict[str, dict[str, float]]:
    """Each row of the table."""
    models = {name: scorer for name, scorer in run.scorers.items() if isinstance(scorer, LikeModel)}
    learnt = run.context.training_samples(run.recipe.systems["lora"].train_samples)
    train, test = (np.asarray(run.context.dataset.samples[part]) for part in ("train", "test"))
    din, folds, unfitted = (models[name] for name in ("din", "din-folds", "din-unfitted"))
    return {
        "the LM's samples, din fitted on them": figures(run, din, learnt),
        "the LM's samples, din-unfitted": figures(run, unfitted, learnt),
        "the LM's samples, copies without their users": figures(run, folds, learnt, prior=True),
        "all training samples, din-folds fitted on them": figures(run, folds, train),
        "all training samples, copies without their users": figures(run, folds, train, prior=True),
        "test, din": figures(run, din, test),
        "test, din-unfitted": figures(run, unfitted, test),
        "test, din-folds": figures(run, folds, test),
    }


def main() -> None:
    """Print the table and write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--date", default="")
    parser.add_argument("--commit", default="")
    arguments = parser.parse_args()
    run = Run.open(arguments.run, Options(device="cpu", progress=False))
    rows = told(run)
    facts: dict[str, Any] = {
        "command": f"python studies/unfitted/unfitted.py {arguments.run} --out {arguments.out}",
        "date": arguments.date,
        "commit": arguments.commit,
        "seed": run.recipe.seed,
        "data": run.context.dataset.name,
        "data_hash": run.stages.data.key,
        "figures": rows,
    }
    write_atomically(arguments.out, json.dumps(facts, indent=1, ensure_ascii=False))
    for name, row in rows.items():
        print(f"{name:<50}{row['n']:>8,}  AUC {row['auc']:.4f}  log loss {row['log_loss']:.4f}  slope {row['slope']:.3f}")


if __name__ == "__main__":
    main()
