r"""What comes next on several data sets, each over its runs under several seeds: one file of figures, one picture.

    python studies/next-item/next_item.py --set MovieLens-1M runs/ml-1m-0 runs/ml-1m-1 --set LastFM runs/lastfm-0 runs/lastfm-1 \
      --out studies/next-item/results.json --picture studies/next-item/hr1.png

The runs are those of recipe.toml and llara.toml. The picture shows HR@1 on the first set.
"""

import argparse
from pathlib import Path
from typing import Any

from lifelora.study import tell
from lifelora.study.seeds import OverSeeds, Several, over_seeds


def gathered(folders: list[Path], minus: str) -> tuple[OverSeeds, dict[str, Any]]:
    """All figures of one set, and what they stand on."""
    several = Several(tell.opened(folders))
    told = over_seeds(several.runs, minus)
    return told, tell.about(several.runs) | {
        "rows_hash": [several.of(minus, [seed]).rows_hash for seed in several.seeds],
        "tokens and seconds a row, first run": tell.reported(several.runs[0])["costs"],
    } | told.as_json()


def main() -> None:
    """Print the tables, and write the file and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--set", nargs="+", action="append", required=True, metavar="NAME RUN", help="a set's name and its runs")
    parser.add_argument("--minus", default="lora", help="the system that is taken away from every other")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path)
    arguments = parser.parse_args()
    found, seeds = {}, set()
    for name, *folders in arguments.set:
        told, found[name] = gathered([Path(folder) for folder in folders], arguments.minus)
        seeds |= set(told.seeds)
        print(f"{name}\n{told}\n")
        if arguments.picture and len(found) == 1:
            figures = {system: one.mean["hr@1"] for system, one in told.systems.items()}
            over = f", mean of {len(folders)} seeds" if len(folders) > 1 else ""
            said = f"{name}: HR@1 among 20{over}, with its interval over users"
            tell.draw_forest(arguments.picture, figures, said)
    tell.write(arguments.out, tell.origin(sorted(seeds)) | {"sets": found})


if __name__ == "__main__":
    main()
