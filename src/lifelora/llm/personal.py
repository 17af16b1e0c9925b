"""The personal LM, whatever it is asked: a frozen backbone whose low-rank updates depend on the user. Knows prompts and vectors.

It is told nothing of who makes the vectors, and its children say what is asked, what is learnt and what is a score.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypedDict, Unpack, cast, runtime_checkable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lifelora.data.dataset import Samples
from lifelora.errors import ConfigError
from lifelora.llm.soft import SoftTokens
from lifelora.llm.trees.layout import Block
from lifelora.llm.trees.reading import read
from lifelora.lora.adapters import Adapters
from lifelora.lora.placed import Parts, Placed
from lifelora.lora.structure import Structure
from lifelora.prompts.fill import Prompts
from lifelora.prompts.tree import PromptTrees
from lifelora.types import Layer

CoupledOn = Literal["prompt", "question"]
"""What C(u) acts on: a whole prompt, or the question alone, so that the trunk is read as the backbone reads it."""


@dataclass(frozen=True)
class Users:
    """What u is made from, alone."""

    user_BD: Float[Tensor, "_ D"]
    samples: Samples | None = None


@dataclass(frozen=True)
class PersonalBatch:
    """Prompts, or trees of them, and what is known of each one's user.

    B is the prompts. Of trees, ``user_BD`` and ``samples`` are about the R trees where C(u) acts on whole prompts or trunks hold
    the question (``PromptTrees.asked_R``), and else about the G branches. ``soft_user_BX`` is about whatever holds the user's
    soft token, trunks that hold the question or else branches; the labels are about the branches.
    """

    prompts: Prompts | PromptTrees
    user_BD: Float[Tensor, "_ D"]
    "u of each row; of width 0 where the coupling needs no user, and where u is made from ``samples``."
    label_B: Float[Tensor, "B"] | None = None
    "Whether the answer is yes, where that is asked."
    samples: Samples | None = None
    "What u is made from, where its maker stands beside the adapters."
    soft_user_BX: Float[Tensor, "B X"] | None = None
    "What the user's soft token is made from; None where there is none."
    prior_B: Float[Tensor, "B"] | None = None
    "log(p / (1 - p)) of a prior's p(yes), to which the LM's is added; about whatever the labels are about."
    C: Structure | None = None
    "C(u) of each row, where it is there already; None: it is made from u, if there is any."


@runtime_checkable
class Representer(Protocol):
    """Makes u of samples, and is a module."""

    def representation(self, batch: Samples, layer: Layer, /) -> Float[Tensor, "B D"]: ...


class Options(TypedDict, total=False):
    """What a personal LM may be given beside a model and its adapters."""

    representer: Representer | None
    "Makes u, by its ``layer``, and learns where it is not frozen; without one u comes with the batch and is as it is."
    layer: Layer
    soft: SoftTokens | None
    "Makes the soft tokens of prompts that have them."
    head: bool
    "Whether the model's head may be read in full precision, and word by word."
    coupling_on: CoupledOn
    early: bool
    "Whether in the last layer those tokens of trees alone may ask after which something is read."


class PersonalLM(nn.Module):
    """A backbone with adapters in it. For ``Learnt`` and an optimiser they have to be in place (``adapters.loaded()``)."""

    def __init__(self, model: nn.Module, adapters: Adapters, **options: Unpack[Options]) -> None:
        """See ``Options``."""
        super().__init__()
        self.representer = options.get("representer")
        self.layer: Layer = options.get("layer", "final")
        self.soft = options.get("soft")
        self.head, self.early = options.get("head", True), options.get("early", True)
        self.coupling_on: CoupledOn = options.get("coupling_on", "prompt")
        self.model = model
        self.coupling = adapters.coupling
        self.adapters = adapters

    def represented(self, batch: PersonalBatch | Users) -> Float[Tensor, "B D"] | None:
        """u of each row; None where the coupling needs no user."""
        if not self.coupling.config.needs_user:
            return None
        if self.representer is None:
            return batch.user_BD
        assert batch.samples is not None
        return self.representer.representation(batch.samples, self.layer)

    def couplings(self, batch: PersonalBatch | Users) -> Structure | None:
        """C(u) of each row, to be kept and used again; None where the coupling needs no user."""
        if isinstance(batch, PersonalBatch) and batch.C is not None:
            return batch.C
        return self.adapters.couplings(self.represented(batch))

    def scope(self, batch: PersonalBatch) -> AbstractContextManager[None]:
        """Holds C(u) of the batch's users, for forward and backward."""
        return self.adapters.holding(self.placed(batch, self.couplings(batch)))

    def placed(self, batch: PersonalBatch, C: Structure | None) -> Structure | None:
        """C(u) where it acts: on all tokens of a row's user, or on those of the questions."""
        prompts = batch.prompts
        if C is None or not C.personal:
            return C
        if isinstance(prompts, PromptTrees):
            of_L = prompts.trees if self.coupling_on == "prompt" else prompts.asking
            count, read_E = int(C.tensor.shape[1]), prompts.reads
            parts = {len(of_X): grouped(of_X, count) for of_X in (of_L[read_E], of_L)}
            return Placed.of(C, parts)
        if self.coupling_on == "prompt":
            return C
        assert prompts.question_B is not None
        B, L = prompts.tokens_BL.shape
        column_L = torch.arange(L, device=prompts.tokens_BL.device)
        row_B = torch.arange(B, device=column_L.device)
        asked_BL = column_L >= L - prompts.question_B[:, None]
        return Placed.of(C, {B * L: grouped(torch.where(asked_BL, row_B[:, None], B).flatten(), B)}, B)

    def run(self, batch: PersonalBatch, **options: Any) -> Any:
        """The model's output for the prompts of a batch; needs ``scope`` around it.

        Positions count real tokens only, so a row gives the same whatever it is padded to.
        """
        prompts = batch.prompts
        assert isinstance(prompts, Prompts)
        position_BL = (prompts.mask_BL.long().cumsum(dim=1) - 1).clamp(min=0)
        inputs = self.inputs(prompts.tokens_BL, prompts.soft_BL, batch.soft_user_BX)
        return self.model(**inputs, attention_mask=prompts.mask_BL.long(), position_ids=position_BL, **options)

    def read(self, batch: PersonalBatch) -> Float[Tensor, "E V"]:
        """The model's logits where something is read of a batch of trees; needs ``scope`` around it."""
        trees = batch.prompts
        assert isinstance(trees, PromptTrees)
        inputs = self.inputs(trees.tokens_L[None], None if trees.soft_L is None else trees.soft_L[None], batch.soft_user_BX)
        return read(self.model, trees, inputs, early=self.early)

    def inputs(
        self, tokens_BL: Int[Tensor, "B L"], soft_BL: Int[Tensor, "B L"] | None, soft_user_BX: Float[Tensor, "_ X"] | None
    ) -> dict[str, Tensor]:
        """What goes into the model.

        A prompt of words leaves the projector alone: it gets no gradient, not even zeros, which would still move it by its
        momentum.
        """
        if soft_BL is None:
            return {"input_ids": tokens_BL}
        if self.soft is None:
            raise ConfigError(
                "the prompts have soft tokens, but no vectors came to make them from: give the LM SoftTokens, or "
                "ask in words alone."
            )
        embedding = cast(Any, self.model).get_input_embeddings()
        return {"inputs_embeds": self.soft.embed(embedding, tokens_BL, soft_BL, soft_user_BX)}


def grouped(of_L: Int[Tensor, "L"], parts: int) -> Parts:
    """Tokens by the part that each is in; a number of ``parts`` or more is of none."""
    block = Block.grouped(of_L.clamp(max=parts), parts + 1)
    width = int(block.real_NX[:parts].sum(dim=1).max()) if parts else 0
    return Parts(block.index_NX[:parts, :width], block.real_NX[:parts, :width])
