r"""What knowledge adds to conventional models, by the share of the training samples: the runs of laser.py, seeds as one.

    python studies/laser/added.py runs/laser-0 runs/laser-1 runs/laser-2 --out studies/laser/ml-1m.json \
      --picture studies/laser/ml-1m.png

Runs are told as far as they have got: every figure, and every difference, is over the seeds that have it.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from lifelora.evaluation import drawing
from lifelora.evaluation.significance import Difference, estimate
from lifelora.evaluation.tables import short
from lifelora.run.recommend import served
from lifelora.study import tell
from lifelora.study.seeds import NAMES, Several

MODELS = {
    "deepfm": "DeepFM",
    "autoint": "AutoInt",
    "dcnv2": "DCNv2",
    "gru4rec": "GRU4Rec",
    "caser": "Caser",
    "sasrec": "SASRec",
    "din": "DIN",
}
METRICS = ("auc", "log_loss", "accuracy")
COLOURS = {"": "#777777", "encoder": "#0072b2", "nano": "#d55e00"}
READERS = {"encoder": "all-MiniLM reads", "nano": "nano LM reads"}


@dataclass(frozen=True)
class Grid:
    """The models, shares and readers of which some run has something."""

    several: Several

    @cached_property
    def shares(self) -> list[int]:
        """In per cent of the training samples."""
        return sorted({int(name.split("-")[1]) for name in self.several.judged if "-" in name})

    @cached_property
    def models(self) -> list[str]:
        """In the order of the tables."""
        return [model for model in MODELS if any(name.startswith(f"{model}-") for name in self.several.judged)]

    @cached_property
    def readers(self) -> list[str]:
        """Who reads what the models know."""
        return [reader for reader in READERS if any(name.endswith(f"-{reader}") for name in self.several.judged)]

    def of(self, model: str, reader: str = "") -> dict[int, str]:
        """The systems of a model, without knowledge or with a reader's, by their share."""
        named = {share: f"{model}-{share}-{reader}".rstrip("-") for share in self.shares}
        return {share: name for share, name in named.items() if name in self.several.judged}

    def added(self, model: str, reader: str) -> dict[int, dict[str, Difference]]:
        """What a reader's knowledge adds to a model, by share and metric."""
        plain, knows = self.of(model), self.of(model, reader)
        return {share: self.several.minus(knows[share], plain[share]) for share in knows if share in plain}

    def reached(self, model: str, reader: str) -> dict[str, int | None] | None:
        """The first share whose AUC is that of the plain model on all: by the value, and by the interval of the difference."""
        if f"{model}-100" not in self.several.judged:
            return None
        minus = {share: self.several.minus(name, f"{model}-100")["auc"] for share, name in self.of(model, reader).items()}
        return {
            "by value": next((share for share, d in minus.items() if d.value >= 0), None),
            "not to be told apart": next((share for share, d in minus.items() if d.high >= 0), None),
        }


def found(grid: Grid) -> dict[str, Any]:
    """By model and reader: what is added, the share at which knowledge has made up for the rest, and what serving takes."""
    told: dict[str, Any] = {}
    for model in grid.models:
        told[model] = {
            reader or "without": {
                "minus none, by share": {
                    share: {metric: asdict(of[metric]) for metric in METRICS} for share, of in grid.added(model, reader).items()
                }
                if reader
                else {},
                "reaches": grid.reached(model, reader),
            }
            for reader in ("", *grid.readers)
        }
        print(model, {reader: of["reaches"] for reader, of in told[model].items()})
        first = grid.several.runs[0]
        last = [grid.of(model, reader).get(grid.shares[-1]) for reader in ("", *grid.readers)]
        here = [name for name in last if name is not None and first.recipe.seed in grid.several.judged[name]]
        told[model]["ms to score 100 items, median and 95 %"] = served(first, here)
    return told


