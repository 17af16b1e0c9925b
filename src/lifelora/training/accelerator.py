"""Where one training runs: its device, precision and processes. Knows no loop."""

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import DistributedDataParallelKwargs
from torch import distributed

from lifelora.errors import ConfigError
from lifelora.training import parallel


def accelerator_for(precision: str, device: torch.device | str) -> Accelerator:
    """Of one training.

    Raises ConfigError for fp16 where Accelerate would train in fp32 and not say so.
    """
    assert not parallel.by_itself(), "a training needs all processes, and the others wait: make its stage together"
    parallel.start()
    # Accelerate remembers its first precision and device for the whole process; here each training has its own.
    joined = distributed.is_available() and distributed.is_initialized()
    AcceleratorState._reset_state(reset_partial_state=not joined)
    if not joined and (kind := str(device)).startswith("cuda:"):
        torch.cuda.set_device(kind)
    # Some parameters have no part in some losses, or in none: those of a form that a batch does not have, or the layers for a
    # score of a model that is asked for the next item. Data parallelism would wait for their gradients.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    accelerator = Accelerator(
        mixed_precision="no" if precision == "fp32" else precision, cpu=str(device) == "cpu", kwargs_handlers=[unused]
    )
    if precision == "fp16" and accelerator.scaler is None:
        raise ConfigError(f"precision = 'fp16' cannot run on '{accelerator.device}'; choose 'bf16' or 'fp32'.")
    return accelerator
