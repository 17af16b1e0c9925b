"""The couplings: how a representation u becomes C(u), for all adapted layers at once.

A coupling is one class with its Config, and one line of ``kinds.COUPLINGS``; nothing else in the library changes.
"""

from typing import Annotated

from lifelora.kinds import COUPLINGS
from lifelora.lora.coupling.base import Coupling
from lifelora.lora.coupling.fixed import Identity, Static
from lifelora.lora.coupling.full import Full
from lifelora.lora.coupling.mixtures import Experts, Hydra, Meta

AnyCoupling = Annotated[Coupling.Config, COUPLINGS]

__all__ = ["AnyCoupling", "Coupling", "Experts", "Full", "Hydra", "Identity", "Meta", "Static"]
