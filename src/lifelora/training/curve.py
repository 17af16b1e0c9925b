"""The curve of a training: losses, evaluations, which was best, why it ended. Knows no module and no loop."""

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from lifelora.errors import ArtefactError
from lifelora.types import Frozen

HISTORY = "history.json"


class Point(Frozen):
    """One point of the training curve: the mean loss over the steps since the point before, up to ``step``."""

    step: int
    loss: float
    learning_rate: float


class Evaluation(Frozen):
    """What ``validate`` said after ``step`` steps."""

    step: int
    metrics: dict[str, float]


class History(BaseModel):
    """The curve of one training, without times, so that the same training gives the same file."""

    model_config = ConfigDict(extra="forbid", ser_json_inf_nan="constants")

    key: str
    """Hash of everything that decides the result."""
    steps_per_epoch: int
    planned: int
    """Optimiser steps to the end, unless patience ends it before."""
    steps: int = 0
    """Optimiser steps made."""
    training: list[Point] = []
    evaluations: list[Evaluation] = []
    best: int = -1
    """Index of the evaluation whose weights were kept; -1 before the first."""
    stopped: Literal["end", "patience"] | None = None
    """None while it is under way."""

    @classmethod
    def read(cls, text: str | bytes, path: Path, key: str) -> "History":
        """The history in ``text``, from ``path``; ArtefactError when it is damaged or another training's."""
        try:
            history = cls.model_validate_json(text)
        except ValidationError as error:
            raise ArtefactError(f"{path} is damaged ({error}); delete {path.parent} and train again.") from error
        if history.key != key:
            raise ArtefactError(
                f"{path} comes from another training (its key is {history.key}, this one's {key}): the configuration, "
                f"the seed, the samples or the module's shapes differ. Delete {path.parent} or choose another folder."
            )
        return history
