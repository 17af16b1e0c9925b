"""How many tokens of prompts a language model can be asked at a time, by its size and the memory that is free. Knows no prompt.

A token takes, at most and for as long as its batch runs,

    (2 · layers + 16) · width · bytes of a number

its keys and values in every layer (no heads are counted as shared), and in the layer that runs just now about 16 vectors: the
residual stream, the queries, and an inner layer of four widths before and after its activation. A model of 13 billion parameters
(40 layers, 5,120 wide) in bfloat16 takes 1 MB a token, so 64 prompts of 2,000 tokens would take 126 GB. Half of what is free
is given out: the rest is for answers, masks and what the allocator cannot join.
"""

import os
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

CPU_TOKENS = 64 * 512
"""More at a time makes nothing faster on a CPU, whose caches it leaves."""
GPU_TOKENS = 1 << 17
"""The same on a GPU, which these keep busy."""


def token_budget(model: nn.Module, device: torch.device, free: int | None = None) -> int:
    """Rows times the longest prompt, in tokens, that ``model`` is asked at a time; a power of two, so that the same run is cut
    into the same batches though the free memory is never quite the same. ``free``: bytes, measured where it is not given.
    """
    most = CPU_TOKENS if device.type == "cpu" else GPU_TOKENS
    free = free_memory(device) if free is None else free
    fits = most if free is None else free // (2 * token_bytes(model))
    return 1 << max(0, min(most, fits).bit_length() - 1)


def token_bytes(model: nn.Module) -> int:
    """What a token takes of memory, at most, while its prompt is read."""
    config = cast(Any, model).config.get_text_config()
    number = next(p.element_size() for p in cast(Any, model).get_input_embeddings().parameters())
    return int((2 * config.num_hidden_layers + 16) * config.hidden_size * number)


def free_memory(device: torch.device) -> int | None:
    """Bytes that this process can still have on a device; None where that cannot be asked."""
    if device.type == "cuda":
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0] + held)
    if device.type == "mps":
        return int(torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    lines = Path("/proc/meminfo").read_text().splitlines() if Path("/proc/meminfo").exists() else []
    available = next((int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:")), None)
    return None if available is None else available // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
