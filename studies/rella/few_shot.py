r"""What a small pretrained LM learns from few samples, plain and personal, and whether it could be chance.

    python studies/rella/few_shot.py runs/rella-few-shot --out studies/rella/few-shot.json --picture studies/rella/few-shot.png

The runs are those of few-shot.toml; a system that none has judged yet is left out. Another run of the same rows is told by
itself, and drawn together with what the first one wrote: ``--beside studies/rella/few-shot.json``.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from lifelora.errors import ConfigError
from lifelora.evaluation import drawing
from lifelora.evaluation.significance import Figure as Estimate
from lifelora.evaluation.significance import estimate
from lifelora.evaluation.tables import duration, p_value, short, with_span
from lifelora.study import tell
from lifelora.study.learning import tokens

METRICS = ("auc", "gauc", "log_loss")
AGAINST = {
    "din": "DIN",
    "din-held": "DIN without the prior's samples",
    "din-8192": "DIN of 8,192",
    "lora-1024": "plain LoRA, 1,024",
    "lora-4096": "plain LoRA, 4,096",
    "retrieved": "retrieved behaviours",
}
LINES = {"din": "DIN", "sasrec": "SASRec", "popularity": "popularity"}
"""What is trained on all samples, and drawn as a line."""
CURVES = {"lora-": "plain LoRA, SmolLM2's first ten layers", "din-": "DIN of as few"}
"""What is drawn by its samples: names that begin so and end with a number."""


def main() -> None:
    """Print the tables; write the file and the picture."""
    study = tell.asked(__doc__, beside=True)
    several = study.several
    run = several.runs[0]
    steps: dict[str, Any] = {**run.recipe.conventional, **run.recipe.systems}
    every, seconds = len(run.context.dataset.samples["train"]), run.work.seconds()
    samples = {name: steps[name].train_samples or every for name in several.judged}
    systems = [name for name in several.judged if name in run.recipe.systems]
    read = {name: tokens(run, name) for name in systems}
    minus = {
        other: {name: several.minus(name, other) for name in several.judged if name != other}
        for other in AGAINST
        if other in several.judged
    }
    rows = {}
    for name in several.judged:
        figures = [estimate(several.of(name), metric) for metric in METRICS]
        cells = [f"{samples[name]:,}", with_span(figures[0]), *(short(one.value) for one in figures[1:])]
        cells += [duration(seconds.get(run.stages.made(name).name)), f"{read[name].read:,}" if name in read else ""]
        rows[name] = cells
    print(tell.markdown(["", "samples", "AUC", "GAUC", "log loss", "training", "tokens learnt from"], rows))
    for other, tests in minus.items():
        cells_of = {name: [f"{with_span(d[m])} ({p_value(d[m].p)})" for m in ("auc", "gauc")] for name, d in tests.items()}
        print(tell.markdown([f"minus {AGAINST[other]}", "AUC", "GAUC"], cells_of))
    told: dict[str, Any] = {
        "rows_hash": [several.of("din", [seed]).rows_hash for seed in several.seeds],
        "samples learnt from": samples,
        "tokens": {name: asdict(one) for name, one in read.items()},
        "minus": {
            other: {name: {m: asdict(d[m]) for m in METRICS} for name, d in tests.items()} for other, tests in minus.items()
        },
        "figures": several.figures(METRICS),
    }
    study.write(told)
    if study.picture:
        draw([*(json.loads(path.read_text()) for path in study.beside), told], study.picture)


def draw(told: Sequence[Mapping[str, Any]], picture: Path) -> None:
    """AUC against samples of plain LoRA and of DIN, the other systems at theirs, and what learnt from all samples as lines.

    Of a system that several runs have, the first counts.
    """
    if len({tuple(one["rows_hash"]) for one in told}) > 1:
        raise ConfigError("the runs were asked other test samples, so they have no picture together.")
    samples, found, systems = dict[str, int](), dict[str, Estimate](), list[str]()
    for run in told:
        systems += [name for name in run["tokens"] if name not in samples]
        samples = run["samples learnt from"] | samples
        found = {name: estimated(figures["auc"]) for name, figures in run["figures"].items()} | found
    with drawing.style("rella"):
        figure = Figure(figsize=(9.2, 5.0))
        axis: Any = figure.add_subplot()
        colours, drawn = iter(drawing.SYSTEMS), {*LINES}
        for start, label in CURVES.items():
            names = [name for name in samples if name.startswith(start) and name.removeprefix(start).isdigit()]
            names.sort(key=samples.__getitem__)
            drawn |= {*names}
            tell.draw_curve(axis, [samples[name] for name in names], [found[name] for name in names], next(colours), label)
        others = [name for name in systems if name not in drawn]
        rest = list(colours)
        for place, (name, colour) in enumerate(zip(others, (*rest, *drawing.SYSTEMS), strict=False)):
            one, at = found[name], samples[name] * (1.06 + 0.06 * place)  # side by side
            axis.plot([at] * 2, [one.low, one.high], "-", color=colour, linewidth=1.3)
            axis.plot(
                [at],
                [one.value],
                "s" if place < len(rest) else "D",
                color=colour,
                markersize=5,
                label=f"{name}, {samples[name]:,} samples",
            )
        ticks = sorted({samples[name] for name in samples if name not in LINES and samples[name] < max(samples.values()) / 10})
        for (name, label), style in zip(LINES.items(), ("--", "-.", ":"), strict=True):
            if name in found:
                ends, at_both = [ticks[0], ticks[-1] * 1.5], [found[name].value] * 2
                axis.plot(ends, at_both, style, color="grey", linewidth=1.2, label=f"{label}, all samples")
        axis.set(xscale="log", xlabel="training samples", ylabel="AUC", xticks=ticks, xticklabels=[f"{n:,}" for n in ticks])
        axis.minorticks_off()
        axis.legend(fontsize=9, loc="center left", bbox_to_anchor=(1.02, 0.5))
        figure.tight_layout()
        picture.write_bytes(drawing.png(figure))


def estimated(figure: Mapping[str, Any]) -> Estimate:
    """A figure that was written down."""
    return Estimate(**{field.name: figure[field.name] for field in fields(Estimate)})


if __name__ == "__main__":
    main()
