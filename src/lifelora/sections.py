"""The sections of a recipe, each with its keys: data, knowledge, conventional models, LM, two towers, systems, evaluation.

What one section may say by itself; what several of them must agree on is ``Recipe``'s.
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from lifelora.conventional import AnyRecommender
from lifelora.conventional.sasrec import SASRec
from lifelora.data.dataset import Rules
from lifelora.data.sources import AnySource
from lifelora.data.sources.simulated import Simulated
from lifelora.knowledge.encode import AnyVectors as AnyKnowledge
from lifelora.knowledge.encode import AnyWriter, Files
from lifelora.knowledge.encode import HiddenStates as ReadByLM
from lifelora.knowledge.experts import KnowledgeExperts
from lifelora.knowledge.texts import Questions
from lifelora.knowledge.write import LM, RawPrompt
from lifelora.llm.backbone import Pretrained
from lifelora.llm.nano import Nano
from lifelora.llm.next_item import ItemForm
from lifelora.llm.personal import Loss
from lifelora.llm.soft import Form
from lifelora.llm.two_tower import TwoTowerConfig
from lifelora.lora.inject import Adaptation
from lifelora.prompts.phrasing import PHRASINGS, Phrasing
from lifelora.prompts.slots import Place
from lifelora.prompts.template import AnyTemplate, Plain
from lifelora.retrieval.select import AnySelector, MostRecent
from lifelora.training import TrainingConfig
from lifelora.types import Frozen, Layer, LayerOrRandom

AnyBackbone = Annotated[Pretrained | Nano, Field(discriminator="kind")]


def of_kind(word: str) -> BeforeValidator:
    """A table that does not say its kind is of this one, so that one value of a default can be changed alone."""
    return BeforeValidator(lambda value: {"kind": word, **value} if isinstance(value, dict) else value)


def table(key: str) -> BeforeValidator:
    """A name alone is answered with the table that it stands for."""
    def check(value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f'this is a table: {key} = {{ model = "{value}" }}')
        return value
    return BeforeValidator(check)


class Data(Frozen):
    """The log and how it becomes samples."""

    source: Annotated[AnySource, of_kind("simulated")] = Simulated()
    rules: Rules = Rules()


class Knowledge(Questions):
    """What a language model knows of items and of users, made into vectors before anything asks for them (Laser)."""

    text: Annotated[AnyWriter, of_kind("prompt")] = RawPrompt()
    "What answers the questions about items and users: nothing (the question itself is read), the backbone, or an endpoint."
    vectors: Annotated[AnyKnowledge, of_kind("hidden-states")] = ReadByLM()
    "What turns texts into vectors; or where the vectors lie, and then nothing is written."

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
    knowledge_experts: KnowledgeExperts = KnowledgeExperts()
    "What turns its vectors into fields, trained with the model."
    train_samples: int | None = Field(default=None, ge=1)
    "Drawn once by seed (the first of them are the systems' training samples, too); all of them when left out (Few2Many)."
    validation_samples: int | None = Field(default=None, ge=1)
    "Validation samples, drawn once by seed; all of them when left out."
    training: TrainingConfig = TrainingConfig()


class TwoTower(TwoTowerConfig):
    """A text encoder that reads user and item apart (CTR-BERT), and how it is trained; no LM is asked anything."""

    behaviours: AnySelector = MostRecent.Config()
    template: Annotated[AnyTemplate, of_kind("plain")] = Plain(question=("{title}[[ ({genre})]]",))
    "The head and the behaviours are the user's text, the question's lines the item's; no answer is asked for."
    max_tokens: int = Field(default=512, ge=16)
    train_samples: int | None = Field(default=None, ge=1)
    "Drawn once by seed: the same as the systems'; all of them when left out."
    validation_samples: int | None = Field(default=1000, ge=1)
    "Validation samples, drawn once by seed; all of them with \"null\"."
    training: TrainingConfig = TrainingConfig()


class Representation(Frozen):
    """u is a layer of a conventional model."""

    kind: Literal["model"] = "model"
    model: str
    "Of [conventional.NAME]."
    layer: Layer = "final"
    """Which of its layers: its state or last hidden layer; all fields and the past, embedded; the user's id, where it is a
    field, and the mean of the past."""
    train: Literal["frozen", "frozen-with-dropout", "joint"] = "frozen"
    """Whether that model stays as it was trained, or goes on learning with the adapters; frozen, its dropout is off while the LM
    learns, or on as in the code of ReLLaX and RecLoRA."""


class RandomRepresentation(Frozen):
    """As a control, u is drawn once for each user."""

    kind: Literal["random"] = "random"
    width: int = Field(default=64, ge=1)


AnyRepresentation = Annotated[Representation | RandomRepresentation, Field(discriminator="kind")]


class Soft(Frozen):
    """Soft tokens in the prompt, made from the vectors of a conventional model (SPA, CoLLM)."""

    model: str
    "Of [conventional.NAME]."
    at: tuple[Place, ...] = Field(default=("behaviours", "target"), min_length=1)
    """Whose there are: each behaviour's item's and the target's, inside their lines, where ``{soft}`` or the end of the words is;
    the user's, in ``template.soft_user``, between behaviours and question."""
    layer: LayerOrRandom = "final"
    "Which of its layers is the user's vector there; or, as a control, numbers drawn once for each user."
    projector: Form = "spa"
    "What makes vectors as wide as the LM: SPA's and LLaRA's, one for items and one for users, or CoLLM's, one for both."

    @model_validator(mode="after")
    def _about_a_token(self) -> "Soft":
        if self.layer != "final" and "user" not in self.at:
            raise ValueError(f"layer = '{self.layer}' is about the user's soft token, and there is none; add \"user\" to at")
        return self


