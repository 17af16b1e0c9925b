"""The personal LM that is asked yes or no. Knows prompts and vectors, not their makers.

    p(yes) = exp(s_yes) / (exp(s_yes) + exp(s_no)),   s = the LM's logits where the answer word comes

(ReLLa, section 3), from the two rows of its head in full precision (``llm.head``). The loss is that of instruction tuning:
-log p(answer word) over the whole vocabulary. With ``loss = "yes"`` (CoLLM's code) p(yes) = σ(s_yes), s_no has no part, and the
loss is the binary cross-entropy of that.
"""

from typing import Literal, Unpack, cast, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.llm.head import full_precision
from lifelora.llm.personal import Options, PersonalBatch, PersonalLM
from lifelora.lora.adapters import Adapters
from lifelora.prompts.tree import PromptTrees
from lifelora.prompts.yes_no import Answers

Loss = Literal["answer", "yes"]
"""What is learnt: the answer word among all words, or the logit of yes alone."""


@final
class YesNoLM(PersonalLM):
    """A backbone with adapters in it, asked yes or no."""

    def __init__(
        self,
        model: nn.Module,
        adapters: Adapters,
        answers: Answers,
        *,
        loss: Loss = "answer",
        **options: Unpack[Options],
    ) -> None:
        """As of every PersonalLM; without ``head`` all words are computed where two are asked."""
        super().__init__(model, adapters, **options)
        self.answers, self.learns = answers, loss

    def logits(self, batch: PersonalBatch) -> Float[Tensor, "B V"]:
        """Next-token logits at the end of each prompt or branch; needs ``scope(batch)`` around it."""
        if isinstance(batch.prompts, PromptTrees):
            return self.read(batch).float()
        return cast(Tensor, self.run(batch, logits_to_keep=1, use_cache=False).logits)[:, -1].float()

    def answer_logits(self, batch: PersonalBatch) -> Float[Tensor, "B 2"]:
        """Of yes and no alone, in full precision; needs ``scope(batch)`` around it."""
        two = [self.answers.yes, self.answers.no]
        with full_precision(self.model, two, when=self.head):
            logits_BV = self.logits(batch)
        return logits_BV if logits_BV.shape[1] == len(two) else logits_BV[:, two]

    def loss(self, batch: PersonalBatch) -> Float[Tensor, ""]:
        """Mean of -log p(answer word | prompt) over the vocabulary; or of -y log σ(s_yes) - (1 - y) log(1 - σ(s_yes))."""
        if batch.label_B is None:
            raise ConfigError("the loss needs answers: give it a batch with label_B.")
        if self.learns == "yes":
            return F.binary_cross_entropy_with_logits(self.logits(batch)[:, self.answers.yes], batch.label_B)
        answer_B = torch.where(batch.label_B > 0.5, self.answers.yes, self.answers.no)
        return F.cross_entropy(self.logits(batch), answer_B)

    def score(self, batch: PersonalBatch) -> Float[Tensor, "B"]:
        """P(yes); opens the scope itself."""
        with self.scope(batch):
            yes_B, no_B = self.answer_logits(batch).unbind(dim=1)
        return torch.sigmoid(yes_B if self.learns == "yes" else yes_B - no_B)
