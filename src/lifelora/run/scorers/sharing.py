"""What the prompts of a system share: which requests hang on one trunk, and why none do. Decided here alone; knows no tokens.

A trunk is read once for all that hang on it, so it has to be the same for them: head and behaviours, and what C(u) makes of them.
"""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Int

from lifelora.artefacts import read_json, write_atomically
from lifelora.llm.backbone import Backbone
from lifelora.recipe.system import System
from lifelora.retrieval.growing import starts
from lifelora.run.scorers.shown import Shown

SHARING = "sharing.json"
TOGETHER = 1 << 14
"""Requests whose prompts are looked at together: these take more memory than what is told of them."""


def why_never(system: System, u_sees_target: bool) -> str:
    """Why each of a system's prompts is read by itself, whatever the language model; empty where trunks may be shared."""
    if system.behaviours.needs_target:
        return "each target has behaviours of its own"
    if u_sees_target and system.coupling_on == "prompt":
        return "C(u) depends on the target and acts on the behaviours, too"
    return ""


def why_apart(system: System, u_sees_target: bool, backbone: Backbone, wanted: bool) -> str:
    """The same with this language model, and with what was asked for."""
    return why_never(system, u_sees_target) or (backbone.trees if wanted else "Options(trees=False) asks for plain prompts")


def may_share(shown: Shown, block: int | None) -> bool:
    """Whether requests are such that their prompts may have a trunk in common: of growing histories, or one user's candidates."""
    return block is not None or shown.requests.among


def trunks(
    shown: Shown,
    block: int | None,
    kept: Callable[[Shown, Int[np.ndarray, "B"]], Int[np.ndarray, "B"]],
    *,
    alone: bool = False,
) -> Int[np.ndarray, "N"] | None:
    """A number for each request, the same for those that hang on one trunk; None where each would have its own, unless ``alone``.

    ``kept`` says how many of the behaviours of some requests find room. What the first is of them is the same for all of a trunk,
    so that none is shown less than its own prompt would show; and a prompt without behaviours begins otherwise.
    """
    if not len(shown):  # a language model that is asked as it is learns from no samples
        return None
    targets, kept_N = shown.requests.targets, room(shown, kept)
    start_N = targets.position_B if block is None else starts(targets, block)
    keys_N4 = np.column_stack([targets.user_B, start_N, targets.position_B - kept_N, kept_N > 0])
    trunk_N = np.unique(keys_N4, axis=0, return_inverse=True)[1].ravel()
    # Of own histories a single candidate is a prompt like any other.
    return None if block is None and not alone and trunk_N.max() + 1 == len(trunk_N) else trunk_N


def room(shown: Shown, kept: Callable[[Shown, Int[np.ndarray, "B"]], Int[np.ndarray, "B"]]) -> Int[np.ndarray, "N"]:
    """How many of the behaviours of each request find room."""
    every = range(0, len(shown), TOGETHER)
    parts = [kept(shown, np.arange(at, min(at + TOGETHER, len(shown)))) for at in every]
    return np.concatenate(parts) if parts else np.zeros(0, np.int64)


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
