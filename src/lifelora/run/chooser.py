"""A system of a run that is asked which item comes next: built, taught, asked. Knows parts and prompts, no report.

A candidate's score is the log-likelihood of its title as the answer, so all candidates are ranked; and, as the papers do it, one
title is asked for, with and without being held to the candidates. Neither what is shown nor u may know the target.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from lifelora import seeds
from lifelora.data.dataset import Targets
from lifelora.errors import ConfigError
from lifelora.llm.next_item import Curriculum, NextItemBatch, NextItemLM, form_asked, forms_of
from lifelora.llm.reading import Reader, contained, exact, hits
from lifelora.llm.soft import SoftTokens
from lifelora.llm.titles import Cost, choose, likelihoods, write
from lifelora.lora.saved import tensors
from lifelora.progress import Progress
from lifelora.prompts.titles import TitleBuilder, Titles
from lifelora.prompts.wording.titles import Form, TitleTemplate
from lifelora.run.parts import ADAPTER, MODEL, PROMPT_BATCH, Parts, keep_untrained
from lifelora.tensors import to_device
from lifelora.tokens import check_fits
from lifelora.training import fit
from lifelora.training.checkpoint import Learnt


@dataclass(frozen=True)
class Questions:
    """Who is asked about, what is shown of their past, their u, and the items that can be the answer."""

    targets: Targets
    "The items are the right answers; where none is known, any candidate of each."
    chosen_NK: Int[np.ndarray, "N K"]
    mask_NK: Bool[np.ndarray, "N K"]
    user_ND: Float[torch.Tensor, "N D"]
    candidates_NC: Int[np.ndarray, "N C"]

    def __len__(self) -> int:
        return len(self.targets)


class Chooser:
    """A language model with its adapters, and what writes its prompts."""

    def __init__(self, parts: Parts, name: str) -> None:
        """As training finds it, but for the LoRA that it starts from."""
        self.parts, self.name, self.system = parts, name, parts.recipe.systems[name]
        backbone = parts.backbone()
        if backbone.titles:
            raise ConfigError(f"systems.{name} asks for titles, and {backbone.titles} Take another backbone, or task 'ctr'.")
        self.tokenizer, self.context = backbone.tokenizer, backbone.context
        template = TitleTemplate(phrasings=self.system.phrasings)
        most = min(self.system.max_tokens, backbone.context)
        self.builder = TitleBuilder.make(
            parts.dataset, template, backbone.tokenizer, most, parts.recipe.seed, forms_of(self.system.item_form))
        check_fits(self.builder.highest, backbone.model, backbone.tokenizer)
        adapters, soft = parts.adapters(name, backbone), None
        if self.system.soft is not None:
            width = int(cast(Any, backbone.model).get_input_embeddings().embedding_dim)
            with seeds.torch_seeded(parts.recipe.seed, "soft", name):
                items_ME = parts.recommender(self.system.soft.model).cpu().item_embeddings()
                soft = SoftTokens(width, items_ME, form=self.system.soft.projector)
        self.lm = NextItemLM(backbone.model, adapters, soft, backbone.head)

    @classmethod
    def trained(cls, parts: Parts, name: str) -> "Chooser":
        """Ready to be asked."""
        folder = parts.stages.system(name).require()
        chooser = cls(parts, name)
        Learnt(chooser.lm).read(folder / MODEL)
        chooser.lm.adapters.load_state(tensors(folder / ADAPTER))  # A and B may have been frozen
        chooser.lm.to(parts.device).eval()
        return chooser

    def train(self, folder: Path, validate: Callable[[], dict[str, float]]) -> None:
        """Learn from the shots, or, without any, stay as it is."""
        parts, system = self.parts, self.system
        parts.start(self.name, self.lm.adapters)
        if parts.options.checkpointing:
            self.lm.adapters.enable_checkpointing()
        shots = self.questions_of("train", parts.drawn("train", system.train_samples, "shots"))
        if len(shots):
            curriculum = Curriculum(lambda index_B, form: self.batch(shots, index_B, form, answered=True), system.item_form,
                                    parts.recipe.seed)
            fit(self.lm, np.arange(len(shots)), curriculum, validate, system.training, folder, parts.recipe.seed, name=self.name,
                device=parts.device, progress=parts.options.progress)
        else:  # asked as it is
            keep_untrained(self.lm, folder, parts.device)

    def questions(self, targets: Targets, candidates_NC: Int[np.ndarray, "N C"]) -> Questions:
        """``targets`` as the system sees them."""
        chosen_NK, mask_NK = self.parts.selector(self.system.behaviours).select(self.parts.dataset, targets)
        user_ND = torch.zeros(len(targets), 0)
        if self.system.representation is not None:
            user_ND = self.parts.user_vectors(self.system.representation, targets)
        return Questions(targets, chosen_NK, mask_NK, user_ND, candidates_NC)

    def questions_of(self, part: Any, rows_N: Int[np.ndarray, "N"]) -> Questions:
        """Rows of a part, with the lists that were drawn for them."""
        return self.questions(self.parts.dataset.targets(rows_N), self.parts.lists(part, rows_N))

    def batch(self, questions: Questions, index_B: Int[np.ndarray, "B"], form: Form, *, answered: bool = False) -> NextItemBatch:
        """The prompts of some of them; with their answers they are what is learnt from."""
        listed_BC = questions.candidates_NC[index_B] if self.system.candidates_in_prompt else None
        build = self.builder.answered if answered else self.builder.question
        prompts = build(questions.targets.at(index_B), questions.chosen_NK[index_B], questions.mask_NK[index_B], listed_BC, form)
        return NextItemBatch(prompts, questions.user_ND[torch.from_numpy(index_B)])

    def scores(self, questions: Questions, said: str | None = None) -> tuple[Float[np.ndarray, "N C"], Cost]:
        """The log-likelihood of every candidate's title, or its mean over the title's tokens, and what that took."""
        score_NC, cost = np.empty(questions.candidates_NC.shape), Cost()
        for index_B, batch, titles in self._asked(questions, said):
            found = likelihoods(self.lm, batch, titles, length_normalised=self.system.length_normalised)
            score_NC[index_B] = found.score_BC.double().cpu().numpy()
            cost.add(found.cost)
        return score_NC, cost

    def answers(
        self, questions: Questions, beams: int, written_tokens: int, said: str | None = None
    ) -> tuple[dict[str, Float[np.ndarray, "N"]], dict[str, Cost]]:
        """One title for each: held to the candidates (``chosen``), and, unless there are no tokens for it, free (``written``).

        Gives each row's figures, as ``evaluation.ranking_report.ANSWERS`` names them, and what each way took in all.
        """
        names = ["chosen hr@1", *(("written hr@1", "valid ratio", "exact hr@1", "exact valid ratio") if written_tokens else ())]
        values, costs = {name: np.empty(len(questions)) for name in names}, {"chosen": Cost()}
        if written_tokens:
            costs["written"] = Cost()
        reader = Reader(self.tokenizer)
        for index_B, batch, titles in self._asked(questions, said):
            candidates_BC = questions.candidates_NC[index_B]
            target_B = torch.from_numpy((candidates_BC == questions.targets.item_B[index_B][:, None]).argmax(axis=1))
            chosen = choose(self.lm, batch, titles, beams=beams, length_normalised=self.system.length_normalised)
            values["chosen hr@1"][index_B] = hits(chosen.named_BC.cpu(), target_B).numpy()
            costs["chosen"].add(chosen.cost)
            if not written_tokens:
                continue
            room = self.context + 1 - int(batch.prompts.mask_BL.sum(dim=1).max())
            written = write(self.lm, batch, reader, beams=beams, length_normalised=self.system.length_normalised,
                            limit=min(written_tokens, room))
            costs["written"].add(written.cost)
            for rule, prefix, hit in ((contained, "", "written hr@1"), (exact, "exact ", "exact hr@1")):
                named_BC = rule(written.lines, reader.titles(titles))
                values[hit][index_B] = hits(named_BC, target_B).numpy()
                values[f"{prefix}valid ratio"][index_B] = named_BC.any(dim=1).double().numpy()
        return values, costs

    def _asked(self, questions: Questions, said: str | None) -> Iterator[tuple[np.ndarray, NextItemBatch, Titles]]:
        form = form_asked(self.system.item_form)
        self.lm.eval()
        # Prompts of like length together, so that little is padded.
        order = np.argsort(questions.mask_NK.sum(axis=1), kind="stable")
        show = bool(said) and self.parts.options.progress
        with Progress(said or "", len(order), enabled=show) as ticker:
            for start in range(0, len(order), PROMPT_BATCH):
                index_B = order[start : start + PROMPT_BATCH]
                batch = to_device(self.batch(questions, index_B, form), self.parts.device)
                yield index_B, batch, to_device(self.builder.titles(questions.candidates_NC[index_B]), self.parts.device)
                ticker.advance(len(index_B))


def of_users(targets: Targets, candidates_NC: Int[np.ndarray, "N C"]) -> Targets:
    """Targets of which only the people are known: any candidate stands in for the item."""
    return replace(targets, item_B=candidates_NC[:, 0].astype(np.int64))

