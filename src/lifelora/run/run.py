"""The story of a run, top to bottom, as the method section of the paper would tell it. Knows the order, not the parts.

Each stage is a folder with a manifest; one that is finished and made from the same things is not made again, and one
that was killed goes on from where it was.
"""

import json
from collections.abc import Callable
from dataclasses import asdict
from functools import partial, wraps
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from torch import Tensor

from lifelora.artefacts import write_atomically
from lifelora.conventional.base import Recommender
from lifelora.conventional.popularity import Popularity
from lifelora.conventional.sequence import MostPopular, NextItem
from lifelora.data.dataset import Samples, Targets
from lifelora.data.prepare import prepare
from lifelora.errors import ArtefactError
from lifelora.evaluation.metrics import auc, log_loss
from lifelora.llm.backbone import ABOUT
from lifelora.llm.personal import PersonalLM
from lifelora.llm.two_tower import TwoTowerModel
from lifelora.lora.adapters import Adapters
from lifelora.lora.saved import save
from lifelora.lora.summary import summarise
from lifelora.prompts.towers import TowerBuilder
from lifelora.prompts.yes_no import YesNoBuilder
from lifelora.recipe.recipe import Recipe
from lifelora.run import findings, known, nano, next_item
from lifelora.run.parts import (
    ADAPTER,
    MODEL,
    SCORES,
    SUMMARISED,
    SUMMARY,
    VECTORS,
    Asked,
    Options,
    Parts,
    keep_untrained,
)
from lifelora.run.stages import Stages
from lifelora.run.work import Work
from lifelora.tensors import to_device, write_tensors
from lifelora.training import fit

Rows = Int[np.ndarray, "B"]


def _alone(method: Callable[["Run"], None]) -> Callable[["Run"], None]:
    """A method that runs as the one owner of the run's folder."""
    @wraps(method)
    def alone(run: "Run") -> None:
        with run.work.owned():
            method(run)
    return alone


