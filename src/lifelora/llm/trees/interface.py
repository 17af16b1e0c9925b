"""Our attention among transformers' own, by which a model as it is can read prompt trees. Knows modules; no prompts, no words.

A reading travels as a keyword through the model's layers to attention. In the last layer the tokens that are read alone may
ask: all others have to be seen there, and no more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.llm.trees.attention import attend
from lifelora.llm.trees.layout import Layout

NAME = "lifelora_tree"
"""Of our attention among transformers'; without a tree it is 'sdpa'."""
KEY = "prompt_tree"
"""The keyword by which a reading reaches it."""
REFUSED = {"softcap": "a cap on its products", "s_aux": "sinks", "position_bias": "a bias of positions", "cache": "a paged cache"}
"""What attention may be told that is not done in a tree."""


class _Seen(Exception):  # noqa: N818 - no error: what ends a layer early
    """Keys and values of a layer, of which no more is wanted."""

    def __init__(self, key: Tensor, value: Tensor) -> None:
        super().__init__()
        self.key, self.value = key, value


@dataclass(frozen=True)
class Reading:
    """One pass over a row: what attention of every layer needs to know."""

    layout: Layout
    at_ends: Layout | None
    "Of the last layer, where the tokens ``read_E`` alone ask."
    read_E: Int[Tensor, "E"]
    longest: int
    "Positions of the longest prompt, which a window of attention has to hold."
    kept: dict[int, tuple[Tensor, Tensor]] | None = None
    "Keys and values of the trunks by layer, [Y, trunk tokens, D], where they were read before."
    found: dict[int, tuple[Tensor, Tensor]] | None = None
    "Where those of this row go, if they are to be kept."
    seen: tuple[Tensor, Tensor] | None = None
    "In the last layer: keys and values of all tokens."
    only_seen: bool = False


def tree_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **options: Any,
) -> tuple[Tensor, Tensor | None]:
    """Attention as transformers calls it: of a tree where one is read, else its own 'sdpa'."""
    reading: Reading | None = options.pop(KEY, None)
    if reading is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        plain: tuple[Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return plain
    return _of_tree(module, query, key, value, reading, dropout, scaling, options), None


# A layout has other sizes for every batch, which would have to be compiled anew; the rest of the model is compiled as ever.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def _of_tree(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    reading: Reading,
    dropout: float,
    scaling: float | None,
    options: Mapping[str, Any],
) -> Tensor:
    refused = next((why for name, why in REFUSED.items() if options.get(name) is not None), None)
    if refused is not None:
        raise ConfigError(f"attention of {type(module).__name__} has {refused}, which that of a prompt tree has not.")
    window = options.get("sliding_window")
    if window is not None and window < reading.longest:
        raise ConfigError(
            f"{type(module).__name__} sees {window:,} tokens back, and a prompt of this tree has {reading.longest:,}; set "
            f"backbone.context = {window} or less."
        )
    layer = int(cast(Any, module).layer_idx)
    if reading.found is not None and reading.seen is None:
        reading.found[layer] = (key[0].detach(), value[0].detach())
    if reading.only_seen:
        raise _Seen(key, value)
    layout = reading.layout
    if reading.seen is not None:
        assert reading.at_ends is not None
        (key, value), layout = reading.seen, reading.at_ends
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    kept = None if reading.kept is None else reading.kept[layer]
    gathered_HLD = attend(layout, query[0], key[0], value[0], scale, dropout, kept)
    return gathered_HLD.transpose(0, 1)[None].contiguous()


def installed(model: nn.Module) -> bool:
    """Whether a model has our attention."""
    return bool(getattr(_config(model), "_attn_implementation", None) == NAME)


def asks_early(model: nn.Module) -> bool:
    """Whether in its last layer the tokens that are read alone may ask."""
    return any(isinstance(module, _Last) for module in model.modules())


def install(model: nn.Module, *, early: bool) -> None:
    """Give a model our attention, and an early last layer; whatever it is asked without a tree stays as it was, bit for bit."""
    # transformers takes long to import, and much of lifelora works without it.
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask
    from transformers.modeling_layers import GradientCheckpointingLayer

    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    _config(model)._attn_implementation = NAME
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if early and layers and not isinstance(layers[-1], _Last):
        kind = type(layers[-1])
        # A class of its own, as FSDP2 makes one: a copy of the model has it, too, and checkpointing stands around it.
        layers[-1].__class__ = type(kind.__name__, (_Last, kind), {"__module__": kind.__module__})


def uninstall(model: nn.Module) -> None:
    """Take out what ``install`` put in."""
    _config(model)._attn_implementation = "sdpa"
    for module in model.modules():
        if isinstance(module, _Last):
            module.__class__ = type(module).__mro__[2]


def _config(model: nn.Module) -> Any:
    """Of the language model, where it is one of several."""
    config: Any = getattr(model, "config", None)
    return config.get_text_config() if callable(getattr(config, "get_text_config", None)) else config


class _Last(nn.Module):
    """A last layer, in which the tokens that are read alone ask; stands before the layer's own class."""

    def forward(self, hidden_BLD: Tensor, *args: Any, **options: Any) -> Any:
        reading: Reading | None = options.get(KEY)
        if reading is None or reading.at_ends is None:
            return super().forward(hidden_BLD, *args, **options)
        try:
            return super().forward(hidden_BLD, *args, **options | {KEY: replace(reading, only_seen=True)})  # no reading got there
        except _Seen as seen:
            found = (seen.key, seen.value)
        read_E, length = reading.read_E, hidden_BLD.shape[1]

        def some(value: Any) -> Any:
            """What belongs to the tokens that are read, of something that has a place for every token."""
            if isinstance(value, tuple):
                return tuple(map(some, value))
            return value[:, read_E] if isinstance(value, Tensor) and value.ndim in (2, 3) and value.shape[1] == length else value

        options = {name: some(value) for name, value in options.items()}
        options[KEY] = replace(reading, seen=found, found=None)
        return super().forward(hidden_BLD[:, read_E], *map(some, args), **options)
