"""What a task is: what requests are, how a scorer is validated and judged, what is kept, how it is told. Knows scorers."""

import json
import shlex
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Int

from lifelora import seeds
from lifelora.artefacts import write_atomically
from lifelora.data.dataset import Dataset, Targets
from lifelora.evaluation.costs import Cost
from lifelora.evaluation.jackknife import Jackknifed
from lifelora.evaluation.measured import CONTROL, Curves, Validated
from lifelora.evaluation.worth import Control
from lifelora.prompts.unnamed import UNNAMED
from lifelora.recipe.system import Representation
from lifelora.retrieval.shuffled import SHUFFLED
from lifelora.run.context import Context
from lifelora.run.scorers.base import Requests, Scorer
from lifelora.run.scorers.blend import BlendScorer
from lifelora.run.scorers.conventional import ConventionalScorer
from lifelora.run.scorers.costs import kept_costs
from lifelora.run.scorers.language import LanguageScorer, Parents
from lifelora.run.scorers.two_tower import TwoTowerScorer
from lifelora.run.stages import RECIPE_FILE
from lifelora.run.unsaid import notes
from lifelora.training import HISTORY
from lifelora.training.curve import History
from lifelora.types import Part

TABLE, FIGURES = "table.txt", "evaluation.json"
LACKS: dict[str | None, Literal["order", "words"]] = {SHUFFLED: "order", UNNAMED: "words"}
"""What a control takes away."""
Seconds = Mapping[str, float | None]


