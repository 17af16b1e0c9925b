"""In which form the items of a prompt stand: one form throughout, or LLaRA's curriculum. Knows no prompt and no model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, final

import numpy as np
from jaxtyping import Int

from lifelora.llm.personal import PersonalBatch
from lifelora.prompts.wording.titles import Form
from lifelora.seeds import generator

ItemForm = Literal["text", "hybrid", "ids", "text-to-hybrid"]
"""One form throughout, or LLaRA's curriculum: the share of hybrid micro-batches grows from none to all."""


def hybrid_share(step: int, planned: int) -> float:
    """LLaRA's curriculum: p(step) = step / (planned - 1), from 0 at the first step of all to 1 at the last."""
    return step / (planned - 1) if planned > 1 else 1.0


def form_at(item_form: ItemForm, seed: int, step: int, planned: int, part: int = 0) -> Form:
    """The form of a micro-batch, the ``part``-th of its step over all processes.

    A step mixes forms, as the authors' steps of 16 micro-batches do. From seed, step and part alone: nothing is remembered, so
    that no epoch, worker or process begins at 0 again (the authors' share never exceeds 1/epochs), and going on after a kill
    gives the same.
    """
    if item_form != "text-to-hybrid":
        return item_form
    drawn = generator(seed, "curriculum", step).random(part + 1)[-1]
    return "hybrid" if drawn < hybrid_share(step, planned) else "text"


def forms_of(item_form: ItemForm) -> tuple[Form, ...]:
    """The forms of all prompts of an ``item_form``."""
    return ("text", "hybrid") if item_form == "text-to-hybrid" else (item_form,)


def form_asked(item_form: ItemForm) -> Form:
    """The form of the questions in an evaluation."""
    return "hybrid" if item_form == "text-to-hybrid" else item_form


@final
@dataclass(frozen=True)
class Curriculum:
    """A ``gather`` for ``training.fit`` that makes every micro-batch in the form that it has."""

    gather: Callable[[Int[np.ndarray, "_"], Form], PersonalBatch]
    item_form: ItemForm
    seed: int

    def at(self, step: int, planned: int, part: int) -> Callable[[Int[np.ndarray, "_"]], PersonalBatch]:
        """Rows to batches at a place of the training."""
        form = form_at(self.item_form, self.seed, step, planned, part)
        return lambda rows_B: self.gather(rows_B, form)
