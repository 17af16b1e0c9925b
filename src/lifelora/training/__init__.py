"""Training: one loop for every module with a loss. Its face; the loop is loaded when it is first used."""

from typing import TYPE_CHECKING, Any

from lifelora.training.checkpoint import CHECKPOINT, MODEL
from lifelora.training.config import TrainingConfig
from lifelora.training.curve import HISTORY, History

if TYPE_CHECKING:
    from lifelora.training.loop import DivergenceError, Scheduled, fit

__all__ = ["CHECKPOINT", "HISTORY", "MODEL", "DivergenceError", "History", "Scheduled", "TrainingConfig", "fit"]


def __getattr__(name: str) -> Any:
    # The loop needs Accelerate and TensorBoard, which those who only read a configuration or a curve can do without.
    if name not in __all__:
        raise AttributeError(f"module 'lifelora.training' has no attribute '{name}'; it has {', '.join(__all__)}")
    from lifelora.training import loop

    return getattr(loop, name)