class Task(ABC):
    """One of a run's questions, with the scorers that answer it."""

    conventional: ClassVar[type[ConventionalScorer]]
    language: ClassVar[type[LanguageScorer[Any]]]
    blend: ClassVar[type[BlendScorer]]

    def __init__(self, context: Context) -> None:
        self.context = context

    @cached_property
    def scorers(self) -> dict[str, Scorer]:
        """Everything that the recipe compares, conventional models first; each has been given what it needs of the others."""
        context, recipe, stages = self.context, self.context.recipe, self.context.stages
        models = {
            name: self.conventional(context, name, stages.conventional(name), step) for name, step in recipe.conventional.items()
        }
        systems: dict[str, LanguageScorer[Any]] = {}
        for name, system in recipe.systems.items():
            u, soft = system.representation, system.soft
            parents = Parents(
                representation=models[u.model] if isinstance(u, Representation) else None,
                soft=None if soft is None else models[soft.model],
                prior=models.get(system.prior or ""),
                retriever=models.get(system.retriever_name or ""),
                init_from=systems.get(system.init_from or ""),
            )
            systems[name] = self.language(context, name, stages.system(name), system, parents)
        towers = {
            name: TwoTowerScorer(context, name, stages.two_tower(name), config) for name, config in recipe.two_towers.items()
        }
        made: dict[str, Scorer] = {**models, **towers, **systems}
        blends = {
            name: self.blend(context, name, stages.blend(name), config, [made[member] for member in config.of])
            for name, config in recipe.blends.items()
        }
        return {**made, **blends}

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """What is tested against what it is made of: a blend against each of its members, a system against its prior."""
        recipe = self.context.recipe
        priors = [(name, system.prior) for name, system in recipe.systems.items() if system.prior is not None]
        return priors + [(name, member) for name, blend in recipe.blends.items() for member in blend.of]

    @abstractmethod
    def requests(self, part: Part, rows_N: Int[np.ndarray, "N"]) -> Requests:
        """Samples of a part, by their rows in the log, as requests."""

    @abstractmethod
    def asked(self, user_B: Int[np.ndarray, "B"], items_BC: Int[np.ndarray, "B C"]) -> Requests:
        """Items put to users after everything in the log, as many to each; the answers in turn are B times C numbers."""

    def now(self, user: int, items_C: Int[np.ndarray, "C"]) -> Requests:
        """Items put to one user."""
        return self.asked(np.array([user]), items_C[None])

    @abstractmethod
    def metrics(self, scorer: Scorer, requests: Requests, score_NC: Float[np.ndarray, "N C"] | None = None) -> dict[str, float]:
        """What says how good a scorer is on validation samples; ``score_NC`` is what it says of them, where that is known."""

    def validation(self, scorer: Scorer) -> Callable[[], dict[str, float]]:
        """Gives the metrics of a scorer, as it is at the time, on the validation samples that choose its weights."""
        requests = self.requests("valid", self.context.validation_samples(scorer.validation_count))
        return lambda: self.metrics(scorer, requests)

    @abstractmethod
    def judge(self, scorer: Scorer, folder: Path) -> None:
        """Keep what a scorer says of each test sample."""

    @abstractmethod
    def judged(self, name: str, others: Sequence["Task"] = ()) -> Jackknifed:
        """What ``judge`` kept of a scorer, here and in ``others`` (the task of other runs), ready for intervals and tests."""

    @abstractmethod
    def report(self, seconds: Seconds, folder: Path, validated: Validated | None = None) -> None:
        """The page, its pictures, all figures as JSON, and the table as text; ``validated`` says which systems are the best."""

    # What both reports tell.

    def facts(self) -> list[tuple[str, str]]:
        """Data, samples, language model, seed."""
        context, recipe, dataset = self.context, self.context.recipe, self.context.dataset
        model = [("language model", context.backbone_label)] if context.stages.need_backbone else []
        return [
            ("data", f"{dataset.name}: {len(dataset):,} interactions, {dataset.n_users:,} users, {dataset.n_items:,} items"),
            ("samples", " / ".join(f"{len(dataset.samples[p]):,} {p}" for p in ("train", "valid", "test"))),
            *self.own_facts(),
            ("split", recipe.data.rules.split.kind),
            *model,
            ("seed", str(recipe.seed)),
            ("data hash", context.stages.data.key),
            *(fact for scorer in self.scorers.values() for fact in scorer.facts()),
        ]

    def check_data(self, dataset: Dataset) -> None:  # noqa: B027 - most data will do
        """Raise ConfigError where the task learns nothing from prepared data, with the mend."""

    def own_facts(self) -> list[tuple[str, str]]:
        """Further facts of the samples."""
        return []

    def commands(self) -> list[tuple[str, str]]:
        """What a reader may want to run next."""
        folder = self.context.stages.folder
        return [
            ("this run again", f"lifelora run {shlex.quote(str(folder / RECIPE_FILE))} --out ANOTHER_FOLDER"),
            ("the table", f"lifelora show {shlex.quote(str(folder))}"),
        ]

    def training_counts(self, targets: Targets) -> tuple[Int[np.ndarray, "N"], Int[np.ndarray, "N"]]:
        """How many training events the item of each target has, and its user."""
        dataset = self.context.dataset
        rows = dataset.training_events()
        of_items_M = np.bincount(dataset.item_N[rows], minlength=dataset.n_items)
        of_users_U = np.bincount(dataset.user_N[rows], minlength=dataset.n_users)
        return of_items_M[targets.item_B], of_users_U[targets.user_B]

    def example_user(self) -> str:
        """The outside id of the user that the report tells about."""
        dataset = self.context.dataset
        return dataset.users.outside(dataset.targets(np.array([self.example_sample()])).user_B)[0]

    def example_sample(self) -> int:
        """A test sample. It is drawn by seed, not picked: a story that was chosen for its ending proves nothing."""
        rows = self.context.test_samples
        return int(rows[seeds.generator(self.context.recipe.seed, "example").integers(len(rows))])

    def costs(self, name: str) -> dict[str, Cost]:
        """What a sample took a scorer in training and in evaluation, where it was counted."""
        return kept_costs(self.scorers[name].stage.require()) | kept_costs(self.context.stages.scores(name).require())

    def controls(self) -> list[Control]:
        """The recipe's controls, each with the system or model that is the same but for it; without such a one it has none."""
        recipe = self.context.recipe
        found = list[Control]()
        for section in (recipe.conventional, recipe.systems):
            for name, part in section.items():
                same = None if part.control is None else part.model_copy(update={"control": None})
                other = next((other for other, config in section.items() if config == same), None)
                if other is not None:
                    found.append(Control(other, name, LACKS[part.control]))
        return found

    def family(self, name: str) -> str:
        """What a reader calls a scorer: a control by that, whatever it is."""
        recipe = self.context.recipe
        part = recipe.systems.get(name) or recipe.conventional.get(name)
        return self.scorers[name].family if part is None or part.control is None else CONTROL

    def about_prompts(self) -> list[str]:
        """Fields that no prompt says."""
        return notes(self.context.recipe, self.context.dataset)

    def about_nano(self) -> list[str]:
        """What a reader has to know of the small LM that was made on the spot."""
        recipe = self.context.recipe
        if not recipe.systems or not recipe.backbone.made:
            return []
        return [
            f"The nano language model was pre-trained on item texts and training-period histories{self.nano_also_read}: it "
            "has read more of the training data than the training samples."
        ]

    def about_scorers(self) -> list[str]:
        """What a reader has to know of some scorers' figures."""
        return [note for scorer in self.scorers.values() for note in scorer.notes()]

    nano_also_read: ClassVar[str] = ""


def keep(folder: Path, figures: Mapping[str, Any], table: str) -> None:
    """A report's figures and its table, beside its page."""
    write_atomically(folder / FIGURES, json.dumps(figures, indent=1, ensure_ascii=False))
    write_atomically(folder / TABLE, table)


def curves(folder: Path) -> Curves | None:
    """How the training in a stage's folder went; None where nothing was trained."""
    path = folder / HISTORY
    if not path.exists():
        return None
    history = History.model_validate_json(path.read_text())
    return Curves(
        loss=[(point.step / history.steps_per_epoch, point.loss) for point in history.training],
        validation=[(e.step / history.steps_per_epoch, e.metrics["auc"]) for e in history.evaluations],
    )
