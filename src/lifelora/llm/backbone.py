"""The frozen LM: any causal LM from a folder, a hub name or a .gguf file. Knows nothing of users or items.

Safetensors only, never remote code, and no network unless the user asks for a download.
"""

from abc import abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, ClassVar, Literal

import torch
from pydantic import PositiveInt, field_serializer
from torch import nn

from lifelora.data.dataset import Dataset
from lifelora.errors import ConfigError, MissingExtraError
from lifelora.kinds import BACKBONES, Variant
from lifelora.llm.context import CONTEXT, named_context
from lifelora.llm.files import described, read
from lifelora.llm.lighter import first_layers, in_eight_bits
from lifelora.llm.place import fingerprint, here, located, name
from lifelora.llm.probe import probe
from lifelora.llm.trees.interface import install
from lifelora.llm.weights import check_fits
from lifelora.types import KEY, PathText

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ABOUT = "about.json"
"""Of a stage: one line that says which model it holds, so that a report need not load it."""


@dataclass(frozen=True)
class Backbone:
    """A loaded LM with its tokenizer and one line that says what it is."""

    model: nn.Module
    tokenizer: Any
    "A fast tokenizer of transformers."
    label: str
    head: bool = True
    "Whether single words of its head can be computed alone and in full precision."
    titles: str = ""
    "Why titles cannot share a prompt that is read once; empty where they can."
    trees: str = "nobody tried whether the model reads trees"
    "Why prompts cannot be trees; empty where they can."
    early: bool = False
    "Whether in the last layer those tokens of a tree alone may ask after which something is read."
    limit: int | None = None
    "The longest sequence by what was asked for; None leaves it to the model's configuration."

    @property
    def context(self) -> int:
        """The longest sequence, in tokens, that the model was made for; ConfigError where nothing says it."""
        return longest(self.model, self.limit)


class BackboneConfig(Variant):
    """What a recipe says of its language model, and what makes it ready and loads it."""

    made: ClassVar[bool] = False
    "Whether ``make`` makes it from the run's own data."

    @property
    def place(self) -> str:
        """The folder or hub name that an adapter's files say that it is for; empty where the run makes the model itself."""
        return ""

    def fingerprint(self) -> str:
        """Of all that lies elsewhere and decides what the model is; empty where nothing does."""
        return ""

    def make(self, dataset: Dataset, folder: Path, seed: int, *, device: torch.device, progress: bool) -> None:
        """Put the model and ``ABOUT``, with its label, into a stage's folder; called where ``made`` says so."""

    @abstractmethod
    def load(self, folder: Path, device: torch.device, download: bool = False) -> Backbone:
        """The model, frozen and on its device; ``folder`` holds what ``make`` made."""

    def spelling(self, folder: Path, download: bool = False) -> tuple[Any, int]:
        """The tokenizer and the longest prompt: all that is needed to write prompts. Here the model is loaded for them."""
        backbone = self.load(folder, torch.device("cpu"), download)
        return backbone.tokenizer, backbone.context


class Pretrained(BackboneConfig):
    """A pretrained causal LM."""

    later: ClassVar[frozenset[str]] = frozenset({"layers"})

    kind: Literal["pretrained"] = "pretrained"
    path: PathText
    "A folder with config.json, *.safetensors and a tokenizer, a hub name, a .gguf file, or a name that `lifelora models` lists."
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    layers: PositiveInt | None = None
    "The first so many layers alone, before the model's last norm and its head; all of them when left out."
    quantization: Literal["none", "int8", "8-bit", "4-bit"] = "none"
    """``int8`` rounds weights alone, on any device (``llm.lighter``). 8- and 4-bit (NF4, double quantisation) weights need
    bitsandbytes and a device that it supports."""
    attention: Literal["sdpa", "eager", "flash_attention_2"] = "sdpa"
    context: PositiveInt | None = None
    "The longest prompt, in tokens, where not what the model's configuration names. Some name none (Mamba, BLOOM) and need this."

    @field_serializer("path")
    def _written(self, path: str, info: Any) -> str:
        return name(path) if (info.context or {}).get(KEY) else path

    @property
    def place(self) -> str:
        return here(self.path)

    def fingerprint(self) -> str:
        """SHA-256 over the files of a local model (blocks of very large ones); of the name for a model on the hub."""
        return fingerprint(self.path)

    def load(self, folder: Path, device: torch.device, download: bool = False) -> Backbone:
        """From its own place; see ``load``."""
        return load(self, device, download)

    def spelling(self, folder: Path, download: bool = False) -> tuple[Any, int]:
        """From the configuration and the tokenizer's files; no weights are read."""
        config, tokenizer = described(located(self.path, "backbone.path", download), "backbone.path", download)
        return tokenizer, longest(SimpleNamespace(config=config), self.context, type(config).__name__)


