"""A user's adapter out of a finished run, as an ordinary LoRA; and what a recipe says to start from one. Knows scorers."""

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import numpy as np
import tomli_w

from lifelora import foreign
from lifelora.artefacts import key_of, write_atomically
from lifelora.errors import ConfigError
from lifelora.lora.export import CONFIG, TENSORS, write_peft_adapter
from lifelora.lora.saved import read_peft
from lifelora.progress import Progress
from lifelora.run.choice import best
from lifelora.run.run import Run
from lifelora.run.scorers.language import LanguageScorer

MAX_COHORT = 1 << 30
"Bytes of a file of user ids."
LONGEST_NAME = 200
"Characters of a folder's name."
COHORT = "cohort.json"
"Which folder is whose, where many users' adapters lie side by side."


def export(run: Run, folder: Path, *, system: str | None, users: Sequence[str] | None, item: str | None) -> dict[str, Path]:
    """Write the adapter of each user to a folder of its own in ``folder``; if no user is needed, one to ``folder``.

    Returns the folders by user ("" for no user). ``item`` is the target, for systems whose u depends on it. Raises
    ConfigError for choices that do not fit and DataError for unknown ids, before anything is written.
    """
    context, dataset = run.context, run.context.dataset
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
    scorer = systems[system] if system else best(run.task, list(systems.values())).scorer
    name, config = scorer.name, scorer.system
    personal = config.coupling.needs_user
    if personal != (users is not None):
        raise ConfigError(
            f"system '{name}' (coupling '{config.coupling.kind}') has an adapter for each user; give --user or --cohort."
            if personal
            else f"system '{name}' (coupling '{config.coupling.kind}') is the same for all users; remove --user and --cohort."
        )
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
    aware, parent = personal and scorer.u_sees_target, scorer.parents.representation
    if aware != (item is not None):
        raise ConfigError(
            f"u of system '{name}' comes from '{parent.name if parent else ''}' and depends on the target as well as on the "
            "user, and so does the adapter; give --item."
            if aware
            else f"system '{name}' gives a user one adapter for all items; remove --item."
        )
    if any((folder / file).exists() for file in (CONFIG, TENSORS, COHORT)):
        raise ConfigError(f"'{folder}' already holds adapters; choose another folder, or delete it.")
    user_indices = dataset.users.inside(list(users)) if users is not None else np.zeros(0, np.int64)
    item_1 = (dataset.items.inside([item]) if item is not None else np.zeros(1, np.int64)).astype(np.int64)
    adapters = scorer.lm.adapters
    with adapters.loaded():
        if users is None:
            write_peft_adapter(folder, adapters, None, context.base_model)
            return {"": folder}
        written: dict[str, Path] = {}
        show = context.shows_progress and len(users) > 1
        with Progress("adapters", len(users), unit="users", enabled=show) as ticker:
            for user, index in zip(users, user_indices.tolist(), strict=True):
                written[user] = folder if len(users) == 1 else folder / _folder_name(user)
                shown = scorer.show(run.task.now(index, item_1))
                write_peft_adapter(written[user], adapters, scorer.represented(shown, np.zeros(1, np.int64)), context.base_model)
                ticker.advance(1)
    if len(users) > 1:
        write_atomically(folder / COHORT, json.dumps({user: path.name for user, path in written.items()}, indent=1))
    return written


def read_cohort(path: Path) -> list[str]:
    """User ids, one per line; blank lines do not count. Raises ConfigError for a file without any, or with one twice."""
    try:
        users = [line.strip() for line in foreign.text(path, MAX_COHORT).replace("\r", "\n").split("\n") if line.strip()]
    except foreign.Unreadable as error:
        raise ConfigError(f"--cohort {path} cannot be read ({error}); give a text file with one user id per line.") from error
    twice = sorted(user for user, count in Counter(users).items() if count > 1)
    if twice or not users:
        raise ConfigError(f"--cohort {path} {f'names {twice[0]!r} twice' if twice else 'names no user'}; give one id per line.")
    return users


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


def _folder_name(user: str) -> str:
    """An id as the name of a folder on any system: what is not a letter, a digit, '_' or '-' becomes %XX."""
    name = quote(user, safe="").replace(".", "%2E").replace("~", "%7E")
    # No file system takes names of more than 255 bytes; the hash keeps long ids with one beginning apart.
    return name if len(name) <= LONGEST_NAME else f"{name[: LONGEST_NAME - 17]}-{key_of(user)}"
