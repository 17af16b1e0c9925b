"""The report's pictures, as matplotlib figures and as themed SVG. Knows measured figures; no page and no model.

Only ``Figure`` objects are used, never pyplot, and nothing random or dated gets into a file: the same figures give the
same bytes. Sizes are CSS pixels. Each colour is a stand-in that ``svg`` replaces by a CSS variable, so one picture
reads well on light and on dark paper; PNGs show the stand-ins, on white.
"""

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from lifelora.evaluation.measured import Curves
from lifelora.evaluation.metrics import Reliability
from lifelora.evaluation.significance import Figure as Estimate
from lifelora.evaluation.tables import short, with_span

INK, MUTED, GRID, PAPER = "#1b2530", "#5b6773", "#dde3e9", "#fffffe"
SYSTEMS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6b7280")
"""Okabe and Ito's palette, which readers with any colour vision can distinguish; markers differ too."""
MARKERS = ("o", "s", "D", "^", "v", "P", "X")
MARKER_SIZES = (1.0, 0.95, 0.9, 1.3, 1.3, 1.15, 1.1)
"""Relative sizes that make the markers look equally large."""
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", PAPER: "--card"} | {
    colour: f"--system-{index}" for index, colour in enumerate(SYSTEMS)
}
# fmt: off
STYLE = {
    "svg.fonttype": "none", "text.parse_math": False, "axes.unicode_minus": True, "font.family": "DejaVu Sans",
    "font.size": 12, "axes.edgecolor": MUTED, "axes.labelcolor": MUTED, "text.color": INK, "xtick.color": MUTED,
    "ytick.color": MUTED, "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False,
    "axes.linewidth": 0.8, "axes.grid": True, "axes.grid.axis": "y", "grid.color": GRID, "grid.linewidth": 1,
    "axes.axisbelow": True, "ytick.major.size": 0, "xtick.major.size": 4, "xtick.labelsize": 11.5,
    "ytick.labelsize": 11.5, "axes.labelsize": 11.5, "lines.linewidth": 2, "lines.solid_capstyle": "round",
    "axes.facecolor": "none", "figure.facecolor": "none", "legend.frameon": False, "figure.dpi": 72,
}
# fmt: on
WIDE = 500
LINE = 17.0
MOST_POINTS = 60
JOINED = 10
"""The calibration curve joins bins of at least so many rows; fewer are a dot alone."""
DECIMALS = FuncFormatter(lambda value, _: short(value, 3).rstrip("0").rstrip(".") or "0")


