"""The layer for every personalised LoRA: ``personalise`` a model, train the adapters, save them, export a user's LoRA."""

from lifelora.lora.adapters import Adaptation, Adapters
from lifelora.lora.coupling import Coupling, Experts, Full, Hydra, Identity, Meta, Static
from lifelora.lora.export import write_peft_adapter
from lifelora.lora.inject import personalise
from lifelora.lora.saved import load, save, start_from
from lifelora.lora.summary import Summary, summarise

__all__ = [
    "Adaptation",
    "Adapters",
    "Coupling",
    "Experts",
    "Full",
    "Hydra",
    "Identity",
    "Meta",
    "Static",
    "Summary",
    "load",
    "personalise",
    "save",
    "start_from",
    "summarise",
    "write_peft_adapter",
]
