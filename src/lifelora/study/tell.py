"""How a study is written down: where its figures come from, tables in Markdown, JSON, pictures. Knows runs, trains nothing."""

import argparse
import json
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lifelora
from lifelora.artefacts import write_atomically
from lifelora.evaluation import drawing
from lifelora.evaluation.measured import plain
from lifelora.evaluation.significance import Figure
from lifelora.run import Options, Run
from lifelora.study.seeds import Several


@dataclass(frozen=True)
class Study:
    """Finished runs of one recipe that are told as one, and where what is told of them goes."""

    several: Several
    out: Path
    picture: Path | None
    beside: tuple[Path, ...]
    "Files that earlier commands of the study wrote."

    def write(self, values: Mapping[str, Any]) -> None:
        """``values``, after where they come from and what they stand on."""
        write(self.out, origin(self.several.seeds) | about(self.several.runs) | dict(values))


def asked(description: str | None, picture: bool = True, beside: bool = False) -> Study:
    """What the words of a study's command name; ``picture``: whether it draws one, ``beside``: and other runs with it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, help="finished runs, one for each seed")
    parser.add_argument("--out", type=Path, required=True, help="the JSON file of all figures")
    if picture:
        parser.add_argument("--picture", type=Path, help="a PNG")
    if beside:
        parser.add_argument(
            "--beside", nargs="*", type=Path, default=[], help="JSON files of the study's other runs, to draw, too"
        )
    said = parser.parse_args()
    return Study(Several(opened(said.runs)), said.out, said.picture if picture else None, tuple(said.beside) if beside else ())


def opened(folders: Sequence[Path]) -> list[Run]:
    """Finished runs, to be read."""
    return [Run.open(folder, Options(device="cpu", progress=False)) for folder in folders]


def origin(seed: int | Sequence[int]) -> dict[str, Any]:
    """By which command, code and seed, and when, figures were made; the commit is null outside a checkout."""
    return {
        "command": shlex.join(["python", *sys.argv]),
        "date": datetime.now(UTC).date().isoformat(),
        "commit": _commit(),
        "seed": seed,
    }


def _commit() -> str | None:
    words, here = ["git", "rev-parse", "--short", "HEAD"], Path(lifelora.__file__).parent
    try:
        return subprocess.run(words, cwd=here, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def about(runs: Sequence[Run]) -> dict[str, Any]:
    """What figures of ``runs`` stand on: the data, and how many samples there are of it."""
    first = runs[0]
    dataset = first.context.dataset
    model = {"language model": first.context.backbone_label} if first.stages.need_backbone else {}
    return {
        "recipe": first.recipe.name,
        "data": dataset.name,
        "data_hash": first.stages.data.key,
        "notes": dataset.notes,
        "items": dataset.n_items,
        **model,
        "samples": {part: len(rows) for part, rows in dataset.samples.items()},
        "test samples": [len(run.context.test_samples) for run in runs],
        "seconds": [run.work.seconds() for run in runs],
    }


def reported(run: Run) -> dict[str, Any]:
    """All figures of a finished run, as its own report keeps them."""
    kept: dict[str, Any] = json.loads((run.stages.report.require() / "evaluation.json").read_text())
    return kept


def write(path: Path, values: Mapping[str, Any]) -> None:
    """As JSON; a figure that does not exist is null."""
    write_atomically(path, json.dumps(plain(dict(values)), indent=1, ensure_ascii=False) + "\n")


def markdown(head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """A table."""
    lines = [head, ["---"] * len(head), *([name, *cells] for name, cells in rows.items())]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def draw_forest(path: Path, figures: Mapping[str, Figure], said: str, colours: Mapping[str, int] | None = None) -> None:
    """A PNG of each system's figure with its interval; ``said`` names the figure, ``colours`` numbers the systems' colours."""
    with drawing.style(path.stem):
        write_atomically(path, drawing.png(drawing.forest(figures, 760.0, said, colours=colours)))


def draw_curve(axes: Any, at: Sequence[float] | Sequence[int], figures: Sequence[Figure], colour: str, label: str = "") -> None:
    """Figures along an axis, with a band for their intervals."""
    axes.plot(at, [f.value for f in figures], "o-", color=colour, markersize=3.5, linewidth=1.3, label=label or None)
    axes.fill_between(at, [f.low for f in figures], [f.high for f in figures], color=colour, alpha=0.13)
