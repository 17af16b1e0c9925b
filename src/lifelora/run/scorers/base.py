"""What a run compares: anything that trains itself into a folder, opens from it and scores requests. Knows no task.

The classes beside this one are the scorers: conventional models, two towers, language models that are asked yes or no or for
titles, blends. What one needs of another (a representation, item vectors, a first choice from the catalogue) is handed to it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, TypeAlias

import numpy as np
from jaxtyping import Float, Int

from lifelora.data.dataset import Targets
from lifelora.llm.cost import Cost
from lifelora.run.context import Context
from lifelora.run.scorers.kept import of_validation
from lifelora.stage import Stage

MODEL = "model.safetensors"
Validate: TypeAlias = Callable[[], dict[str, float]]
"""Metrics of the scorer as it is now, on validation samples."""
CatalogueScores: TypeAlias = Iterator[tuple[slice, Float[np.ndarray, "B M"]]]


@dataclass(frozen=True, eq=False)
class Requests:
    """N questions: whose, when, and about which C candidates."""

    targets: Targets
    "Their items are the right answers; where none is known, any candidate stands in."
    listed_NC: Int[np.ndarray, "N C"] | None = None
    "None where each target's item is its one candidate."
    among: bool = False
    "Whether requests about one user are candidates for one answer, so that what is read of the user may be read once for all."

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def candidates(self) -> Int[np.ndarray, "N C"]:
        """The candidates, also where there is one."""
        return self.targets.item_B[:, None] if self.listed_NC is None else self.listed_NC

    @classmethod
    def joined(cls, parts: Sequence["Requests"]) -> "Requests":
        """All of some, one after another; where candidates are listed, each lists as many."""
        columns = zip(*((t.user_B, t.item_B, t.position_B, t.label_B) for t in (part.targets for part in parts)), strict=True)
        lists = [part.listed_NC for part in parts if part.listed_NC is not None]
        return cls(Targets(*map(np.concatenate, columns)), np.concatenate(lists) if lists else None, parts[0].among)

    def at(self, index: Int[np.ndarray, "_"] | slice) -> "Requests":
        """Some of them."""
        return Requests(self.targets.at(index), None if self.listed_NC is None else self.listed_NC[index], self.among)


@dataclass(frozen=True)
class Answers:
    """What a scorer said of each request beside its scores, and what each way of answering took in all."""

    values: Mapping[str, Float[np.ndarray, "N"]] = field(default_factory=dict)
    "As ``evaluation.ranking_report.ANSWERS`` names them."
    costs: Mapping[str, Cost] = field(default_factory=dict)


class Scorer(ABC):
    """One of the things that a run compares."""

    family: ClassVar[str]
    "What a reader calls such a thing: conventional, two towers, language model, blend."
    ids_alone: bool = False
    "Whether it knows users and items by their numbers alone, and so nothing of those that came after training."
    shortlist: int | None = None
    "How many candidates it can rank; None where it ranks any number."
    retriever: "Scorer | None" = None
    "What chooses these from the catalogue."

    def __init__(self, context: Context, name: str, stage: Stage) -> None:
        self.context, self.name, self.stage = context, name, stage

    @property
    @abstractmethod
    def sees_target(self) -> bool:
        """Whether what it knows of the user (what is shown or read, u) depends on the target."""

    @property
    @abstractmethod
    def validation_count(self) -> int | None:
        """How many validation samples choose its weights; None: all."""

    def check(self) -> None:  # noqa: B027 - most have nothing to check
        """Raise an error now that training would meet, if there is one; for what takes long to get there."""

    @abstractmethod
    def train(self, folder: Path, validate: Validate) -> None:
        """Learn, and leave in ``folder`` what opening needs; afterwards it is open."""

    @abstractmethod
    def score(self, requests: Requests, said: str | None = None) -> Float[np.ndarray, "N C"]:
        """A number for each candidate, more for a better one; ``said`` names the progress, None shows none."""

    def judged(self, requests: Requests, said: str | None = None) -> Float[np.ndarray, "N C"]:
        """``score`` of the run's test samples; a blend takes what is kept of them, and asks no member again."""
        return self.score(requests, said)

    def judged_catalogue(self, targets: Targets, said: str | None = None) -> CatalogueScores | None:
        """``catalogue`` of the run's test samples, of which a blend takes what is kept."""
        return self.catalogue(targets, said)

    def validated(self, rows_N: Int[np.ndarray, "N"]) -> Float[np.ndarray, "N C"] | None:
        """``score`` of validation samples, by their rows in the log, as a stage keeps it; None where none does."""
        return of_validation(self.context, self.name, rows_N)

    @abstractmethod
    def reads(self) -> str:
        """Its line in the report: what it reads and how much it has learnt from."""

    def facts(self) -> list[tuple[str, str]]:
        """Further facts for the report."""
        return []

    def notes(self) -> list[str]:
        """What a reader of the report has to know of its figures."""
        return []

    def chosen(self, requests: Requests) -> tuple[str, Sequence[Int[np.ndarray, "_"]]] | None:
        """In words how behaviours were chosen to be shown, and which (event rows of each request); None: none are shown."""
        return None

    def shown(self, requests: Requests) -> Sequence[Int[np.ndarray, "_"]]:
        """The event rows that were really shown for each request, oldest first: the oldest chosen may have found no room."""
        return [np.zeros(0, np.int64)] * len(requests)

    def unaided(self, items_C: Int[np.ndarray, "C"]) -> Int[np.ndarray, "C"]:
        """More items than its shortlist, where nothing can choose among them: here all are ranked, however long it takes."""
        return items_C

    def probabilities(self, requests: Requests) -> Float[np.ndarray, "N C"]:
        """What ``score`` means to a reader: here its scores are probabilities."""
        return self.score(requests)

    def over(self, targets: Targets, items_P: Int[np.ndarray, "P"]) -> Float[np.ndarray, "B P"] | None:
        """``probabilities`` of the same items for each target's user, where much of the work is done once for all; else None."""
        return None

    def catalogue(self, targets: Targets, said: str | None = None) -> CatalogueScores | None:
        """Scores of all items, some targets at a time; None where it cannot rank a catalogue."""
        return None

    def answers(self, requests: Requests, beams: int, written_tokens: int, said: str | None = None) -> Answers:
        """What it says when it is asked for one item; nothing where it cannot or (0 beams) should not be asked."""
        return Answers()

    def spent(self) -> Cost:
        """What its scores have taken so far, where that is counted."""
        return Cost()