class Run:
    """One recipe in one folder; ``parts`` is what is ready of it."""

    def __init__(self, recipe: Recipe, folder: Path, options: Options, stages: Stages | None = None) -> None:
        self.recipe, self.folder, self.options = recipe, folder, options
        self.stages = stages or Stages(recipe, folder)
        self.parts = Parts(self.stages, options)
        self.work = Work(self.stages, options.progress)

    @classmethod
    def open(cls, folder: Path, options: Options) -> "Run":
        """A run that exists, by the recipe that it keeps."""
        stages = Stages.open(folder)
        return cls(stages.recipe, folder, options, stages)

    @_alone
    def all(self) -> None:
        """All stages in order, skipping finished ones."""
        self.prepare()
        self.fit()
        self.embed()
        self.train()
        self.evaluate()

    @_alone
    def prepare(self) -> None:
        """1. Read and check the source, sort it, split it, write it."""
        self.work.write_recipe()
        with self.work.making(self.stages.data) as folder:
            if folder is not None:
                source = self.recipe.data.source
                prepare(source.read(self.options.download), self.recipe.data.rules, folder, source.label)

    @_alone
    def fit(self) -> None:
        """2. Train each conventional model on all training samples; validation chooses the weights."""
        if self.recipe.knowledge or any(map(self.stages.reads_by_vectors, self.recipe.conventional)):
            self.embed()
        for name, step in self.recipe.conventional.items():
            with self.work.making(self.stages.conventional(name), together=True) as folder:
                if folder is None:
                    continue
                dataset, ctr = self.parts.dataset, self.recipe.task == "ctr"
                model = self.parts.untrained(name) if ctr else self.parts.untrained_next_item(name)
                if isinstance(model, Popularity | MostPopular):
                    model.fit(dataset)
                    write_tensors(folder / MODEL, model.state_dict())
                    continue
                fit(
                    model, *self._training(name, model),
                    partial(self._validate, name, model), step.training, folder, self.recipe.seed,
                    name=name, device=self.parts.device, progress=self.options.progress,
                )

    def _training(self, name: str, model: Recommender | NextItem) -> tuple[Rows, Callable[[Rows], Samples]]:
        """Numbers of the training samples of a conventional model, and what makes a batch of some of them."""
        dataset, behaviours = self.parts.dataset, self.recipe.conventional[name].behaviours
        rows = self.parts.drawn("train", self.recipe.conventional[name].train_samples, "shots")
        if behaviours is None:
            return rows, lambda rows_B: dataset.gather(dataset.targets(rows_B), model.history_length)
        # Chosen once for all: a batch is drawn from everywhere, and choosing goes by user.
        targets = dataset.targets(rows)
        chosen_NK, mask_NK = self.parts.selector(behaviours).select(dataset, targets)
        return np.arange(len(rows)), lambda index_B: dataset.gather(
            targets.at(index_B), model.history_length, (chosen_NK[index_B], mask_NK[index_B]))

    @_alone
    def embed(self) -> None:
        """3. Make the language model ready; turn item words into vectors where something retrieves by them, and what is known
        of items and people into vectors where a conventional model has them as fields.
        """
        if self.stages.need_backbone:
            self._ready_backbone()
        if self.stages.need_vectors:
            with self.work.making(self.stages.vectors) as folder:
                if folder is not None:
                    tools = self.parts.tools(self.recipe.vectors.needs_backbone)
                    self.recipe.vectors.of_items(self.parts.dataset, tools).save(folder / VECTORS)
        for name in self.recipe.knowledge:
            with self.work.making(self.stages.knowledge(name)) as folder:
                if folder is not None:
                    known.make(self.parts, name, folder)

    def _ready_backbone(self) -> None:
        stage = self.stages.backbone
        with self.work.making(stage, together=True) as folder:
            if folder is None or not self.recipe.backbone.made:
                return
            if nano.kept(stage, folder):
                return
            self.recipe.backbone.make(self.parts.dataset, folder, self.recipe.seed,
                                      device=self.parts.device, progress=self.options.progress)
        nano.keep(stage)

    @_alone
    def train(self) -> None:
        """4. Tune each encoder, and each system's adapters (and its coupling) on its shots; the backbone stays frozen."""
        for name in self.recipe.two_towers:
            with self.work.making(self.stages.encoder(name), together=True) as folder:
                if folder is not None:
                    self._train_encoder(name, folder)
        for name in self.recipe.systems:
            with self.work.making(self.stages.system(name), together=True) as folder:
                if folder is not None:
                    ctr = self.recipe.task == "ctr"
                    adapters, users = self._train_system(name, folder) if ctr else next_item.train(self.parts, name, folder)
                    save(adapters, folder / ADAPTER, self.parts.base_model)
                    write_atomically(folder / SUMMARY, json.dumps(asdict(summarise(adapters, users)), indent=1))

    def _train_system(self, name: str, folder: Path) -> tuple[Adapters, Float[Tensor, "B D"] | None]:
        """The adapters, and the representations of some people, by which they are measured."""
        dataset, parts, system = self.parts.dataset, self.parts, self.recipe.systems[name]
        drawn = dataset.targets(parts.drawn("train", system.train_samples, "shots"))
        shots = parts.asked(name, drawn)
        if system.mix_with is not None:
            shots = shots.mixed(parts.asked(name, drawn, system.mix_with))
        valid = parts.asked(name, dataset.targets(parts.drawn("valid", system.validation_samples, "validation")))
        lm, builder = parts.untuned(name)
        parts.start(name, lm.adapters)
        if self.options.checkpointing:
            lm.adapters.enable_checkpointing()
        if len(shots.targets):
            fit(
                lm, np.arange(len(shots.targets)), partial(shots.batch, builder),
                partial(self._validate_lm, lm, builder, valid), system.training, folder, self.recipe.seed,
                name=name, device=parts.device, progress=self.options.progress,
            )
        else:  # asked as it is
            keep_untrained(lm, folder, parts.device)
        some = valid.batch(builder, np.arange(min(len(valid.targets), SUMMARISED)))
        return lm.adapters, lm.represented(to_device(some, parts.device))

    def _train_encoder(self, name: str, folder: Path) -> None:
        dataset, parts, encoder = self.parts.dataset, self.parts, self.recipe.two_towers[name]
        shots = parts.asked(name, dataset.targets(parts.drawn("train", encoder.train_samples, "shots")))
        valid = parts.asked(name, dataset.targets(parts.drawn("valid", encoder.validation_samples, "validation")))
        model, builder, label = parts.untrained_encoder(name)
        if self.options.checkpointing:
            model.enable_checkpointing()
        fit(
            model, np.arange(len(shots.targets)), partial(shots.towers, builder),
            partial(self._validate_encoder, model, builder, valid), encoder.training, folder, self.recipe.seed,
            name=name, device=parts.device, progress=self.options.progress,
        )
        write_atomically(folder / ABOUT, json.dumps({"label": label}))

    @_alone
    def evaluate(self) -> None:
        """5 and 6. Score the same test rows with everything, compare, and write the report."""
        self.score()
        with self.work.making(self.stages.report) as folder:
            if folder is not None:
                task = findings if self.recipe.task == "ctr" else next_item
                task.write(self.parts, self.work.seconds(), folder)

    @_alone
    def score(self) -> None:
        """5. Score the same test rows with everything."""
        for name in self.stages.names:
            with self.work.making(self.stages.scores(name), together=True) as folder:
                if folder is not None and self.recipe.task == "next-item":
                    next_item.evaluate(self.parts, name, folder)
                elif folder is not None:
                    targets = self.parts.dataset.targets(self.parts.test_samples)
                    np.save(folder / SCORES, self.parts.scores(name, targets, f"{name}: scoring test rows"))

    def table(self) -> str:
        """The comparison as text."""
        return (self.stages.report.require() / findings.TABLE).read_text(encoding="utf-8")

    def status(self) -> str:
        """The table, if there is one, and where everything lies; ArtefactError where anything of it is damaged."""
        states = [(stage, stage.lacking()) for stage in self.stages.every()]
        if damage := [line for stage, lacking in states if lacking is None for line in stage.damage()]:
            raise ArtefactError("\n  ".join([f"{self.folder} is damaged:", *damage, f"Mend: `lifelora run {self.folder}`."]))
        lines = [f"  {lacking or 'ready':<14} {stage.folder}" for stage, lacking in states]
        table = [] if self.stages.report.lacking() else [self.table(), ""]
        return "\n".join([*table, f"recipe '{self.recipe.name}' in {self.folder}:", *lines])

    def _validate(self, name: str, model: Recommender | NextItem) -> dict[str, float]:
        rows = self.parts.drawn("valid", self.recipe.conventional[name].validation_samples, "validation")
        if isinstance(model, NextItem):
            return next_item.validate(self.parts, name, model, rows)
        valid = self.parts.dataset.targets(rows)
        return _metrics(valid, self.parts.conventional_scores(name, model, valid))

    def _validate_encoder(self, model: TwoTowerModel, builder: TowerBuilder, valid: Asked) -> dict[str, float]:
        return _metrics(valid.targets, self.parts.encoder_scores(model, builder, valid))

    def _validate_lm(self, lm: PersonalLM, builder: YesNoBuilder, valid: Asked) -> dict[str, float]:
        return _metrics(valid.targets, self.parts.lm_scores(lm, builder, valid))


def _metrics(targets: Targets, score_N: Float[np.ndarray, "N"]) -> dict[str, float]:
    return {"auc": auc(targets.label_B, score_N), "log_loss": log_loss(targets.label_B, score_N)}

