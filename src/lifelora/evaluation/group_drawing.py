"""The picture of systems over groups of test samples. Knows measured groups; no page and no model."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lifelora.evaluation.drawing import (
    DECIMALS,
    GRID,
    INK,
    LINE,
    WIDE,
    canvas,
    cut,
    legend,
    legend_columns,
    marker,
    system_colour,
)
from lifelora.evaluation.groups import Grouped


def by_group(grouped: Grouped, metric: str, names: Sequence[str], width: float) -> Figure:
    """A metric with intervals in each group, systems side by side and joined by lines; the best possible as dashes.

    ``names`` are all systems of the report, whose places number the colours; those without the metric are not drawn.
    """
    wide, groups = width >= WIDE, grouped.groups
    drawn = [name for name in names if any(metric in group.systems[name] for group in groups)]
    best = any(metric in group.best_possible for group in groups)
    columns, lines = legend_columns([cut(name, 24) for name in drawn] + ["best possible"] * best, width)
    below = 72.0 + LINE * lines
    figure, axes = canvas(width, 226.0 + below, 38.0, 4.0, 10.0, below)
    step = min(0.16, 0.74 / len(drawn))
    for place, name in enumerate(drawn):
        index = names.index(name)
        x = np.arange(len(groups)) + (place - (len(drawn) - 1) / 2) * step
        figures = [group.systems[name].get(metric) for group in groups]
        values = np.array([[f.low, f.value, f.high] if f else [np.nan] * 3 for f in figures])
        colour = system_colour(index)
        axes.plot(x, values[:, 1], color=colour, linewidth=1.1, alpha=0.45)
        axes.vlines(x, values[:, 0], values[:, 2], color=colour, linewidth=2.2 if wide else 1.8)
        axes.plot(x, values[:, 1], color=colour, linestyle="none", label=cut(name, 24), **marker(index, 8.0 if wide else 6.5))
    if best:
        ceiling = [group.best_possible.get(metric, np.nan) for group in groups]
        places = np.arange(len(groups))
        axes.hlines(ceiling, places - 0.42, places + 0.42, color=INK, linewidth=1.3, linestyle=(0, (4, 3)), label="best possible")
    counts = [f"n = {group.rows:,}" if wide else f"{group.rows:,}" for group in groups]
    axes.set_xticks(range(len(groups)), [f"{group.label}\n{n}" for group, n in zip(groups, counts, strict=True)])
    axes.tick_params(axis="x", length=0)
    for edge in np.arange(len(groups) - 1) + 0.5:
        axes.axvline(edge, color=GRID, linewidth=1)
    axes.set(xlim=(-0.5, len(groups) - 0.5), xlabel=grouped.of if wide else f"{grouped.of}, and n")
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.yaxis.set_major_formatter(DECIMALS)
    legend(axes, columns)
    return figure
