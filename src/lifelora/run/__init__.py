"""A run: a recipe applied to a data set, with its artefacts. Its face; the story is ``run.run``."""

from lifelora.run.context import Options
from lifelora.run.run import Run

__all__ = ["Options", "Run"]
