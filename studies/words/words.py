r"""What words add to ids, on films that training has seen and on films that it has not, and whether it could be chance.

    python studies/words/words.py runs/words --out studies/words/results.json --picture studies/words/words.png

The runs are those of recipe.toml; a system that none has judged yet is left out.
"""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool
from matplotlib.figure import Figure as Picture

from lifelora.evaluation import drawing
from lifelora.evaluation.jackknife import Jackknifed, jackknife
from lifelora.evaluation.significance import Figure, estimate, paired_test
from lifelora.evaluation.tables import duration, p_value, short, with_span
from lifelora.run import Run
from lifelora.run.tasks.ctr import Ctr
from lifelora.study import tell
from lifelora.study.seeds import Several

METRICS = ("auc", "gauc", "log_loss")
GROUPS = {"all": "all films", "seen": "seen in training", "new": "never seen"}
AGAINST = {"din": "DIN", "sasrec": "SASRec"}


def groups(run: Run) -> dict[str, Bool[np.ndarray, "N"]]:
    """Which test samples are of which group, by whether their target has an event in the training period."""
    dataset = run.context.dataset
    known_M = np.zeros(dataset.n_items, np.bool_)
    known_M[dataset.item_N[dataset.training_events()]] = True
    seen_N = known_M[dataset.targets(run.context.test_samples).item_B]
    return {"all": np.ones_like(seen_N), "seen": seen_N, "new": ~seen_N}


def judged(several: Several, name: str) -> dict[str, Jackknifed]:
    """One system on each group, over the runs that have judged it."""
    runs = [run for run in several.runs if run.recipe.seed in several.judged[name]]
    kept = [(run.task.scored(name), groups(run)) for run in runs if isinstance(run.task, Ctr)]
    return {group: jackknife([scored.where(of[group]) for scored, of in kept], METRICS) for group in GROUPS}


def main() -> None:
    """Print the tables; write the file and the picture."""
    study = tell.asked(__doc__)
    several = study.several
    found = {name: judged(several, name) for name in several.judged}
    figures = {name: {group: estimate(one, "auc") for group, one in of.items()} for name, of in found.items()}
    minus = {
        other: {
            name: {group: paired_test(of[group], found[other][group]) for group in GROUPS}
            for name, of in found.items()
            if name != other
        }
        for other in AGAINST
    }
    seconds = several.runs[0].work.seconds()
    rows = {}
    for name, of in figures.items():
        made = several.runs[0].stages.made(name).name
        cells = [with_span(of[group]) for group in GROUPS]
        rows[name] = [*cells, short(estimate(found[name]["all"], "gauc").value), duration(seconds.get(made))]
    print(tell.markdown(["AUC", *GROUPS.values(), "GAUC", "training"], rows))
    for other, said in AGAINST.items():
        tests = {
            name: [f"{with_span(d['auc'])} ({p_value(d['auc'].p)})" for d in of.values()] for name, of in minus[other].items()
        }
        print(tell.markdown([f"AUC minus {said}", *GROUPS.values()], tests))
    counts = [{group: int(of_N.sum()) for group, of_N in groups(run).items()} for run in several.runs]
    study.write(
        {
            "rows_hash": found[next(iter(AGAINST))]["all"].rows_hash.split("+"),
            "samples of groups": counts,
            "figures": {
                name: {group: {m: asdict(estimate(one, m)) for m in METRICS} for group, one in of.items()}
                for name, of in found.items()
            },
            "minus": {
                other: {
                    name: {group: {m: asdict(d[m]) for m in METRICS} for group, d in of.items()} for name, of in tests.items()
                }
                for other, tests in minus.items()
            },
        },
    )
    if study.picture:
        draw(figures, study.picture)


def draw(figures: Mapping[str, Mapping[str, Figure]], picture: Path) -> None:
    """AUC of every system on films that were seen in training, and on those that were not."""
    with drawing.style("words"):
        figure = Picture(figsize=(8.8, 0.42 * len(figures) + 1.6))
        axis: Any = figure.add_subplot()
        for shift, group, colour in ((0.16, "seen", drawing.SYSTEMS[0]), (-0.16, "new", drawing.SYSTEMS[1])):
            for place, of in enumerate(reversed([*figures.values()])):
                one = of[group]
                if not np.isnan(one.low):
                    axis.plot([one.low, one.high], [place + shift] * 2, "-", color=colour, linewidth=1.6)
                label = f"films {GROUPS[group]}" if place == 0 else None
                axis.plot([one.value], [place + shift], "o", color=colour, markersize=5, label=label)
        axis.set(yticks=range(len(figures)), yticklabels=[*figures][::-1], xlabel="AUC")
        axis.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.45, -0.12), ncol=2)
        figure.tight_layout()
        picture.write_bytes(drawing.png(figure))


if __name__ == "__main__":
    main()
