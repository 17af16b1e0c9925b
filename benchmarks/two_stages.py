"""Milliseconds to recommend for one person out of a finished run: the conventional model over the catalogue, then the LM.

Run ``python benchmarks/two_stages.py RUN --system NAME``. Everything is loaded; people come one at a time, as requests do. The
first stage scores every item, leaves out what was met and keeps the shortlist; the second makes u and the prompt and gives every
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
from lifelora.run.chooser import Chooser
from lifelora.run.next_item import catalogue_scores, shortlist
from lifelora.run.parts import Parts
from lifelora.seeds import generator

WARM_UP = 5


def measured(parts: Parts, system: str, users: int, count: int, seed: int) -> dict[str, object]:
    """Quantiles over people, in milliseconds."""
    dataset, chooser = parts.dataset, Chooser.trained(parts, system)
    assert chooser.system.retriever_name is not None, f"{system} has no first stage"
    model = parts.next_item(chooser.system.retriever_name)
    drawn = generator(seed, "people").permutation(dataset.n_users)[: users + WARM_UP]
    seconds, tokens = [], []
    for user in drawn.tolist():
        seen = np.unique(dataset.item_N[dataset.log.offsets[user] : dataset.log.offsets[user + 1]])
        began = time.process_time()
        score_1M = catalogue_scores(parts, chooser.system.retriever_name, model,
                                    dataset.candidates(user, np.zeros(1, np.int64)))
        score_1M[:, seen] = -np.inf
        short_1C = shortlist(score_1M, count)
        chosen = time.process_time()
        _, cost = chooser.scores(chooser.questions(dataset.candidates(user, short_1C[0, :1]), short_1C))
        seconds.append((chosen - began, time.process_time() - chosen))
        tokens.append(cost.tokens)
    first, second = np.array(seconds[WARM_UP:]).T * 1e3

    def told(values: np.ndarray) -> dict[str, float]:
        return {f"p{q}": round(float(np.quantile(values, q / 100)), 2) for q in (50, 95)}

    return {"shortlist": count, "users": users, "first stage": told(first), "second stage": told(second),
            "both": told(first + second), "tokens": round(float(np.mean(tokens[WARM_UP:])), 1)}


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
    parts = Run.open(arguments.run, Options(device="cpu", progress=False)).parts
    print(json.dumps({
        "command": shlex.join(["python", "benchmarks/two_stages.py", *sys.argv[1:]]),
        "date": datetime.now(UTC).date().isoformat(), "seed": arguments.seed,
        "data": parts.dataset.name, "items": parts.dataset.n_items, "language model": parts.backbone().label,
        "found": [measured(parts, arguments.system, arguments.users, count, arguments.seed) for count in arguments.shortlists],
    }, indent=1))


if __name__ == "__main__":
    main()
