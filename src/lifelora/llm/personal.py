"""The personal LM, whatever it is asked: a frozen backbone whose low-rank updates depend on the user. Knows prompts and vectors.

It is told nothing of who makes the vectors, and its children say what is asked, what is learnt and what is a score.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, cast, runtime_checkable

from jaxtyping import Float
from torch import Tensor, nn

from lifelora.data.dataset import Samples
from lifelora.errors import ConfigError
from lifelora.llm.soft import SoftTokens
from lifelora.lora.adapters import Adapters
from lifelora.lora.structure import Structure
from lifelora.prompts.fill import Prompts
from lifelora.types import Layer


@dataclass(frozen=True)
class PersonalBatch:
    """Prompts, and what is known of each one's user."""

    prompts: Prompts
    user_BD: Float[Tensor, "B D"]
    "u of each row; of width 0 where the coupling needs no user, and where u is made from ``samples``."
    label_B: Float[Tensor, "B"] | None = None
    "Whether the answer is yes, where that is asked."
    samples: Samples | None = None
    "What u is made from, where its maker stands beside the adapters."
    soft_user_BX: Float[Tensor, "B X"] | None = None
    "What the user's soft token is made from; None where there is none."


@runtime_checkable
class Representer(Protocol):
    """Makes u of samples, and is a module."""

    def representation(self, batch: Samples, layer: Layer, /) -> Float[Tensor, "B D"]: ...


class PersonalLM(nn.Module):
    """A backbone with adapters in it. For ``Learnt`` and an optimiser they have to be in place (``adapters.loaded()``)."""

    def __init__(
        self,
        model: nn.Module,
        adapters: Adapters,
        *,
        representer: Representer | None = None,
        layer: Layer = "final",
        soft: SoftTokens | None = None,
        head: bool = True,
    ) -> None:
        """``representer`` makes u, by its ``layer``; without one u comes with the batch and is as it is.

        It learns, too, where it is not frozen, and its dropout is on while the LM learns. ``soft`` makes the soft tokens of
        prompts that have them. Without ``head`` the model's head is never read in full precision, nor word by word.
        """
        super().__init__()
        self.representer, self.layer, self.soft, self.head = representer, layer, soft, head
        self.model = model
        self.coupling = adapters.coupling
        self.adapters = adapters

    def represented(self, batch: PersonalBatch) -> Float[Tensor, "B D"] | None:
        """u of each row; None where the coupling needs no user."""
        if not self.coupling.config.needs_user:
            return None
        if self.representer is None:
            return batch.user_BD
        assert batch.samples is not None
        return self.representer.representation(batch.samples, self.layer)

    def couplings(self, batch: PersonalBatch) -> Structure | None:
        """C(u) of each row, to be kept and used again; None where the coupling needs no user."""
        return self.adapters.couplings(self.represented(batch))

    def scope(self, batch: PersonalBatch) -> AbstractContextManager[None]:
        """Holds C(u) of the batch's users, for forward and backward."""
        return self.adapters.holding(self.couplings(batch))

    def run(self, batch: PersonalBatch, **options: Any) -> Any:
        """The model's output for the prompts of a batch; needs ``scope`` around it.

        Positions count real tokens only, so a row gives the same whatever it is padded to. A prompt of words leaves the
        projector alone: it gets no gradient, not even zeros, which would still move it by its momentum.
        """
        prompts = batch.prompts
        position_BL = (prompts.mask_BL.long().cumsum(dim=1) - 1).clamp(min=0)
        if prompts.soft_BL is None:
            inputs = {"input_ids": prompts.tokens_BL}
        elif self.soft is None:
            raise ConfigError(
                "the prompts have soft tokens, but no vectors came to make them from: give the LM SoftTokens, or "
                "ask in words alone."
            )
        else:
            embedding = cast(Any, self.model).get_input_embeddings()
            inputs = {"inputs_embeds": self.soft.embed(embedding, prompts.tokens_BL, prompts.soft_BL, batch.soft_user_BX)}
        return self.model(**inputs, attention_mask=prompts.mask_BL.long(), position_ids=position_BL, **options)
