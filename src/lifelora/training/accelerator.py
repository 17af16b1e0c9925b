"""Where one training runs: its device, precision and processes. Knows no loop."""

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import distributed

from lifelora.errors import ConfigError
from lifelora.training import parallel


def accelerator_for(precision: str, device: torch.device | str, scheduled: bool = False) -> Accelerator:
    """Of one training; ``scheduled`` where its batches change as training goes on.

    Raises ConfigError for fp16 where Accelerate would train in fp32 and not say so.
    """
    assert not parallel.by_itself(), "a training needs all processes, and the others wait: make its stage together"
    parallel.start()
    # Accelerate remembers its first precision and device for the whole process; here each training has its own.
    joined = distributed.is_available() and distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=not joined)
    if not joined and (kind := str(device)).startswith("cuda:"):
        torch.cuda.set_device(kind)
    # Batches that change as training goes on may leave some parameters out, which data parallelism would wait for.
    handlers = [DistributedDataParallelKwargs(find_unused_parameters=True)] if scheduled else []
    accelerator = Accelerator(mixed_precision="no" if precision == "fp32" else precision, cpu=str(device) == "cpu",
                              kwargs_handlers=handlers)
    if precision == "fp16" and accelerator.scaler is None:
        raise ConfigError(f"precision = 'fp16' cannot run on '{accelerator.device}'; choose 'bf16' or 'fp32'.")
    return accelerator
