"""What everything in a run shares: data, device, drawn samples, selectors, item vectors, one backbone and its lines.

It loads each of them once, when it is first asked for. It knows no scorer and no task.
"""

from collections.abc import Callable, Hashable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lifelora import seeds
from lifelora.artefacts import read_json
from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event, Told
from lifelora.data.forget import forgotten
from lifelora.errors import ConfigError
from lifelora.llm.backbone import ABOUT, Backbone
from lifelora.prompts.unnamed import UNNAMED, unnamed
from lifelora.retrieval.growing import blocks
from lifelora.retrieval.select import Selector
from lifelora.run.stages import KNOWLEDGE, Stages
from lifelora.scoring import token_budget
from lifelora.types import Part
from lifelora.vectors.base import Tools, Vectors

VECTORS = "vectors.safetensors"
TRAINING_STREAM, VALIDATION_STREAM, TEST_STREAM, BLOCK_STREAM = "shots", "validation", "test rows", "blocks"
TEST_USER_STREAM = "test users"
"""Names of random streams. Another name draws other samples, and no published figure could be made again: they stay."""
Made = TypeVar("Made")


@runtime_checkable
class Reader(Protocol):
    """What reads a data set, and can go on with one that was extended from it."""

    dataset: Dataset

    def extended(self: "Reads", dataset: Dataset, /) -> "Reads": ...


Reads = TypeVar("Reads", bound=Reader)


@dataclass(frozen=True)
class Options:
    """What does not change the result."""

    device: str = "auto"
    download: bool = False
    progress: bool = True
    checkpointing: bool = False
    "Less memory and more time: the LM's layers run again during backward."
    tokens_at_once: int | None = None
    "Prompts times the longest of them, in tokens, that a language model is asked at a time; None: what the free memory bears."
    trees: bool = True
    "Whether what prompts share is read once; without, every prompt is read by itself, to the same result."


