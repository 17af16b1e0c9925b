"""What a language model knows of a run's items and users: written, read, and kept as vectors. Knows no conventional model.

Texts that were written stay in the run's folder, whatever is made of them afterwards.
"""

from pathlib import Path

import torch

from lifelora.errors import ConfigError
from lifelora.knowledge.experts import Known
from lifelora.knowledge.questions import AboutUsers, about_items, states, training_states
from lifelora.knowledge.read import OwnKnowledge
from lifelora.recipe.sections import Knowledge
from lifelora.run.context import Context
from lifelora.vectors.base import TextVectors, Vectors

ITEMS, USERS = "items.safetensors", "users.safetensors"


def make(context: Context, name: str, folder: Path) -> None:
    """The vectors of all items and of all states of users, into the stage's folder."""
    config, dataset = context.recipe.knowledge[name], context.dataset
    vectors, learnt_N = config.vectors, torch.from_numpy(training_states(dataset, config.every))
    tools = context.tools(config.needs_backbone)
    if isinstance(vectors, OwnKnowledge):
        items, users = vectors.of_items(dataset, tools), vectors.of_states(dataset, config.every, learnt_N)
    else:
        assert isinstance(vectors, TextVectors)  # the recipe knows
        asked = AboutUsers(dataset, config)
        items = vectors.of_texts(config.text.write(about_items(dataset, config), tools), tools)
        users = Vectors(torch.zeros(0, items.vectors_NE.shape[1]))
        if len(asked):
            users = vectors.of_texts(config.text.write(asked, tools), tools, learnt_N)
    widths = items.vectors_NE.shape[1], users.vectors_NE.shape[1]
    if widths[0] != widths[1]:
        raise ConfigError(
            f"knowledge.{name}.vectors: those of items have {widths[0]} numbers and those of users {widths[1]}; "
            "make them alike, or set dimensions to what both have."
        )
    _scaled(items, None).save(folder / ITEMS)
    _scaled(users, learnt_N).save(folder / USERS)


def known(context: Context, name: str) -> Known:
    """What a stage's folder holds, for the conventional models that read it."""
    folder, every = context.stages.knowledge(name).require(), context.recipe.knowledge[name].every
    item_MK, state_NK = (Vectors.load(folder / file).vectors_NE for file in (ITEMS, USERS))
    first_U, states_U = states(context.dataset, every)
    return Known(item_MK, state_NK, torch.from_numpy(first_U), torch.from_numpy(states_U), every)


def notes(context: Context) -> list[str]:
    """What a reader of the results should know."""
    return [
        f"{name}: {note}"
        for name in context.recipe.knowledge
        for file in (ITEMS, USERS)
        for note in Vectors.load(context.stages.knowledge(name).require() / file).notes
    ]


def told(knowledge: Knowledge) -> str:
    """Where knowledge comes from, for a reader."""
    text, vectors = knowledge.text, knowledge.vectors
    return "vectors from files" if isinstance(vectors, OwnKnowledge) else f"{text.in_words()}, read by {vectors.in_words()}"


def _scaled(vectors: Vectors, learnt_N: torch.Tensor | None) -> Vectors:
    """With entries of about unit size, which experts learn from best: makers' lengths differ by orders of magnitude."""
    known_NE = vectors.vectors_NE if learnt_N is None else vectors.vectors_NE[learnt_N]
    known_NE = known_NE[known_NE.any(dim=1)]
    if not len(known_NE):
        return vectors
    return Vectors(vectors.vectors_NE / known_NE.square().mean().sqrt(), vectors.notes)
