"""What the prompts of a system share: which requests hang on one trunk, and why none do. Decided here alone; knows no tokens.

A trunk is read once for all that hang on it, so it has to be the same for them: head and behaviours, and what C(u) makes of them.
"""

import json
from pathlib import Path

import numpy as np
from jaxtyping import Int

from lifelora.artefacts import read_json, write_atomically
from lifelora.data.dataset import Targets
from lifelora.llm.backbone import Backbone
from lifelora.recipe.system import System

SHARING = "sharing.json"


def why_apart(system: System, u_sees_target: bool, backbone: Backbone, wanted: bool) -> str:
    """Why every prompt is read by itself; empty where trunks may be shared."""
    if system.behaviours.needs_target:
        return "each target has behaviours of its own"
    if u_sees_target and system.coupling_on == "prompt":
        return "C(u) depends on the target and acts on the behaviours, too"
    return backbone.trees if wanted else "it was asked for"


def trunks(targets: Targets, start_N: Int[np.ndarray, "N"], kept_N: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
    """A number for each request, the same for those that hang on one trunk.

    ``start_N`` is the position in its user's history that decides what may be shown: of its block, or its own. ``kept_N`` says
    how many of the behaviours find room. What the first is of them is the same for all of a trunk, so that none is shown less
    than its own prompt would show; and a prompt without behaviours begins otherwise.
    """
    keys_N4 = np.column_stack([targets.user_B, start_N, targets.position_B - kept_N, kept_N > 0])
    return np.asarray(np.unique(keys_N4, axis=0, return_inverse=True)[1]).ravel()


def tell(folder: Path, trunk_N: Int[np.ndarray, "N"] | None, apart: str) -> None:
    """Leave in a system's folder how the histories of its training samples were read."""
    count = None if trunk_N is None else len(np.unique(trunk_N))
    write_atomically(folder / SHARING, json.dumps({"trunks": count, "apart": apart}, indent=1))


def told(folder: Path) -> str:
    """The same for a reader of the report; empty where nothing was to be shared."""
    if not (folder / SHARING).exists():
        return ""
    found = read_json(folder / SHARING)
    if found["trunks"] is None:
        return f"; every prompt was read by itself: {found['apart']}"
    return f"; {found['trunks']:,} histories were read for all of them"
