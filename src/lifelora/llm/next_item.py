"""The LM that is asked what comes next, and how it learns to answer. Knows prompts and vectors, not their makers.

    loss = mean over rows of  -1/A · sum over t of log p(answer_t | prompt, answer_<t),   A: tokens of the row's answer

Every row counts the same, however long its title: a mean over all tokens of the batch (the authors') would give long titles
more, and would not be the mean of its micro-batches' means, which is what the loop adds up.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, cast, final

import numpy as np
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.llm.soft import SoftTokens
from lifelora.lora.adapters import Adapters
from lifelora.prompts.fill import Prompts
from lifelora.prompts.wording.titles import Form
from lifelora.seeds import generator

ItemForm = Literal["text", "hybrid", "ids", "text-to-hybrid"]
"""One form throughout, or LLaRA's curriculum: the share of hybrid micro-batches grows from none to all."""


@dataclass(frozen=True)
class NextItemBatch:
    """Prompts and a vector of each one's person (width 0 where nobody is needed)."""

    prompts: Prompts
    user_BD: Float[Tensor, "B D"]


@final
class NextItemLM(nn.Module):
    """A backbone with adapters in it, asked for a title."""

    def __init__(self, model: nn.Module, adapters: Adapters, soft: SoftTokens | None = None, head: bool = True) -> None:
        """``soft`` makes the soft tokens of prompts that have them; ``head``: whether titles are scored in full precision."""
        super().__init__()
        self.model, self.adapters, self.soft, self.head = model, adapters, soft, head
        self.coupling = adapters.coupling

    def scope(self, batch: NextItemBatch) -> AbstractContextManager[None]:
        """Holds C(u) of the batch's people, for forward and backward."""
        return self.adapters.scope(batch.user_BD)

    def represented(self, batch: NextItemBatch) -> Float[Tensor, "B D"] | None:
        """u of each row; None where the coupling needs no user."""
        return batch.user_BD if self.coupling.config.needs_user else None

    def run(self, prompts: Prompts, **options: Any) -> Any:
        """The model's output for prompts; needs ``scope`` around it.

        Positions count real tokens only, so a row gives the same whatever it is padded to. A prompt of words leaves the
        projector alone: it gets no gradient, not even zeros, which would still move it by its momentum.
        """
        position_BL = (prompts.mask_BL.long().cumsum(dim=1) - 1).clamp(min=0)
        if prompts.soft_BL is None:
            inputs = {"input_ids": prompts.tokens_BL}
        elif self.soft is None:
            raise ConfigError("the prompts have soft tokens, but no item vectors came to make them from; ask with form = 'text'.")
        else:
            embedding = cast(Any, self.model).get_input_embeddings()
            inputs = {"inputs_embeds": self.soft.embed(embedding, prompts.tokens_BL, prompts.soft_BL)}
        return self.model(**inputs, attention_mask=prompts.mask_BL.long(), position_ids=position_BL, **options)

    def loss(self, batch: NextItemBatch) -> Float[Tensor, ""]:
        """Mean over rows of the mean of -log p over the tokens of the answer; needs ``scope(batch)`` around it."""
        answer_BA = batch.prompts.answer_BA
        if answer_BA is None:
            raise ConfigError("there is nothing to learn from a question: give the loss prompts with their answers.")
        A = answer_BA.shape[1]
        # Logits of the last A places and the one before them, of which the very last says what comes after the answer.
        logits_BAV = cast(Tensor, self.run(batch.prompts, logits_to_keep=A + 1, use_cache=False).logits)[:, -A - 1 : -1]
        surprise_BA = F.cross_entropy(logits_BAV.float().transpose(1, 2), batch.prompts.tokens_BL[:, -A:], reduction="none")
        return ((surprise_BA * answer_BA).sum(dim=1) / answer_BA.sum(dim=1)).mean()


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

    gather: Callable[[Int[np.ndarray, "_"], Form], NextItemBatch]
    item_form: ItemForm
    seed: int

    def at(self, step: int, planned: int, part: int) -> Callable[[Int[np.ndarray, "_"]], NextItemBatch]:
        """Rows to batches at a place of the training."""
        form = form_at(self.item_form, self.seed, step, planned, part)
        return lambda rows_B: self.gather(rows_B, form)
