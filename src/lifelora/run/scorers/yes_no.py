"""A language model that is asked whether the user would like an item: its scores are P(yes). Knows prompts, no other question."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float, Int

from lifelora.llm.backbone import Backbone
from lifelora.llm.cost import Cost
from lifelora.llm.personal import PersonalBatch, Representer
from lifelora.llm.soft import SoftTokens
from lifelora.llm.yes_no import Prior, YesNoLM
from lifelora.lora.adapters import Adapters
from lifelora.prompts.fill import Prompts
from lifelora.prompts.lines.yes_no import YesNoLines
from lifelora.prompts.tree import PromptTrees
from lifelora.prompts.unnamed import UNNAMED
from lifelora.prompts.yes_no import YesNoBuilder, find_answers
from lifelora.retrieval.select import Selector
from lifelora.run.scorers import prior
from lifelora.run.scorers.base import Requests
from lifelora.run.scorers.keeper import of_trunks
from lifelora.run.scorers.language import LanguageScorer
from lifelora.run.scorers.like import LikeModel
from lifelora.run.scorers.shown import Shown
from lifelora.scoring.batches import Scores, in_trees
from lifelora.tensors import to_device

SHORTLIST = 100
"How many candidates a recommendation takes from the retriever."
MEASURED = 128
"Training samples, evenly spaced, whose prompts tell what an LM says before it learns, where it adds to a prior."


class YesNo(LanguageScorer[YesNoLM]):
    """One system, asked yes or no."""

    shortlist = SHORTLIST

    @property
    def prior(self) -> LikeModel | None:
        """The model whose logit its own is added to."""
        assert isinstance(self.parents.prior, LikeModel | None)
        return self.parents.prior

    @property
    def builder(self) -> YesNoBuilder:
        """What writes its prompts."""
        return self.context.reading(("prompts", self.name), self.in_prompts, self._builder)

    def _builder(self) -> YesNoBuilder:
        context, system = self.context, self.system
        tokenizer = context.backbone.tokenizer
        at = () if system.soft is None else system.soft.at
        lines, answers = context.lines(
            ("yes/no", system.template, frozenset(at), system.control == UNNAMED),
            lambda: (YesNoLines.build(self.in_prompts, system.template, tokenizer, at), find_answers(tokenizer, system.template)),
        )
        return YesNoBuilder(self.in_prompts, lines, answers, self.max_tokens, at)

    @property
    def highest(self) -> int:
        return self.builder.highest

    def personal(
        self, backbone: Backbone, adapters: Adapters, representer: Representer | None, soft: SoftTokens | None
    ) -> YesNoLM:
        return YesNoLM(
            backbone.model,
            adapters,
            self.builder.answers,
            representer=representer,
            layer=self.layer,
            soft=soft,
            loss=self.system.loss,
            prior=None if self.prior is None else Prior(),
            head=backbone.head,
            coupling_on=self.system.coupling_on,
            early=backbone.early,
        )

    @property
    def _learnt_from(self) -> Int[np.ndarray, "N"]:
        return self.context.training_samples(self.system.train_samples, self.system.block)

    def requests_of_training(self) -> Requests:
        return Requests(self.context.dataset.targets(self._learnt_from))

    def begin(self, lm: YesNoLM, shown: Shown) -> None:
        if lm.prior is None:
            return
        some = np.unique(np.linspace(0, len(shown) - 1, MEASURED).astype(np.int64))
        lm.to(self.context.device).eval()
        with torch.no_grad():
            batches = [to_device(self.batch(shown, part), self.context.device) for part in some[:, None]]
            lm.prior.m.copy_(torch.cat([self._own(lm, batch) for batch in batches]).mean())

    def _own(self, lm: YesNoLM, batch: PersonalBatch) -> Float[torch.Tensor, "B"]:
        with lm.scope(batch):
            return lm.own_logit(batch)

    def notes(self) -> list[str]:
        said = "" if self.prior is None else prior.note(self.name, self.prior, self._learnt_from)
        return [said] * bool(said)

    def show(self, requests: Requests, behaviours: Selector.Config | None = None) -> Shown:
        shown = super().show(requests, behaviours)
        return shown if self.prior is None else replace(shown, prior_N=self.prior.prior(requests.targets))

    def prompts(self, shown: Shown, index_B: Int[np.ndarray, "B"]) -> Prompts:
        return self.builder.build(shown.requests.targets.at(index_B), shown.chosen_NK[index_B], shown.mask_NK[index_B])

    def kept(self, shown: Shown, index_B: Int[np.ndarray, "B"]) -> Int[np.ndarray, "B"]:
        return self.builder.kept(shown.requests.targets.at(index_B), shown.chosen_NK[index_B], shown.mask_NK[index_B])

    def batch(self, shown: Shown, index_B: Int[np.ndarray, "B"]) -> PersonalBatch:
        if shown.trunk_N is None:
            return super().batch(shown, index_B)
        asked = shown.requests.targets.at(index_B), shown.chosen_NK[index_B], shown.mask_NK[index_B], shown.trunk_N[index_B]
        return shown.batch(self.builder.trees(*asked), index_B)

    def in_batches(self, shown: Shown, score: Callable[[Int[np.ndarray, "B"]], Scores], said: str | None) -> Scores:
        if shown.trunk_N is None:
            return super().in_batches(shown, score, said)
        lengths = self.builder.tree_lengths(shown.requests.targets, shown.chosen_NK, shown.mask_NK, shown.trunk_N)
        return in_trees(*lengths, score, tokens=self.tokens_at_once, said=said, progress=self.context.shows_progress)

    def lengths(self, shown: Shown) -> Int[np.ndarray, "N"]:
        return self.builder.lengths(shown.requests.targets, shown.chosen_NK, shown.mask_NK)

    def batches(self, shown: Shown, cost: Cost) -> Callable[[Int[np.ndarray, "B"]], PersonalBatch]:
        return lambda index_B: cost.counting(self.batch(shown, index_B))

    def score(self, requests: Requests, said: str | None = None) -> Float[np.ndarray, "N C"]:
        shown, lm, device = self.asked(requests), self.lm, self.context.device

        cost = Cost()

        def scored(index_B: Int[np.ndarray, "B"]) -> Float[np.ndarray, "B"]:
            batch = self.ready(shown, index_B, cost)
            if self.keeper is None or not isinstance(batch.prompts, PromptTrees):
                made = lm.score(batch)
            else:
                trunk, kept = self.keeper.trunk(self.name, lm, batch, of_trunks(self.system, shown, index_B, batch.prompts))
                cost.tokens -= kept
                made = lm.score_after(trunk, batch)
            score_B: np.ndarray = made.double().cpu().numpy()
            return score_B

        lm.eval()
        with lm.adapters.loaded(), torch.inference_mode(), cost.clock(device):
            scores_N: np.ndarray = self.in_batches(shown, scored, said)
        self._spent.add(cost.of_all())
        return scores_N[:, None]

    def reads(self) -> str:
        reads, soft, parent = super().reads(), self.system.soft, self.parents.soft
        if soft is not None and parent is not None:
            layer = soft.layer if "user" in soft.at else "final"
            reads += f"; soft tokens of {' and '.join(soft.at)} {parent.from_(layer)}"
        if self.prior is not None:
            reads += f"; {prior.told(self.prior, self._learnt_from, self.stage.require())}"
        return reads
