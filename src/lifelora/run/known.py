"""What a language model knows of a run's items and people: written, read, and kept as vectors. Knows parts, no model of clicks.

Texts that were written stay in the run's folder, whatever is made of them afterwards.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from lifelora.errors import ConfigError
from lifelora.knowledge import endpoint
from lifelora.knowledge.encode import Files, HiddenStates, Vectors, encode, item_vectors, user_vectors
from lifelora.knowledge.endpoint import EndpointWriter
from lifelora.knowledge.texts import AboutUsers, about_items, training_states
from lifelora.knowledge.write import LM, write
from lifelora.llm.backbone import Backbone
from lifelora.run.parts import ITEMS, USERS, Parts
from lifelora.run.stages import KNOWLEDGE


def make(parts: Parts, name: str, folder: Path) -> None:
    """The vectors of all items and of all states of people, into the stage's folder."""
    config, dataset = parts.recipe.knowledge[name], parts.dataset
    learnt_N = torch.from_numpy(training_states(dataset, config.every))
    if isinstance(config.vectors, Files):
        items, users = item_vectors(dataset, config.vectors), user_vectors(dataset, config.vectors, config.every, learnt_N)
    else:
        backbone = parts.backbone() if config.needs_backbone else None
        asked = AboutUsers(dataset, config)
        items = _read(parts, name, _written(parts, name, about_items(dataset, config), backbone), backbone, None)
        users = Vectors(torch.zeros(0, items.vectors_NE.shape[1]))
        if len(asked):
            users = _read(parts, name, _written(parts, name, asked, backbone), backbone, learnt_N)
    widths = items.vectors_NE.shape[1], users.vectors_NE.shape[1]
    if widths[0] != widths[1]:
        raise ConfigError(f"knowledge.{name}.vectors: those of items have {widths[0]} numbers and those of people {widths[1]}; "
                          "make them alike, or set dimensions to what both have.")
    _scaled(items, None).save(folder / ITEMS)
    _scaled(users, learnt_N).save(folder / USERS)


def _scaled(vectors: Vectors, learnt_N: torch.Tensor | None) -> Vectors:
    """With entries of about unit size, which an adaptor learns from best: makers' lengths differ by orders of magnitude."""
    known_NE = vectors.vectors_NE if learnt_N is None else vectors.vectors_NE[learnt_N]
    known_NE = known_NE[known_NE.any(dim=1)]
    if not len(known_NE):
        return vectors
    return Vectors(vectors.vectors_NE / known_NE.square().mean().sqrt(), vectors.notes)


def notes(parts: Parts) -> list[str]:
    """What a reader of the results should know."""
    return [f"{name}: {note}" for name in parts.recipe.knowledge for file in (ITEMS, USERS)
            for note in Vectors.load(parts.stages.knowledge(name).require() / file).notes]


def _written(parts: Parts, name: str, prompts: Sequence[str], backbone: Backbone | None) -> Sequence[str]:
    text, folder, progress = parts.recipe.knowledge[name].text, parts.stages.folder / KNOWLEDGE, parts.options.progress
    if isinstance(text, LM):
        assert backbone is not None
        return write(prompts, backbone.model, backbone.tokenizer, folder, fingerprint=parts.stages.backbone.key, config=text,
                     context=backbone.context, progress=progress)
    if isinstance(text, EndpointWriter):
        return endpoint.write(prompts, text, folder, progress=progress)
    return prompts


def _read(
    parts: Parts, name: str, texts: Sequence[str], backbone: Backbone | None, learnt_N: torch.Tensor | None
) -> Vectors:
    vectors = parts.recipe.knowledge[name].vectors
    assert not isinstance(vectors, Files)
    lm = backbone if isinstance(vectors, HiddenStates) else None
    return encode(
        texts, vectors, parts.stages.folder / KNOWLEDGE, model=lm.model if lm else None, tokenizer=lm.tokenizer if lm else None,
        device=parts.device, download=parts.options.download, learnt_from_N=learnt_N, progress=parts.options.progress,
    )
