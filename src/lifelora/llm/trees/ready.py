"""Whether a causal LM can read prompt trees: tried with a few tokens, and not looked up in a list of families. Knows no words."""

from typing import Any, cast

import torch
from jaxtyping import Int
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.llm.agreement import FAILS, Agreement, first_line
from lifelora.llm.context import named_context, named_window, text_config
from lifelora.llm.trees.interface import asks_early, install, installed, uninstall
from lifelora.llm.trees.reading import Kept, read
from lifelora.lora.adapters import in_place
from lifelora.prompts.tree import PromptTrees

TRIED = ((5, 3), ((0, 5, 3, 2), (1, 1, 4, 1), (0, 2, 2, 1), (1, 3, 3, 3)))
"""Trunks, and branches: the trunk, the place, the tokens, and how many of them are the answer."""
TOKENS = sum(TRIED[0]) + sum(tokens for _, _, tokens, _ in TRIED[1])


def ready(model: nn.Module) -> None:
    """Let a causal LM of transformers read trees, for good; whatever else it is asked stays as it was, bit for bit.

    ``llm.backbone.load`` does it where trees work. Say it of a model that you made yourself, before you give it trees. A few
    tokens are tried; raises ConfigError, with nothing changed, for a model that a tree would be wrong for.
    """
    if installed(model):
        return
    adapters, training = in_place(model), model.training
    table_VD: Tensor = cast(Any, model).get_input_embeddings().weight
    if adapters is not None:
        adapters.unload()
    try:
        why, early = tried(model.eval(), torch.arange(1, TOKENS + 1, device=table_VD.device) * 7919 % len(table_VD))
    finally:
        model.train(training)
        if adapters is not None:
            adapters.load()
    if why:
        raise ConfigError(f"prompts cannot be trees: {why}")
    install(model, early=early)


@torch.no_grad()
def tried(model: nn.Module, tokens_N: Int[Tensor, "N"], limit: int | None = None) -> tuple[str, bool]:
    """Why prompts cannot be trees (empty where they can), and whether an early last layer works. Leaves nothing installed.

    ``tokens_N`` are some to try it with, at least ``TOKENS``; ``limit`` is the longest prompt, where it is not what the
    configuration names.
    """
    name, config = type(model).__name__, text_config(cast(Any, model).config)
    attention, window, longest = config._attn_implementation, named_window(config), limit or named_context(config)
    if attention != "sdpa":
        return f"the attention of {name} is '{attention}', and trees are read by 'sdpa'.", False
    if window is not None and (longest is None or window < longest):
        prompts = "of any length" if longest is None else f"of up to {longest:,}"
        return f"{name} looks {window:,} tokens back, and prompts may be {prompts}; set backbone.context = {window}.", False
    trees = _made(tokens_N)
    try:
        before = _plain(model, trees)
    except FAILS as error:
        return f"{name} cannot be asked without a mask: {first_line(error)}", False
    asked_EV = torch.cat([x_LV[-n - 1 : -1] for x_LV, (_, _, _, n) in zip(before, TRIED[1], strict=True)])
    why = ""
    for early in (True, False):
        seen: Kept = {}
        try:
            install(model, early=early)
            if early and not asks_early(model):
                continue
            after = _plain(model, trees)
            tree_EV = read(model, trees, {"input_ids": trees.tokens_L[None]}, early=early, found=seen).float()
        except FAILS as error:
            why = str(error) if isinstance(error, ConfigError) else f"{name} cannot be asked with a tree: {first_line(error)}"
            continue
        finally:
            uninstall(model)
        same = tree_EV.shape == asked_EV.shape and not Agreement.of(model).apart(asked_EV, tree_EV)
        if same and all(map(torch.equal, before, after)):
            return "", early
        why = _otherwise(name, len(seen), config.num_hidden_layers) if not same else f"{name} would not answer prompts as before."
    return why, False


def _otherwise(name: str, seen: int, layers: int) -> str:
    if seen == layers:
        return f"{name} does not answer a tree as it answers the prompts that the tree stands for."
    return f"{seen or 'none'} of the {layers} layers of {name} attend through transformers' interface, and a tree needs all."


def _made(tokens_N: Tensor) -> PromptTrees:
    trunks, branches = TRIED
    tree_G, place_G, branch_G, answer_G = torch.tensor(branches, device=tokens_N.device).unbind(dim=1)
    trunk_R = torch.tensor(trunks, device=tokens_N.device)
    return PromptTrees(tokens_N[:TOKENS], trunk_R, branch_G, tree_G, place_G, torch.zeros_like(place_G), answer_G=answer_G)


def _plain(model: nn.Module, trees: PromptTrees) -> list[Tensor]:
    """Logits of each branch's prompt, alone and at all places."""
    starts = [0, TRIED[0][0]]
    prompts = [
        torch.cat([trees.tokens_L[starts[tree] :][:place], trees.tokens_L[own:][:tokens]])
        for (tree, place, tokens, _), own in zip(TRIED[1], trees.starts.tolist(), strict=True)
    ]
    return [cast(Any, model)(input_ids=ids_L[None], use_cache=False).logits[0].float() for ids_L in prompts]
