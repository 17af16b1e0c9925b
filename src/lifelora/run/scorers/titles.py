"""A language model that is asked which item comes next: a candidate's score is its title's log-likelihood as the answer.

So all candidates are ranked; and, as the papers do it, one title is asked for, with and without being held to the candidates.
Neither what is shown nor u may know the target.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from lifelora.data.dataset import Targets
from lifelora.errors import ConfigError
from lifelora.llm.backbone import Backbone
from lifelora.llm.cost import Cost
from lifelora.llm.item_form import Curriculum, form_asked, forms_of
from lifelora.llm.likelihoods import likelihoods
from lifelora.llm.personal import PersonalBatch, Representer
from lifelora.llm.reading import Reader, contained, exact, hits
from lifelora.llm.search import choose
from lifelora.llm.soft import SoftTokens
from lifelora.llm.titles import TitleLM
from lifelora.llm.trunk import Trunk
from lifelora.llm.write import write
from lifelora.lora.adapters import Adapters
from lifelora.prompts.fill import Prompts
from lifelora.prompts.lines.titles import TitleLines
from lifelora.prompts.slots import Place
from lifelora.prompts.titles import TitleBuilder
from lifelora.prompts.titles import Titles as TitleTokens
from lifelora.prompts.tree import PromptTrees
from lifelora.prompts.unnamed import UNNAMED
from lifelora.prompts.wording.titles import Form
from lifelora.recipe.system import System
from lifelora.retrieval.growing import starts
from lifelora.run.context import Context
from lifelora.run.scorers.base import Answers, CatalogueScores, Requests
from lifelora.run.scorers.catalogue import leave_out_seen, lifted, shortlisted
from lifelora.run.scorers.keeper import of_trunks
from lifelora.run.scorers.language import LanguageScorer, Parents
from lifelora.run.scorers.shown import Shown
from lifelora.scoring.batches import Scores, in_trees
from lifelora.scoring.budget import token_bytes
from lifelora.stage import Stage
from lifelora.tensors import to_device

SHARES = 3
"""Of what the memory bears: one for prompts, as they are read and kept; two for what is read after them, or for copies of what is
kept where a title is written.
"""


class Titles(LanguageScorer[TitleLM]):
    """One system, asked for a title."""

    def __init__(self, context: Context, name: str, stage: Stage, system: System, parents: Parents) -> None:
        super().__init__(context, name, stage, system, parents)
        self.shortlist = system.shortlist

    def check(self) -> None:
        reason = self.context.backbone.titles
        evaluation = self.context.recipe.evaluation
        if reason and evaluation.beams and evaluation.written_tokens:
            raise ConfigError(
                f"systems.{self.name} is to write titles, and {reason} Set evaluation.written_tokens = 0, so that "
                "titles are scored and none is written, or take another backbone."
            )
        super().check()

    @property
    def builder(self) -> TitleBuilder:
        """What writes its prompts."""
        return self.context.reading(("prompts", self.name), self.in_prompts, self._builder)

    def _builder(self) -> TitleBuilder:
        context, system = self.context, self.system
        at, forms = layout(system, context.recipe.systems)
        asks, tokenizer = system.titles, context.backbone.tokenizer
        lines = context.lines(
            ("titles", asks, frozenset(at), system.control == UNNAMED),
            lambda: TitleLines.build(self.in_prompts, asks.phrasings, tokenizer, forms, at, asks),
        )
        return TitleBuilder(self.in_prompts, lines, self.max_tokens, context.recipe.seed)

    @property
    def highest(self) -> int:
        return self.builder.highest

    def personal(
        self, backbone: Backbone, adapters: Adapters, representer: Representer | None, soft: SoftTokens | None
    ) -> TitleLM:
        return TitleLM(
            backbone.model,
            adapters,
            representer=representer,
            layer=self.layer,
            soft=soft,
            head=backbone.head,
            coupling_on=self.system.coupling_on,
            early=backbone.early,
        )

    def requests_of_training(self) -> Requests:
        rows = self.context.training_samples(self.system.train_samples, self.system.block)
        return Requests(self.context.dataset.targets(rows), self.context.candidates("train", rows))

    def prompts(self, shown: Shown, index_B: Int[np.ndarray, "B"]) -> Prompts:
        return self.builder.question(
            *self._asked(shown, index_B), self._listed(shown, index_B), form_asked(self.system.item_form)
        )

    def batch(self, shown: Shown, index_B: Int[np.ndarray, "B"]) -> PersonalBatch:
        if shown.trunk_N is None:
            return super().batch(shown, index_B)
        listed_BC, form = self._listed(shown, index_B), form_asked(self.system.item_form)
        trees = self.builder.trees(*self._asked(shown, index_B), shown.trunk_N[index_B], listed_BC, form)
        return shown.batch(trees, index_B)

    def kept(self, shown: Shown, index_B: Int[np.ndarray, "B"]) -> Int[np.ndarray, "B"]:
        return self.prompts(shown, index_B).shown_B.numpy()

    @property
    def tokens_at_once(self) -> int:
        return super().tokens_at_once // SHARES

    @property
    def memory(self) -> int:
        """Bytes for the titles that are read together, beside their prompts."""
        return (SHARES - 1) * self.tokens_at_once * token_bytes(self.context.backbone.model)

    def lengths(self, shown: Shown) -> Int[np.ndarray, "N"]:
        every_N = np.arange(len(shown))
        listed_NC, form = self._listed(shown, every_N), form_asked(self.system.item_form)
        return self.builder.lengths(*self._asked(shown, every_N), listed_NC, form)

    def in_batches(self, shown: Shown, score: Callable[[Int[np.ndarray, "B"]], Scores], said: str | None) -> Scores:
        if shown.trunk_N is None:
            return super().in_batches(shown, score, said)
        every_N = np.arange(len(shown))
        listed_NC, form = self._listed(shown, every_N), form_asked(self.system.item_form)
        trunk_R, _, tree_N = self.builder.tree_lengths(*self._asked(shown, every_N), shown.trunk_N, listed_NC, form)
        # What a trunk leaves behind is copied for each question, whose titles read it with the question.
        lengths = trunk_R, self.lengths(shown), tree_N
        return in_trees(*lengths, score, tokens=self.tokens_at_once, said=said, progress=self.context.shows_progress)

    def _asked(
        self, shown: Shown, index_B: Int[np.ndarray, "B"]
    ) -> tuple[Targets, Int[np.ndarray, "B K"], Bool[np.ndarray, "B K"]]:
        return shown.requests.targets.at(index_B), shown.chosen_NK[index_B], shown.mask_NK[index_B]

    def _listed(self, shown: Shown, index_B: Int[np.ndarray, "B"]) -> Int[np.ndarray, "B C"] | None:
        return shown.requests.candidates[index_B] if self.system.candidates_in_prompt else None

    def _learnt(self, shown: Shown, index_B: Int[np.ndarray, "B"], form: Form) -> Prompts | PromptTrees:
        """With their answers; samples of a block are asked in one phrasing, whether they share what is read or not."""
        asked, listed_BC, block = self._asked(shown, index_B), self._listed(shown, index_B), self.system.block
        start_B = None if block is None else starts(asked[0], block)
        if shown.trunk_N is None:
            return self.builder.answered(*asked, listed_BC, form, start_B)
        return self.builder.answered_trees(*asked, shown.trunk_N[index_B], listed_BC, form, start_B)

    def batches(self, shown: Shown, cost: Cost) -> Curriculum:
        def gather(index_B: Int[np.ndarray, "B"], form: Form) -> PersonalBatch:
            return cost.counting(shown.batch(self._learnt(shown, index_B, form), index_B))

        return Curriculum(gather, self.system.item_form, self.context.recipe.seed)

    def score(self, requests: Requests, said: str | None = None) -> Float[np.ndarray, "N C"]:
        shown, normalised = self.asked(requests), self.system.length_normalised

        def scored(index_B: Int[np.ndarray, "B"]) -> tuple[Float[np.ndarray, "B C"], Float[np.ndarray, "B 3"]]:
            batch, titles = self._ready(shown, index_B)
            trunk, kept = self._kept(shown, index_B, batch)
            found = likelihoods(self.lm, batch, titles, length_normalised=normalised, memory=self.memory, trunk=trunk)
            found.cost.tokens -= kept
            found.cost.alone = alone(batch, titles)
            return found.score_BC.double().cpu().numpy(), found.cost.shares(len(index_B))

        self.lm.eval()
        with self.lm.adapters.loaded():
            scores_NC, share_N3 = self.in_batches(shown, scored, said)
        self._spent.add(Cost.of(share_N3))
        return scores_NC

    def probabilities(self, requests: Requests) -> Float[np.ndarray, "N C"]:
        """That each candidate comes next, among these; those that are called the same share their title's."""
        score_NC, title_M = self.score(requests), np.unique(np.array(self.in_prompts.titles), return_inverse=True)[1]
        probability_NC = np.exp(score_NC - score_NC.max(axis=1, keepdims=True))
        same_NCC = title_M[requests.candidates][:, :, None] == title_M[requests.candidates][:, None]
        probability_NC /= same_NCC.sum(axis=2)
        shares_NC: np.ndarray = probability_NC / probability_NC.sum(axis=1, keepdims=True)
        return shares_NC

    def unaided(self, items_C: Int[np.ndarray, "C"]) -> Int[np.ndarray, "C"]:
        raise ConfigError(f"'{self.name}' ranks few items, and this run has no conventional model to choose them; give --items.")

    def catalogue(self, targets: Targets, said: str | None = None) -> CatalogueScores | None:
        """In two stages: the retriever scores all items, and the language model puts the first of them in order."""
        blocks = None if self.retriever is None else self.retriever.catalogue(targets, said)
        return None if blocks is None else self._two_stages(targets, blocks)

    def _two_stages(self, targets: Targets, blocks: CatalogueScores) -> Iterator[tuple[slice, Float[np.ndarray, "B M"]]]:
        for some, first_BM in blocks:
            leave_out_seen(first_BM, self.context.dataset, targets.at(some))
            short_BC = shortlisted(first_BM, self.system.shortlist)
            among_BC = self.score(candidates_of(targets.at(some), short_BC))
            # In a small catalogue the shortlist may reach into what the user has seen.
            left_out_BC = np.isneginf(np.take_along_axis(first_BM, short_BC, axis=1))
            yield some, lifted(first_BM, short_BC, np.where(left_out_BC, -np.inf, among_BC))

    def answers(self, requests: Requests, beams: int, written_tokens: int, said: str | None = None) -> Answers:
        """One title for each: held to the candidates (``chosen``), and, unless there are no tokens for it, free (``written``).

        None at all with 0 beams.
        """
        if not beams:
            return Answers()
        shown, normalised = self.asked(requests), self.system.length_normalised
        reader = Reader(self.context.backbone.tokenizer, self.builder.lines.end)
        names = ["chosen hr@1", *(("written hr@1", "valid ratio", "exact hr@1", "exact valid ratio") if written_tokens else ())]

        def answered(index_B: Int[np.ndarray, "B"]) -> tuple[Float[np.ndarray, "B V"], dict[str, Float[np.ndarray, "B 3"]]]:
            batch, titles = self._ready(shown, index_B)
            items_BC = requests.candidates[index_B]
            target_B = torch.from_numpy((items_BC == requests.targets.item_B[index_B][:, None]).argmax(axis=1))
            chosen = choose(self.lm, batch, titles, beams=beams, length_normalised=normalised, memory=self.memory)
            shares = {"chosen": chosen.cost.shares(len(index_B))}
            values = [hits(chosen.named_BC.cpu(), target_B)]
            if written_tokens:
                batch = batch if shown.trunk_N is None else self._ready(replace(shown, trunk_N=None), index_B)[0]
                assert isinstance(batch.prompts, Prompts)
                room = self.context.backbone.context + 1 - int(batch.prompts.mask_BL.sum(dim=1).max())
                written = write(
                    self.lm,
                    batch,
                    reader,
                    beams=beams,
                    length_normalised=normalised,
                    limit=min(written_tokens, room),
                    max_tokens=self.tokens_at_once,
                )
                shares["written"] = written.cost.shares(len(index_B))
                for rule in (contained, exact):
                    named_BC = rule(written.lines, reader.titles(titles))
                    values += [hits(named_BC, target_B), named_BC.any(dim=1).double()]
            return torch.stack([value_B.double() for value_B in values], dim=1).numpy(), shares

        self.lm.eval()
        with self.lm.adapters.loaded():
            values_NV, shares = self.in_batches(shown, answered, said)
        return Answers(dict(zip(names, values_NV.T, strict=True)), {way: Cost.of(share_N3) for way, share_N3 in shares.items()})

    def reads(self) -> str:
        soft, parent = self.system.soft, self.parents.soft
        if soft is None or parent is None:
            return super().reads()
        layer = soft.layer if "user" in soft.at else "final"
        tokens = f"soft tokens of {' and '.join(soft.at)} {parent.from_(layer)}"
        return f"{super().reads()}; {self.system.item_form} with {tokens}"

    def _kept(self, shown: Shown, index_B: Int[np.ndarray, "B"], batch: PersonalBatch) -> tuple[Trunk | None, int]:
        """The trunks of a batch, where they are kept; whole prompts in which no candidates stand are trunks of titles."""
        listed = self.system.candidates_in_prompt and isinstance(batch.prompts, Prompts)
        if self.keeper is None or listed or self.context.backbone.trees:
            return None, 0
        return self.keeper.trunk(self.name, self.lm, batch, of_trunks(self.system, shown, index_B, batch.prompts))

    def _ready(self, shown: Shown, index_B: Int[np.ndarray, "B"]) -> tuple[PersonalBatch, TitleTokens]:
        titles = self.builder.titles(shown.requests.candidates[index_B])
        return self.ready(shown, index_B), to_device(titles, self.context.device)


