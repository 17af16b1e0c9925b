r"""What an LM is worth on test, by whether its conventional model was fitted on the LM's own samples: all runs of recipe.toml.

python studies/unfitted/learnt.py runs/unfitted --out studies/unfitted/learnt.json --picture studies/unfitted/learnt.png
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lifelora.evaluation import drawing
from lifelora.evaluation.significance import estimate
from lifelora.evaluation.tables import p_value, short, with_span
from lifelora.study import tell
from lifelora.study.seeds import Several

METRICS = ("auc", "log_loss", "ece")
PAIRS = {
    "u, not fitted minus fitted": ("u-unfitted", "u-fitted"),
    "prior, not fitted minus fitted": ("prior-unfitted", "prior-fitted"),
    "prior, copies without the users minus fitted": ("prior-folds", "prior-fitted"),
    "u, fitted, minus its model": ("u-fitted", "din"),
    "u, not fitted, minus its model": ("u-unfitted", "din-unfitted"),
    "prior, fitted, minus its model": ("prior-fitted", "din"),
    "prior, not fitted, minus its model": ("prior-unfitted", "din-unfitted"),
    "prior, copies without the users, minus its model": ("prior-folds", "din-folds"),
}


def main() -> None:
    """Print the tables; write the file and the picture."""
    study = tell.asked(__doc__)
    several = study.several
    figures = {name: [estimate(several.of(name), metric) for metric in METRICS] for name in several.judged}
    rows = {name: [with_span(auc), with_span(loss), short(ece.value)] for name, (auc, loss, ece) in figures.items()}
    print(tell.markdown(["", "AUC", "log loss", "ECE"], rows))
    minus = {said: several.minus(*pair) for said, pair in PAIRS.items() if several.judged.keys() >= {*pair}}
    told = {
        said: [*(f"{with_span(d[metric])} ({p_value(d[metric].p)})" for metric in METRICS[:2]), short(d["ece"].value)]
        for said, d in minus.items()
    }
    print(tell.markdown(["", "AUC", "log loss", "ECE"], told))
    study.write(
        {
            "rows_hash": [several.of("din", [seed]).rows_hash for seed in several.seeds],
            "minus": {said: {metric: asdict(d[metric]) for metric in METRICS} for said, d in minus.items()},
            "figures": several.figures(METRICS),
        },
    )
    if study.picture:
        draw(several, study.picture)


def draw(several: Several, picture: Path) -> None:
    """Log loss and ECE of every model and system, with intervals over users."""
    with drawing.style("unfitted"):
        figure = Figure(figsize=(9.2, 0.36 * len(several.judged) + 1.4))
        axes: Any = figure.subplots(1, 2, sharey=True)
        names = [*several.judged][::-1]
        for axis, metric, said in zip(axes, ("log_loss", "ece"), ("log loss", "ECE"), strict=True):
            for place, name in enumerate(names):
                one = estimate(several.of(name), metric)
                colour = drawing.SYSTEMS[1 if "fitted" in name and "unfitted" not in name else 0]
                axis.plot([one.low, one.high], [place] * 2, "-", color=colour, linewidth=1.6)
                axis.plot([one.value], [place], "o", color=colour, markersize=5)
            axis.set(yticks=range(len(names)), yticklabels=names, xlabel=f"{said} on test")
        figure.tight_layout()
        picture.write_bytes(drawing.png(figure))


if __name__ == "__main__":
    main()
