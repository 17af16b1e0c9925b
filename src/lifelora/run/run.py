"""The story of a run, top to bottom, as the method section of the paper would tell it. Knows the order, not the parts.

Each stage is a folder with a manifest; one that is finished and made from the same things is not made again, and one
that was killed goes on from where it was.
"""

import json
from collections.abc import Callable
from functools import cached_property, wraps
from pathlib import Path
from typing import TypeVar

from lifelora.artefacts import write_atomically
from lifelora.data.prepare import prepare
from lifelora.errors import ArtefactError
from lifelora.llm.backbone import ABOUT
from lifelora.progress import say
from lifelora.recipe.recipe import Recipe
from lifelora.run import knowledge, nano
from lifelora.run.choice import all_kept, keep_validated
from lifelora.run.context import VECTORS, Context, Options
from lifelora.run.estimate import forecast
from lifelora.run.forecast import WORTH, Forecast
from lifelora.run.scorers.base import Scorer
from lifelora.run.scorers.blend import BlendScorer
from lifelora.run.scorers.conventional import ConventionalScorer
from lifelora.run.scorers.kept import keep_scores
from lifelora.run.stages import Stages
from lifelora.run.tasks import Task, task_of
from lifelora.run.tasks.base import TABLE
from lifelora.run.unsaid import notes
from lifelora.run.work import Work
from lifelora.training import parallel

Made = TypeVar("Made")


def _alone(method: Callable[["Run"], Made]) -> Callable[["Run"], Made]:
    """A method that runs as the one owner of the run's folder."""

    @wraps(method)
    def alone(run: "Run") -> Made:
        with run.work.owned():
            return method(run)

    return alone


