"""Recipes: the configuration of all stages, and what in it fits together. Knows the sections, no file, and runs none of them.

A recipe is a point in the space of design: which behaviours are shown (data), how they are written (prompt), how the
LM's updates depend on the user (parameter), and the task. Several systems may stand in one recipe, side by side.
"""

from typing import Literal

from pydantic import Field, model_validator

from lifelora.conventional.inputs import Common
from lifelora.kinds import MODELS
from lifelora.knowledge.experts import KnowledgeExperts
from lifelora.llm.backbone import AnyBackbone
from lifelora.llm.nano import Nano
from lifelora.lora.coupling import Identity
from lifelora.prompts.wording.yes_no import Plain
from lifelora.recipe import fed
from lifelora.recipe.sections import Blend, Conventional, Data, Evaluation, Knowledge, TwoTower
from lifelora.recipe.system import Representation, System
from lifelora.types import Frozen, names_a_folder
from lifelora.vectors.base import AnyVectors
from lifelora.vectors.encode import HiddenStates

TASK_KEYS: dict[str, frozenset[str]] = {
    "ctr": frozenset({"template", "loss"}),
    "next-item": frozenset({"phrasings", "item_form", "candidates_in_prompt", "length_normalised", "retriever", "shortlist"}),
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
    backbone: AnyBackbone = Nano()
    vectors: AnyVectors = HiddenStates()
    two_towers: dict[str, TwoTower] = Field(default_factory=dict)
    systems: dict[str, System] = Field(default_factory=dict)
    blends: dict[str, Blend] = Field(default_factory=dict)
    evaluation: Evaluation = Evaluation()

    @model_validator(mode="after")
    def _consistent(self) -> "Recipe":
        names = [*self.conventional, *self.two_towers, *self.systems, *self.blends]
        if not names:
            raise ValueError("a recipe needs at least one [conventional.NAME], [two_towers.NAME] or [systems.NAME]")
        for name in names:
            sections = (
                ("a conventional model", self.conventional),
                ("a two-tower encoder", self.two_towers),
                ("a system", self.systems),
                ("a blend", self.blends),
            )
            kinds = [what for what, named in sections if name in named]
            if len(kinds) > 1:
                raise ValueError(f"the name '{name}' stands for {' and '.join(kinds)}; rename one")
        for name in [self.name, *names, *self.knowledge]:
            if not names_a_folder(name):
                raise ValueError(
                    f"{name!a:.120} cannot be the name of a folder; use letters, digits, '-' and '_', at most 100 bytes"
                )
        for some in (names, self.knowledge):
            same = [name for name in some if sum(name.casefold() == other.casefold() for other in some) > 1]
            if same:
                raise ValueError(
                    f"the names {' and '.join(map(repr, same))} are one folder where a disk does not tell capitals "
                    "from small letters; rename one"
                )
        for name, step in self.conventional.items():
            self._knows(name, step)
        if self.task == "next-item":
            self._asks_what_comes_next()
        for name, system in self.systems.items():
            self._fits_together(name, system)
        for name, step in self.conventional.items():
            fed.check(name, step, self.systems)
        self._starts_exist()
        for name, blend in self.blends.items():
            self._weighs(name, blend)
        return self

    def _knows(self, name: str, step: Conventional) -> None:
        if step.knowledge is None:
            if step.knowledge_experts != KnowledgeExperts():
                raise ValueError(f"conventional.{name}.knowledge_experts needs knowledge; add knowledge = NAME")
        elif step.knowledge not in self.knowledge:
            raise ValueError(
                f"conventional.{name}.knowledge = '{step.knowledge}' is none of this recipe's [knowledge.NAME] "
                f"({', '.join(self.knowledge) or 'there are none'})"
            )
        elif not isinstance(step.model, Common):
            raise ValueError(f"conventional.{name}: {step.model.kind} reads no extra fields; remove knowledge")
        elif self.task == "next-item":
            raise ValueError(
                f"conventional.{name}.knowledge becomes fields of the target, and task = 'next-item' asks for the "
                "target; remove knowledge"
            )

    def _fits_together(self, name: str, system: System) -> None:
        for key in sorted(set().union(*TASK_KEYS.values()) - TASK_KEYS[self.task]):
            said, unsaid = getattr(system, key), System.model_fields[key].default
            if key == "template":
                unsaid = Plain(chat=said.chat, system=said.system)
            if said != unsaid:
                mend = "remove all of it but chat and system" if key == "template" else "remove it"
                raise ValueError(f"systems.{name}.{key} has no meaning where task = '{self.task}'; {mend}")
        if system.template.chat and self.backbone.made:
            raise ValueError(
                f"systems.{name}.template.chat = true, and backbone.kind = '{self.backbone.kind}', which the run makes, has no "
                f"chat template; choose a pretrained chat model (backbone.path), or set systems.{name}.template.chat = false"
            )
        if system.prior is not None:
            self._has_its_prior(name, system.prior)
        u, soft = system.representation, system.soft
        allowed = sorted(n for n, c in self.conventional.items() if not c.model.counts)
        for key, model in (("representation", u.model if isinstance(u, Representation) else None), ("soft", soft and soft.model)):
            if model is not None and model not in allowed:
                raise ValueError(
                    f"systems.{name}.{key}.model = '{model}' is none of this recipe's conventional models with "
                    f"vectors ({', '.join(allowed) or 'there are none'})"
                )
        if system.coupling.needs_user and u is None:
            raise ValueError(
                f"systems.{name}: coupling '{system.coupling.kind}' depends on the user, so it needs "
                f"representation = {{ model = NAME }}, and NAME is one of: "
                f"{', '.join(allowed) or '(add a [conventional.NAME] first)'}"
            )

    def _has_its_prior(self, name: str, prior: str) -> None:
        if self.task == "next-item":
            raise ValueError(
                f"systems.{name}.prior = '{prior}' is a logit of p(like), which task = 'next-item' does not ask for; remove it, "
                f'and weigh both in a blend: [blends.NAME] with of = ["{prior}", "{name}"]'
            )
        if prior not in self.conventional:
            raise ValueError(
                f"systems.{name}.prior = '{prior}' is none of this recipe's conventional models "
                f"({', '.join(self.conventional) or 'there are none'})"
            )

    def _asks_what_comes_next(self) -> None:
        if self.data.rules.negatives is not None:
            raise ValueError(
                "data.rules.negatives never came next, and task = 'next-item' asks what did; remove them, and give "
                "data.rules.candidates for lists to stand out from"
            )
        if self.two_towers:
            raise ValueError("a two-tower encoder cannot answer task = 'next-item'; remove [two_towers]")
        able = [kind for kind in MODELS.ours if MODELS.find(kind).next_item]
        for name, step in self.conventional.items():
            if not step.model.next_item:
                raise ValueError(
                    f"conventional.{name}.model.kind = '{step.model.kind}' knows one target and cannot say "
                    f"what comes next; choose one of {', '.join(able)}"
                )
            if step.behaviours is not None and step.behaviours.needs_target:
                raise ValueError(
                    f"conventional.{name}.behaviours.kind = '{step.behaviours.kind}' chooses by the target, which "
                    "task = 'next-item' asks for; choose 'most-recent'"
                )
        for name, system in self.systems.items():
            u, soft = system.representation, system.soft
            for key, shown in (("behaviours", system.behaviours), ("mix_with", system.mix_with)):
                if shown is not None and shown.needs_target:
                    raise ValueError(
                        f"systems.{name}.{key}.kind = '{shown.kind}' chooses by the target, which "
                        "task = 'next-item' asks for; choose 'most-recent'"
                    )
            if isinstance(u, Representation) and u.layer == "fields":
                raise ValueError(
                    f"systems.{name}.representation.layer = 'fields' holds the target, which task = 'next-item' "
                    "asks for; choose 'final' or 'user', or representation = { kind = 'random' }"
                )
            if soft is not None and soft.layer == "fields":
                raise ValueError(
                    f"systems.{name}.soft.layer = 'fields' holds the target, which task = 'next-item' asks for; "
                    "choose 'final', 'user' or 'random'"
                )
            if self.data.rules.candidates is None:
                raise ValueError(f"systems.{name} ranks candidates, and there are none; give data.rules.candidates")
            if (soft is None) != (system.item_form == "text"):
                raise ValueError(
                    f"systems.{name}: item_form = '{system.item_form}' "
                    + (
                        "has soft tokens in its prompts; say which model makes them: soft = { model = NAME }"
                        if soft is None
                        else "shows no soft tokens; choose 'hybrid', 'ids' or 'text-to-hybrid', or remove soft"
                    )
                )
            if system.retriever is not None and system.retriever not in self.conventional:
                raise ValueError(
                    f"systems.{name}.retriever = '{system.retriever}' is none of this recipe's conventional models "
                    f"({', '.join(self.conventional) or 'there are none'})"
                )

    def _starts_exist(self) -> None:
        names = list(self.systems)
        for name, system in self.systems.items():
            if system.init_from not in names:
                continue
            first = self.systems[system.init_from]
            if names.index(system.init_from) >= names.index(name):
                raise ValueError(f"systems.{name}.init_from = '{system.init_from}' comes later in the recipe; put it first")
            if not isinstance(first.coupling, Identity.Config):
                raise ValueError(
                    f"systems.{name}.init_from = '{system.init_from}' has coupling '{first.coupling.kind}'; only an "
                    "ordinary LoRA (coupling 'identity') can be one to start from"
                )
            if first.coupling.rank != system.coupling.rank or first.targets != system.targets:
                raise ValueError(
                    f"systems.{name}.init_from = '{system.init_from}' has another rank or other targets; make them equal"
                )

    def _weighs(self, name: str, blend: Blend) -> None:
        members = [*self.conventional, *self.two_towers, *self.systems]
        for member in blend.of:
            if member in self.blends:
                what = "the blend itself" if member == name else "a blend, too"
                raise ValueError(f"blends.{name}.of: '{member}' is {what}; name its members in its place")
            if member not in members:
                raise ValueError(
                    f"blends.{name}.of: '{member}' is none of this recipe's models, encoders and systems "
                    f"({', '.join(members) or 'there are none'})"
                )
        if self.task == "next-item" and self.data.rules.candidates is None:
            raise ValueError(f"blends.{name} weighs scores of candidates, and there are none; give data.rules.candidates")
