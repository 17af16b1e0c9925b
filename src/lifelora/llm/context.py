"""What a configuration of transformers says of how far its model sees. Knows names of keys; no model, no text."""

from typing import Any

CONTEXT = ("max_position_embeddings", "n_positions", "max_seq_len", "max_sequence_length", "context_length", "n_ctx")
"Names by which configurations give the longest sequence."
WINDOW = ("sliding_window", "attention_chunk_size")
"Names by which they give how many tokens back a layer sees."


def text_config(config: Any) -> Any:
    """Of the language model, where it is one of several."""
    return config.get_text_config() if callable(getattr(config, "get_text_config", None)) else config


def named_context(config: Any) -> int | None:
    """The longest sequence that a configuration names, of its language model where it has several; None where it names none."""
    return next(_named(config, CONTEXT), None)


def named_window(config: Any) -> int | None:
    """The fewest tokens that a layer sees; None where each sees all."""
    kinds = getattr(text_config(config), "layer_types", None)
    if kinds and all(kind == "full_attention" for kind in kinds):
        return None
    return min(_named(config, WINDOW), default=None)


def _named(config: Any, keys: tuple[str, ...]) -> Any:
    named = (getattr(text_config(config), key, None) for key in keys)
    return (value for value in named if isinstance(value, int) and value > 0)
