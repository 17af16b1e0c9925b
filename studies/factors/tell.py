r"""What couplings, retrieval and soft tokens are worth, over the runs of studies/factors/recipe.toml under several seeds.

    python studies/factors/tell.py runs/study-0 runs/study-1 runs/study-2 --out studies/factors/results.json \
      --picture studies/factors/auc.png

A factor's effect is the mean, over all systems that differ in nothing else and over the seeds, of the difference in AUC; a user
is left out of all systems and seeds at once, so the differences are paired.
"""

import argparse
import json
import subprocess
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from lifelora.evaluation import drawing
from lifelora.evaluation.jackknife import Jackknifed
from lifelora.evaluation.measured import plain
from lifelora.evaluation.significance import Difference, paired_test
from lifelora.evaluation.tables import p_value, with_span
from lifelora.run import Options, Run
from lifelora.run.parts import Parts
from lifelora.run.seeds import over_seeds, together

METRICS = ("auc", "log_loss", "accuracy")
COUPLINGS, SHOWN, PROMPTS = ("lora", "experts", "meta", "hydra", "full"), ("recent", "retrieved"), ("", "-soft")


def mean_of(some: list[Jackknifed]) -> Jackknifed:
    """The mean over systems on the same rows."""
    first = some[0]
    return Jackknifed(
        first.rows_hash, {metric: np.mean([one.by_run[metric] for one in some], axis=0).tolist() for metric in METRICS},
        first.counted, {metric: np.mean([one.without[metric] for one in some], axis=0) for metric in METRICS})


def effects(drawn: dict[str, Jackknifed]) -> dict[str, Difference]:
    """Effect on AUC by its name; each is a mean over all the systems that differ in nothing else."""

    def cells(couplings: tuple[str, ...], shown: tuple[str, ...], prompts: tuple[str, ...]) -> Jackknifed:
        return mean_of([drawn[f"{c}-{s}{p}"] for c in couplings for s in shown for p in prompts])

    found = {}
    for name, couplings in (("all couplings", COUPLINGS), ("plain LoRA", ("lora",)), ("personal couplings", COUPLINGS[1:])):
        retrieved, recent = (cells(couplings, (shown,), PROMPTS) for shown in ("retrieved", "recent"))
        soft, text = (cells(couplings, SHOWN, (prompt,)) for prompt in ("-soft", ""))
        found[f"retrieved minus recent, {name}"] = paired_test(retrieved, recent)["auc"]
        found[f"soft tokens minus text, {name}"] = paired_test(soft, text)["auc"]
    for coupling in COUPLINGS[1:]:
        for prompt, said in (("", "text"), ("-soft", "soft tokens")):
            pair = cells((coupling,), SHOWN, (prompt,)), cells(("lora",), SHOWN, (prompt,))
            found[f"{coupling} minus plain LoRA, {said}"] = paired_test(*pair)["auc"]
            found[f"{coupling} minus din, {said}"] = paired_test(pair[0], drawn["din"])["auc"]
    for coupling in COUPLINGS[2:]:
        pair = cells((coupling,), SHOWN, PROMPTS), cells(("experts",), SHOWN, PROMPTS)
        found[f"{coupling} minus experts"] = paired_test(*pair)["auc"]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="finished runs of studies/factors/recipe.toml, one for each seed")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--picture", type=Path, help="a PNG of every system's AUC")
    arguments = parser.parse_args()
    parts: list[Parts] = [Run.open(folder, Options(device="cpu")).parts for folder in arguments.runs]
    told = over_seeds(parts, "din")
    names = parts[0].stages.names
    drawn = {name: together(parts, name) for name in names}
    found = effects(drawn)
    print(told)
    for what, d in found.items():
        print(f"{what:<48} {with_span(d)}  {p_value(d.p)}")
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
    command = f"python studies/factors/tell.py {' '.join(f'runs/study-{one.recipe.seed}' for one in parts)} --out {arguments.out}"
    arguments.out.write_text(json.dumps(plain({
        "command": command, "date": datetime.now(UTC).date().isoformat(), "commit": commit,
        "data": parts[0].dataset.name, "notes": parts[0].dataset.notes, "language model": parts[0].backbone().label,
        "rows_hash": [one.scored("din").rows_hash() for one in parts],
        "seconds": [Run.open(folder, Options(device="cpu")).seconds() for folder in arguments.runs],
        "effects on AUC": {what: asdict(d) for what, d in found.items()}, **told.as_json(),
    }), indent=1) + "\n")
    if arguments.picture:
        with drawing.style("study"):
            figures = {name: one.mean["auc"] for name, one in told.systems.items()}
            said = f"AUC, mean of {len(parts)} seeds, with its interval over users"
            coupling = {name: COUPLINGS.index(name.partition("-")[0]) if "-" in name else len(COUPLINGS) for name in figures}
            arguments.picture.write_bytes(drawing.png(drawing.forest(figures, 760.0, said, colours=coupling)))


if __name__ == "__main__":
    main()
