r"""AUC against the samples that a small LM has seen on trees, to all there are, beside conventional models of all of them.

    python studies/all-data/all_data.py runs/all-data --out studies/all-data/results.json --picture studies/all-data/auc.png

The runs are those of recipe.toml; a system that none has judged yet is left out.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lifelora.evaluation import drawing
from lifelora.evaluation.significance import estimate
from lifelora.evaluation.tables import duration, p_value, short, with_span
from lifelora.run import Run
from lifelora.study import tell
from lifelora.study.learning import tokens
from lifelora.study.seeds import Several
from lifelora.training.curve import HISTORY, History

METRICS = ("auc", "log_loss", "gauc")
MODELS = {"plain": "nano LM, plain LoRA", "personal": "nano LM, C(u) fed by SASRec"}
LINES = {"din": "DIN", "sasrec": "SASRec", "popularity": "popularity"}
"""What is trained on all samples, and drawn as a line."""
UNTUNED = 1024
"""Where the picture puts an LM that no sample has tuned: a logarithm has no place for none."""


def count(run: Run, name: str) -> int:
    """The training samples of a system."""
    every, some = len(run.context.dataset.samples["train"]), run.recipe.systems[name].train_samples
    return every if some is None else min(some, every)


def along(run: Run, name: str) -> list[dict[str, float]]:
    """AUC on validation samples along one training."""
    history = History.model_validate_json((run.scorers[name].stage.require() / HISTORY).read_text())
    size = run.recipe.systems[name].training.batch_size
    return [{"samples": float(one.step * size), **one.metrics} for one in history.evaluations]


def main() -> None:
    """Print the table; write the file and the picture."""
    study = tell.asked(__doc__)
    several = study.several
    run = several.runs[0]
    counts = {name: count(run, name) for name in run.recipe.systems if name in several.judged}
    seconds = run.work.seconds()
    read = {name: tokens(run, name) for name, samples in counts.items() if samples}
    minus = {name: {other: several.minus(name, other)["auc"] for other in ("din", "sasrec")} for name in counts}
    gained = {
        name: several.minus(name, twin)["auc"]
        for name in counts
        if name.startswith("personal-") and (twin := name.replace("personal", "plain")) in counts
    }
    rows = {}
    for name in several.judged:
        cells = [f"{counts.get(name, len(run.context.dataset.samples['train'])):,}", with_span(estimate(several.of(name), "auc"))]
        cells += [f"{with_span(d)} ({p_value(d.p)})" for d in minus.get(name, {}).values()] or ["", ""]
        cells += [short(estimate(several.of(name), "log_loss").value), duration(seconds.get(run.scorers[name].stage.name))]
        rows[name] = [
            *cells,
            f"{read[name].read / 1e6:.1f} M for {read[name].alone / 1e6:.1f} M" if name in read else "",
        ]
    print(tell.markdown(["system", "samples", "AUC", "minus DIN", "minus SASRec", "log loss", "training", "tokens"], rows))
    for name, d in gained.items():
        print(f"{name} minus plain LoRA {with_span(d)} ({p_value(d.p)})")
    curves = {name: along(run, name) for name in counts if name.endswith("-all")}
    study.write(
        {
            "rows_hash": [several.of("din", [seed]).rows_hash for seed in several.seeds],
            "samples seen": counts,
            "tokens": {name: asdict(one) for name, one in read.items()},
            "AUC minus": {name: {other: asdict(d) for other, d in of.items()} for name, of in minus.items()},
            "AUC of the personal system minus plain LoRA": {name: asdict(d) for name, d in gained.items()},
            "validation along the training": curves,
            "figures": several.figures(METRICS),
        },
    )
    if study.picture:
        draw(several, counts, curves, study.picture)


def draw(several: Several, counts: dict[str, int], curves: dict[str, list[dict[str, float]]], picture: Path) -> None:
    """AUC against samples seen, with what was trained on all of them as lines."""
    with drawing.style("all-data"):
        figure = Figure(figsize=(8.2, 5.2))
        axis: Any = figure.add_subplot()
        for (model, label), colour in zip(MODELS.items(), drawing.SYSTEMS, strict=False):
            names = sorted((name for name in counts if name.startswith(f"{model}-")), key=counts.__getitem__)
            if names:
                at = [counts[name] or UNTUNED for name in names]
                tell.draw_curve(axis, at, [estimate(several.of(name), "auc") for name in names], colour, label)
            if curve := curves.get(f"{model}-all"):
                said = f"{label}: validation, along one training"
                axis.plot([p["samples"] for p in curve], [p["auc"] for p in curve], ":", color=colour, linewidth=1.3, label=said)
        ends = UNTUNED, max(counts.values())
        for (name, label), colour in zip(LINES.items(), drawing.SYSTEMS[2:], strict=False):
            found = estimate(several.of(name), "auc")
            axis.plot(ends, [found.value] * 2, "--", color=colour, linewidth=1.3, label=f"{label}, all samples")
            axis.fill_between(ends, [found.low] * 2, [found.high] * 2, color=colour, alpha=0.06)
        ticks = {n or UNTUNED: f"{n:,}" if n else "none" for n in sorted(set(counts.values()))}
        axis.set(xscale="log", xlabel="training samples seen", ylabel="AUC", xticks=[*ticks], xticklabels=ticks.values())
        axis.minorticks_off()
        axis.legend(fontsize=9, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncol=2)
        figure.tight_layout()
        picture.write_bytes(drawing.png(figure))


if __name__ == "__main__":
    main()
