"""The personal LM that is asked what comes next, and how it learns to answer. Knows prompts and vectors, not their makers.

    loss = mean over rows of  -1/A · sum over t of log p(answer_t | prompt, answer_<t),   A: tokens of the row's answer

Every row counts the same, however long its title: a mean over all tokens of the batch (the authors') would give long titles
more, and would not be the mean of its micro-batches' means, which is what the loop adds up.
"""

from typing import cast, final

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from lifelora.errors import ConfigError
from lifelora.llm.personal import PersonalBatch, PersonalLM
from lifelora.prompts.fill import Prompts
from lifelora.prompts.tree import PromptTrees


@final
class TitleLM(PersonalLM):
    """A backbone with adapters in it, asked for a title; ``likelihoods`` and ``search`` ask it."""

    def loss(self, batch: PersonalBatch) -> Float[Tensor, ""]:
        """Mean over rows or branches of the mean of -log p over the tokens of the answer; needs ``scope(batch)`` around it."""
        prompts = batch.prompts
        if (prompts.answer_BA if isinstance(prompts, Prompts) else prompts.answer_G) is None:
            raise ConfigError("the loss needs answers: give it prompts with their answers.")
        return self._of_rows(batch, prompts) if isinstance(prompts, Prompts) else self._of_branches(batch, prompts)

    def _of_rows(self, batch: PersonalBatch, prompts: Prompts) -> Float[Tensor, ""]:
        answer_BA = prompts.answer_BA
        assert answer_BA is not None
        A = answer_BA.shape[1]
        # Logits of the last A places and the one before them, of which the very last says what comes after the answer.
        logits_BAV = cast(Tensor, self.run(batch, logits_to_keep=A + 1, use_cache=False).logits)[:, -A - 1 : -1]
        surprise_BA = F.cross_entropy(logits_BAV.float().transpose(1, 2), prompts.tokens_BL[:, -A:], reduction="none")
        return ((surprise_BA * answer_BA).sum(dim=1) / answer_BA.sum(dim=1)).mean()

    def _of_branches(self, batch: PersonalBatch, trees: PromptTrees) -> Float[Tensor, ""]:
        assert trees.answer_G is not None
        branch_E, token_E = trees.answers
        surprise_E = F.cross_entropy(self.read(batch).float(), token_E, reduction="none")
        return (surprise_E / trees.answer_G[branch_E]).sum() / len(trees)