def load(config: Pretrained, device: torch.device, download: bool = False, label: str | None = None) -> Backbone:
    """Load, freeze and put on ``device``.

    Raises ConfigError for a place that holds no such model, for weights that memory has no room for, for a model that names no
    context and for one that does not answer in a batch as it does alone (``llm.probe``); ArtefactError for weights that are not
    safetensors; MissingExtraError for quantisation or flash attention without its package.
    """
    # transformers takes long to import, and much of lifelora works without it.
    from transformers import AutoModelForCausalLM

    if config.attention == "flash_attention_2" and find_spec("flash_attn") is None:
        raise MissingExtraError("flash-attn", "gpu", "backbone.attention = 'flash_attention_2'")
    extra: dict[str, Any] = {}
    packed = config.quantization in ("8-bit", "4-bit")
    if packed:
        extra = {"quantization_config": _quantization(config), "device_map": {"": device}}
    place = located(config.path, "backbone.path", download)
    check_fits(config.path, Path(place), config.quantization if packed else config.dtype, device)
    model, tokenizer = read(
        AutoModelForCausalLM,
        place,
        "backbone.path",
        download,
        dtype=DTYPES[config.dtype],
        attn_implementation=config.attention,
        **extra,
    )
    told = "" if config.layers is None else f"the first {config.layers} of {first_layers(model, config.layers)} layers, "
    if not packed:
        model.to(device)
    size = sum(p.numel() for p in model.parameters())
    told += f"{size / 1e6:,.2f} M parameters"
    if config.quantization == "int8":
        in_eight_bits(model)
        told += " in int8"
    model.eval().requires_grad_(False)
    # What the checkpoint wishes for sampling (temperature, top-p, …) must never reach our scores or beams.
    model.generation_config = type(model.generation_config)()
    longest(model, config.context)
    found = probe(model, tokenizer, f"backbone.path = '{config.path}'", config.context)
    if not found.trees:
        install(model, early=found.early)
    label = label or f"{Path(config.path).name} ({told}, pretrained)"
    if not found.head and config.dtype != "fp32":
        label += f", scores from logits rounded to {config.dtype}"
    return Backbone(model, tokenizer, label, found.head, found.titles, found.trees, found.early, config.context)


def longest(model: Any, asked: int | None = None, name: str = "") -> int:
    """The longest sequence, in tokens: ``asked``, or what the model's configuration names; ConfigError where neither says it."""
    named, name = named_context(model.config), name or type(model).__name__
    if named is None and asked is None:
        raise ConfigError(
            f"the configuration of {name} names no longest sequence ({', '.join(CONTEXT)}); say "
            "how many tokens a prompt may have: backbone.context = 2048."
        )
    if named is not None and asked is not None and asked > named:
        raise ConfigError(
            f"backbone.context = {asked:,} is longer than the {named:,} tokens that {name} was made for; give at most so many."
        )
    return asked or named or 0


def _quantization(config: Pretrained) -> Any:
    if find_spec("bitsandbytes") is None:
        raise MissingExtraError("bitsandbytes", "gpu", f"backbone.quantization = '{config.quantization}'")
    from transformers import BitsAndBytesConfig

    if config.quantization == "8-bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=DTYPES["bf16" if config.dtype == "fp32" else config.dtype],
    )


AnyBackbone = Annotated[BackboneConfig, BACKBONES.unless_said("nano")]
