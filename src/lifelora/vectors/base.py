"""What every maker of vectors promises: one for each item or text, zeros where there are no words. Knows no maker."""

import json
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, final

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from lifelora.data.dataset import Dataset
from lifelora.errors import ConfigError
from lifelora.kinds import VECTORS, Variant
from lifelora.progress import Progress
from lifelora.tensors import read_tensors, write_tensors
from lifelora.vectors.pca import PCA
from lifelora.vectors.texts import item_texts


@final
@dataclass(frozen=True)
class Vectors:
    """One vector for each item, text or state, in their order and as long as it came; zeros where there are no words."""

    vectors_NE: Float[Tensor, "N E"]
    notes: tuple[str, ...] = ()
    "What a reader of the results should know of them."
    pca: PCA | None = None
    "What shortened them, if they come from words: what comes later is shortened by the same."

    def save(self, path: Path) -> None:
        """As safetensors."""
        tensors = {"vectors_NE": self.vectors_NE} | ({} if self.pca is None else vars(self.pca))
        write_tensors(path, {name: tensor.contiguous() for name, tensor in tensors.items()}, {"notes": json.dumps(self.notes)})

    @classmethod
    def load(cls, path: Path) -> "Vectors":
        """What ``save`` wrote; ArtefactError for anything else."""
        tensors, notes = read_tensors(path)
        vectors_NE = tensors.pop("vectors_NE")
        return cls(vectors_NE, tuple(json.loads(notes["notes"])), PCA(**tensors) if tensors else None)


@final
@dataclass(frozen=True)
class Tools:
    """What a maker of texts or vectors may use: the run's language model, a device, and a folder that outlives a kill."""

    model: nn.Module | None = None
    "A transformers LM, on its device."
    tokenizer: Any = None
    fingerprint: str = ""
    "Which LM it is."
    context: int | None = None
    "The longest sequence that it reads, in tokens; when None, what its configuration names."
    device: torch.device | str = "cpu"
    "For a model that the maker brings."
    download: bool = False
    folder: Path | None = None
    "Where finished texts are kept, and what an endpoint has made."
    progress: bool = False

    def language_model(self, key: str) -> tuple[nn.Module, Any]:
        """Model and tokenizer; ConfigError where there are none and ``key`` of a recipe needs them."""
        if self.model is None or self.tokenizer is None:
            raise ConfigError(f"{key} needs a language model and its tokenizer: give both.")
        return self.model, self.tokenizer

    def kept(self, name: str) -> Path:
        """A file in the folder."""
        if self.folder is None:
            raise ConfigError(f"'{name}' keeps what an endpoint or a language model made; give a folder for it.")
        return self.folder / name

    def bar(self, texts: int) -> Progress:
        """What a user sees while so many texts become vectors."""
        return Progress("encode", texts, unit="texts", enabled=self.progress)


class ItemVectors(Variant, ABC):
    """Settings of what makes item vectors, and what makes them."""

    needs_backbone: ClassVar[bool] = False
    "Whether the run's language model makes them."
    dimensions: int | None = Field(default=None, ge=1)
    "Kept by PCA, which takes the centre away; the vectors as they are when left out."

    @abstractmethod
    def of_items(self, dataset: Dataset, tools: Tools) -> Vectors:
        """One vector for each item, in index order."""

    @abstractmethod
    def files(self) -> tuple[str, ...]:
        """The user's files that decide what the vectors are."""

    def in_words(self) -> str:
        """What makes them, for a reader of the report."""
        return f"'{self.kind}'"


class TextVectors(ItemVectors):
    """Of those that read texts; a subclass brings ``read``."""

    @abstractmethod
    def read(self, texts: Sequence[str], tools: Tools) -> Float[Tensor, "N D"]:
        """A vector for each of these texts, which differ and none of which is empty."""

    @final
    def of_items(self, dataset: Dataset, tools: Tools) -> Vectors:
        """By all that is known of an item in words."""
        return self.of_texts(item_texts(dataset.catalogue, dataset.words.item), tools)

    @final
    def of_texts(
        self, texts: Sequence[str], tools: Tools, learnt_from_N: Bool[Tensor, "N"] | None = None, pca: PCA | None = None
    ) -> Vectors:
        """A vector for each text: equal texts are read once and have the same one, an empty text has zeros.

        PCA learns from the texts ``learnt_from_N`` alone where it is given, and ``pca`` of other texts learns nothing of these.
        Raises ConfigError where no text has a word.
        """
        place_of: dict[str, int] = {}
        for text in texts:
            if text.strip():
                place_of.setdefault(text, len(place_of))
        if not place_of:
            raise ConfigError(
                f"none of the {len(texts):,} texts has a word, so there are no vectors to make. An item "
                "needs a title, a field or a description; a user needs as many events as 'every' asks for."
            )
        vectors_DE = self.read(list(place_of), tools)
        place_N = torch.tensor([place_of.get(text, -1) for text in texts])
        vectors_NE = torch.where((place_N >= 0)[:, None], vectors_DE[place_N], 0)
        if self.dimensions is None:
            return Vectors(vectors_NE)
        pca = PCA.learnt(vectors_NE, self.dimensions, learnt_from_N) if pca is None else pca
        return Vectors(pca.of(vectors_NE), pca=pca)

    def files(self) -> tuple[str, ...]:
        """None, unless a model of their own lies in files: what they read comes from the data."""
        return ()


AnyVectors = Annotated[ItemVectors, VECTORS.unless_said("hidden-states")]
