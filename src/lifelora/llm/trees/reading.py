"""Prompt trees read by a causal LM of transformers as it is, through its own attention interface. Knows a model, trees as tokens.

The model gets one row of all tokens, and the layout as a keyword that its layers hand on to attention. In the last layer
the tokens that are read alone ask: all others have to be seen there, and no more.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.llm.trees.attention import attend
from lifelora.llm.trees.layout import Layout, ends, everything
from lifelora.prompts.tree import PromptTrees

NAME = "lifelora_tree"
"""Of our attention among transformers'; without a tree it is 'sdpa'."""
KEY = "prompt_tree"
"""The keyword by which a reading reaches it."""
REFUSED = ("softcap", "s_aux", "position_bias", "cache")


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
    window = options.get("sliding_window")
    if any(options.get(name) is not None for name in REFUSED) or (window is not None and window < reading.longest):
        raise ConfigError(f"{type(module).__name__} attends in a way of its own, which a prompt tree does not give.")
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
    return gathered_HLD.transpose(0, 1)[None].contiguous(), None


def ready(model: nn.Module) -> None:
    """Let a model of transformers read trees, for good; whatever else it is asked stays as it was."""
    # transformers takes long to import, and much of lifelora works without it.
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask
    from transformers.modeling_layers import GradientCheckpointingLayer

    AttentionInterface.register(NAME, tree_attention)
    AttentionMaskInterface.register(NAME, sdpa_mask)
    config: Any = cast(Any, model).config
    for part in {id(part): part for part in (config, config.get_text_config())}.values():
        if part._attn_implementation not in ("sdpa", NAME):
            raise ConfigError(f"attention is '{part._attn_implementation}', and trees need 'sdpa'.")
        part._attn_implementation = NAME
    layers = [module for module in model.modules() if isinstance(module, GradientCheckpointingLayer)]
    if layers and "forward" not in vars(layers[-1]):
        cast(Any, layers[-1]).forward = _last(layers[-1])


def _last(layer: nn.Module) -> Callable[..., Any]:
    """The forward of a last layer, in which the tokens that are read alone ask."""
    # Beneath gradient checkpointing: running the layer again would end early, too. One layer of some tokens is not much.
    plain = getattr(type(layer).forward, "__wrapped__", type(layer).forward)

    def forward(hidden_BLD: Tensor, *args: Any, **options: Any) -> Any:
        reading: Reading | None = options.get(KEY)
        if reading is None or reading.at_ends is None:
            return type(layer).forward(layer, hidden_BLD, *args, **options)
        try:
            plain(layer, hidden_BLD, *args, **options | {KEY: replace(reading, only_seen=True)})
        except _Seen as seen:
            found = (seen.key, seen.value)
        read_E, length = reading.read_E, hidden_BLD.shape[1]

        def some(value: Any) -> Any:
            """What belongs to the tokens that are read, of something that has a place for every token."""
            if isinstance(value, tuple):
                return tuple(map(some, value))
            if not isinstance(value, Tensor):
                return value
            if value.ndim == 3 and value.shape[1] == length:
                return value[:, read_E]
            return value[:, read_E] if value.ndim == 2 and value.shape[1] == length else value

        options = {name: some(value) for name, value in options.items() if name != KEY}
        args = tuple(map(some, args))
        return plain(layer, hidden_BLD[:, read_E], *args, **options, **{KEY: replace(reading, seen=found, found=None)})

    return forward


def read(model: nn.Module, trees: PromptTrees, inputs: dict[str, Tensor], *, early: bool = True) -> Float[Tensor, "E V"]:
    """The model's logits after ``trees.reads``; ``inputs`` are the tokens or their embeddings, in one row.

    ``early``: in the last layer these tokens alone ask, which some models cannot do (``llm.probe``).
    """
    parts, read_E, position_L = (trees.trunk_R, trees.branch_G, trees.tree_G, trees.place_G), trees.reads, trees.positions
    reading = Reading(
        everything(*parts), ends(*parts, read_E) if early else None, read_E, int(position_L.max()) + 1 if len(position_L) else 0
    )
    output = model(
        **inputs,
        position_ids=position_L[None],
        # Four axes: transformers takes it as it is, and builds none of L x L.
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=position_L.device),
        use_cache=False,
        logits_to_keep=0 if early else read_E,
        **{KEY: reading},
    )
    logits_EV: Tensor = output.logits[0]
    return logits_EV