@contextmanager
def style(salt: str) -> Iterator[None]:
    """matplotlib set up for our pictures, and put back afterwards."""
    with mpl.rc_context({**STYLE, "svg.hashsalt": salt}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # a name in a script that the PNG's font lacks
        yield


def system_colour(index: int) -> str:
    return SYSTEMS[index % len(SYSTEMS)]


def marker(index: int, size: float) -> dict[str, Any]:
    """How a system's marker is drawn, ``size`` pixels across."""
    kind = index % len(MARKERS)
    return {"marker": MARKERS[kind], "markersize": size * MARKER_SIZES[kind], "markeredgecolor": PAPER}


def canvas(width: float, height: float, left: float, right: float, top: float, bottom: float) -> tuple[Figure, Axes]:
    """One pair of axes in a figure, with margins; all in pixels."""
    figure = Figure(figsize=(width / 72, height / 72))
    box = (left / width, bottom / height, (width - left - right) / width, (height - top - bottom) / height)
    return figure, figure.add_axes(box)


def forest(
    systems: Mapping[str, Estimate],
    width: float,
    said: str,
    *,
    best: float | None = None,
    colours: Mapping[str, int] | None = None,
) -> Figure:
    """A figure of each system with its interval, ``said`` below; the best possible as a dashed line.

    ``colours`` numbers the colours of the names, where they are not in their order.
    """
    wide, count, top, bottom = width >= WIDE, len(systems), 26.0, 40.0
    row, left, right = (36.0, 182.0, 158.0) if wide else (46.0, 6.0, 6.0)
    figure, axes = canvas(width, top + row * count + bottom, left, right, top, bottom)
    ends = [end for f in systems.values() for end in (f.low, f.high) if np.isfinite(end)] or [0.4, 0.6]
    if best is not None:
        ends.append(best)
    room = max(max(ends) - min(ends), 0.02) * 0.06
    axes.set(xlim=(min(ends) - room, max(ends) + room), ylim=(count - 0.45, -0.6), yticks=[])
    axes.grid(axis="x")
    for place, (name, f) in enumerate(systems.items()):
        index, y = colours[name] if colours else place, place + (0.0 if wide else 0.2)
        colour = system_colour(index)
        axes.plot([f.low, f.high], [y, y], color=colour, linewidth=3)
        axes.plot([f.value], [y], color=colour, **marker(index, 9.0))
        side = axes.get_yaxis_transform()
        label, figures = cut(name, 24), with_span(f)
        if wide:
            axes.text(-left / (width - left - right), y, label, transform=side, va="center")
            axes.text((width - left) / (width - left - right), y, figures, transform=side, va="center", ha="right")
        else:
            axes.text(0, place - 0.2, f"{label}\N{EM SPACE}{figures}", transform=side, va="center", fontsize=11.5)
    if best is not None:
        rows = [(-0.6, count - 0.45)] if wide else [(place + 0.02, place + 0.38) for place in range(count)]
        axes.vlines([best] * len(rows), *zip(*rows, strict=True), color=INK, linewidth=1.3, linestyle=(0, (4, 3)), zorder=1)
        axes.text(best, -0.66, f"best possible {short(best)}", ha="center" if wide else "right", va="bottom", fontsize=11.5)
    axes.xaxis.set_major_locator(MaxNLocator(7 if wide else 5))
    axes.xaxis.set_major_formatter(DECIMALS)
    axes.set_xlabel(said)
    return figure


def learning(curves: Mapping[str, Curves], names: Sequence[str], what: str, width: float) -> Figure:
    """Training loss (``what`` = "loss") or validation AUC ("validation") of each system that was trained, by epoch."""
    labels = [cut(name, 24) for name in curves]
    columns, lines = legend_columns(labels, width)
    below = 50.0 + LINE * lines
    figure, axes = canvas(width, 222.0 + below, 38.0, 10.0, 10.0, below)
    for name, curve in curves.items():
        index = names.index(name)
        epoch, value = _thin(np.asarray(getattr(curve, what), dtype=np.float64).reshape(-1, 2)).T
        dots = marker(index, 6.5) if what == "validation" else {}
        axes.plot(epoch, value, color=system_colour(index), label=cut(name, 24), **dots)
        if what == "validation" and len(value):
            axes.plot(
                epoch[value.argmax()],
                value.max(),
                "o",
                markersize=13,
                markerfacecolor="none",
                markeredgecolor=system_colour(index),
                markeredgewidth=1.5,
            )
    axes.yaxis.set_major_locator(MaxNLocator(5))
    axes.yaxis.set_major_formatter(DECIMALS)
    axes.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(xlabel="epochs (passes over the training samples)")
    axes.margins(x=0.04, y=0.1)
    legend(axes, columns)
    return figure


def _thin(points: np.ndarray) -> np.ndarray:
    """At most MOST_POINTS points: means over runs of neighbours, for a loss logged at every step."""
    if len(points) <= MOST_POINTS:
        return points
    return np.stack([part.mean(axis=0) for part in np.array_split(points, MOST_POINTS)])


def calibration(table: Reliability, index: int, width: float) -> Figure:
    """Share of positives against the mean score in each bin, over the number of rows in each bin."""
    height, colour = 264.0, system_colour(index)
    figure, axes = canvas(width, height, 36.0, 10.0, 8.0, 94.0)
    some_G, many_G = table.rows_G > 0, table.rows_G >= JOINED
    area_G = 14 + 150 * table.rows_G[some_G] / table.rows_G.max()
    axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.2, dashes=(4, 3), zorder=1)
    axes.plot(table.score_G[many_G], table.label_G[many_G], color=colour, linewidth=1.5, alpha=0.6)
    axes.scatter(table.score_G[some_G], table.label_G[some_G], s=area_G, color=colour, edgecolor=PAPER, zorder=3)
    axes.set(xlim=(0, 1), ylim=(-0.02, 1.02), xticks=[0, 0.5, 1], xticklabels=[], yticks=[0, 0.5, 1])
    axes.set_yticklabels(["0", ".5", "1"])
    axes.tick_params(axis="x", length=0)
    axes.spines["bottom"].set_visible(False)
    axes.grid(axis="x")
    counts = figure.add_axes((36 / width, 38 / height, (width - 46) / width, 44 / height))
    counts.bar(table.edges[:-1], table.rows_G, np.diff(table.edges) * 0.88, align="edge", color=colour, alpha=0.75)
    most = int(table.rows_G.max())
    counts.set(xlim=(0, 1), ylim=(0, most), xticks=[0, 0.5, 1], xlabel="score")
    counts.set_xticklabels(["0", ".5", "1"])
    counts.set_yticks([0, most], ["0", f"{most / 1000:.0f}k" if most >= 10_000 else f"{most}"])
    return figure