def layout(system: System, systems: dict[str, System]) -> tuple[tuple[Place, ...], tuple[Form, ...]]:
    """Whose soft tokens a system's lines have, and their forms: together with all systems that can share these lines.

    Prompts of words alone are in every layout, so a system without soft tokens takes that of another in the same words.
    """
    alike = [other for other in systems.values() if other.titles == system.titles and other.soft is not None]
    soft = system.soft or next((other.soft for other in alike), None)
    at = () if soft is None else soft.at
    sharing = [other for other in alike if other.soft is not None and other.soft.at == at]
    forms = dict.fromkeys(form for other in [system, *sharing] for form in ("text", *forms_of(other.item_form)))
    return at, tuple(forms)


def alone(batch: PersonalBatch, titles: TitleTokens) -> int:
    """The tokens of a prompt for each title, as the authors read them."""
    prompts = batch.prompts
    length_B = prompts.mask_BL.sum(dim=1) if isinstance(prompts, Prompts) else prompts.place_G + prompts.branch_G
    return int(length_B.sum()) * titles.mask_BCA.shape[1] + int(titles.mask_BCA.sum())


def candidates_of(targets: Targets, items_NC: Int[np.ndarray, "N C"]) -> Requests:
    """Targets of which only the users are known: the first candidate stands in for the item."""
    known = Targets(targets.user_B, items_NC[:, 0].astype(np.int64), targets.position_B, targets.label_B)
    return Requests(known, items_NC)
