"""lifelora: language-model recommenders that adapt to each user.

The public names are loaded when they are first used, so that ``import lifelora`` needs neither torch nor transformers. What else
this module needs has an underscore: nothing but the public names lies open in it.
"""

import importlib as _importlib
import typing as _typing

__version__ = "0.1.0"

_HOMES = {
    "Adaptation": "lifelora.lora.adapters",
    "Dataset": "lifelora.data.dataset",
    "LifeloraError": "lifelora.errors",
    "Options": "lifelora.run",
    "Recipe": "lifelora.recipe.recipe",
    "Run": "lifelora.run",
    "Tables": "lifelora.data.sources.tables",
    "compare": "lifelora.evaluation.evaluate",
    "evaluate": "lifelora.evaluation.evaluate",
    "load_recipe": "lifelora.recipe.files",
    "personalise": "lifelora.lora.inject",
    "recommend": "lifelora.run.recommend.frames",
}

if _typing.TYPE_CHECKING:
    from lifelora.data.dataset import Dataset
    from lifelora.data.sources.tables import Tables
    from lifelora.errors import LifeloraError
    from lifelora.evaluation.evaluate import compare, evaluate
    from lifelora.lora.adapters import Adaptation
    from lifelora.lora.inject import personalise
    from lifelora.recipe.files import load as load_recipe
    from lifelora.recipe.recipe import Recipe
    from lifelora.run import Options, Run
    from lifelora.run.recommend.frames import recommend

__all__ = [
    "Adaptation",
    "Dataset",
    "LifeloraError",
    "Options",
    "Recipe",
    "Run",
    "Tables",
    "compare",
    "evaluate",
    "load_recipe",
    "personalise",
    "recommend",
]


def __getattr__(name: str) -> _typing.Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'lifelora' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(_importlib.import_module(_HOMES[name]), "load" if name == "load_recipe" else name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])
