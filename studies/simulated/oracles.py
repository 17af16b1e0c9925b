"""What the user, words and retrieval are worth in the simulated world: the oracles' AUC on the last tenth of the log.

    python studies/simulated/oracles.py [--seed 0] [--samples 2000]

prints the tables, and writes them with intervals.
"""

import argparse
import time
from dataclasses import asdict
from pathlib import Path

from lifelora.data.sources.simulated import Simulated
from lifelora.evaluation.jackknife import Scored, jackknife
from lifelora.evaluation.significance import estimate, paired_test
from lifelora.study import tell

PAIRS = (
    ("personalisation", "truth", "no user"),
    ("text and genre field", "truth", "no words, no genre"),
    ("text beyond the genre field", "truth", "no words"),
    ("retrieval, K = 5", "similar 5", "recent 5"),
    ("retrieval, K = 10", "similar 10", "recent 10"),
    ("retrieval, K = 20", "similar 20", "recent 20"),
)


def main() -> None:
    """Print the tables and write the file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json")
    arguments = parser.parse_args()
    source = Simulated(seed=arguments.seed)
    started = time.process_time()
    events = len(source.read().interactions)
    made = time.process_time() - started
    found = source.ablations(rows=arguments.samples)
    found_by = {
        name: jackknife(Scored(found.user_B, found.item_B, found.label_B, score_B), ("auc",))
        for name, score_B in found.scores.items()
    }
    figures = {name: estimate(one, "auc") for name, one in found_by.items()}
    groups = {"never rated": ~found.rated_B, "rated": found.rated_B}
    by_group = {
        group: {
            name: estimate(jackknife(Scored(found.user_B, found.item_B, found.label_B, score_B).where(keep_B), ("auc",)), "auc")
            for name, score_B in found.scores.items()
        }
        for group, keep_B in groups.items()
    }
    differences = {what: paired_test(found_by[a], found_by[b])["auc"] for what, a, b in PAIRS}
    n = len(found.rows_B)
    print(
        f"{events:,} events, made in {made:.1f} s of one core; n = {n:,} rows of {figures['truth'].users} people, "
        f"seed {arguments.seed}\n"
    )
    print(
        tell.markdown(
            ["oracle", "AUC", "95 % interval"],
            {name: [f"{f.value:.3f}", f"{f.low:.3f} – {f.high:.3f}"] for name, f in figures.items()},
        ),
        "\n",
    )
    print(
        tell.markdown(
            ["oracle", *(f"AUC, {group} in training (n = {int(keep_B.sum()):,})" for group, keep_B in groups.items())],
            {
                name: [f"{f.value:.3f} [{f.low:.3f}, {f.high:.3f}]" for f in (by_group[g][name] for g in groups)]
                for name in figures
            },
        ),
        "\n",
    )
    print(
        tell.markdown(
            ["worth of", "difference", "AUC", "95 % interval"],
            {
                what: [
                    f"{a} − {b}",
                    f"{differences[what].value:+.3f}",
                    f"{differences[what].low:+.3f} – {differences[what].high:+.3f}",
                ]
                for what, a, b in PAIRS
            },
        )
    )
    tell.write(
        arguments.out,
        tell.origin(arguments.seed)
        | {
            "n": n,
            "events": events,
            "cpu_seconds_to_make": round(made, 2),
            "config": source.model_dump(),
            "auc": {name: asdict(figure) for name, figure in figures.items()},
            "auc_by_group": {group: {name: asdict(f) for name, f in of.items()} for group, of in by_group.items()},
            "worth": {what: asdict(difference) for what, difference in differences.items()},
        },
    )


if __name__ == "__main__":
    main()
