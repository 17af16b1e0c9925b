"""A language-model system of a recipe: what it reads, what u is, its soft tokens, its task's keys. Knows no other section."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from lifelora.llm.item_form import ItemForm
from lifelora.llm.personal import CoupledOn
from lifelora.llm.soft import Form
from lifelora.llm.yes_no import Loss
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Identity
from lifelora.prompts.slots import Place
from lifelora.prompts.wording.titles import PHRASINGS, Phrasing, TitleTemplate
from lifelora.prompts.wording.yes_no import AnyTemplate, Plain
from lifelora.recipe.sections import of_kind
from lifelora.retrieval.select import AnySelector, MostRecent
from lifelora.retrieval.shuffled import SHUFFLED
from lifelora.training import TrainingConfig
from lifelora.types import NULL, Frozen, Layer, LayerOrRandom, PathText

SYSTEMS = "systems"
"""Of a context: the recipe's systems by name; a folder of such a name is not meant."""
BLOCK = 4
"""Events of a user whose samples are shown one growing history, where nothing else is said."""


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


def table(key: str) -> BeforeValidator:
    """A name alone is answered with the table that it stands for."""

    def check(value: Any) -> Any:
        if isinstance(value, str):
            raise ValueError(f'this is a table: {key} = {{ model = "{value}" }}')
        return value

    return BeforeValidator(check)


