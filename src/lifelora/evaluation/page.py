"""Puts a report on one HTML page through a Jinja2 template. Knows pictures and words only.

Every text may come from outside (titles, names of systems), so the template escapes all of it. The page asks the network for
nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from lifelora.artefacts import write_atomically
from lifelora.errors import harmless
from lifelora.evaluation import drawing
from lifelora.evaluation import ranking_report as L
from lifelora.evaluation import report as R
from lifelora.evaluation import tables as T
from lifelora.evaluation.costs import rate
from lifelora.evaluation.group_drawing import by_group
from lifelora.evaluation.groups import Grouped, left_out
from lifelora.evaluation.measured import Curves, Measured
from lifelora.evaluation.metrics import HIGHER_IS_BETTER
from lifelora.evaluation.significance import Figure as Estimate

WIDE, NARROW, HALF, SMALL = 760.0, 350.0, 366.0, 240.0


def _visible(value: Any) -> Any:
    """A text with its control characters written out: escaping alone leaves NUL, and marks that turn the direction of writing."""
    return harmless(value) if isinstance(value, str) and not isinstance(value, Markup) else value


ENVIRONMENT = jinja2.Environment(
    loader=jinja2.PackageLoader("lifelora.evaluation", "."),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    finalize=_visible,
)
ENVIRONMENT.filters |= {
    "zip": zip,
    "short": T.short,
    "reach": T.reach,
    "p_value": T.p_value,
    "duration": T.duration,
    "amount": T.amount,
    "rate": rate,
}


class _Album:
    """Draws each picture as SVG for the page, and keeps a PNG of it."""

    def __init__(self) -> None:
        self.png: dict[str, bytes] = {}

    def add(self, name: str, label: str, draw: Callable[[float], Figure], *widths: float) -> Markup:
        """The picture in one width or in two (wide screens, narrow screens); the PNG is of the first."""
        parts = []
        for place, width in enumerate(widths):
            with drawing.style(f"{name}-{place}"):
                figure = draw(width)
                if place == 0:
                    self.png[name] = drawing.png(figure)
                svg = drawing.svg(figure, f"{name}-{place}", str(escape(label)))
            screen = ("wide", "narrow")[place] if len(widths) > 1 else "any"
            parts.append(f'<div class="picture {screen}">{svg}</div>')
        return Markup("".join(parts))  # matplotlib escapes what it writes into an SVG, and the label is escaped above


def write_report(folder: Path, report: R.Report, measured: R.MeasuredAnswers | None = None) -> Path:
    """Write ``report.html``, one file that needs nothing else, and ``figures/*.png``; the page's path."""
    return _save(folder, *render(report, measured or R.measure(report)))


def write_ranking(folder: Path, report: L.RankingReport, measured: L.MeasuredRanking | None = None) -> Path:
    """The same where the task is the next item."""
    return _save(folder, *render_ranking(report, measured or L.measure(report)))


def _save(folder: Path, html: str, pictures: Mapping[str, bytes]) -> Path:
    for name, png in pictures.items():
        write_atomically(folder / "figures" / f"{name}.png", png)
    write_atomically(folder / "report.html", html)
    return folder / "report.html"


def render(report: R.Report, measured: R.MeasuredAnswers) -> tuple[str, dict[str, bytes]]:
    """The page, and the PNG of each picture by name."""
    names = list(measured.systems)
    album = _Album()
    aucs = {name: figures["auc"] for name, figures in measured.systems.items()}
    pictures: dict[str, Any] = {
        "auc": album.add(
            "auc",
            "AUC of each system with its interval",
            lambda w: drawing.forest(aucs, w, "AUC on the test samples", best=measured.best_possible_auc),
            WIDE,
            NARROW,
        ),
        "groups": _groups(album, measured.groups, "auc", "AUC", names),
        "calibration": [
            album.add(
                f"calibration-{index}",
                f"Calibration of {name}",
                partial(drawing.calibration, measured.reliability[name], index),
                SMALL,
            )
            for index, name in enumerate(names)
        ],
    }
    pictures |= _learning(album, {s.name: s.curves for s in report.systems}, names, "Validation AUC by epoch")
    if report.example:
        scores = report.example.scores
        pictures["example"] = album.add(
            "example-scores", "Score of each system for the example", lambda w: drawing.example_scores(scores, names, w), HALF
        )
    first, *others = R.summary(measured)
    html = ENVIRONMENT.get_template("report.html.j2").render(
        report=report,
        measured=measured,
        pictures=pictures,
        headline=first,
        findings=others,
        metrics=R.NAMES,
        added=R.NAMES,
        added_by=("auc", R.NAMES["auc"]),
        grouped_by={metric: R.NAMES[metric] for metric in R.TOLD_IN_GROUPS},
        drawn_by_group="AUC",
        left_out=left_out,
        best=_best(measured.systems, HIGHER_IS_BETTER),
        ways=_ways(measured),
        worth_columns=[R.NAMES],
        basis=R.basis(measured),
        higher=HIGHER_IS_BETTER,
        colour={name: index % len(drawing.SYSTEMS) for index, name in enumerate(names)},
    )
    return html, album.png


def render_ranking(report: L.RankingReport, measured: L.MeasuredRanking) -> tuple[str, dict[str, bytes]]:
    """The page of the task next-item, and the PNG of each picture by name."""
    names, album = list(measured.systems), _Album()
    pictures: dict[str, Any] = _learning(album, {s.name: s.curves for s in report.systems}, names, "Validation AUC by epoch")
    for where, metric, said in (
        ("list", "ndcg@10", f"NDCG@10 among {report.candidates} candidates"),
        ("catalogue", "catalogue ndcg@10", f"NDCG@10 in the catalogue of {report.n_items:,} items"),
    ):
        shown = {name: figures[metric] for name, figures in measured.systems.items() if metric in figures}
        if shown:
            pictures[where] = album.add(
                f"ndcg-{where}", f"{said}, of each system with its interval", partial(_forest, shown, said, names), WIDE, NARROW
            )
    *_, (drawn, drawn_as) = L.in_groups(measured).items()
    pictures["groups"] = _groups(album, measured.groups, drawn, drawn_as, names)
    first, *others = L.summary(measured)
    html = ENVIRONMENT.get_template("ranking.html.j2").render(
        report=report,
        measured=measured,
        pictures=pictures,
        headline=first,
        findings=others,
        listed=L.table_of(L.LIST, measured.systems),
        answered=L.table_of(L.ANSWERS, measured.systems),
        whole=L.table_of(L.IN_CATALOGUE, measured.systems),
        added=L.DIFFERENCES,
        added_by=next(iter(L.in_groups(measured).items())),
        compared=[L.table_of(names, measured.against) for names in (L.LIST, L.ANSWERS, L.IN_CATALOGUE)],
        grouped_by=L.in_groups(measured),
        drawn_by_group=drawn_as,
        left_out=left_out,
        worth_columns=[
            L.table_of(names, {one.control: one.differences for one in measured.worth})
            for names in (L.LIST, L.ANSWERS, L.IN_CATALOGUE)
        ],
        ways=_ways(measured),
        best=_best(measured.systems, dict.fromkeys(L.LIST | L.ANSWERS | L.CATALOGUE, True)),
        basis=L.basis(measured),
        colour={name: index % len(drawing.SYSTEMS) for index, name in enumerate(names)},
    )
    return html, album.png


def _forest(shown: Mapping[str, Estimate], said: str, names: Sequence[str], width: float) -> Figure:
    return drawing.forest(shown, width, said, colours={name: place for place, name in enumerate(names)})


def _groups(album: _Album, groups: Mapping[str, Grouped], metric: str, said: str, names: list[str]) -> dict[str, Markup]:
    """A picture of each division that has groups to compare."""
    return {
        name: album.add(
            f"{metric.removeprefix('catalogue ').partition('@')[0]}-by-{name}",
            f"{said} by {of.of}",
            partial(by_group, of, metric, names),
            WIDE,
            NARROW,
        )
        for name, of in groups.items()
        if (of.tells or name == "history") and any(metric in figures for figures in of.groups[0].systems.values())
    }


def _learning(album: _Album, curves: Mapping[str, Curves | None], names: list[str], said: str) -> dict[str, Any]:
    trained = {name: curve for name, curve in curves.items() if curve is not None}
    validated = {name: curve for name, curve in trained.items() if curve.validation}
    pictures = {}
    if trained:
        pictures["loss"] = album.add(
            "learning-loss", "Training loss by epoch", lambda w: drawing.learning(trained, names, "loss", w), HALF
        )
    if validated:
        pictures["validation"] = album.add(
            "learning-validation", said, lambda w: drawing.learning(validated, names, "validation", w), HALF
        )
    return pictures


def _ways(measured: Measured) -> list[str]:
    """In which some language model was used."""
    return list(dict.fromkeys(way for costs in measured.costs.values() for way in costs))


def _best(systems: Mapping[str, Mapping[str, Estimate]], higher: Mapping[str, bool]) -> dict[str, str]:
    """For each metric the name of the system with the best value."""
    best = {}
    for metric, upwards in higher.items():
        values = {name: figures[metric].value for name, figures in systems.items() if metric in figures}
        defined = {name: value for name, value in values.items() if value == value}  # nan differs from itself
        if defined:
            best[metric] = (max if upwards else min)(defined, key=lambda name: defined[name])
    return best
