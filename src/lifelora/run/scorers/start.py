"""The LoRA that a system starts from: an earlier system's, or a folder's. Knows where it lies, and no model."""

from pathlib import Path

from lifelora.lora.adapters import Adapters
from lifelora.lora.saved import start_from
from lifelora.recipe.system import System
from lifelora.run.scorers.base import Scorer

ADAPTER = "adapter"
"Folder of a system's adapters in the form that ``lora.load``, readers and (with coupling 'identity') PEFT read."


def start(adapters: Adapters, system: System, first: Scorer | None) -> None:
    """Put it into a system's adapters; ``first`` is the earlier system, if it is one's."""
    if first is not None:
        start_from(adapters, first.stage.require() / ADAPTER)
    elif system.init_from is not None:
        start_from(adapters, Path(system.init_from).expanduser())
