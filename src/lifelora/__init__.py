"""lifelora: language-model recommenders that adapt to each user.

The public names are loaded when they are first used, so that ``import lifelora`` needs neither torch nor transformers.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOMES = {
    "Adaptation": "lifelora.lora.adapters",
    "Dataset": "lifelora.data.dataset",
    "LifeloraError": "lifelora.errors",
    "Recipe": "lifelora.recipe.recipe",
    "Run": "lifelora.run",
    "load_recipe": "lifelora.recipe.files",
    "personalise": "lifelora.lora.inject",
}

if TYPE_CHECKING:
    from lifelora.data.dataset import Dataset
    from lifelora.errors import LifeloraError
    from lifelora.lora.adapters import Adaptation
    from lifelora.lora.inject import personalise
    from lifelora.recipe.files import load as load_recipe
    from lifelora.recipe.recipe import Recipe
    from lifelora.run import Run

__all__ = ["Adaptation", "Dataset", "LifeloraError", "Recipe", "Run", "load_recipe", "personalise"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lifelora' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(import_module(_HOMES[name]), "load" if name == "load_recipe" else name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
