"""The stages of a run: what each is made from, and where it lies. Knows recipes and folders, makes nothing.

    1-data ─► 2-backbone ─► 2-vectors, 2-knowledge/NAME ─► 3-conventional/NAME ─► 4-systems/NAME ─► 5-scores/NAME ─► 6-report

Each stage reads what it needs of those before it: a conventional model 2-vectors where they choose its behaviours, and
2-knowledge/NAME where that is among its fields. A two-tower encoder, 4-two-towers/NAME, brings its own model. A blend,
4-blends/NAME, reads what its members say of validation samples, 4-validation/MEMBER, and of test samples, 5-scores/MEMBER.
"""

import hashlib
import itertools
import re
import tomllib
from functools import cached_property
from pathlib import Path
from typing import Any

from lifelora.artefacts import write_atomically
from lifelora.errors import ArtefactError, ConfigError
from lifelora.llm.two_tower import encoder_fingerprint
from lifelora.progress import say
from lifelora.recipe.fed import learnt_from
from lifelora.recipe.files import dump, parse
from lifelora.recipe.recipe import TASK_KEYS, Recipe
from lifelora.recipe.system import Representation
from lifelora.run.keys import folder_hash, hashes, kept_value, told
from lifelora.stage import Stage

RECIPE_FILE = "recipe.toml"
SEAL = re.compile(r"# sha256 of the lines above: ([0-9a-f]{64})\n")
"""The last line of a kept recipe."""
KNOWLEDGE = "2-knowledge"
SYSTEM_EVALUATION_KEYS = {"retriever", "shortlist"}
EVALUATION_KEYS = {"ctr": set[str](), "next-item": {"beams", "written_tokens", *SYSTEM_EVALUATION_KEYS}}
"""Of a system and of [evaluation]: what only the evaluation of a language model reads."""
SAMPLES = {"test_samples", "test_users"}
"""Of [evaluation]: which samples are scored."""
NO_SOFT_USER: dict[str, Any] = {"template": {"soft_user"}}
"""A line that only prompts with the user's soft token have makes no other stage where they have none."""


