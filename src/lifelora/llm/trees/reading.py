"""Prompt trees read by a causal LM of transformers as it is. Knows a model, and trees as tokens.

The model gets one row of all tokens at the places that they have in their prompts; attention gets the layout.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.llm.trees.interface import KEY, Reading, asks_early, installed
from lifelora.llm.trees.layout import ends, everything
from lifelora.prompts.tree import PromptTrees

Kept = dict[int, tuple[Tensor, Tensor]]
"""Keys and values by layer, [Y, tokens, D]."""


def read(
    model: nn.Module, trees: PromptTrees, inputs: dict[str, Tensor], *, early: bool = True, found: Kept | None = None
) -> Float[Tensor, "E V"]:
    """The model's logits after ``trees.reads``; ``inputs`` are the tokens or their embeddings, in one row.

    ``early``: in the last layer these tokens alone ask, where the model can. ``found`` is filled with keys and values of all
    tokens. Raises ConfigError for a model that is not ``ready``.
    """
    parts = (trees.trunk_R, trees.branch_G, trees.tree_G, trees.place_G)
    return read_row(model, parts, trees.positions, trees.reads, inputs, early=early, found=found)


def read_row(
    model: nn.Module,
    parts: tuple[Int[Tensor, "R"], Int[Tensor, "G"], Int[Tensor, "G"], Int[Tensor, "G"]],
    position_L: Int[Tensor, "L"],
    read_E: Int[Tensor, "E"],
    inputs: dict[str, Tensor],
    *,
    early: bool = True,
    kept: Kept | None = None,
    found: Kept | None = None,
) -> Float[Tensor, "E V"]:
    """As ``read``, of a row of trunks and branches; of branches alone where what the trunks left behind is ``kept``.

    ``parts`` are the tokens of each trunk and of each branch, its trunk, and its place there, as of PromptTrees.
    """
    if not installed(model):
        raise ConfigError(
            f"{type(model).__name__} is not ready to read prompt trees: say `ready(model)` once (lifelora.llm.trees.ready; "
            "`llm.backbone.load` does it by itself), or give it plain prompts."
        )
    early, again = early and asks_early(model), kept is not None
    longest = int(position_L.max()) + 1 if len(position_L) else 0
    at_ends = ends(*parts, read_E, kept=again) if early else None
    output = model(
        **inputs,
        position_ids=position_L[None],
        # Four axes: transformers takes it as it is, and builds none of L x L.
        attention_mask=torch.ones(1, 1, 1, 1, dtype=torch.bool, device=position_L.device),
        use_cache=False,
        logits_to_keep=0 if early else read_E,
        **{KEY: Reading(everything(*parts, kept=again), at_ends, read_E, longest, kept=kept, found=found)},
    )
    logits_EV: Tensor = output.logits[0]
    return logits_EV