class System(Adaptation):
    """One language-model system; its adapters are an ``Adaptation``."""

    behaviours: AnySelector = MostRecent.Config()
    template: Annotated[AnyTemplate, of_kind("plain")] = Plain()
    max_tokens: int = Field(default=1024, ge=16)
    representation: Annotated[AnyRepresentation, of_kind("model"), table("representation")] | None = None
    "The u that feeds the coupling; needed by every coupling that depends on the user."
    soft: Annotated[Soft, table("soft")] | None = None
    "Soft tokens; the prompt is words alone when left out."
    loss: Loss = "answer"
    """What is learnt: the answer word among all words, and the score is p(yes) against p(no); or (CoLLM) the logit of yes
    alone, and the score is its sigmoid."""
    phrasings: tuple[Phrasing, ...] = Field(default=PHRASINGS, min_length=1)
    "Next item: the ways to ask; training draws one for every row, and whatever is evaluated is asked in the first."
    item_form: ItemForm = "text"
    "Next item: items by title, by title and soft token, by soft token alone, or LLaRA's curriculum from the first to the second."
    candidates_in_prompt: bool = True
    "Next item: whether the candidates stand in the prompt."
    length_normalised: bool = False
    "Next item: whether candidates are ranked by the log-likelihood of their titles, or by its mean over a title's tokens."
    retriever: str | None = None
    """Next item: the conventional model that chooses from the whole catalogue what the LM ranks; the model of ``representation``
    or ``soft`` when left out, and without either nothing does."""
    shortlist: int = Field(default=20, ge=2)
    "Next item: how many it chooses."
    init_from: str | None = None
    "An ordinary LoRA to start from: an earlier system of this recipe with coupling 'identity', or a folder in PEFT's format."
    mix_with: AnySelector | None = None
    "In training every sample comes a second time with these behaviours: ReLLa's mixed instruction tuning (ReiT)."
    train_samples: int | None = Field(default=None, ge=0)
    "Drawn once by seed; all of them when left out; with 0 the LM is asked as it is."
    validation_samples: int | None = Field(default=1000, ge=1)
    "Validation samples, drawn once by seed; all of them with \"null\"."
    training: TrainingConfig = TrainingConfig()

    @property
    def retriever_name(self) -> str | None:
        """The conventional model that chooses from the catalogue."""
        if self.retriever is not None:
            return self.retriever
        if isinstance(self.representation, Representation):
            return self.representation.model
        return None if self.soft is None else self.soft.model


class Evaluation(Frozen):
    """Which test samples, how sure, and how answers are asked for."""

    test_samples: int | None = Field(default=None, ge=2)
    "Samples that every system is judged on, drawn once by seed; all of them when left out."
    resamples: int = Field(default=1000, ge=100)
    "Draws of chance, from which ECE's value and interval come; no other figure is drawn."
    beams: int = Field(default=1, ge=1)
    "Next item: beams of the LM that chooses or writes a title; with one it is greedy."
    written_tokens: int = Field(default=64, ge=0)
    "Next item: the longest answer, in tokens, of the LM that may write anything; with 0 it is asked for candidates only."
