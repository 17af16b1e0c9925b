"""The couplings: how a representation u becomes C(u), for all adapted layers at once.

A coupling is one class with its Config, and one member of ``AnyCoupling``; nothing else in the library changes.
"""

from typing import Annotated

from pydantic import Field

from lifelora.lora.coupling.base import Coupling
from lifelora.lora.coupling.fixed import Identity, Static
from lifelora.lora.coupling.full import Full
from lifelora.lora.coupling.mixtures import Experts, Hydra, Meta

AnyCoupling = Annotated[
    Identity.Config | Static.Config | Experts.Config | Meta.Config | Hydra.Config | Full.Config,
    Field(discriminator="kind"),
]

__all__ = ["AnyCoupling", "Coupling", "Experts", "Full", "Hydra", "Identity", "Meta", "Static"]