def table(grid: Grid) -> str:
    """Markdown, by metric: what models have without knowledge, and what each reader's adds; * is p < .01, not corrected."""

    def plus(value: float) -> str:
        return short(value) if value < 0 else f"+{short(value)}"

    def cell(metric: str, model: str, share: int) -> str:
        if share not in grid.of(model):
            return ""
        cells = [short(estimate(grid.several.of(grid.of(model)[share]), metric).value, 3)]
        for d in added(metric, share, [model], grid.readers):
            cells.append(plus(d.value) + "*" * (d.p < 0.01))
        return " ".join(cells)

    def added(metric: str, share: int, models: Iterable[str], readers: Iterable[str]) -> list[Difference]:
        by_share = [grid.added(model, reader) for model in models for reader in readers]
        return [one[share][metric] for one in by_share if share in one]

    def mean(metric: str, reader: str, share: int) -> str:
        these = added(metric, share, grid.models, [reader])
        if not these:
            return ""
        ups, downs = (sum(d.p < 0.01 and sign * d.value > 0 for d in these) for sign in (1, -1))
        return f"{plus(float(np.mean([d.value for d in these])))} ({ups} up, {downs} down)"

    return "\n\n".join(
        tell.markdown(
            [NAMES[metric], *(f"{share} %" for share in grid.shares)],
            {MODELS[model]: [cell(metric, model, share) for share in grid.shares] for model in grid.models}
            | {f"mean, {READERS[reader]}": [mean(metric, reader, share) for share in grid.shares] for reader in grid.readers},
        )
        for metric in METRICS
    )


def draw(grid: Grid, picture: Path) -> None:
    """AUC by share, and below what knowledge does to it, to the log loss and to the accuracy; a column for each model."""
    with drawing.style("laser"):
        figure = Figure(figsize=(1.85 * len(grid.models), 7.0))
        axes = figure.subplots(4, len(grid.models), sharey="row", sharex=True, squeeze=False, height_ratios=(3, 2, 2, 2))
        for column, model in zip(axes.T, grid.models, strict=True):
            for reader in ("", *grid.readers):
                names = grid.of(model, reader)
                values = [estimate(grid.several.of(name), "auc").value for name in names.values()]
                column[0].plot(
                    [*names],
                    values,
                    "o-",
                    color=COLOURS[reader],
                    markersize=3,
                    linewidth=1.2,
                    label=READERS.get(reader, "without knowledge"),
                )
                minus = grid.added(model, reader) if reader else {}
                for axis, metric in zip(column[1:], METRICS, strict=True):
                    if minus:
                        tell.draw_curve(axis, [*minus], [d[metric] for d in minus.values()], COLOURS[reader])
                    axis.axhline(0, color="#777777", linewidth=0.7)
            if f"{model}-100" in grid.several.judged:
                whole = estimate(grid.several.of(f"{model}-100"), "auc").value
                column[0].axhline(whole, color="#777777", linewidth=0.7, linestyle=":")
            column[0].set(xscale="log", title=MODELS[model])
            column[-1].set(xticks=grid.shares, xticklabels=[f"{s}" if s in (1, 5, 20, 100) else "" for s in grid.shares])
            column[-1].minorticks_off()
        said = ("AUC", *(f"{NAMES[metric]},\nadded" for metric in METRICS))
        for axis, label in zip(axes[:, 0], said, strict=True):
            axis.set_ylabel(label)
        axes[-1][len(grid.models) // 2].set_xlabel("% of the training samples")
        figure.legend(*axes[0][0].get_legend_handles_labels(), loc="upper center", ncols=4, frameon=False)
        figure.tight_layout(rect=(0, 0, 1, 0.95))
        picture.write_bytes(drawing.png(figure))


def main() -> None:
    """Print the tables; write the file and the picture."""
    study = tell.asked(__doc__)
    torch.set_num_threads(1)
    grid = Grid(study.several)
    several = grid.several
    study.write({"knowledge against none": found(grid), "figures": several.figures(METRICS)})
    print(table(grid))
    if study.picture:
        draw(grid, study.picture)


if __name__ == "__main__":
    main()
