r"""What comes next on several data sets, each over its runs under several seeds: one file of figures, one picture.

    python studies/next-item/tell.py --set MovieLens-1M runs/ml-1m-0 runs/ml-1m-1 --set LastFM runs/lastfm-0 runs/lastfm-1 \
      --out studies/next-item/results.json --picture studies/next-item/hr1.png

The runs are those of studies/next-item/recipe.toml and studies/next-item/llara.toml. The picture shows HR@1 on the first set.
"""

import argparse
import json
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lifelora.evaluation import drawing
from lifelora.evaluation.measured import plain
from lifelora.run import Options, Run
from lifelora.run.next_item import ranked, rows_hash
from lifelora.run.seeds import OverSeeds, over_seeds


def gathered(folders: list[Path], minus: str) -> tuple[OverSeeds, dict[str, Any]]:
    """All figures of one set, and what they stand on."""
    runs = [Run.open(folder, Options(device="cpu")) for folder in folders]
    parts = [run.parts for run in runs]
    together, dataset = over_seeds(parts, minus), parts[0].dataset
    costs = {name: {way: [cost.tokens, cost.seconds] for way, cost in ranked(parts[0], name).costs.items()}
             for name in parts[0].recipe.systems}
    return together, {
        "data": dataset.name, "items": dataset.n_items, "notes": dataset.notes, "language model": parts[0].backbone().label,
        "samples": {part: len(rows) for part, rows in dataset.samples.items()}, "rows_hash": [rows_hash(one) for one in parts],
        "recipe": parts[0].recipe.name, "tokens and seconds a row, first run": costs, "seconds": [run.seconds() for run in runs],
        **together.as_json(),
    }


def main() -> None:
    """Print the tables, and write the file and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="+", action="append", required=True, metavar="NAME RUN", help="a set's name and its runs")
    parser.add_argument("--minus", default="lora", help="the system that is taken away from every other")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    found = {}
    for name, *folders in arguments.set:
        together, found[name] = gathered([Path(folder) for folder in folders], arguments.minus)
        print(f"{name}\n{together}\n")
        if arguments.picture and len(found) == 1:
            with drawing.style("next-item"):
                said = f"{name}: HR@1 among 20, mean of {len(folders)} seeds, with its interval over users"
                figures = {system: one.mean["hr@1"] for system, one in together.systems.items()}
                arguments.picture.write_bytes(drawing.png(drawing.forest(figures, 760.0, said)))
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    about = {"commit": commit, "date": datetime.now(UTC).date().isoformat(), "commands": "docs/results.md"}
    arguments.out.write_text(json.dumps(plain(about | {"sets": found}), indent=1) + "\n")


if __name__ == "__main__":
    main()
