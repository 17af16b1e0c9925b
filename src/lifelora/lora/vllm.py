"""What vLLM takes of a LoRA, as its documents and its source say (docs/vllm.md cites them). Knows adapters, no file, no run."""

from typing import Any

from lifelora.errors import ConfigError
from lifelora.lora.adapters import Adapters

RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
"""What --max-lora-rank may be."""
MAX_VOCABULARY = 257_024
"""Tokens of a model whose head carries an adapter."""


def max_lora_rank(rank: int) -> int:
    """The smallest --max-lora-rank that takes adapters of this rank; ConfigError where none does."""
    fits = next((most for most in RANKS if rank <= most), None)
    if fits is None:
        raise ConfigError(f"an adapter of rank {rank:,} is too large for vLLM, whose --max-lora-rank is at most {RANKS[-1]}.")
    return fits


def check(adapters: Adapters, system: str) -> int:
    """The --max-lora-rank for the adapters of one user of a system; ConfigError, with the mend, for what vLLM does not load."""
    config = adapters.coupling.config
    try:
        most = max_lora_rank(config.max_rank)
    except ConfigError as error:
        key = f"systems.{system}.coupling"
        mends = [f"lower {key}.rank ({config.rank})"]
        if (count := config.max_rank // config.rank) > 1:
            mends = [
                f"lower {key}.rank ({config.rank}) or {key}.loras ({count})",
                f'set {key}.merge = "weights", which gives rank r',
            ]
        raise ConfigError(f"{error} It is that of {key}: {', or '.join(mends)}, and train the system again.") from error
    head: Any = getattr(adapters.model, "get_output_embeddings", lambda: None)()
    for name, layer in adapters.layers:
        if head in (layer, layer.base) and (tokens := len(layer.B_OQ)) > MAX_VOCABULARY:
            raise ConfigError(
                f"systems.{system}.targets put an adapter on the head, '{name}', which knows {tokens:,} tokens, and vLLM takes "
                f"one there of at most {MAX_VOCABULARY:,}; export a system without that target."
            )
    return most
