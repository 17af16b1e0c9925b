"""The sections of a recipe, each with its keys: data, knowledge, conventional models, two towers, evaluation. Knows no system.

What one section may say by itself; what several of them must agree on is ``Recipe``'s.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field, model_validator

from lifelora.conventional import AnyRecommender
from lifelora.conventional.sasrec import SASRec
from lifelora.data.prepare import Rules
from lifelora.data.sources import AnySource
from lifelora.data.sources.simulated import Simulated
from lifelora.knowledge.experts import KnowledgeExperts
from lifelora.knowledge.questions import Questions
from lifelora.knowledge.read import BY_LM, AnyKnowledge, OwnKnowledge
from lifelora.knowledge.write import AnyWriter, RawPrompt
from lifelora.llm.two_tower import TwoTowerConfig
from lifelora.prompts.wording.yes_no import AnyTemplate, Plain
from lifelora.retrieval.select import AnySelector, MostRecent
from lifelora.training import TrainingConfig
from lifelora.types import Frozen
from lifelora.vectors.base import TextVectors


def of_kind(word: str) -> BeforeValidator:
    """A table that does not say its kind is of this one, so that one value of a default can be changed alone."""
    return BeforeValidator(lambda value: {"kind": word, **value} if isinstance(value, dict) else value)


class Data(Frozen):
    """The log and how it becomes samples."""

    source: AnySource = Simulated()
    rules: Rules = Rules()


class Knowledge(Questions):
    """What a language model knows of items and of users, made into vectors before anything asks for them (Laser)."""

    text: AnyWriter = RawPrompt()
    "What answers the questions about items and users: nothing (the question itself is read), the backbone, or an endpoint."
    vectors: AnyKnowledge = BY_LM
    "What turns texts into vectors; or where the vectors lie, and then nothing is written."

    @property
    def needs_backbone(self) -> bool:
        """Whether the recipe's language model is asked."""
        return self.text.needs_backbone or self.vectors.needs_backbone

    @model_validator(mode="after")
    def _read_by_somebody(self) -> "Knowledge":
        if not isinstance(self.vectors, TextVectors | OwnKnowledge):
            raise ValueError(f"vectors.kind = '{self.vectors.kind}' makes vectors of items, not of texts; choose another")
        return self

    @model_validator(mode="after")
    def _written_for_something(self) -> "Knowledge":
        if isinstance(self.vectors, OwnKnowledge) and not isinstance(self.text, RawPrompt):
            raise ValueError(
                f"text.kind = '{self.text.kind}' writes texts, and vectors.kind = 'precomputed' reads none; remove text"
            )
        return self


class Conventional(Frozen):
    """A conventional model and how it is trained."""

    later: ClassVar[frozenset[str]] = frozenset({"control", "held_out", "folds"})

    model: AnyRecommender = SASRec.Config()
    behaviours: AnySelector | None = None
    "Which behaviours it reads; the last ``model.history_length`` when left out. With those like the target DIN is SIM."
    control: Literal["shuffled-history"] | None = None
    "As a control, it reads its behaviours in an order drawn by seed for each sample."
    knowledge: str | None = None
    "Of [knowledge.NAME]: what becomes further fields of the model, one of the user and one of the target."
    knowledge_experts: KnowledgeExperts = KnowledgeExperts()
    "What turns its vectors into fields, trained with the model."
    train_samples: int | None = Field(default=None, ge=1)
    "Drawn once by seed (the first of them are the systems' training samples, too); all of them when left out (Few2Many)."
    held_out: Literal["none", "systems"] = "none"
    """Which training samples it is not fitted on: those that the systems learn from to which it gives u, soft tokens or a prior,
    so that it knows no more of their answers there than it will of new ones; ``train_samples`` are drawn from the rest."""
    folds: int | None = Field(default=None, ge=2)
    """For priors alone: so many further copies, each fitted without one part of the training samples, and a system's prior of a
    sample is that of the copy that was not fitted on it; of validation and test it is the model's own."""
    validation_samples: int | None = Field(default=None, ge=1)
    "Validation samples, drawn once by seed; all of them when left out."
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _counts(self) -> "Conventional":
        if self.model.counts and self.behaviours is not None:
            raise ValueError(f"{self.model.kind} counts, and reads no behaviours that are chosen; remove behaviours")
        if self.model.counts and self.control is not None:
            raise ValueError(f"{self.model.kind} counts, and reads no order; remove control")
        return self


class TwoTower(TwoTowerConfig):
    """A text encoder that reads user and item apart (CTR-BERT), and how it is trained; no LM is asked anything."""

    behaviours: AnySelector = MostRecent.Config()
    template: Annotated[AnyTemplate, of_kind("plain")] = Plain(question=("{title}[[ ({genre})]][[ ({others})]]",))
    "The head and the behaviours are the user's text, the question's lines the item's; no answer is asked for."
    max_tokens: int = Field(default=512, ge=16)
    train_samples: int | None = Field(default=None, ge=1)
    "Drawn once by seed: the same as the systems'; all of them when left out."
    validation_samples: int | None = Field(default=1000, ge=1)
    'Validation samples, drawn once by seed; all of them with "null".'
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _no_chat(self) -> "TwoTower":
        if self.template.chat:
            raise ValueError("template.chat = true asks a chat model, and an encoder reads texts and answers nothing; remove it")
        return self


class Blend(Frozen):
    """Scorers that are weighed together: members of a linear model of which validation samples choose the weights."""

    of: tuple[str, ...]
    "The members: two or more conventional models, two-tower encoders or systems of the recipe."
    validation_samples: int | None = Field(default=1000, ge=1)
    'Validation samples on which the weights are fitted, drawn once by seed, the same for all members; all of them with "null".'

    @model_validator(mode="after")
    def _several(self) -> "Blend":
        if twice := sorted({name for name in self.of if self.of.count(name) > 1}):
            raise ValueError(f"of names {', '.join(map(repr, twice))} twice; name each member once")
        if len(self.of) < 2:
            raise ValueError("of names fewer than two members, and one alone needs no weights; name two or more")
        return self


class Evaluation(Frozen):
    """Which test samples, how sure, and how answers are asked for."""

    later: ClassVar[frozenset[str]] = frozenset({"test_users"})
    test_samples: int | None = Field(default=None, ge=2)
    "Samples that every system is judged on, drawn once by seed; all of them when left out."
    test_users: int | None = Field(default=None, ge=2)
    """In place of them: all the test samples of so many users, drawn once by seed. They say more of the order within a user
    (GAUC), and with a growing history they share what is read."""
    resamples: int = Field(default=1000, ge=100)
    "Draws of chance, from which ECE's value and interval come; no other figure is drawn."
    beams: int = Field(default=1, ge=0)
    "Next item: beams of the LM that chooses or writes a title; with 1 it is greedy, with 0 it is asked for no title."
    written_tokens: int = Field(default=64, ge=0)
    "Next item: the longest answer, in tokens, of the LM that may write anything; with 0 it is asked for candidates only."

    @model_validator(mode="after")
    def _one_way(self) -> "Evaluation":
        if self.test_samples is not None and self.test_users is not None:
            raise ValueError(
                f"test_samples = {self.test_samples} draws samples and test_users = {self.test_users} draws users with all of "
                "theirs; remove one"
            )
        return self
