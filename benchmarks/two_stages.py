"""Milliseconds to recommend for one user out of a finished run: the retriever over the catalogue, then the LM.

Run ``python benchmarks/two_stages.py RUN --system NAME``. Everything is loaded; users come one at a time, as requests do. The
first stage scores every item, leaves out what was seen and keeps the shortlist; the second makes u and the prompt and gives every
title's log-likelihood. CPU seconds of one thread, for other work on a machine says nothing of ours.
"""

import argparse
import json
import shlex
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from lifelora.run import Options, Run
from lifelora.run.scorers.catalogue import leave_out_seen, shortlisted
from lifelora.seeds import generator

WARM_UP = 5


def measured(run: Run, system: str, users: int, count: int, seed: int) -> dict[str, object]:
    """Quantiles over users, in milliseconds."""
    dataset, scorer, retriever = run.context.dataset, run.scorers[system], run.scorers[system].retriever
    if retriever is None:
        raise SystemExit(f"{system} has no retriever: it ranks no catalogue")
    drawn = generator(seed, "people").permutation(dataset.n_users)[: users + WARM_UP]
    seconds, tokens = [], []
    for user in drawn.tolist():
        targets, began = dataset.candidates(user, np.zeros(1, np.int64)), time.process_time()
        found = retriever.catalogue(targets)
        assert found is not None, f"{retriever.name} does not score all items"
        _, score_1M = next(found)
        leave_out_seen(score_1M, dataset, targets)
        short_C = shortlisted(score_1M, count)[0]
        chosen, before = time.process_time(), scorer.spent().tokens
        scorer.score(run.task.now(user, short_C))
        seconds.append((chosen - began, time.process_time() - chosen))
        tokens.append(scorer.spent().tokens - before)
    first, second = np.array(seconds[WARM_UP:]).T * 1e3

    def told(values: np.ndarray) -> dict[str, float]:
        return {f"p{q}": round(float(np.quantile(values, q / 100)), 2) for q in (50, 95)}

    return {
        "shortlist": count,
        "users": users,
        "first stage": told(first),
        "second stage": told(second),
        "both": told(first + second),
        "tokens": round(float(np.mean(tokens[WARM_UP:])), 1),
    }


def main() -> None:
    """Print JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--system", required=True)
    parser.add_argument("--users", type=int, default=200)
    parser.add_argument("--shortlists", type=int, nargs="+", default=[20, 50])
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    run = Run.open(arguments.run, Options(device="cpu", progress=False))
    print(
        json.dumps(
            {
                "command": shlex.join(["python", "benchmarks/two_stages.py", *sys.argv[1:]]),
                "date": datetime.now(UTC).date().isoformat(),
                "seed": arguments.seed,
                "data": run.context.dataset.name,
                "items": run.context.dataset.n_items,
                "language model": run.context.backbone_label,
                "found": [
                    measured(run, arguments.system, arguments.users, count, arguments.seed) for count in arguments.shortlists
                ],
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
