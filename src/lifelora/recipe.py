"""Recipes: the configuration of all stages, and what in it fits together. Knows the parts, no file, and runs none of them.

A recipe is a point in the space of design: which behaviours are shown (data), how they are written (prompt), how the
LM's updates depend on the person (parameter), and the task. Several systems may stand in one recipe, side by side.
"""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, model_validator

from lifelora.conventional import AnyRecommender
from lifelora.conventional.sasrec import SASRec
from lifelora.data.dataset import Rules
from lifelora.data.sources import AnySource
from lifelora.data.sources.simulated import Simulated
from lifelora.knowledge.adaptor import Adaptor
from lifelora.knowledge.encode import AnyVectors as AnyKnowledge
from lifelora.knowledge.encode import AnyWriter, Files
from lifelora.knowledge.encode import HiddenStates as ReadByLM
from lifelora.knowledge.texts import Questions
from lifelora.knowledge.write import LM, RawPrompt
from lifelora.llm.backbone import Pretrained
from lifelora.llm.encoder import Towers
from lifelora.llm.nano import Nano
from lifelora.llm.next_item import Course
from lifelora.llm.personal import Loss
from lifelora.llm.soft import Form
from lifelora.llm.titles import Per
from lifelora.lora.coupling import Identity
from lifelora.lora.inject import Adaptation
from lifelora.prompts.phrasing import PHRASINGS, Phrasing
from lifelora.prompts.segments import Place
from lifelora.prompts.template import AnyTemplate, Plain
from lifelora.retrieval.embed import AnyVectors, HiddenStates
from lifelora.retrieval.select import AnySelector, MostRecent
from lifelora.training import TrainingConfig
from lifelora.types import Frozen, LayerOrRandom

NEXT_ITEM = ("popularity", "gru4rec", "caser", "sasrec")
"""Conventional models that can be asked what comes next."""
TASK_KEYS: dict[str, frozenset[str]] = {
    "ctr": frozenset({"template", "soft_at", "soft_layer", "also", "representation_training", "loss"}),
    "next-item": frozenset({"phrasings", "course", "listed", "per", "retriever", "shortlist"}),
}
"""What only a system of one task has."""
AnyBackbone = Annotated[Pretrained | Nano, Field(discriminator="kind")]


def _kind(word: str) -> BeforeValidator:
    """A table that does not say its kind is of this one, so that one value of a default can be changed alone."""
    return BeforeValidator(lambda value: {"kind": word, **value} if isinstance(value, dict) else value)


class Data(Frozen):
    """The log and how it becomes samples."""

    source: Annotated[AnySource, _kind("simulated")] = Simulated()
    rules: Rules = Rules()


class Knowledge(Questions):
    """What a language model knows of items and of people, made into vectors before anything asks for them (Laser)."""

    text: Annotated[AnyWriter, _kind("prompt")] = RawPrompt()
    "Who answers the questions about items and people: nobody (the question itself is read), the backbone, or an endpoint."
    vectors: Annotated[AnyKnowledge, _kind("hidden-states")] = ReadByLM()
    "Who turns texts into vectors; or where the vectors lie, and then nothing is written."

    @property
    def needs_backbone(self) -> bool:
        """Whether the recipe's language model is asked."""
        return isinstance(self.text, LM) or isinstance(self.vectors, ReadByLM)

    @model_validator(mode="after")
    def _written_for_something(self) -> "Knowledge":
        if isinstance(self.vectors, Files) and not isinstance(self.text, RawPrompt):
            raise ValueError(f"text.kind = '{self.text.kind}' writes what nobody reads: vectors.kind = 'precomputed' brings the "
                             "vectors; leave text away")
        return self


class Conventional(Frozen):
    """A conventional model and how it is trained."""

    model: AnyRecommender = SASRec.Config()
    behaviours: AnySelector | None = None
    "Which behaviours it reads; the last ``model.history_length`` when left out. With those like the target DIN is SIM."
    knowledge: str | None = None
    "Of [knowledge.NAME]: what becomes further fields of the model, one of the user and one of the target."
    adaptor: Adaptor = Adaptor()
    "What turns its vectors into fields, trained with the model."
    shots: int | None = Field(default=None, ge=1)
    "Training rows, drawn once by seed (the first of them are the systems' shots, too); all of them when left out (Few2Many)."
    validation_rows: int | None = Field(default=None, ge=1)
    "Validation rows, drawn once by seed; all of them when left out."
    training: TrainingConfig = TrainingConfig()


