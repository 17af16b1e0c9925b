r"""What samples that share a trunk cost in AUC and save in time, by block, over the runs of recipe.toml under several seeds.

    python studies/blocks/blocks.py runs/blocks-0 runs/blocks-1 runs/blocks-2 --out studies/blocks/results.json \
      --picture studies/blocks/blocks.png

The default block is chosen by validation: of those that cannot be told from the best, the fastest.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from statistics import fmean, stdev

from matplotlib.figure import Figure

from lifelora.evaluation import drawing
from lifelora.evaluation.significance import Difference, estimate
from lifelora.evaluation.tables import p_value, short, with_span
from lifelora.run import Run
from lifelora.run.choice import kept
from lifelora.study import tell
from lifelora.study.learning import milliseconds, tokens
from lifelora.study.seeds import Several

ERRORS = 2.0
"""A block is as good as the best where it is behind by no more than so many standard errors of the difference."""

OWN = 2
"""Where the picture puts own histories, which have no block: a logarithm has no place for none."""


def size(name: str) -> int:
    """Samples of a step, as a system's name has them."""
    return int(name.rpartition("-")[2])


def validated(run: Run, name: str) -> float:
    """The AUC after the last step on the validation samples."""
    scorer = run.scorers[name]
    return kept(run.task, scorer, run.context.validation_samples(scorer.validation_count))


def chosen(valid: Mapping[int, list[float]], cost: Mapping[int, float]) -> tuple[int, dict[int, tuple[float, float]]]:
    """The block to take, and each one's mean difference from the best with its standard error.

    ``valid`` has each block's AUC in all cells (seed and step size, in one order), ``cost`` its time for a sample.
    """
    best = max(valid, key=lambda block: fmean(valid[block]))
    behind = {}
    for block, aucs in valid.items():
        gaps = [one - other for one, other in zip(aucs, valid[best], strict=True)]
        behind[block] = fmean(gaps), stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else 0.0
    good = [block for block, (gap, error) in behind.items() if gap >= -ERRORS * error]
    return min(good, key=lambda block: cost[block]), behind


def main() -> None:
    """Print the table; write the file and the picture."""
    study = tell.asked(__doc__)
    several = study.several
    systems = several.runs[0].recipe.systems
    valid = {name: [validated(run, name) for run in several.runs] for name in systems}
    cost, read = milliseconds(several.runs[0], [*systems]), {name: tokens(several.runs[0], name) for name in systems}
    minus = {name: several.minus(name, f"own-{size(name)}")["auc"] for name, one in systems.items() if one.history == "growing"}
    samples = {name: one.train_samples or 1 for name, one in systems.items()}
    rows = {
        name: [
            f"{short(fmean(valid[name]))} ± {short(stdev(valid[name]) if len(several.runs) > 1 else math.nan)}",
            with_span(estimate(several.of(name), "auc")),
            f"{with_span(minus[name])} ({p_value(minus[name].p)})" if name in minus else "",
            f"{cost[name]:.2f}",
            f"{read[name].read / samples[name]:.0f}",
        ]
        for name in systems
    }
    print(
        tell.markdown(
            ["system", "validation AUC ± over seeds", "test AUC", "minus own", "CPU ms a sample", "tokens a sample"], rows
        )
    )
    cells: dict[int, list[str]] = {}
    for name, one in systems.items():
        if one.block is not None:
            cells.setdefault(one.block, []).append(name)
    block, behind = chosen(
        {block: [auc for name in names for auc in valid[name]] for block, names in cells.items()},
        {block: fmean(cost[name] for name in names) for block, names in cells.items()},
    )
    print(f"\nblock {block}; behind the best: {behind}")
    study.write(
        {
            "rows_hash": [several.of("own-64", [seed]).rows_hash for seed in several.seeds],
            "block": block,
            "validation AUC minus the best block's, and its standard error": behind,
            "validation AUC by seed": valid,
            "processor ms a training sample, first run": cost,
            "tokens of the training samples, first run": {name: asdict(one) for name, one in read.items()},
            "AUC minus own": {name: asdict(d) for name, d in minus.items()},
            "figures": several.figures(("auc", "log_loss", "gauc")),
        },
    )
    if study.picture:
        draw(several, minus, cost, study.picture)


def draw(several: Several, minus: Mapping[str, Difference], cost: Mapping[str, float], picture: Path) -> None:
    """AUC minus that of own histories, and time a sample, by block; a curve for each size of a step."""
    systems = several.runs[0].recipe.systems
    with drawing.style("blocks"):
        figure = Figure(figsize=(9.6, 3.8))
        auc, took = figure.subplots(1, 2)
        for number, (step, colour) in enumerate(zip(sorted({*map(size, systems)}), drawing.SYSTEMS, strict=False)):
            label = f"steps of {step} samples"
            names = {systems[name].block or OWN: name for name in systems if size(name) == step}
            blocks = sorted(names)
            found = [minus[names[block]] for block in blocks[1:]]
            auc.errorbar(
                [block * (1 + 0.06 * number) for block in blocks[1:]],
                [d.value for d in found],
                [[d.value - d.low for d in found], [d.high - d.value for d in found]],
                fmt="o",
                color=colour,
                markersize=4.5,
                linewidth=1.3,
                label=label,
            )
            took.plot(
                blocks, [cost[names[block]] for block in blocks], "o-", color=colour, markersize=4, linewidth=1.3, label=label
            )
        auc.axhline(0, color=drawing.MUTED, linewidth=0.8)
        said = {block: "own" if block == OWN else str(block) for block in blocks}
        auc.set(xscale="log", ylabel="test AUC minus own histories", xticks=blocks[1:], xticklabels=blocks[1:])
        took.set(xscale="log", ylabel="processor ms a training sample", xticks=blocks, xticklabels=said.values())
        for axis in (auc, took):
            axis.set_xlabel("block")
            axis.minorticks_off()
            axis.legend()
        took.set_ylim(bottom=0)
        figure.tight_layout()
        picture.write_bytes(drawing.png(figure))


if __name__ == "__main__":
    main()
