"""A language model with adapters in a run, whatever it is asked: what it is shown, its u, its training. Knows no question.

The backbone is the run's only one: a scorer puts its adapters in while it is at work, and takes them out again.
"""

from abc import abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from lifelora import seeds
from lifelora.data.dataset import Dataset
from lifelora.llm.backbone import Backbone
from lifelora.llm.cost import Cost
from lifelora.llm.personal import PersonalBatch, Representer
from lifelora.llm.soft import SoftTokens
from lifelora.lora.adapters import Adapters
from lifelora.lora.inject import personalise
from lifelora.lora.saved import save, tensors
from lifelora.lora.structure import Structure
from lifelora.lora.summary import summarise
from lifelora.prompts.fill import Prompts
from lifelora.recipe.system import Representation, System
from lifelora.retrieval.growing import blocks
from lifelora.retrieval.select import Selector
from lifelora.retrieval.shuffled import SHUFFLED
from lifelora.run.context import Context
from lifelora.run.scorers import described
from lifelora.run.scorers.base import MODEL, Requests, Scorer, Validate
from lifelora.run.scorers.conventional import ConventionalScorer
from lifelora.run.scorers.costs import TRAINING, keep_costs
from lifelora.run.scorers.keeper import Keeper, as_of
from lifelora.run.scorers.seen import seen, shown_in_words, soft_tokens, width
from lifelora.run.scorers.sharing import may_share, room, tell, trunks, why_apart
from lifelora.run.scorers.shown import Shown
from lifelora.run.scorers.start import ADAPTER, start
from lifelora.scoring.batches import Scores, in_batches
from lifelora.stage import Stage
from lifelora.tensors import to_device
from lifelora.tokens import check_fits
from lifelora.training import fit
from lifelora.training.checkpoint import Learnt
from lifelora.types import Layer

SUMMED_UP = 32
"Validation samples over which the effective rank of updates is measured."
LM = TypeVar("LM", bound=Any)


@dataclass(frozen=True)
class Parents:
    """What a system takes from other scorers of its run."""

    representation: ConventionalScorer | None = None
    soft: ConventionalScorer | None = None
    prior: ConventionalScorer | None = None
    retriever: ConventionalScorer | None = None
    init_from: "LanguageScorer[Any] | None" = None