def example_scores(scores: Mapping[str, float], names: Sequence[str], width: float) -> Figure:
    """Each system's score for one target, as bars from 0 to 1."""
    row = 40.0
    figure, axes = canvas(width, row * len(scores) + 48.0, 12.0, 12.0, 4.0, 44.0)
    for y, (name, score) in enumerate(scores.items()):
        colour = system_colour(names.index(name))
        axes.barh(y + 0.2, 1, 0.3, color=GRID)
        axes.barh(y + 0.2, score, 0.3, color=colour)
        axes.text(0, y - 0.2, cut(name, 30), va="center")
        axes.text(1, y - 0.2, short(score, 2), va="center", ha="right", weight="bold")
    axes.axvline(0.5, color=INK, linewidth=1, dashes=(4, 3))
    axes.set(xlim=(0, 1), ylim=(len(scores) - 0.5, -0.5), yticks=[], xlabel="score: probability of a yes")
    axes.set_xticks([0, 0.5, 1], ["0", ".5", "1"])
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    axes.tick_params(axis="x", length=0)
    return figure


def cut(name: str, most: int) -> str:
    """A name of at most so many letters."""
    return name if len(name) <= most else name[: most - 1] + "…"


def legend_columns(labels: Sequence[str], width: float) -> tuple[int, int]:
    """Columns and lines of a legend that fits the width."""
    wide = [46 + 6.4 * len(label) for label in labels]
    for lines in range(1, len(labels)):  # filled column by column, `lines` names in each
        if sum(max(wide[start : start + lines]) for start in range(0, len(wide), lines)) <= width:
            return -(-len(labels) // lines), lines
    return 1, len(labels)


def legend(axes: Axes, columns: int) -> None:
    """The names of all that is drawn, below the picture."""
    handles, labels = axes.get_legend_handles_labels()
    axes.figure.legend(
        handles,
        labels,
        loc="lower center",
        ncols=columns,
        fontsize=11.5,
        handlelength=1.4,
        columnspacing=1.6,
        handletextpad=0.6,
        borderaxespad=0.2,
        labelspacing=0.35,
        labelcolor=INK,
    )


def png(figure: Figure) -> bytes:
    """The figure on white paper, at twice the pixels."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=144, facecolor="white", metadata={"Software": None})
    return stream.getvalue()


def svg(figure: Figure, name: str, label: str) -> str:
    """The figure as an ``<svg>`` element for a page: themed, with ids of its own, and ``label`` for screen readers.

    ``name`` makes the ids unique; ``label`` must be escaped already.
    """
    stream = io.StringIO()
    undated = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(stream, format="svg", transparent=True, metadata=undated)
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*|<style.*?</style>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'href="#|url\(#', lambda match: f"{match[0]}{name}-", text)
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    width, height = (f"{size * 72:g}" for size in figure.get_size_inches())
    return re.sub(
        r"<svg [^>]*>",
        f'<svg viewBox="0 0 {width} {height}" style="max-width:{float(width) * 1.12:g}px" '
        f'role="img" aria-label="{label}" xmlns:xlink="http://www.w3.org/1999/xlink">',
        text,
        count=1,
    )
