"""The embedded default LM: a small Llama and its BPE tokenizer, made on the spot from the data set's own texts.

It reads item texts and training-period histories, written as prompts write them, and learns to continue them: a plain
language model of this data set that knows nothing of the world. What it is called always says so.
"""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from pydantic import BeforeValidator, Field
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn

from lifelora.artefacts import read_json, write_atomically
from lifelora.data.dataset import Dataset
from lifelora.llm.backbone import ABOUT, Backbone, BackboneConfig, Pretrained, load
from lifelora.prompts.lines.base import table_texts
from lifelora.prompts.lines.titles import TitleLines
from lifelora.prompts.lines.yes_no import YesNoLines
from lifelora.prompts.wording.fields import marked
from lifelora.prompts.wording.titles import TitleTemplate
from lifelora.prompts.wording.yes_no import Plain, Rella, Template
from lifelora.seeds import generator, torch_seeded
from lifelora.tokens import LineTokenizer
from lifelora.training import TrainingConfig, fit
from lifelora.vectors.texts import item_texts

BEGIN = "<begin>"
IGNORED = -100
ITEMS_TOGETHER = 16

TRAINING = TrainingConfig(
    batch_size=8, epochs=3, learning_rate=5e-3, weight_decay=0.01, schedule="cosine", warmup=0.05, select="-loss"
)


class Nano(BackboneConfig):
    """How small, and what it reads; ``studies/nano/nano.py`` measured the size."""

    made: ClassVar[bool] = True
    kind: Literal["nano"] = "nano"
    width: int = Field(default=64, ge=8)
    layers: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    vocabulary: int = Field(default=2048, ge=300)
    "Tokens of the BPE tokenizer, at most; 256 of them are the bytes."
    context: int = Field(default=2048, ge=64)
    "The longest prompt, in tokens, that it can be asked."
    behaviours: int = Field(default=12, ge=2)
    "Behaviours in one document of the text it learns from."
    histories: float = Field(default=1.0, gt=0, le=1)
    "Share of the histories' stretches that are read, drawn once by seed."
    item_texts: int = Field(default=10, ge=0)
    "How often an epoch reads the item texts; there are far fewer of them than of histories."
    template: Annotated[Plain | Rella | TitleTemplate, Field(discriminator="kind")] = Plain()
    "How the documents are written; by ``next-item`` they ask what came next, and list no candidates."
    training: Annotated[
        TrainingConfig, BeforeValidator(lambda values: TRAINING.model_dump() | values if isinstance(values, dict) else values)
    ] = TRAINING
    "What is not said of it is as in the default, so that one value can be changed alone."

    def make(self, dataset: Dataset, folder: Path, seed: int, *, device: torch.device, progress: bool) -> None:
        """``pretrain``."""
        pretrain(self, dataset, folder, seed, device=device, progress=progress)

    def load(self, folder: Path, device: torch.device, download: bool = False) -> Backbone:
        """As any other model in that folder."""
        return load(Pretrained(path=str(folder)), device, label=read_json(folder / ABOUT)["label"])

    def spelling(self, folder: Path, download: bool = False) -> tuple[Any, int]:
        """As of any other model in that folder."""
        return Pretrained(path=str(folder)).spelling(folder)


@dataclass(frozen=True)
class Documents:
    """A batch of texts to continue; padding, at the right, is IGNORED in ``next_BL``."""

    tokens_BL: Int[Tensor, "B L"]
    next_BL: Int[Tensor, "B L"]