class LanguageScorer(Scorer, Generic[LM]):
    """One system of a recipe."""

    family = "language model"
    keeper: Keeper | None = None
    "What keeps trunks, u and C(u) from one request to the next; None: each is made anew."

    def __init__(self, context: Context, name: str, stage: Stage, system: System, parents: Parents) -> None:
        super().__init__(context, name, stage)
        self.system, self.parents = system, parents
        self.retriever = parents.retriever
        self.last: Shown | None = None
        self._spent = Cost()

    @property
    def validation_count(self) -> int | None:
        return self.system.validation_samples

    @property
    def sees_target(self) -> bool:
        return self.system.behaviours.needs_target or self.u_sees_target

    @property
    def u_sees_target(self) -> bool:
        """Whether u depends on the target, and with it C(u)."""
        found, parent = self.system.representation, self.parents.representation
        return isinstance(found, Representation) and parent is not None and parent.sees_target_by(found.layer)

    @property
    def layer(self) -> Layer:
        """The layer by which a representer beside the adapters makes u."""
        found = self.system.representation
        return found.layer if isinstance(found, Representation) else "final"

    @property
    @abstractmethod
    def highest(self) -> int:
        """The highest number of a token that its prompts can have; they are tokenised for it."""

    @abstractmethod
    def personal(self, backbone: Backbone, adapters: Adapters, representer: Representer | None, soft: SoftTokens | None) -> LM:
        """The backbone with adapters in the form in which it is asked."""

    @abstractmethod
    def prompts(self, shown: Shown, index_B: Int[np.ndarray, "B"]) -> Prompts:
        """The prompts of some requests, as they are scored."""

    @abstractmethod
    def kept(self, shown: Shown, index_B: Int[np.ndarray, "B"]) -> Int[np.ndarray, "B"]:
        """How many of the chosen behaviours find room in these prompts."""

    def batch(self, shown: Shown, index_B: Int[np.ndarray, "B"]) -> PersonalBatch:
        """The prompts of some requests, as they are scored, with what is known of their users."""
        return shown.batch(self.prompts(shown, index_B), index_B)

    @abstractmethod
    def lengths(self, shown: Shown) -> Int[np.ndarray, "N"]:
        """The tokens of each request's prompt, as it is scored."""

    @property
    def apart(self) -> str:
        """Why its prompts share nothing that is read; empty where they do if they can."""
        return why_apart(self.system, self.u_sees_target, self.context.backbone, self.context.options.trees)

    @property
    def in_prompts(self) -> Dataset:
        """The data set as its prompts tell it."""
        return self.context.in_prompts(self.system.control)

    @property
    def tokens_at_once(self) -> int:
        """Prompts times the longest of them, in tokens, that are asked at a time."""
        return self.context.tokens_at_once

    def in_batches(self, shown: Shown, score: Callable[[Int[np.ndarray, "B"]], Scores], said: str | None) -> Scores:
        """What ``score`` says of all requests, as many at a time as the memory bears."""
        return in_batches(self.lengths(shown), score, tokens=self.tokens_at_once, said=said, progress=self.context.shows_progress)

    @abstractmethod
    def batches(self, shown: Shown, cost: Cost) -> Any:
        """What ``training.fit`` makes batches with; what is read goes to ``cost``."""

    def check(self) -> None:
        check_fits(self.highest, self.context.backbone.model, self.context.backbone.tokenizer)

    @property
    def max_tokens(self) -> int:
        """The longest prompt, in tokens."""
        return min(self.system.max_tokens, self.context.backbone.context)

    def untrained(self) -> LM:
        """As training finds it, but for the LoRA that it starts from, with its adapters taken out of the backbone."""
        context, system, backbone = self.context, self.system, self.context.backbone
        self.check()
        representer = None
        if isinstance(system.representation, Representation) and system.representation.train != "frozen":
            assert self.parents.representation is not None
            representer = self.parents.representation.representer(
                system.representation.layer, learns=system.representation.train == "joint"
            )
        soft = soft_tokens(context, self.name, system, self.parents.soft, backbone)
        generator = seeds.torch_generator(context.recipe.seed, "adapters", self.name)
        adapters = personalise(backbone.model, system, user_width=width(system, self.parents.representation), generator=generator)
        adapters.unload()
        return self.personal(backbone, adapters, representer, soft)

    @cached_property
    def lm(self) -> LM:
        """As it was trained, with its adapters taken out."""
        folder, lm = self.stage.require(), self.untrained()
        with lm.adapters.loaded():
            Learnt(lm).read(folder / MODEL)
            lm.adapters.load_state(tensors(folder / ADAPTER))  # A and B may have been frozen
            lm.to(self.context.device).eval()
        return lm

    def train(self, folder: Path, validate: Validate) -> None:
        """Learn from the training samples, or, without any, stay as it is."""
        context, system = self.context, self.system
        drawn = self.requests_of_training()
        shown = self.show(drawn)
        if system.mix_with is not None:
            shown = shown.mixed(self.show(drawn, system.mix_with))
        self.lm = lm = self.untrained()
        start(lm.adapters, system, self.parents.init_from)
        with lm.adapters.loaded():
            if context.options.checkpointing:
                lm.adapters.enable_checkpointing()
            if len(shown):
                if system.block is not None:
                    tell(folder, shown.trunk_N, self.apart)
                self.begin(lm, shown)
                cost = Cost()
                with cost.clock(context.device):
                    fit(
                        lm,
                        np.arange(len(shown)),
                        self.batches(shown, cost),
                        cost.uncounted(validate, context.device),
                        system.training,
                        folder,
                        context.recipe.seed,
                        together_N=None if system.block is None else blocks(shown.requests.targets, system.block),
                        name=self.name,
                        device=context.device,
                        progress=context.shows_progress,
                    )
                cost = cost.of_all()
                if cost.samples:  # none where a kill came after the last step
                    keep_costs(folder, {TRAINING: cost}, cost.samples)
            else:
                learnt = Learnt(lm.to(context.device).eval())
                learnt.write(folder / MODEL, learnt.copy())
            save(lm.adapters, folder / ADAPTER, context.base_model)
            some = self.show(self.some_requests(SUMMED_UP))
            described.keep(folder, summarise(lm.adapters, self.represented(some, np.arange(len(some)))))

    def begin(self, lm: LM, shown: Shown) -> None:
        """Measure what training needs to know of the model before its first step, its adapters being in place."""

    @abstractmethod
    def requests_of_training(self) -> Requests:
        """The samples that it learns from."""

    def some_requests(self, count: int) -> Requests:
        """The first of its validation samples."""
        rows = self.context.validation_samples(self.system.validation_samples)[:count]
        return Requests(self.context.dataset.targets(rows), self.context.candidates("valid", rows))

    def show(self, requests: Requests, behaviours: Selector.Config | None = None) -> Shown:
        """Requests as the system sees them, or with other behaviours than its own."""
        system = self.system
        shown = seen(self.context, system, self.parents.representation, self.parents.soft, requests, behaviours, self.keeper)
        if system.control == SHUFFLED:
            shown = shown.shuffled(room(shown, self.kept), self.context.recipe.seed)
        if behaviours is not None or not may_share(shown, system.block) or self.apart:
            return shown
        return replace(shown, trunk_N=trunks(shown, system.block, self.kept, alone=self.keeper is not None))

    def asked(self, requests: Requests) -> Shown:
        """``show``, which is not done again for the requests that came last: validation asks the same again and again."""
        if self.last is None or self.last.requests is not requests:
            self.last = self.show(requests)
        return self.last

    def represented(self, shown: Shown, index_B: Int[np.ndarray, "B"]) -> Float[Tensor, "B D"] | None:
        """u of some requests, on the run's device; None where the coupling needs no user."""
        with torch.no_grad():
            made: Tensor | None = self.lm.represented(to_device(shown.users(index_B), self.context.device))
        return made

    def couplings(self, shown: Shown, index_B: Int[np.ndarray, "B"]) -> Structure | None:
        """C(u) of some requests, on the run's device, kept where it knows no target; None where the coupling needs no user."""

        if not self.system.coupling.needs_user:
            return None

        def make(index_N: Int[np.ndarray, "N"]) -> Structure:
            with torch.no_grad():
                made: Structure = self.lm.couplings(to_device(shown.users(index_N), self.context.device))
            return made

        if self.keeper is None or self.u_sees_target:
            return make(index_B)
        whose = as_of((shown.known or shown.requests.targets).at(index_B))
        return self.keeper.couplings(self.name, whose, lambda place_N: make(index_B[place_N]))

    def ready(self, shown: Shown, index_B: Int[np.ndarray, "B"], cost: Cost | None = None) -> PersonalBatch:
        """The prompts of some requests on the run's device, to be scored, with what is kept of their users."""
        batch = self.batch(shown, index_B)
        C = None if self.keeper is None else self.couplings(shown, shown.coupled(batch.prompts, index_B))
        return replace(to_device(batch if cost is None else cost.counting(batch), self.context.device), C=C)

    def spent(self) -> Cost:
        return replace(self._spent)

    def chosen(self, requests: Requests) -> tuple[str, Sequence[Int[np.ndarray, "_"]]]:
        shown = self.asked(requests)
        return shown_in_words(self.system), [row_K[mask_K] for row_K, mask_K in zip(shown.chosen_NK, shown.mask_NK, strict=True)]

    def shown(self, requests: Requests) -> Sequence[Int[np.ndarray, "_"]]:
        shown = self.asked(requests)
        room_N = self.kept(shown, np.arange(len(requests))).tolist()
        return [
            row_K[mask_K][max(0, int(mask_K.sum()) - room) :]
            for row_K, mask_K, room in zip(shown.chosen_NK, shown.mask_NK, room_N, strict=True)
        ]

    def reads(self) -> str:
        return described.reads(self.context, self.system, self.parents.representation, self.stage.require())

    def facts(self) -> list[tuple[str, str]]:
        return described.facts(self.name, self.system, self.u_sees_target, self.stage.require())
