"""Recipes: the configuration of all stages, and what in it fits together. Knows the sections, no file, and runs none of them.

A recipe is a point in the space of design: which behaviours are shown (data), how they are written (prompt), how the
LM's updates depend on the person (parameter), and the task. Several systems may stand in one recipe, side by side.
"""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lifelora.knowledge.adaptor import Adaptor
from lifelora.llm.nano import Nano
from lifelora.lora.coupling import Identity
from lifelora.retrieval.embed import AnyVectors, HiddenStates
from lifelora.sections import AnyBackbone, Conventional, Data, Encoder, Evaluation, Knowledge, System, of_kind
from lifelora.types import Frozen, names_a_folder

NEXT_ITEM = ("popularity", "gru4rec", "caser", "sasrec")
"""Conventional models that can be asked what comes next."""
TASK_KEYS: dict[str, frozenset[str]] = {
    "ctr": frozenset({"template", "soft_at", "soft_layer", "also", "representation_training", "loss"}),
    "next-item": frozenset({"phrasings", "course", "listed", "per", "retriever", "shortlist"}),
}
"""What only a system of one task has."""


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
    backbone: Annotated[AnyBackbone, of_kind("nano")] = Nano()
    vectors: Annotated[AnyVectors, of_kind("hidden-states")] = HiddenStates()
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
        for name in [self.name, *names, *self.knowledge]:
            if not names_a_folder(name):
                raise ValueError(f"{name!a:.120} is no good as a name of a folder; use letters, digits, '-' and '_', 100 bytes "
                                 "at most")
        for some in (names, self.knowledge):
            same = [name for name in some if sum(name.casefold() == other.casefold() for other in some) > 1]
            if same:
                raise ValueError(f"the names {' and '.join(map(repr, same))} are one folder where a disk does not tell capitals "
                                 "from small letters; rename one")
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
        if system.representation_training != "frozen" and not system.coupling.needs_user:
            raise ValueError(f"systems.{name}: representation_training = '{system.representation_training}', but coupling "
                             f"'{system.coupling.kind}' takes no representation; nothing would reach it")
        if system.representation_layer != "final" and system.representation is None:
            raise ValueError(f"systems.{name}: representation_layer = '{system.representation_layer}' is of no model; "
                             "say of which: representation = NAME")
        if system.representation_layer == "random" and system.representation_training != "frozen":
            raise ValueError(f"systems.{name}: representation_training = '{system.representation_training}', but no model makes "
                             "representation_layer = 'random'; leave one of them away")
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