class Context:
    """One per process; whatever needs something of it gets the context itself."""

    def __init__(self, stages: Stages, options: Options) -> None:
        self.stages, self.recipe, self.options = stages, stages.recipe, options
        self.device = _device(options.device)
        self._selectors: dict[Selector.Config, Selector] = {}
        self._lines: dict[Hashable, Any] = {}
        self._later_vectors: list[Float[Tensor, "N E"]] = []
        self._unnamed: tuple[Dataset, Dataset] | None = None
        self._readers: dict[Hashable, Any] = {}
        self._settled: Dataset | None = None

    @cached_property
    def dataset(self) -> Dataset:
        """The prepared data, and what has happened since (``extend``)."""
        return Dataset(self.stages.data.require())

    def extend(
        self,
        events: Iterable[Event],
        items: Iterable[Told] = (),
        users: Iterable[Told] = (),
        vectors_NE: Float[Tensor, "N E"] | None = None,
        anew: Iterable[str] = (),
    ) -> None:
        """What happened since the data were prepared, as of ``Dataset.extended``: whatever is asked from now on knows it.

        ``vectors_NE`` are those of the items that are new, in the order of their numbers, made as ``vectors`` were; without
        them a new item is like no other. Nothing in the run's folder changes. Raises DataError for what cannot be put behind
        the log, and ConfigError for vectors of another number of items.
        """
        before, dataset = self.dataset.n_items, self.dataset.extended(events, items, users, anew)
        new = dataset.n_items - before
        if vectors_NE is not None:
            if len(vectors_NE) != new:
                raise ConfigError(f"there are vectors of {len(vectors_NE):,} new items and {new:,} are new; give one for each.")
            known_ME = self.vectors.vectors_NE
            without = before - len(known_ME) - sum(map(len, self._later_vectors))
            self._later_vectors.append(torch.cat([known_ME.new_zeros(without, known_ME.shape[1]), vectors_NE]))
            self._selectors = {config: selector.extended(self._later_vectors[-1]) for config, selector in self._selectors.items()}
        vars(self)["dataset"] = dataset

    def forget(self, user: str) -> None:
        """What the log and the profiles have of a user, as of ``data.forget.forgotten``; nothing in the run's folder changes."""
        vars(self)["dataset"] = forgotten(self.dataset, user)

    @contextmanager
    def supposing(self) -> Iterator[None]:
        """Until it is left: whatever this was told meanwhile is as if it had never been told. New items have no place in it."""
        before, readers, settled = self.dataset, dict(self._readers), self._settled
        if settled is None:  # else it happens within what is supposed already, and others see nothing of either
            self._settled = before
        try:
            yield
        finally:
            n_items = self.dataset.n_items
            vars(self)["dataset"], self._unnamed, self._readers = before, None, readers
            self._settled = settled
            assert n_items == before.n_items, "vectors of new items would stay"

    @property
    def settled(self) -> Dataset:
        """The data set without what is only supposed, for other threads than the one that is ``supposing``."""
        settled = self._settled  # read once: meanwhile the other thread may come to its end
        return self.dataset if settled is None else settled

    def in_prompts(self, control: str | None) -> Dataset:
        """The data set as prompts tell it, under a system's ``control``."""
        if control != UNNAMED:
            return self.dataset
        if self._unnamed is None or self._unnamed[0] is not self.dataset:
            self._unnamed = self.dataset, unnamed(self.dataset, self.recipe.seed)
        return self._unnamed[1]

    def reading(self, whose: Hashable, dataset: Dataset, make: Callable[[], Reads]) -> Reads:
        """What reads the data set, as of now; ``make`` gives the first one. What it read while ``supposing`` is forgotten."""
        reader: Reads = self._readers[whose] if whose in self._readers else make()
        if reader.dataset is not dataset:
            reader = reader.extended(dataset)
        self._readers[whose] = reader
        return reader

    @cached_property
    def training_counts(self) -> Int[np.ndarray, "M"]:
        """How many training events each prepared item has. No later event is one, so they are counted once."""
        dataset = self.dataset
        return np.bincount(dataset.item_N[dataset.training_events()], minlength=dataset.known_items)

    @property
    def test_samples(self) -> Int[np.ndarray, "N"]:
        """Rows of the log: the samples that every scorer is judged on."""
        users = self.recipe.evaluation.test_users
        if users is None:
            return self.drawn("test", self.recipe.evaluation.test_samples, TEST_STREAM)
        rows = np.asarray(self.dataset.samples["test"])
        user_N = self.dataset.targets(rows).user_B
        drawn = seeds.generator(self.recipe.seed, TEST_USER_STREAM).permutation(np.unique(user_N))[:users]
        return rows[np.isin(user_N, drawn)]

    def drawn(
        self, part: Part, count: int | None, stream: str, among: Bool[np.ndarray, "_"] | None = None
    ) -> Int[np.ndarray, "N"]:
        """``count`` samples of a part (their rows in the log), drawn once by seed, in the part's order; all for None.

        Fewer samples are the first of more: ``stream`` names the order, so that every scorer draws from the same one. ``among``
        says which of the part's samples may be drawn.
        """
        rows = np.asarray(self.dataset.samples[part])
        if among is None and (count is None or count >= len(rows)):
            return rows
        order = seeds.generator(self.recipe.seed, stream).permutation(len(rows))
        drawn: np.ndarray = rows[np.sort((order if among is None else order[among[order]])[:count])]
        return drawn

    def training_samples(self, count: int | None, block: int | None = None) -> Int[np.ndarray, "N"]:
        """The samples that a model learns from; whole blocks of a user's events, of which the last may be cut, if they grow."""
        rows = np.asarray(self.dataset.samples["train"])
        if block is None or count is None or count >= len(rows):
            return self.drawn("train", count, TRAINING_STREAM)
        block_N = blocks(self.dataset.targets(rows), block)
        rank_N = seeds.generator(self.recipe.seed, BLOCK_STREAM).permutation(int(block_N.max()) + 1)[block_N]
        return rows[np.sort(np.argsort(rank_N, kind="stable")[:count])]

    def validation_samples(self, count: int | None) -> Int[np.ndarray, "N"]:
        """The samples that choose a model's weights."""
        return self.drawn("valid", count, VALIDATION_STREAM)

    def candidates(self, part: Part, rows_N: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N C"] | None:
        """The candidates of some samples of a part, which keep the part's order; None where no lists were drawn."""
        if part not in self.dataset.lists:
            return None
        return np.asarray(self.dataset.lists[part][np.isin(self.dataset.samples[part], rows_N)], np.int64)

    def selector(self, config: Selector.Config) -> Selector:
        """What chooses behaviours to show or to read."""
        if config not in self._selectors:
            selector = config.build(self.vectors.vectors_NE if config.needs_vectors else None)
            for vectors_NE in self._later_vectors:
                selector = selector.extended(vectors_NE)
            self._selectors[config] = selector
        return self._selectors[config]

    @cached_property
    def vectors(self) -> Vectors:
        """The item vectors."""
        return Vectors.load(self.stages.vectors.require() / VECTORS)

    @property
    def backbone(self) -> Backbone:
        """The language model. All systems' adapters share it; each scorer puts its own in while it is at work."""
        if "loaded_backbone" not in vars(self):
            self.stages.backbone.require()
        return self.loaded_backbone

    @cached_property
    def loaded_backbone(self) -> Backbone:
        """The same where its stage is not finished: it is loaded to say what it is."""
        return self.recipe.backbone.load(self.stages.backbone.folder, self.device, self.options.download)

    @cached_property
    def tokens_at_once(self) -> int:
        """Prompts times the longest of them, in tokens, that the language model is asked at a time."""
        return self.options.tokens_at_once or token_budget(self.backbone.model, self.device)

    @property
    def backbone_label(self) -> str:
        """One line that says what the language model is."""
        return str(read_json(self.stages.backbone.require() / ABOUT)["label"])

    @property
    def base_model(self) -> str:
        """What an adapter's files say that it is for: the backbone's folder or hub name."""
        return self.recipe.backbone.place or str(self.stages.backbone.folder.resolve())

    def tools(self, needs_backbone: bool) -> Tools:
        """What makes texts and vectors may use; what it has finished stays in the run's folder, whatever is made of it."""
        backbone = self.backbone if needs_backbone else None
        given = (
            {}
            if backbone is None
            else {
                "model": backbone.model,
                "tokenizer": backbone.tokenizer,
                "fingerprint": self.stages.backbone.key,
                "context": backbone.context,
            }
        )
        return Tools(
            **given,
            device=self.device,
            download=self.options.download,
            folder=self.stages.folder / KNOWLEDGE,
            progress=self.options.progress,
        )

    def lines(self, layout: Hashable, tokenise: Callable[[], Made]) -> Made:
        """The tokenised lines of a layout of prompts, made once however many scorers have it."""
        if layout not in self._lines:
            self._lines[layout] = tokenise()
        made: Made = self._lines[layout]
        return made

    @property
    def shows_progress(self) -> bool:
        """Whether long work shows how far it is."""
        return self.options.progress


def _device(word: str) -> torch.device:
    if word == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(word)
        torch.zeros(1, device=device).item()  # it holds numbers, which 'meta' does not
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {word}: {str(error).splitlines()[0]} Use auto, cpu, cuda, cuda:N or mps.") from error
    return device
