"""The ground floor: the base of every configuration and the legend of axis names. Knows nothing of the library.

Axes are suffixes of names (``tokens_BL``) and words in jaxtyping signatures (``Float[Tensor, "B L"]``):

====  =======================================  ====  ==================================
B     batch                                    D     width of a representation u
L     tokens (T: of a whole batch, flat)       I, O  features into and out of a linear
H     history (behaviours the conventional     P     rows of A
      model reads)                             Q     columns of B
K     behaviours shown in a prompt             R     rank
M     items                                    S     adapted layers
U     users                                    V     vocabulary of the tokenizer
N     experts, meta-LoRAs, or rows of a table  F     categorical fields
E     width of an item vector
====  =======================================  ====  ==================================
"""

import glob
import os
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, PlainSerializer, model_validator

NULL = "null"
Part = Literal["train", "valid", "test"]
PARTS: tuple[Part, ...] = ("train", "valid", "test")
Layer = Literal["final", "fields", "user"]
"""Which layer of a conventional model is its u: see ``Recommender.representation``."""
LayerOrRandom = Literal["final", "fields", "user", "random"]
"""Or, as a control, numbers drawn once for each user, as many as the last layer has."""


def names_a_folder(name: str) -> bool:
    """Whether a name from a recipe can be that of a folder, anywhere: the one check of all names that become paths."""
    return name.replace("-", "").replace("_", "").isalnum() and len(name.encode()) <= 100


HERE, KEY = "here", "key"
"""Of a context: the folder whose recipe is read (None: there is none); whether what is written is a stage's key."""


def _placed(written: str, info: Any) -> str:
    context = info.context or {}
    if HERE not in context:  # as a run keeps it
        return written
    for folder in (context[HERE], Path()):
        try:
            place = None if folder is None else folder / Path(written).expanduser()
            if place is not None and place.exists():
                return os.path.abspath(place)
            if folder is not None and next(glob.iglob(os.path.expanduser(written), root_dir=folder, recursive=True), None):
                return os.path.join(glob.escape(os.path.abspath(folder)), os.path.expanduser(written))
        except (OSError, ValueError, RuntimeError):  # no path can be so
            return written
    return written


def _kept(place: str, info: Any) -> str:
    # Contents are hashed, so it does not matter where they lie.
    return Path(place).name if (info.context or {}).get(KEY) else place


PathText = Annotated[str, AfterValidator(_placed), PlainSerializer(_kept)]
"""A path in a recipe, or a pattern of paths: what lies beside the recipe, or else where the command is given. A name that is no
path stays a name."""


class Frozen(BaseModel):
    """Base of every configuration: frozen, and an unknown key is an error that names its place."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
    later: ClassVar[frozenset[str]] = frozenset()
    "Keys that came after runs were kept: their defaults stand in no stage's key, so that those runs stay finished."

    @model_validator(mode="before")
    @classmethod
    def _null(cls, values: Any) -> Any:
        # TOML has no word for None; recipes write "null".
        return {k: None if v == NULL else v for k, v in values.items()} if isinstance(values, dict) else values