class Stages:
    """All stages of one recipe in one folder."""

    def __init__(self, recipe: Recipe, folder: Path, source: str | None = None) -> None:
        """``source`` is the hash of the source's files; it is computed where it is not known."""
        self.recipe, self.folder = recipe, folder
        self.data = Stage(
            folder / "1-data",
            "prepare",
            {
                "source": told(recipe.data.source),
                "source_hash": source or recipe.data.source.fingerprint(),
                "rules": told(recipe.data.rules),
            },
        )

    @classmethod
    def open(cls, folder: Path) -> "Stages":
        """Of a run that exists, by the recipe that it keeps; the source's files need not be there any more.

        Raises ConfigError where there is no recipe, and ArtefactError where it is not the one that was written.
        """
        path = folder / RECIPE_FILE
        if not path.is_file():
            raise ConfigError(f"'{folder}' is not a run (it has no {RECIPE_FILE}); make one with `lifelora run`.")
        text = _as_written(path)
        if text is None:
            raise ArtefactError(
                f"{path} is not what was written: it is damaged, of an earlier version, or was edited, which "
                f"makes another run. Check it; then `lifelora run {path} --out FOLDER` makes that run, in "
                "the same folder or another."
            )
        recipe = parse(tomllib.loads(text), str(path), kept=True)
        return cls(recipe, folder, kept_value(folder / "1-data", "source_hash"))

    def write_recipe(self) -> None:
        """The fully expanded recipe, beside the artefacts. One there that is not as lifelora wrote it (the user's own, or
        edited) is the user's work: it is kept under another name.
        """
        path, text = self.folder / RECIPE_FILE, dump(self.recipe)
        if path.is_file():
            old = _as_written(path)
            if old == text:
                return
            if old is None:
                names = (path.with_name(f"recipe.before-{number}.toml") for number in itertools.count(1))
                kept = next(name for name in names if not name.exists())
                write_atomically(kept, path.read_bytes())
                say(f"{path} was not as lifelora writes it (your own, or edited): it is kept as {kept}")
        write_atomically(path, f"{text}# sha256 of the lines above: {hashlib.sha256(text.encode()).hexdigest()}\n")

    def every(self) -> list[Stage]:
        """All of them, in the order in which they are made."""
        return [
            self.data,
            *([self.backbone] if self.need_backbone else []),
            *([self.vectors] if self.need_vectors else []),
            *map(self.knowledge, self.recipe.knowledge),
            *map(self.made, self.recipe.conventional),
            *(stage for name in self.recipe.conventional for stage in self.folds(name)),
            *map(self.made, [*self.recipe.two_towers, *self.recipe.systems]),
            *map(self.validation, self.members),
            *map(self.blend, self.recipe.blends),
            *map(self.scores, self.names),
            self.report,
        ]

    def verified(self) -> tuple[str, bool]:
        """Every file of every finished stage against its hash: a text for a reader, and whether all of them are sound."""
        lines, sound = [], True
        for stage in self.every():
            try:
                lacking = stage.lacking()
                damage = [] if lacking else stage.damage(thorough=True)
            except ArtefactError as error:
                lacking, damage = None, [str(error)]
            sound = sound and not damage
            lines += [f"  {'DAMAGED' if damage else lacking or 'sound':<14} {stage.folder}", *(f"    {line}" for line in damage)]
        again = f"`lifelora run {self.folder}` makes again what is damaged; where it does not, move that stage's folder away."
        last = "Nothing is damaged." if sound else again
        return "\n".join([f"recipe '{self.recipe.name}' in {self.folder}:", *lines, last]), sound

    @property
    def names(self) -> list[str]:
        """Everything that is compared, conventional models first."""
        return [*self.recipe.conventional, *self.recipe.two_towers, *self.recipe.systems, *self.recipe.blends]

    @property
    def members(self) -> list[str]:
        """Everything that some blend weighs."""
        return [name for name in self.names if any(name in blend.of for blend in self.recipe.blends.values())]

    @property
    def need_vectors(self) -> bool:
        """Whether anything retrieves by item vectors."""
        encoders = any(encoder.behaviours.needs_vectors for encoder in self.recipe.two_towers.values())
        systems = any(map(self.shows_by_vectors, self.recipe.systems))
        return encoders or systems or any(map(self.reads_by_vectors, self.recipe.conventional))

    def shows_by_vectors(self, name: str) -> bool:
        """Whether a system shows behaviours that item vectors choose, at least in training."""
        system = self.recipe.systems[name]
        return system.behaviours.needs_vectors or (system.mix_with is not None and system.mix_with.needs_vectors)

    def reads_by_vectors(self, name: str) -> bool:
        """Whether a conventional model reads behaviours that item vectors choose."""
        behaviours = self.recipe.conventional[name].behaviours
        return behaviours is not None and behaviours.needs_vectors

    def conventional(self, name: str, fold: int | None = None) -> Stage:
        """A conventional model, or the copy of it that is not fitted on a fold of the samples."""
        step = self.recipe.conventional[name]
        unused = {"folds"} | ({"knowledge", "knowledge_experts"} if step.knowledge is None else set[str]())
        config = told(step, exclude=unused) | {"seed": self.recipe.seed, "task": self.recipe.task}
        if step.held_out != "none":
            config["learnt_from"] = [list(drawn) for drawn in learnt_from(self.recipe.systems, name).items()]
        inputs = {"data": self.data} | ({"vectors": self.vectors} if self.reads_by_vectors(name) else {})
        if step.knowledge is not None:
            inputs["knowledge"] = self.knowledge(step.knowledge)
        if fold is not None:
            config |= {"fold": fold, "folds": step.folds}
            return Stage(self.folder / "3-folds" / name / str(fold), f"fit/{name}/{fold}", config, inputs)
        return Stage(self.folder / "3-conventional" / name, f"fit/{name}", config, inputs)

    def folds(self, name: str) -> list[Stage]:
        """The copies of a conventional model."""
        return [self.conventional(name, fold) for fold in range(self.recipe.conventional[name].folds or 0)]

    def knowledge(self, name: str) -> Stage:
        """Vectors of what is known of items and users."""
        known, folder = self.recipe.knowledge[name], self.folder / KNOWLEDGE / name
        config = told(known) | hashes(folder, known.vectors.files())
        inputs = {"data": self.data} | ({"backbone": self.backbone} if known.needs_backbone else {})
        return Stage(folder, f"embed/knowledge/{name}", config, inputs)

    @cached_property
    def backbone(self) -> Stage:
        """The LM: a note of which, or a nano one, which depends on the training samples it reads."""
        config = told(self.recipe.backbone, exclude=NO_SOFT_USER)
        if not self.recipe.backbone.made:
            return Stage(self.folder / "2-backbone", "embed/backbone", config | {"files": self.recipe.backbone.fingerprint()})
        return Stage(self.folder / "2-backbone", "embed/backbone", config | {"seed": self.recipe.seed}, {"data": self.data})

    @property
    def need_backbone(self) -> bool:
        """Whether anything asks the language model."""
        by_knowledge = any(known.needs_backbone for known in self.recipe.knowledge.values())
        return bool(self.recipe.systems) or by_knowledge or (self.need_vectors and self.recipe.vectors.needs_backbone)

    @cached_property
    def vectors(self) -> Stage:
        """Item vectors; a sentence encoder brings its own model, and a file needs none."""
        folder, vectors = self.folder / "2-vectors", self.recipe.vectors
        config = told(vectors) | {"tensor": "vectors_NE"} | hashes(folder, vectors.files())
        inputs = {"data": self.data} | ({"backbone": self.backbone} if vectors.needs_backbone else {})
        return Stage(folder, "embed/vectors", config, inputs)

    def two_tower(self, name: str) -> Stage:
        """An encoder with two towers; it brings its own model."""
        encoder = self.recipe.two_towers[name]
        config = told(encoder, exclude=NO_SOFT_USER)
        config |= {"seed": self.recipe.seed, "files": self._encoder_files[name]}
        inputs = {"data": self.data} | ({"vectors": self.vectors} if encoder.behaviours.needs_vectors else {})
        return Stage(self.folder / "4-two-towers" / name, f"train/{name}", config, inputs)

    @cached_property
    def _encoder_files(self) -> dict[str, str]:
        return {name: encoder_fingerprint(encoder) for name, encoder in self.recipe.two_towers.items()}

    def made(self, name: str) -> Stage:
        """What is called so: a conventional model, an encoder, a system or a blend."""
        if name in self.recipe.conventional:
            return self.conventional(name)
        if name in self.recipe.blends:
            return self.blend(name)
        return self.two_tower(name) if name in self.recipe.two_towers else self.system(name)

    def system(self, name: str) -> Stage:
        """A language-model system."""
        system = self.recipe.systems[name]
        inputs = {"data": self.data, "backbone": self.backbone}
        if self.shows_by_vectors(name):
            inputs["vectors"] = self.vectors
        if isinstance(system.representation, Representation):
            inputs["representation"] = self.conventional(system.representation.model)
        if system.soft is not None:
            inputs["soft"] = self.conventional(system.soft.model)
        if system.prior is not None:
            inputs["prior"] = self.conventional(system.prior)
            inputs |= {f"prior, fold {fold}": stage for fold, stage in enumerate(self.folds(system.prior))}
        # What only the other task has, or what only an evaluation asks, makes no other system.
        others = set().union(*TASK_KEYS.values()) - TASK_KEYS[self.recipe.task]
        without = dict.fromkeys([*others, *SYSTEM_EVALUATION_KEYS], True)
        if system.soft is None or "user" not in system.soft.at:
            without = NO_SOFT_USER | without
        config = told(system, exclude=without) | {"seed": self.recipe.seed}
        if system.template.chat:
            config["chat"] = system.template.model_dump(include={"chat", "system"})
            config["chat_template"] = folder_hash(Path(self.recipe.backbone.place), "*.jinja")
        if system.soft is not None:
            config["soft_tokens"] = "inside their lines"  # they stood at the start of the next ones once
        if system.init_from in self.recipe.systems:
            inputs["start"] = self.system(system.init_from)
        elif system.init_from is not None:
            config["start_hash"] = folder_hash(Path(system.init_from).expanduser())
        return Stage(self.folder / "4-systems" / name, f"train/{name}", config, inputs)

    def blend(self, name: str) -> Stage:
        """The weights of a blend's members."""
        blend = self.recipe.blends[name]
        config = told(blend) | {"seed": self.recipe.seed}
        return Stage(self.folder / "4-blends" / name, f"train/{name}", config, {m: self.validation(m) for m in blend.of})

    def validation(self, name: str) -> Stage:
        """What a member of blends says of validation samples; a language model is asked once for all blends."""
        config = {"validation_samples": self.validation_count(name), "seed": self.recipe.seed}
        return Stage(self.folder / "4-validation" / name, f"train/validation/{name}", config, {"system": self.made(name)})

    def validation_count(self, name: str) -> int | None:
        """As many as the blend with the most of them asks for; fewer are the first of more. None: all."""
        counts = [blend.validation_samples for blend in self.recipe.blends.values() if name in blend.of]
        return None if None in counts else max(count for count in counts if count is not None)

    def scores(self, name: str) -> Stage:
        """What a model or system says of the test samples."""
        evaluation = self.recipe.evaluation
        config: dict[str, object] = told(evaluation, include=SAMPLES) | {"seed": self.recipe.seed}
        inputs = {"system": self.made(name)}
        if name in self.recipe.systems:
            system, keys = self.recipe.systems[name], EVALUATION_KEYS[self.recipe.task]
            config |= evaluation.model_dump(include=keys) | system.model_dump(include=keys)
            if "retriever" in keys and system.retriever_name is not None:
                inputs["retriever"] = self.conventional(system.retriever_name)
        if name in self.recipe.blends:
            inputs |= {member: self.scores(member) for member in self.recipe.blends[name].of}
        return Stage(self.folder / "5-scores" / name, f"evaluate/{name}", config, inputs)

    @property
    def report(self) -> Stage:
        """The comparison of all."""
        config = told(self.recipe.evaluation, include={*SAMPLES, "resamples"})
        return Stage(
            self.folder / "6-report",
            "evaluate",
            config | {"seed": self.recipe.seed},
            {name: self.scores(name) for name in self.names},
        )


def _as_written(path: Path) -> str | None:
    """The text of a kept recipe; None where it is not the one that lifelora wrote."""
    text, _, seal = path.read_bytes().rpartition(b"# sha256")
    sealed = SEAL.fullmatch((b"# sha256" + seal).decode(errors="replace"))
    return text.decode() if sealed is not None and sealed[1] == hashlib.sha256(text).hexdigest() else None
