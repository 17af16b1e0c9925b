"""A user's adapter out of a finished run, as an ordinary LoRA; and what a recipe says to start from one. Knows scorers."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import numpy as np
import tomli_w
from torch import Tensor

from lifelora.artefacts import write_atomically
from lifelora.errors import ConfigError
from lifelora.lora.collection import INDEX, as_name
from lifelora.lora.export import CONFIG, TENSORS, peft_adapter, write_files
from lifelora.lora.saved import read_peft
from lifelora.progress import Progress
from lifelora.recipe.system import System
from lifelora.run.choice import best
from lifelora.run.run import Run
from lifelora.run.scorers.language import LanguageScorer

COHORT = "cohort.json"
"Which folder is whose, where many users' adapters lie side by side."


@final
@dataclass(frozen=True)
class Exporter:
    """The adapters of one system: of each user, or one for all."""

    run: Run
    scorer: LanguageScorer[Any]
    users: Sequence[str] | None
    "None for a system whose adapter is the same for all users."
    item: str | None

    @classmethod
    def of(cls, run: Run, system: str | None, users: Sequence[str] | None, item: str | None) -> "Exporter":
        """Raises ConfigError for choices that do not fit and DataError for unknown ids."""
        scorer = language(run, system)
        name, config = scorer.name, scorer.system
        personal = config.coupling.needs_user
        if personal != (users is not None):
            raise ConfigError(
                f"system '{name}' (coupling '{config.coupling.kind}') has an adapter for each user; give --user or --cohort."
                if personal
                else f"system '{name}' (coupling '{config.coupling.kind}') is the same for all users; remove --user and --cohort."
            )
        whole(name, config)
        made = cls(run, scorer, users, item)
        if made.sees_target != (item is not None):
            raise ConfigError(
                f"u of system '{name}' comes from '{made.maker}' and depends on the target as well as on the user, and so does "
                "the adapter; give --item."
                if made.sees_target
                else f"system '{name}' gives a user one adapter for all items; remove --item."
            )
        run.context.dataset.users.inside(list(users or ()))
        run.context.dataset.items.inside([] if item is None else [item])
        return made

    @property
    def sees_target(self) -> bool:
        """Whether a user has another adapter for every item."""
        return self.users is not None and self.scorer.u_sees_target

    @property
    def maker(self) -> str:
        """The conventional model that u comes from, for an error."""
        parent = self.scorer.parents.representation
        return parent.name if parent else ""

    def adapters(self, users: Sequence[str] | None = None) -> Iterator[tuple[str, dict[str, Any], dict[str, Tensor]]]:
        """(user, adapter_config, tensors) of each user, or of some; "" for no user. The adapters are in place meanwhile."""
        scorer, dataset, base_model = self.scorer, self.run.context.dataset, self.run.context.base_model
        adapters = scorer.lm.adapters
        with adapters.loaded():
            if self.users is None:
                yield "", *peft_adapter(adapters, None, base_model)
                return
            item_1 = np.zeros(1, np.int64) if self.item is None else dataset.items.inside([self.item]).astype(np.int64)
            for user in self.users if users is None else users:
                index = int(dataset.users.inside([user])[0])
                u_1D = scorer.represented(scorer.show(self.run.task.now(index, item_1)), np.zeros(1, np.int64))
                yield user, *peft_adapter(adapters, u_1D, base_model)


def export(run: Run, folder: Path, *, system: str | None, users: Sequence[str] | None, item: str | None) -> dict[str, Path]:
    """Write the adapter of each user to a folder of its own in ``folder``; if there is one user or none, to ``folder``.

    Returns the folders by user ("" for no user). ``item`` is the target, for systems whose u depends on it. Raises what
    ``Exporter.of`` raises, before anything is written.
    """
    exporter = Exporter.of(run, system, users, item)
    if any((folder / file).exists() for file in (CONFIG, TENSORS, COHORT, INDEX)):
        raise ConfigError(f"'{folder}' already holds adapters; choose another folder, or delete it.")
    count, written = len(users or ()), dict[str, Path]()
    with Progress("adapters", count, unit="users", enabled=run.context.shows_progress and count > 1) as ticker:
        for user, config, tensors in exporter.adapters():
            written[user] = folder / as_name(user) if count > 1 else folder
            write_files(written[user], config, tensors)
            ticker.advance(1)
    if count > 1:
        write_atomically(folder / COHORT, json.dumps({user: path.name for user, path in written.items()}, indent=1))
    return written


def whole(name: str, config: System) -> None:
    """Raise ConfigError for a system of which an ordinary LoRA is not all."""
    if config.soft is not None:
        raise ConfigError(
            f"system '{name}' reads soft tokens from '{config.soft.model}', which an ordinary LoRA does not bring "
            "along; export a system without `soft`."
        )
    if config.prior is not None:
        raise ConfigError(
            f"system '{name}' adds α (s_yes - s_no) + β to the logit of '{config.prior}', and an ordinary LoRA brings neither "
            "that model nor the two numbers: alone it is half an answer. Serve the run, or export a system without `prior`."
        )
    if config.coupling_on == "question":
        raise ConfigError(
            f"C(u) of system '{name}' acts on the question alone (coupling_on = 'question'), and an ordinary LoRA acts on every "
            "token; export a system with coupling_on = 'prompt'."
        )


def language(run: Run, system: str | None) -> LanguageScorer[Any]:
    """A system by its name, or the best one on the validation samples; ConfigError where it has no adapters."""
    systems = {name: one for name, one in run.scorers.items() if isinstance(one, LanguageScorer)}
    if system in run.recipe.blends:
        weighed = ", ".join(name for name in run.recipe.blends[system].of if name in systems)
        raise ConfigError(
            f"'{system}' is a blend, which has no adapter; export a system that it weighs: {weighed or 'it has none'}."
        )
    if not systems or (system is not None and system not in systems):
        raise ConfigError(
            f"this run has no language-model system{f' {system!r}' if system else ''}; it has "
            f"{', '.join(systems) or 'none'} (conventional models have no adapters)."
        )
    if system is not None:
        return systems[system]
    chosen = best(run.task, list(systems.values())).scorer
    assert isinstance(chosen, LanguageScorer)
    return chosen


def how_to_start(folder: Path) -> str:
    """What an ordinary LoRA is, and the lines of a recipe for a system that starts from it."""
    plain = read_peft(folder)
    words = sorted({name.rpartition(".")[2] for name in plain.A})
    system = {
        "coupling": {"kind": "full", "rank": plain.rank, "alpha": plain.scaling * plain.rank},
        "representation": {"model": "sasrec"},
        "targets": words,
        "init_from": str(folder),
        "train": "coupling",
    }
    return (
        f"'{folder}' is an ordinary LoRA of rank {plain.rank}, scaled by {plain.scaling:g}, on {len(plain.A)} layers "
        f"({', '.join(words)}){f' of {plain.base_model}' if plain.base_model else ''}.\n"
        "A system that starts from it, for a recipe with that backbone and a conventional model 'sasrec';\n"
        'train = "coupling" leaves its A and B as they are, "all" goes on with them:\n\n'
        + tomli_w.dumps({"systems": {"personal": system}}).rstrip()
    )
