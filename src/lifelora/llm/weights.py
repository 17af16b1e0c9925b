"""Whether a pretrained model's weights fit in memory, before any is read. Knows the headers of safetensors; no model."""

import math
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from lifelora.errors import ConfigError
from lifelora.scoring.budget import free_memory

GIB = 1 << 30
BYTES = {"fp32": 4.0, "bf16": 2.0, "fp16": 2.0, "8-bit": 1.0, "4-bit": 0.5}
"""Of a number, as it is read. Whole numbers of eight bits (int8) are made of what was read, layers left out after it."""


def parameters(folder: Path) -> int:
    """How many numbers a folder's weights have; 0 where it holds none or cannot be read, which its reader will tell."""
    count = 0
    for path in sorted(folder.glob("*.safetensors")) if folder.is_dir() else []:
        try:
            with safe_open(path, "numpy") as file:
                count += sum(math.prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 - it is no dict
        except (SafetensorError, OSError):
            return 0
    return count


def check_fits(path: str, folder: Path, kind: str, device: torch.device) -> None:
    """Raise ConfigError for weights that the device has no room for; ``kind`` is of ``BYTES``, ``path`` what the recipe says."""
    count, free = parameters(folder), free_memory(device)
    needed = count * BYTES[kind]
    if free is None or needed <= free:
        return
    mends = ["set backbone.dtype = 'bf16'"] if kind == "fp32" else []
    mends += ["set backbone.quantization = '8-bit' or '4-bit' (bitsandbytes)"] if BYTES[kind] > 1 else []
    raise ConfigError(
        f"backbone.path = '{path}' has {count / 1e6:,.1f} M parameters, which take {needed / GIB:.1f} GiB in {kind}, and "
        f"{free / GIB:.1f} GiB are free on {device}. Nothing was started: {', '.join([*mends, 'or take a smaller model'])}."
    )
