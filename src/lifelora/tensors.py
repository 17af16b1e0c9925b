"""Named tensors as a file that is whole or not there, and batches of tensors on a device. Knows no model."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar, cast

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lifelora.artefacts import write_atomically
from lifelora.errors import ArtefactError

Batch = TypeVar("Batch")


def write_tensors(path: Path, tensors: dict[str, Tensor], notes: Mapping[str, str] | None = None) -> None:
    """Tensors and notes as a safetensors file with a hash of both, whole or not at all."""
    kept = {"notes": dict(notes or {}), "sha256": _hash(tensors, notes or {})}
    # One entry: safetensors writes several in any order, and equal tensors shall give equal files.
    write_atomically(path, safetensors.torch.save(tensors, {"lifelora": json.dumps(kept, sort_keys=True)}))


def read_tensors(path: Path, mend: str | None = None) -> tuple[dict[str, Tensor], dict[str, str]]:
    """What ``write_tensors`` wrote; ArtefactError for a file that is missing or damaged, and for numbers that are not finite."""
    mend = mend or f"move {path.parent} away, and `lifelora run` makes it again"
    try:
        with safe_open(path, framework="pt") as file:
            kept = json.loads((file.metadata() or {}).get("lifelora", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError:
        raise ArtefactError(f"{path} does not exist; {mend}.") from None
    except (IsADirectoryError, SafetensorError, ValueError) as error:
        raise ArtefactError(f"{path} is damaged ({error}); {mend}.") from error
    notes = kept.get("notes", {})
    if kept.get("sha256") != _hash(tensors, notes):
        raise ArtefactError(f"{path} is damaged (its hash is wrong); {mend}.")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ArtefactError(f"{path} holds numbers that are not finite in '{name}'; {mend}.")
    return tensors, notes


def _hash(tensors: Mapping[str, Tensor], notes: Mapping[str, str]) -> str:
    digest = hashlib.sha256(json.dumps(notes, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {[*tensor.shape]}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def to_device(batch: Batch, device: torch.device) -> Batch:
    """A dataclass with its tensors, also those of dataclasses inside it, on ``device``."""
    if isinstance(batch, Tensor):
        return cast(Batch, batch.to(device, non_blocking=True))
    if device.type == "cpu" or not dataclasses.is_dataclass(batch) or isinstance(batch, type):
        return batch
    moved = {field.name: to_device(getattr(batch, field.name), device) for field in dataclasses.fields(batch)}
    return cast(Batch, dataclasses.replace(batch, **moved))