class LanguageModelling(nn.Module):
    """The usual objective: -log p(next token), averaged over all tokens of the batch."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def loss(self, batch: Documents) -> Float[Tensor, ""]:
        """Mean negative log-likelihood of a token."""
        logits_BLV = cast(Tensor, self.model(input_ids=batch.tokens_BL, use_cache=False).logits)
        return F.cross_entropy(logits_BLV.flatten(0, 1), batch.next_BL.flatten(), ignore_index=IGNORED)

    def scope(self, batch: Documents) -> AbstractContextManager[None]:
        """Nothing to hold."""
        return nullcontext()


def pretrain(config: Nano, dataset: Dataset, folder: Path, seed: int, *, device: torch.device, progress: bool) -> None:
    """Train tokenizer and model into ``folder``, in Hugging Face's layout; goes on from its checkpoint after a kill."""
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging as transformers_logging

    tokenizer = train_tokenizer(config, dataset)
    tokenizer.save_pretrained(folder)
    histories = _sequences if isinstance(config.template, TitleTemplate) else _histories
    documents = histories(config, dataset, tokenizer, seed) + _item_texts(config, dataset, tokenizer)
    order = generator(seed, "nano", "validation").permutation(len(documents))
    held = max(1, len(documents) // 20)  # one document in twenty is kept back to choose the epoch
    with torch_seeded(seed, "nano", "weights"):
        model = LlamaForCausalLM(
            LlamaConfig(
                hidden_size=config.width,
                intermediate_size=-(-config.width * 8 // 3 // 8) * 8,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                num_key_value_heads=config.heads,
                vocab_size=len(tokenizer),
                max_position_embeddings=config.context,
                tie_word_embeddings=True,
                bos_token_id=tokenizer.bos_token_id,
                eos_token_id=None,
                pad_token_id=None,
            )
        )
    module = LanguageModelling(model)

    def gather(rows_B: Int[np.ndarray, "B"]) -> Documents:
        return collate([documents[row] for row in rows_B])

    def validate() -> dict[str, float]:
        device = next(module.parameters()).device
        batches = [gather(order[:held][i : i + 64]) for i in range(0, held, 64)]
        losses = [module.loss(Documents(b.tokens_BL.to(device), b.next_BL.to(device))).item() for b in batches]
        return {"loss": float(np.average(losses, weights=[int((b.next_BL != IGNORED).sum()) for b in batches]))}

    fit(
        module,
        np.sort(order[held:]),
        gather,
        validate,
        config.training,
        folder / "training",
        seed,
        name="nano: reading the data set's texts",
        device=device,
        progress=progress,
    )
    transformers_logging.disable_progress_bar()
    model.eval().save_pretrained(folder)
    write_atomically(
        folder / ABOUT,
        json.dumps(
            {
                "label": label(model, dataset.name),
                "documents": len(documents),
                "held_back": held,
                "tokens": int(sum(map(len, documents))),
                "parameters": sum(p.numel() for p in model.parameters()),
            },
            indent=1,
        ),
    )


def label(model: nn.Module, name: str) -> str:
    """What reports call it."""
    return f"nano ({sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, trained here on the texts of {name} only)"


def train_tokenizer(config: Nano, dataset: Dataset) -> Any:
    """A byte-level BPE tokenizer (a ``PreTrainedTokenizerFast``) of the data set's words; it can write any text."""
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    # A word is one token wherever it stands: in a title or a sentence, at the start of a line or inside it.
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("\n", "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary,
        special_tokens=[BEGIN],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_lines(config.template, dataset), trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BEGIN} $A", special_tokens=[(BEGIN, tokenizer.token_to_id(BEGIN))]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token=BEGIN, pad_token=BEGIN)


def collate(documents: list[Int[np.ndarray, "_"]]) -> Documents:
    """Right-padded; the token after each token is what is asked of it."""
    longest = max(map(len, documents)) - 1
    tokens_BL = np.zeros((len(documents), longest), np.int64)
    next_BL = np.full((len(documents), longest), IGNORED, np.int64)
    for row, document in enumerate(documents):
        tokens_BL[row, : len(document) - 1] = document[:-1]
        next_BL[row, : len(document) - 1] = document[1:]
    return Documents(torch.from_numpy(tokens_BL), torch.from_numpy(next_BL))


def _lines(template: Template | TitleTemplate, dataset: Dataset) -> Iterator[str]:
    """Every item's texts, every head, and the answers: what the tokenizer's words are counted in."""
    words, items = dataset.words.model_dump(), table_texts(dataset.catalogue)
    if isinstance(template, TitleTemplate):
        yield from item_texts(dataset.catalogue, dataset.words.item)
        for phrasing in (one.leaving_out(dataset.left_out) for one in template.phrasings):
            yield phrasing.render(words, [], [])
            for item in items:
                told = phrasing.behaviour_line(words, item) + phrasing.candidate_line(words, item)
                yield told + phrasing.answer_line(words, item)
        return
    template = template.leaving_out(dataset.left_out)
    for item in items:
        for level in dataset.levels:
            yield template.behaviour_line(words, item, level)
        yield template.question_lines(words, item) + template.yes
        yield template.question_lines(words, item) + template.no
    yield from item_texts(dataset.catalogue, dataset.words.item)
    for user in table_texts(dataset.profiles):
        yield template.head(words, user, True)


def _item_texts(config: Nano, dataset: Dataset, tokenizer: Any) -> list[Int[np.ndarray, "L"]]:
    """All that is said of each item: where words that mean alike stand together."""
    texts = [text for text in item_texts(dataset.catalogue, dataset.words.item) if text]
    # As many together as make a text about as long as a history, so that a batch has little padding.
    together = ["\n".join(texts[first : first + ITEMS_TOGETHER]) for first in range(0, len(texts), ITEMS_TOGETHER)]
    line_tokenizer = LineTokenizer(tokenizer)
    start = np.array(line_tokenizer.start, np.int32)
    return [np.concatenate([start, ids])[: config.context] for ids in line_tokenizer.many(together)] * config.item_texts


def _sequences(config: Nano, dataset: Dataset, tokenizer: Any, seed: int) -> list[Int[np.ndarray, "L"]]:
    """Each user's training-period events in stretches: a head, a line for each but the last, the question, the last's title.

    Stretches take turns with the phrasings.
    """
    assert isinstance(config.template, TitleTemplate)
    lines, rows_N = TitleLines.build(dataset, config.template.phrasings, tokenizer), dataset.training_events()
    stretches = _kept(config, _stretches(rows_N, dataset.user_N[rows_N], config.behaviours), seed)
    documents = []
    for number, stretch in enumerate(stretches):
        *shown, asked = dataset.item_N[stretch].tolist()
        ids = np.array(lines.prompt(number % len(config.template.phrasings), shown, None, asked), np.int32)
        documents.append(ids[-config.context :])
    return documents


def _histories(config: Nano, dataset: Dataset, tokenizer: Any, seed: int) -> list[Int[np.ndarray, "L"]]:
    """Each user's training-period events in stretches: a head, a line for each but the last, its question and answer.

    So the text has the form of a prompt with its answer, and the LM knows the answer words before anything is tuned.
    """
    assert not isinstance(config.template, TitleTemplate)
    segments, rows_N = YesNoLines.build(dataset, config.template, tokenizer), dataset.training_events()
    orders = [rows_N]
    if dataset.item_field_names:
        # Once more, of one kind of item at a time: there, what a user thought of the last ones says most of the next.
        field_N = dataset.schema().item_fields_MF[:, 0].numpy()[dataset.item_N[rows_N]]
        orders.append(rows_N[np.lexsort((rows_N, field_N, dataset.user_N[rows_N]))])
    stretches = [stretch for order_N in orders for stretch in _stretches(order_N, dataset.user_N[order_N], config.behaviours)]
    line_tokenizer = LineTokenizer(tokenizer)
    own = marked(config.template, line_tokenizer.marked)
    answers = [np.array(line_tokenizer.ids(word), np.int32) for word in own.words[::-1]]
    negatives = dataset.negatives.beside(np.asarray(dataset.samples["train"]))
    documents = []
    for *shown, asked in _kept(config, stretches, seed):
        head = segments.head_U2[dataset.user_N[asked], int(len(shown) > 0)]
        behaviours = segments.behaviours(dataset.item_N[shown], dataset.rating_N[shown]).tolist() if shown else []
        for item, liked in ((dataset.item_N[asked], dataset.label_N[asked]), *((item, 0) for item in negatives.get(asked, ()))):
            chosen = [head, *behaviours, segments.question_M[item]]
            parts = [segments.tokens_T[segments.offsets_N[s] : segments.offsets_N[s + 1]] for s in chosen]
            documents.append(np.concatenate([*parts, answers[int(liked)]])[-config.context :])
    return documents


def _kept(config: Nano, stretches: list[Int[np.ndarray, "_"]], seed: int) -> list[Int[np.ndarray, "_"]]:
    """The share of the stretches that is read."""
    drawn = generator(seed, "nano", "histories").permutation(len(stretches))
    return [stretches[number] for number in np.sort(drawn[: max(1, round(config.histories * len(stretches)))])]


def _stretches(rows_N: Int[np.ndarray, "N"], user_N: Int[np.ndarray, "N"], length: int) -> list[Int[np.ndarray, "_"]]:
    """Rows that stand by user, cut at every new user and every ``length`` rows."""
    place_N = np.arange(len(rows_N)) - np.searchsorted(user_N, user_N)
    return np.split(rows_N, np.flatnonzero(place_N % length == 0)[1:])
