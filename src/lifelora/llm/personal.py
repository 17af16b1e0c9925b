"""The personal LM: a frozen backbone whose low-rank updates depend on who is asking. Knows vectors, not their makers.

    p(yes) = exp(s_yes) / (exp(s_yes) + exp(s_no)),   s = the LM's logits where the answer word comes

(ReLLa, section 3), from the two rows of its head in full precision (``llm.head``). The loss is that of instruction tuning:
-log p(answer word) over the whole vocabulary. With ``loss = "yes"`` (CoLLM's code) p(yes) = σ(s_yes), s_no has no part, and the
loss is the binary cross-entropy of that.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from lifelora.data.dataset import Samples
from lifelora.llm.head import full_precision
from lifelora.llm.soft import SoftTokens
from lifelora.lora.adapters import Adapters
from lifelora.prompts.yes_no import Answers
from lifelora.types import Layer

Loss = Literal["answer", "yes"]
"""What is learnt: the answer word among all words, or the logit of yes alone."""


@dataclass(frozen=True)
class PersonalBatch:
    """Left-padded prompts, their labels, and a vector of each one's person (width 0 where nobody is needed)."""

    tokens_BL: Int[Tensor, "B L"]
    mask_BL: Bool[Tensor, "B L"]
    label_B: Float[Tensor, "B"]
    user_BD: Float[Tensor, "B D"]
    soft_BL: Int[Tensor, "B L"] | None = None
    "The item of each soft token, or USER, and -1 at every other place; None for prompts of words alone."
    samples: Samples | None = None
    "What u is made from, where its maker stands beside the adapters; then ``user_BD`` has width 0."
    soft_user_BX: Float[Tensor, "B X"] | None = None
    "What the user's soft token is made from; None where there is none."


@runtime_checkable
class Represents(Protocol):
    """Makes u of samples, and is a module."""

    def representation(self, batch: Samples, layer: Layer, /) -> Float[Tensor, "B D"]: ...


class PersonalLM(nn.Module):
    """A backbone with adapters in it, asked yes or no."""

    def __init__(
        self, model: nn.Module, adapters: Adapters, answers: Answers, representer: Represents | None = None,
        soft: SoftTokens | None = None, layer: Layer = "final", loss: Loss = "answer", head: bool = True,
    ) -> None:
        """``encoder`` makes u, by its ``layer``, and learns, too, where it is not frozen; its dropout is on while the LM learns.

        Without one u comes with the batch and is as it is.

        ``soft`` makes the soft tokens of prompts that have them. Without ``head`` all words are computed where two are asked.
        """
        super().__init__()
        self.head = head
        self.representer, self.layer, self.soft = representer, layer, soft
        self.model = model
        self.coupling = adapters.coupling
        self.adapters = adapters
        self.answers = answers
        self.learns = loss

    def scope(self, batch: PersonalBatch) -> AbstractContextManager[None]:
        """Holds C(u) of the batch's people, for forward and backward."""
        return self.adapters.scope(self.represented(batch))

    def represented(self, batch: PersonalBatch) -> Float[Tensor, "B D"] | None:
        """u of each row; None where the coupling needs nobody."""
        if not self.coupling.config.needs_user:
            return None
        if self.representer is None:
            return batch.user_BD
        assert batch.samples is not None
        return self.representer.representation(batch.samples, self.layer)

    def embedding(self) -> nn.Module:
        """The LM's table of word embeddings."""
        model: Any = self.model
        return cast(nn.Module, model.get_input_embeddings())

    def logits(self, batch: PersonalBatch) -> Float[Tensor, "B V"]:
        """Next-token logits at the end of each prompt; needs ``scope(batch)`` around it.

        Positions count real tokens only, so a row gives the same whatever it is padded to.
        """
        position_BL = (batch.mask_BL.long().cumsum(dim=1) - 1).clamp(min=0)
        if self.soft is None:
            inputs = {"input_ids": batch.tokens_BL}
        else:
            assert batch.soft_BL is not None
            inputs = {"inputs_embeds": self.soft.embed(self.embedding(), batch.tokens_BL, batch.soft_BL, batch.soft_user_BX)}
        output = self.model(
            **inputs, attention_mask=batch.mask_BL.long(), position_ids=position_BL,
            logits_to_keep=1, use_cache=False,
        )
        return cast(Tensor, output.logits)[:, -1].float()

    def answer_logits(self, batch: PersonalBatch) -> Float[Tensor, "B 2"]:
        """Of yes and no alone, in full precision; needs ``scope(batch)`` around it."""
        two = [self.answers.yes, self.answers.no]
        with full_precision(self.model, two, when=self.head):
            logits_BV = self.logits(batch)
        return logits_BV if logits_BV.shape[1] == len(two) else logits_BV[:, two]

    def loss(self, batch: PersonalBatch) -> Float[Tensor, ""]:
        """Mean of -log p(answer word | prompt) over the vocabulary; or of -y log σ(s_yes) - (1 - y) log(1 - σ(s_yes))."""
        if self.learns == "yes":
            return F.binary_cross_entropy_with_logits(self.logits(batch)[:, self.answers.yes], batch.label_B)
        answer_B = torch.where(batch.label_B > 0.5, self.answers.yes, self.answers.no)
        return F.cross_entropy(self.logits(batch), answer_B)

    def score(self, batch: PersonalBatch) -> Float[Tensor, "B"]:
        """P(yes); opens the scope itself."""
        with self.scope(batch):
            yes_B, no_B = self.answer_logits(batch).unbind(dim=1)
        return torch.sigmoid(yes_B if self.learns == "yes" else yes_B - no_B)