class System(Adaptation):
    """One language-model system; its adapters are an ``Adaptation``."""

    later: ClassVar[frozenset[str]] = frozenset({"history", "block", "coupling_on", "control", "prior"})

    behaviours: AnySelector = MostRecent.Config()
    history: Literal["own", "growing"] = "own"
    """Whether each sample is shown its own behaviours, as in the papers; or those of a block of events one history that grows,
    from ``behaviours.k`` events before the block on, which is read once for all of them."""
    block: int | None = Field(default=None, ge=1)
    "With a growing history: how many events of a user are a block; 4 when left out, chosen by studies/blocks."
    control: Literal["shuffled-history", "titles-as-ids"] | None = None
    """As a control, something is taken away: the order of the behaviours, which is drawn by seed for each sample; or the words,
    every item in a prompt being called by a number that is drawn by seed. What the system loses, that was worth."""
    template: Annotated[AnyTemplate, of_kind("plain")] = Plain()
    """The words of a prompt that is answered yes or no. Where next items are asked, ``chat`` and ``system`` alone: of all the
    phrasings."""
    max_tokens: int = Field(default=1024, ge=16)
    representation: Annotated[AnyRepresentation, of_kind("model"), table("representation")] | None = None
    "The u that feeds the coupling; needed by every coupling that depends on the user."
    coupling_on: CoupledOn = "prompt"
    """What C(u) acts on: the whole prompt, as in the papers, with u as of the block's start where the history grows; or the
    question alone, behind behaviours that are read without any update, so that they are the same for every target."""
    soft: Annotated[Soft, table("soft")] | None = None
    "Soft tokens; the prompt is words alone when left out."
    loss: Loss = "answer"
    """What is learnt: the answer word among all words, and the score is p(yes) against p(no); or (CoLLM) the logit of yes
    alone, and the score is its sigmoid."""
    prior: str | None = None
    """Of [conventional.NAME]: a frozen model to whose logit the LM's is added, in training and in scoring, with two learnt
    numbers that start at zero, so that before the first step the system is that model. What is learnt is the sum."""
    phrasings: tuple[Phrasing, ...] = Field(default=PHRASINGS, min_length=1)
    "Next item: the ways to ask. Training draws one for each sample; evaluation uses the first."
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
    init_from: PathText | None = None
    "An ordinary LoRA to start from: an earlier system of this recipe with coupling 'identity', or a folder in PEFT's format."
    mix_with: AnySelector | None = None
    "In training every sample comes a second time with these behaviours: ReLLa's mixed instruction tuning (ReiT)."
    train_samples: int | None = Field(default=None, ge=0)
    "Drawn once by seed; all of them when left out; with 0 the LM is asked as it is."
    validation_samples: int | None = Field(default=1000, ge=1)
    'Validation samples, drawn once by seed; all of them with "null".'
    training: TrainingConfig = TrainingConfig()

    @field_validator("init_from", mode="wrap")
    @classmethod
    def _names_first(cls, value: Any, placed: Callable[[Any], Any], info: Any) -> Any:
        names = (info.context or {}).get(SYSTEMS) or ()
        return value if isinstance(value, str) and value in names else placed(value)

    @model_validator(mode="before")
    @classmethod
    def _has_a_block(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("history") == "growing" and values.get("block", NULL) in (None, NULL):
            return values | {"block": BLOCK}
        return values

    @model_validator(mode="after")
    def _shares_what_can_be_shared(self) -> "System":
        shown = self.behaviours
        if self.history == "own" and self.block is not None:
            raise ValueError(
                f"block = {self.block} says how many samples share a history that grows, and history = 'own' gives each its own; "
                "remove block, or set history = 'growing'"
            )
        if self.history == "growing" and not (isinstance(shown, MostRecent.Config) and not shown.liked):
            kind = f"behaviours.kind = '{shown.kind}'" + (" with liked = true" if isinstance(shown, MostRecent.Config) else "")
            raise ValueError(
                f"history = 'growing' shows all behaviours of a stretch in time, and {kind} leaves some out; choose "
                "behaviours = { kind = 'most-recent', k = ... } without liked, or history = 'own'"
            )
        if self.history == "growing" and self.control == SHUFFLED:
            raise ValueError(
                f"control = '{SHUFFLED}' draws an order for each sample, and history = 'growing' has one history for many; "
                "set history = 'own', or remove control"
            )
        if self.history == "growing" and self.mix_with is not None:
            raise ValueError("mix_with shows every sample a second time, and history = 'growing' has one for many; remove one")
        if self.coupling_on == "question" and not self.coupling.needs_user:
            raise ValueError(
                f"coupling_on = 'question' is about C(u), and coupling '{self.coupling.kind}' needs no user; remove "
                "coupling_on, or choose another coupling"
            )
        return self

    @model_validator(mode="after")
    def _learns_something(self) -> "System":
        plain, u = isinstance(self.coupling, Identity.Config), self.representation
        if self.prior is not None and self.loss == "yes":
            raise ValueError(
                f"loss = 'yes' learns the logit of yes alone, and with prior = '{self.prior}' the sum of two logits is learnt; "
                "remove loss or prior"
            )
        if self.train_samples == 0 and self.prior is not None:
            raise ValueError(
                f"with train_samples = 0 nothing is trained, and before that a system is its prior, '{self.prior}', whatever the "
                "LM says; remove prior, or give training samples"
            )
        if self.train_samples == 0 and self.loss == "yes":
            raise ValueError(
                "loss = 'yes' makes a probability of the logit of yes, which only training gives, and with "
                "train_samples = 0 nothing is trained; choose loss = 'answer'"
            )
        if self.train_samples == 0 and (not plain or self.mix_with or self.soft):
            raise ValueError(
                "with train_samples = 0 nothing is trained, so coupling must be 'identity'; remove mix_with and soft"
            )
        if self.train == "coupling" and plain and self.soft is None:
            raise ValueError(
                "train = 'coupling' leaves nothing to learn with coupling 'identity', which has no parameters, and "
                "without soft tokens; choose another coupling, or train = 'all'"
            )
        if self.train == "coupling" and self.init_from is None:
            raise ValueError(
                "train = 'coupling' leaves A and B as they are, and B starts at zero: nothing would ever change; "
                "name the LoRA to start from (init_from = NAME or FOLDER)"
            )
        if isinstance(u, Representation) and u.train != "frozen" and not self.coupling.needs_user:
            raise ValueError(
                f"representation.train = '{u.train}', but coupling '{self.coupling.kind}' takes no representation; "
                "nothing would reach it"
            )
        return self

    @model_validator(mode="after")
    def _soft_tokens_stand_somewhere(self) -> "System":
        items = {"behaviours", "target"} if self.candidates_in_prompt else {"behaviours"}
        if self.soft is not None and not {*items, "user"} & {*self.soft.at}:
            raise ValueError(
                "soft.at = ['target'] is about the candidates in the prompt, and candidates_in_prompt = false; add "
                "'behaviours' or 'user'"
            )
        if self.soft is not None and self.item_form == "ids" and not items & {*self.soft.at}:
            raise ValueError(
                "item_form = 'ids' shows items by soft tokens alone, and soft.at names no items that are shown; add "
                "'behaviours' or 'target' to it"
            )
        return self

    @property
    def fed_by(self) -> frozenset[str]:
        """The conventional models of which it takes u, soft tokens or its prior."""
        u, soft = self.representation, self.soft
        return frozenset(
            [
                *([u.model] if isinstance(u, Representation) else []),
                *([soft.model] if soft is not None else []),
                *([self.prior] if self.prior is not None else []),
            ]
        )

    @property
    def titles(self) -> TitleTemplate:
        """Next item: the ways to ask, in a chat or not."""
        return TitleTemplate(phrasings=self.phrasings, chat=self.template.chat, system=self.template.system)

    @property
    def retriever_name(self) -> str | None:
        """The conventional model that chooses from the catalogue."""
        if self.retriever is not None:
            return self.retriever
        if isinstance(self.representation, Representation):
            return self.representation.model
        return None if self.soft is None else self.soft.model
