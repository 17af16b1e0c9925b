"""The personal LM that is asked yes or no. Knows prompts and vectors, not their makers.

    p(yes) = exp(s_yes) / (exp(s_yes) + exp(s_no)),   s = the LM's logits where the answer word comes

(ReLLa, section 3), from the two rows of its head in full precision (``llm.head``). The loss is that of instruction tuning:
-log p(answer word) over the whole vocabulary. With ``loss = "yes"`` (CoLLM's code) p(yes) = σ(s_yes), s_no has no part, and the
loss is the binary cross-entropy of that. With a ``Prior``, a frozen model whose p_prior comes with the batch,

    p(yes) = σ(log(p_prior / (1 - p_prior)) + α (s_yes - s_no - m) + β),   m the mean of s_yes - s_no before training

and the loss is the binary cross-entropy of that (``Prior.loss``), so that the LM learns what is left to say.
"""

from contextlib import AbstractContextManager
from typing import Literal, Unpack, cast, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.llm.head import full_precision
from lifelora.llm.personal import Options, PersonalBatch, PersonalLM
from lifelora.llm.stretches import Stretches
from lifelora.llm.trunk import MEMORY, Trunk
from lifelora.lora.adapters import Adapters
from lifelora.prompts.tree import PromptTrees
from lifelora.prompts.yes_no import Answers

Loss = Literal["answer", "yes"]
"""What is learnt: the answer word among all words, or the logit of yes alone."""
SPEED = 10.0
"""By which α and β are quicker than a weight."""


@final
class Prior(nn.Module):
    """log(p_prior / (1 - p_prior)) + α (s - m) + β. α and β start at zero: before the first step it is the prior.

    A and B learn what is left to say as if α were 1 and β 0; α and β learn how much of that to trust. With one loss for all, A
    and B have α times that gradient: where α is small its sign turns them around each time, and s grows without an end, since
    Adam divides by the size (studies/unfitted: α .005 after 250 steps). m is there for the sign of α, whose gradient is the mean
    of (p - y)(s - m): an LM that likes one word better, whatever it is asked, would give it the sign of the mean of p - y. α and
    β are ``SPEED`` times what is learnt, as Adam moves each weight by the learning rate a step, and α has the way to 1 before it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Parameter(torch.zeros(())), nn.Parameter(torch.zeros(()))
        self.m: Tensor
        self.register_buffer("m", torch.zeros(()))

    def forward(self, prior_B: Float[Tensor, "B"], s_B: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        return prior_B + SPEED * self.a * (s_B - self.m) + SPEED * self.b

    def loss(self, prior_B: Float[Tensor, "B"], s_B: Float[Tensor, "B"], label_B: Float[Tensor, "B"]) -> Float[Tensor, ""]:
        """Of the sum; its gradient reaches α and β, and that of α = 1 and β = 0 what s is made of."""
        of_sum = F.binary_cross_entropy_with_logits(self(prior_B, s_B.detach()), label_B)
        of_s = F.binary_cross_entropy_with_logits(prior_B + s_B - self.m, label_B)
        return of_sum + (of_s - of_s.detach())


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
        prior: Prior | None = None,
        **options: Unpack[Options],
    ) -> None:
        """As of every PersonalLM; without ``head`` all words are computed where two are asked. A ``prior`` has its own loss."""
        super().__init__(model, adapters, **options)
        self.answers, self.learns, self.prior = answers, loss, prior

    def logits(self, batch: PersonalBatch) -> Float[Tensor, "B V"]:
        """Next-token logits at the end of each prompt or branch; needs ``scope(batch)`` around it."""
        if isinstance(batch.prompts, PromptTrees):
            return self.read(batch).float()
        return cast(Tensor, self.run(batch, logits_to_keep=1, use_cache=False).logits)[:, -1].float()

    def answer_logits(self, batch: PersonalBatch) -> Float[Tensor, "B 2"]:
        """Of yes and no alone, in full precision; needs ``scope(batch)`` around it."""
        with self._two():
            return self._of_two(self.logits(batch))

    def _two(self) -> AbstractContextManager[None]:
        return full_precision(self.model, [self.answers.yes, self.answers.no], when=self.head)

    def _of_two(self, logits_BV: Float[Tensor, "B V"]) -> Float[Tensor, "B 2"]:
        return logits_BV if logits_BV.shape[1] == 2 else logits_BV[:, [self.answers.yes, self.answers.no]]

    def loss(self, batch: PersonalBatch) -> Float[Tensor, ""]:
        """Mean of -log p(answer word | prompt) over the vocabulary; or of -y log σ(z) - (1 - y) log(1 - σ(z)), z being s_yes, or
        with a prior what its p(yes) is the sigmoid of (``Prior.loss``)."""
        if batch.label_B is None:
            raise ConfigError("the loss needs answers: give it a batch with label_B.")
        if self.prior is not None:
            made: Tensor = self.prior.loss(_given(batch), self.own_logit(batch), batch.label_B)
            return made
        if self.learns == "yes":
            return F.binary_cross_entropy_with_logits(self.logits(batch)[:, self.answers.yes], batch.label_B)
        answer_B = torch.where(batch.label_B > 0.5, self.answers.yes, self.answers.no)
        return F.cross_entropy(self.logits(batch), answer_B)

    def score(self, batch: PersonalBatch) -> Float[Tensor, "B"]:
        """P(yes); opens the scope itself."""
        with self.scope(batch):
            return torch.sigmoid(self.logit(batch))

    @torch.no_grad()
    def score_after(self, trunk: Trunk, batch: PersonalBatch, memory: int = MEMORY) -> Float[Tensor, "B"]:
        """``score`` of trees whose trunks were read before, one for each tree: only their branches are read."""
        with self._two():
            logits_BV = torch.cat([logits_EV for _, logits_EV in trunk.ask(Stretches.of(self, batch), memory=memory)])
        return torch.sigmoid(self._with_prior(self._own(self._of_two(logits_BV.float())), batch))

    def logit(self, batch: PersonalBatch) -> Float[Tensor, "B"]:
        """log(p / (1 - p)) of p(yes); needs ``scope(batch)`` around it."""
        return self._with_prior(self.own_logit(batch), batch)

    def own_logit(self, batch: PersonalBatch) -> Float[Tensor, "B"]:
        """The same without a prior."""
        return self._own(self.answer_logits(batch))

    def _own(self, answer_B2: Float[Tensor, "B 2"]) -> Float[Tensor, "B"]:
        yes_B, no_B = answer_B2.unbind(dim=1)
        return yes_B if self.learns == "yes" else yes_B - no_B

    def _with_prior(self, own_B: Float[Tensor, "B"], batch: PersonalBatch) -> Float[Tensor, "B"]:
        if self.prior is None:
            return own_B
        made: Tensor = self.prior(_given(batch), own_B)
        return made


def _given(batch: PersonalBatch) -> Float[Tensor, "B"]:
    if batch.prior_B is None:
        raise ConfigError("the LM adds to a prior, and the batch brings none: give it one with prior_B.")
    return batch.prior_B
