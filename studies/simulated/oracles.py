"""What person, words and retrieval are worth in the simulated world: the oracles' AUC on the last tenth of the log.

    python studies/simulated/oracles.py [--seed 0] [--rows 2000]

prints the table and writes it, with intervals, beside this file in results/simulated.json.
"""

import argparse
import json
import sys
import time
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from lifelora.data.sources.simulated import Simulated
from lifelora.evaluation.jackknife import Scored, jackknife
from lifelora.evaluation.significance import estimate, paired_test

PAIRS = (
    ("personalisation", "truth", "no person"),
    ("text and genre field", "truth", "no words, no genre"),
    ("text beyond the genre field", "truth", "no words"),
    ("retrieval, K = 5", "similar 5", "recent 5"),
    ("retrieval, K = 10", "similar 10", "recent 10"),
    ("retrieval, K = 20", "similar 20", "recent 20"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=2000)
    arguments = parser.parse_args()
    source = Simulated(seed=arguments.seed)
    started = time.process_time()
    events = len(source.read().interactions)
    made = time.process_time() - started
    found = source.ablations(rows=arguments.samples)
    found_by = {name: jackknife(Scored(found.user_B, found.item_B, found.label_B, score_B), ("auc",))
                for name, score_B in found.scores.items()}
    figures = {name: estimate(one, "auc") for name, one in found_by.items()}
    differences = {what: paired_test(found_by[a], found_by[b])["auc"] for what, a, b in PAIRS}
    n = len(found.rows_B)
    print(f"{events:,} events, made in {made:.1f} s of one core; n = {n:,} rows of {figures['truth'].users} people, "
          f"seed {arguments.seed}\n")
    print("| oracle | AUC | 95 % interval |\n| --- | --- | --- |")
    for name, f in figures.items():
        print(f"| {name} | {f.value:.3f} | {f.low:.3f} – {f.high:.3f} |")
    print("\n| worth of | difference | AUC | 95 % interval |\n| --- | --- | --- | --- |")
    for what, a, b in PAIRS:
        d = differences[what]
        print(f"| {what} | {a} − {b} | {d.value:+.3f} | {d.low:+.3f} – {d.high:+.3f} |")
    result = {
        "command": " ".join(["python studies/simulated/oracles.py", *sys.argv[1:]]), "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "seed": arguments.seed, "n": n, "events": events, "cpu_seconds_to_make": round(made, 2),
        "config": source.model_dump(), "auc": {k: asdict(v) for k, v in figures.items()},
        "worth": {k: asdict(v) for k, v in differences.items()},
    }
    path = Path(__file__).parent / "results" / "simulated.json"
    path.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