class Encoder(Towers):
    """An encoder that reads person and item apart (CTR-BERT), and how it is trained; no LM is asked anything."""

    behaviours: AnySelector = MostRecent.Config()
    template: Annotated[AnyTemplate, _kind("plain")] = Plain(question=("{title}[[ ({genre})]]",))
    "The head and the behaviours are the person's text, the question's lines the item's; nobody is asked for an answer."
    max_tokens: int = Field(default=512, ge=16)
    shots: int | None = Field(default=None, ge=1)
    "Training rows, drawn once by seed: the same as the systems' shots; all of them when left out."
    validation_rows: int | None = Field(default=1000, ge=1)
    "Validation rows, drawn once by seed; all of them with \"null\"."
    training: TrainingConfig = TrainingConfig()


class System(Adaptation):
    """One language-model system; its adapters are an ``Adaptation``."""

    behaviours: AnySelector = MostRecent.Config()
    template: Annotated[AnyTemplate, _kind("plain")] = Plain()
    max_tokens: int = Field(default=1024, ge=16)
    representation: str | None = None
    "The name of the conventional model whose u feeds the coupling; needed by every coupling that depends on a person."
    representation_layer: LayerOrRandom = "final"
    """Which of its layers is u: its state or last hidden layer; all fields and the past, embedded; the user's id, where it is a
    field, and the mean of the past; or, as a control, numbers drawn once for each user."""
    representation_training: Literal["frozen", "joint"] = "frozen"
    "Whether that model stays as it was trained, or goes on learning with the adapters."
    soft: str | None = None
    "The name of the conventional model whose vectors stand in the prompt as soft tokens (SPA, CoLLM)."
    soft_at: tuple[Place, ...] = Field(default=("behaviours", "target"), min_length=1)
    "Where they stand: the items' after each behaviour and after the line that names the target, the user's before behaviours."
    soft_layer: LayerOrRandom = "final"
    "Which of its layers is the user's vector there; as ``representation_layer``."
    loss: Loss = "answer"
    """What is learnt: the answer word among all words, and the score is p(yes) against p(no); or (CoLLM) the logit of yes
    alone, and the score is its sigmoid."""
    soft_projector: Form = "spa"
    "What makes vectors as wide as the LM: SPA's and LLaRA's, one for items and one for users, or CoLLM's, one for both."
    phrasings: tuple[Phrasing, ...] = Field(default=PHRASINGS, min_length=1)
    "Next item: the ways to ask; training draws one for every row, and whatever is evaluated is asked in the first."
    course: Course = "text"
    "Next item: items by title, by title and soft token, by soft token alone, or LLaRA's curriculum from the first to the second."
    listed: bool = True
    "Next item: whether the candidates stand in the prompt."
    per: Per = "title"
    "Next item: candidates are ranked by the log-likelihood of their titles, or by its mean over a title's tokens."
    retriever: str | None = None
    """Next item: the conventional model that chooses from the whole catalogue what the LM ranks; the model of ``representation``
    or ``soft`` when left out, and without either nothing does."""
    shortlist: int = Field(default=20, ge=2)
    "Next item: how many it chooses."
    start: str | None = None
    "An ordinary LoRA to start from: an earlier system of this recipe with coupling 'identity', or a folder in PEFT's format."
    also: AnySelector | None = None
    "In training every row comes a second time with these behaviours: ReLLa's mixed instruction tuning (ReiT)."
    shots: int | None = Field(default=None, ge=0)
    "Training rows, drawn once by seed; all of them when left out; with 0 the LM is asked as it is."
    validation_rows: int | None = Field(default=1000, ge=1)
    "Validation rows, drawn once by seed; all of them with \"null\"."
    training: TrainingConfig = TrainingConfig()

    @property
    def first(self) -> str | None:
        """The conventional model that chooses from the catalogue."""
        return self.retriever or self.representation or self.soft


class Evaluation(Frozen):
    """Which test rows, how sure, and how answers are asked for."""

    test_rows: int | None = Field(default=None, ge=2)
    "Test rows that every system is judged on, drawn once by seed; all of them when left out."
    resamples: int = Field(default=1000, ge=100)
    "Bootstrap resamples of users."
    beams: int = Field(default=1, ge=1)
    "Next item: beams of the LM that chooses or writes a title; with one it is greedy."
    written_tokens: int = Field(default=64, ge=0)
    "Next item: the longest answer, in tokens, of the LM that may write anything; with 0 it is asked for candidates only."