class Run:
    """One recipe in one folder: its stages, what they share, its task, and the scorers that it compares."""

    def __init__(self, recipe: Recipe, folder: str | Path, options: Options, stages: Stages | None = None) -> None:
        self.recipe, self.folder, self.options = recipe, Path(folder), options
        self.stages = stages or Stages(recipe, self.folder)
        self.context = Context(self.stages, options)
        self.work = Work(self.stages, options.progress)

    @classmethod
    def open(cls, folder: str | Path, options: Options) -> "Run":
        """A run that exists, by the recipe that it keeps."""
        stages = Stages.open(Path(folder))
        return cls(stages.recipe, folder, options, stages)

    @cached_property
    def task(self) -> Task:
        """What the scorers are asked."""
        return task_of(self.context)

    @property
    def scorers(self) -> dict[str, Scorer]:
        """What is compared, by name."""
        return self.task.scorers

    @_alone
    def all(self) -> None:
        """All stages in order, skipping finished ones; what a language model will take long for is said before."""
        self.prepare()
        self._ready_backbone()
        if foretold(self.recipe):
            self._foretell()
        self.embed()
        self.fit()
        self.train()
        self.evaluate()

    @_alone
    def prepare(self) -> None:
        """1. Read and check the source, sort it, split it, write it."""
        self.work.write_recipe()
        with self.work.making(self.stages.data) as folder:
            if folder is not None:
                source = self.recipe.data.source
                raw = source.read(self.options.download)
                self.task.check_data(prepare(raw, self.recipe.data.rules, folder, source.label))
        if self.options.progress:
            for note in notes(self.recipe, self.context.dataset):
                say(f"prepare: {note}")

    @_alone
    def embed(self) -> None:
        """2. Make the language model ready; turn item words into vectors where something retrieves by them, and what is known
        of items and users into vectors where a conventional model has them as fields.

        What training would refuse after hours (a prompt that does not fit, a model that cannot be asked for titles) is refused
        here.
        """
        self._ready_backbone()
        if self.stages.need_vectors:
            with self.work.making(self.stages.vectors) as folder:
                if folder is not None:
                    tools = self.context.tools(self.recipe.vectors.needs_backbone)
                    self.recipe.vectors.of_items(self.context.dataset, tools).save(folder / VECTORS)
        for name in self.recipe.knowledge:
            with self.work.making(self.stages.knowledge(name)) as folder:
                if folder is not None:
                    knowledge.make(self.context, name, folder)
        for scorer in self.scorers.values():
            if not scorer.stage.complete():
                scorer.check()

    def _ready_backbone(self) -> None:
        if not self.stages.need_backbone:
            return
        stage, config = self.stages.backbone, self.recipe.backbone
        with self.work.making(stage, together=True) as folder:
            if folder is None:
                return
            if not config.made:
                write_atomically(folder / ABOUT, json.dumps({"label": self.context.loaded_backbone.label}))
                return
            if nano.kept(stage, folder):
                return
            config.make(
                self.context.dataset, folder, self.recipe.seed, device=self.context.device, progress=self.options.progress
            )
        nano.keep(stage)

    @_alone
    def estimate(self) -> Forecast:
        """What language models have yet to do, counted and timed; the data and the language model are made ready for it."""
        self.prepare()
        self._ready_backbone()
        return forecast(self.task)

    def _foretell(self) -> None:
        """Refuse what does not fit in memory, and say what takes long."""
        ahead = forecast(self.task)
        ahead.refuse(checkpointing=self.options.checkpointing)
        if self.options.progress and ahead.seconds >= WORTH:
            say(str(ahead))

    @_alone
    def fit(self) -> None:
        """3. Train each conventional model on its training samples, and its copies; validation chooses the weights."""
        models = [scorer for scorer in self.scorers.values() if isinstance(scorer, ConventionalScorer)]
        self._train([one for model in models for one in (model, *model.copies)])

    @_alone
    def train(self) -> None:
        """4. Tune the two-tower encoders, and each system's adapters (and its coupling); the backbone stays frozen. Then ask the
        members of blends about validation samples, and fit their weights.
        """
        self._train([scorer for scorer in self.scorers.values() if not isinstance(scorer, ConventionalScorer | BlendScorer)])
        for name in self.stages.members:
            with self.work.making(self.stages.validation(name), together=True) as folder:
                if folder is not None:
                    rows = self.context.validation_samples(self.stages.validation_count(name))
                    requests, said = self.task.requests("valid", rows), f"{name}: scoring validation samples, for blends"
                    keep_scores(folder, self.scorers[name].score(requests, said))
        self._train([scorer for scorer in self.scorers.values() if isinstance(scorer, BlendScorer)])

    def _train(self, scorers: list[Scorer]) -> None:
        for scorer in scorers:
            with self.work.making(scorer.stage, together=True) as folder:
                if folder is not None:
                    scorer.train(folder, self.task.validation(scorer))

    @_alone
    def evaluate(self) -> None:
        """5 and 6. Score the same test samples with everything, compare, and write the report."""
        self.score()
        with self.work.making(self.stages.report) as folder:
            if folder is not None:
                self.task.report(self.work.seconds(), folder, all_kept(self.task))

    @_alone
    def score(self) -> None:
        """5. Score the same test samples with everything."""
        for name, scorer in self.scorers.items():
            with self.work.making(self.stages.scores(name), together=True) as folder:
                if folder is not None:
                    self.task.judge(scorer, folder)
                    keep_validated(self.task, scorer, folder)

    def table(self) -> str:
        """The comparison as text."""
        return (self.stages.report.require() / TABLE).read_text(encoding="utf-8")

    def status(self) -> str:
        """The table, if there is one, and where everything lies; ArtefactError where anything of it is damaged."""
        states = [(stage, stage.lacking()) for stage in self.stages.every()]
        if damage := [line for stage, lacking in states if lacking is None for line in stage.damage()]:
            raise ArtefactError("\n  ".join([f"{self.folder} is damaged:", *damage, f"Mend: `lifelora run {self.folder}`."]))
        lines = [f"  {lacking or 'ready':<14} {stage.folder}" for stage, lacking in states]
        table = [] if self.stages.report.lacking() else [self.table(), ""]
        return "\n".join([*table, f"recipe '{self.recipe.name}' in {self.folder}:", *lines])


def foretold(recipe: Recipe) -> bool:
    """Whether it is counted and timed beforehand what language models will do: not of small ones, nor of several processes."""
    return bool(recipe.systems) and not recipe.backbone.made and parallel.processes() == 1
