"""Where a training runs: its device, precision and processes, and how batches and losses get there. Knows no loop."""

import dataclasses
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar, cast

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import Tensor, nn

from lifelora.errors import ConfigError

Batch = TypeVar("Batch")


class Trainable(Protocol):
    """What the loop asks of a module."""

    def loss(self, batch: Any) -> Tensor: ...
    def scope(self, batch: Any) -> AbstractContextManager[Any]: ...


class LossAsForward(nn.Module):
    """Makes ``loss`` the forward, which is what autocast and data parallelism hook into."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, batch: Any) -> Tensor:
        return cast(Trainable, self.module).loss(batch)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """A dataclass with its tensors, also those of dataclasses inside it, on ``device``."""
    if isinstance(batch, Tensor):
        return cast(Batch, batch.to(device, non_blocking=True))
    if device.type == "cpu" or not dataclasses.is_dataclass(batch) or isinstance(batch, type):
        return batch
    moved = {field.name: to_device(getattr(batch, field.name), device) for field in dataclasses.fields(batch)}
    return cast(Batch, dataclasses.replace(batch, **moved))


def accelerator_for(precision: str, device: torch.device | str, scheduled: bool = False) -> Accelerator:
    """Of one training; ``scheduled`` where its batches change as training goes on.

    Raises ConfigError for fp16 where Accelerate would train in fp32 and not say so.
    """
    # Accelerate remembers its first precision and device for the whole process; here each training has its own.
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=not distributed)
    if not distributed and (kind := str(device)).startswith("cuda:"):
        torch.cuda.set_device(kind)
    # Batches that change as training goes on may leave some parameters out, which data parallelism would wait for.
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)] if scheduled else []
    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision, cpu=str(device) == "cpu",
                              kwargs_handlers=handlers)
    if precision == "fp16" and accelerator.scaler is None:
        raise ConfigError(f"precision = 'fp16' cannot run on '{accelerator.device}'; choose 'bf16' or 'fp32'.")
    return accelerator