class Recipe(Frozen):
    """Everything that decides the result of a run."""

    name: str
    about: str = ""
    seed: int = Field(default=0, ge=0)
    task: Literal["ctr", "next-item"] = "ctr"
    "P(like) of an item, or which item comes next: among ``data.rules.candidates`` and in the whole catalogue."
    data: Data = Data()
    knowledge: dict[str, Knowledge] = Field(default_factory=dict)
    conventional: dict[str, Conventional] = Field(default_factory=dict)
    backbone: Annotated[AnyBackbone, _kind("nano")] = Nano()
    vectors: Annotated[AnyVectors, _kind("hidden-states")] = HiddenStates()
    encoders: dict[str, Encoder] = Field(default_factory=dict)
    systems: dict[str, System] = Field(default_factory=dict)
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        names = [*self.conventional, *self.encoders, *self.systems]
        if not names:
            raise ValueError("a recipe needs at least one [conventional.NAME], [encoders.NAME] or [systems.NAME]")
        for name in names:
            kinds = [what for what, named in (("a conventional model", self.conventional), ("an encoder", self.encoders),
                                              ("a system", self.systems)) if name in named]
            if len(kinds) > 1:
                raise ValueError(f"the name '{name}' stands for {' and '.join(kinds)}; rename one")
        for name in [*names, *self.knowledge]:
            if not name.replace("-", "").replace("_", "").isalnum():
                raise ValueError(f"'{name}' is no good as a name of a folder; use letters, digits, '-' and '_'")
        for name, step in self.conventional.items():
            self._knows(name, step)
        if self.task == "next-item":
            self._asks_what_comes_next()
        for name, system in self.systems.items():
            self._fits_together(name, system)
        self._starts_exist()
        return self

    def _knows(self, name: str, step: Conventional) -> None:
        if step.knowledge is None:
            if step.adaptor != Adaptor():
                raise ValueError(f"conventional.{name}.adaptor has nothing to adapt; say what: knowledge = NAME")
        elif step.knowledge not in self.knowledge:
            raise ValueError(f"conventional.{name}.knowledge = '{step.knowledge}' is none of this recipe's [knowledge.NAME] "
                             f"({', '.join(self.knowledge) or 'there are none'})")
        elif step.model.kind == "popularity":
            raise ValueError(f"conventional.{name}: popularity counts, and reads no fields; leave knowledge away")
        elif self.task == "next-item":
            raise ValueError(f"conventional.{name}.knowledge: fields of a target have no part where the target is asked for; "
                             "leave it away")

    def _fits_together(self, name: str, system: System) -> None:
        for key in sorted(set().union(*TASK_KEYS.values()) - TASK_KEYS[self.task]):
            if getattr(system, key) != System.model_fields[key].default:
                raise ValueError(f"systems.{name}.{key} means nothing where task = '{self.task}'; leave it away")
        allowed = sorted(n for n, c in self.conventional.items() if c.model.kind != "popularity")
        for key in ("representation", "soft"):
            if getattr(system, key) is not None and getattr(system, key) not in allowed:
                raise ValueError(
                    f"systems.{name}.{key} = '{getattr(system, key)}' is none of this recipe's conventional models with "
                    f"vectors ({', '.join(allowed) or 'there are none'})"
                )
        if system.coupling.needs_user and system.representation is None:
            raise ValueError(
                f"systems.{name}: coupling '{system.coupling.kind}' depends on the person, so it needs "
                f"representation = one of: {', '.join(allowed) or '(add a [conventional.NAME] first)'}"
            )
        if system.representation_training == "joint" and not system.coupling.needs_user:
            raise ValueError(f"systems.{name}: representation_training = 'joint', but coupling '{system.coupling.kind}' "
                             "takes no representation; nothing would reach it")
        if system.representation_layer != "final" and system.representation is None:
            raise ValueError(f"systems.{name}: representation_layer = '{system.representation_layer}' is of no model; "
                             "say of which: representation = NAME")
        if system.representation_layer == "random" and system.representation_training == "joint":
            raise ValueError(f"systems.{name}: representation_training = 'joint', but no model makes "
                             "representation_layer = 'random'; nothing would learn")
        given = (system.soft_at, system.soft_layer, system.soft_projector)
        if system.soft is None and given != (System().soft_at, System().soft_layer, System().soft_projector):
            raise ValueError(f"systems.{name}: soft_at, soft_layer and soft_projector are about soft tokens, and there are none; "
                             "say whose vectors they are made from: soft = NAME")
        if system.soft_layer != "final" and "user" not in system.soft_at:
            raise ValueError(f"systems.{name}: soft_layer = '{system.soft_layer}' is about the user's soft token, and "
                             "there is none; add \"user\" to soft_at")
        if system.shots == 0 and system.loss == "yes":
            raise ValueError(f"systems.{name}: loss = 'yes' makes a probability of the logit of yes, which it is after training "
                             "alone, and with shots = 0 nothing is trained; choose loss = 'answer'")
        if system.shots == 0 and (not isinstance(system.coupling, Identity.Config) or system.also is not None or system.soft):
            raise ValueError(f"systems.{name}: with shots = 0 nothing is trained, so coupling must be 'identity', also "
                             "and soft left out")
        if system.train == "coupling" and isinstance(system.coupling, Identity.Config) and system.soft is None:
            raise ValueError(f"systems.{name}: train = 'coupling' leaves nothing to learn with coupling 'identity', which "
                             "has no parameters, and without soft tokens; choose another coupling, or train = 'all'")
        if system.train == "coupling" and system.start is None:
            raise ValueError(f"systems.{name}: train = 'coupling' leaves A and B as they are, and B starts at zero: nothing "
                             "would ever change; say which LoRA to start from (start = NAME or FOLDER)")

    def _asks_what_comes_next(self) -> None:
        if self.encoders:
            raise ValueError("task = 'next-item' is nothing that an encoder can be asked; leave [encoders] away")
        for name, step in self.conventional.items():
            if step.model.kind not in NEXT_ITEM:
                raise ValueError(f"conventional.{name}.model.kind = '{step.model.kind}' knows one target and cannot be asked "
                                 f"what comes next; choose one of {', '.join(NEXT_ITEM)}")
            if step.behaviours is not None and step.behaviours.kind != "most-recent":
                raise ValueError(f"conventional.{name}.behaviours.kind = '{step.behaviours.kind}' chooses by the target, which "
                                 "is what is asked for; only 'most-recent' can be")
        for name, system in self.systems.items():
            if system.behaviours.kind != "most-recent":
                raise ValueError(f"systems.{name}.behaviours.kind = '{system.behaviours.kind}' chooses by the target, which is "
                                 "what is asked for; only 'most-recent' can be")
            if system.representation_layer == "fields":
                raise ValueError(f"systems.{name}.representation_layer = 'fields' holds the target, which is what is asked for; "
                                 "choose 'final', 'user' or 'random'")
            if self.data.rules.candidates is None:
                raise ValueError(f"systems.{name} ranks candidates, and there are none; give data.rules.candidates")
            if (system.soft is None) != (system.course == "text"):
                raise ValueError(f"systems.{name}: course = '{system.course}' " + (
                    "has soft tokens in its prompts; say whose vectors they are made from: soft = NAME" if system.soft is None
                    else "shows no soft tokens; choose 'hybrid', 'ids' or 'text-to-hybrid', or leave soft away"))
            if system.retriever is not None and system.retriever not in self.conventional:
                raise ValueError(f"systems.{name}.retriever = '{system.retriever}' is none of this recipe's conventional models "
                                 f"({', '.join(self.conventional) or 'there are none'})")

    def _starts_exist(self) -> None:
        names = list(self.systems)
        for name, system in self.systems.items():
            if system.start not in names:
                continue
            first = self.systems[system.start]
            if names.index(system.start) >= names.index(name):
                raise ValueError(f"systems.{name}.start = '{system.start}' comes later in the recipe; put it first")
            if not isinstance(first.coupling, Identity.Config):
                raise ValueError(f"systems.{name}.start = '{system.start}' has coupling '{first.coupling.kind}'; only an "
                                 "ordinary LoRA (coupling 'identity') can be a start")
            if first.coupling.rank != system.coupling.rank or first.targets != system.targets:
                raise ValueError(f"systems.{name}.start = '{system.start}' has another rank or other targets; make them equal")
