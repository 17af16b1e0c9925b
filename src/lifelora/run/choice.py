"""The best of several scorers, by AUC on the same validation samples. Knows no model.

Scorers may have had different numbers of samples to choose their weights by. Fewer are the first of more, so what is compared
is their AUC on the fewest that one of the run's scorers had.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Int

from lifelora.artefacts import read_json, write_atomically
from lifelora.evaluation.measured import CONTROL, Validated
from lifelora.progress import say
from lifelora.run.scorers.base import Scorer
from lifelora.run.tasks.base import Task
from lifelora.training import HISTORY
from lifelora.training.curve import History

VALIDATION = "validation.json"
"""Beside a scorer's test scores: its AUC on the common samples, and how many these were."""
One = TypeVar("One", bound=Scorer)


@dataclass(frozen=True)
class Choice(Generic[One]):
    """The best of some scorers, and what each has reached."""

    scorer: One
    aucs: Mapping[str, float]
    "Of each on the same validation samples; empty where there was no choice."
    samples: int

    @property
    def why(self) -> str:
        """For a reader."""
        if not self.aucs:
            return "the only one"
        best, *others = sorted(self.aucs, key=lambda name: name != self.scorer.name)
        rest = ", ".join(f"{name} {self.aucs[name]:.4f}" for name in others)
        return f"the best on the same {self.samples:,} validation samples: AUC {self.aucs[best]:.4f}; {rest}"


def best(task: Task, scorers: Sequence[One]) -> Choice[One]:
    """The one with the highest AUC, of equal ones the first. A model that was counted is compared as one that was trained, and a
    control is not compared, unless there is nothing else.
    """
    scorers = [scorer for scorer in scorers if task.family(scorer.name) != CONTROL] or scorers
    if len(scorers) == 1:
        return Choice(scorers[0], {}, 0)
    rows = common_samples(task)
    aucs = {scorer.name: validated(task, scorer, rows) for scorer in scorers}
    chosen = max(scorers, key=lambda scorer: -1.0 if math.isnan(aucs[scorer.name]) else aucs[scorer.name])
    return Choice(chosen, aucs, len(rows))


def common_samples(task: Task) -> Int[np.ndarray, "N"]:
    """The validation samples that every scorer of the run has had."""
    counts = [scorer.validation_count for scorer in task.scorers.values()]
    return task.context.validation_samples(min((count for count in counts if count is not None), default=None))


def validated(task: Task, scorer: Scorer, rows: Int[np.ndarray, "N"]) -> float:
    """A scorer's AUC on validation samples: as its training or the evaluation has kept it, or computed now; nan without any."""
    if not len(rows):
        return math.nan
    known = kept(task, scorer, rows)
    if not math.isnan(known):
        return known
    if task.context.shows_progress:
        say(f"{scorer.name}: scoring {len(rows):,} validation samples, to compare all scorers on the same")
    return task.metrics(scorer, task.requests("valid", rows))["auc"]


def kept(task: Task, scorer: Scorer, rows: Int[np.ndarray, "N"]) -> float:
    """The AUC that its training or the evaluation has kept, or that of kept scores; nan where none is."""
    path, own = scorer.stage.require() / HISTORY, task.context.validation_samples(scorer.validation_count)
    if path.exists() and len(own) == len(rows):
        history = History.model_validate_json(path.read_text())
        return history.evaluations[history.best].metrics["auc"]
    scores = task.context.stages.scores(scorer.name)
    if scores.complete() and (scores.folder / VALIDATION).exists():
        found = read_json(scores.folder / VALIDATION)
        if found["samples"] == len(rows):
            return float(found["auc"])
    said = scorer.validated(rows)
    return math.nan if said is None else task.metrics(scorer, task.requests("valid", rows), said)["auc"]


def all_kept(task: Task) -> Validated:
    """What is kept of all scorers: nothing is asked, so one process alone may call this."""
    rows = common_samples(task)
    return Validated({name: kept(task, scorer, rows) for name, scorer in task.scorers.items()}, len(rows))


def keep_validated(task: Task, scorer: Scorer, folder: Path) -> None:
    """Keep the AUC in a folder of scores, so that no later choice has to score again."""
    rows = common_samples(task)
    found = {"auc": validated(task, scorer, rows), "samples": len(rows)}
    write_atomically(folder / VALIDATION, json.dumps(found))
