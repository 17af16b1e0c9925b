"""Makes a model personal: finds the layers that get an adapter, and builds the adapters. Knows nn.Module and names alone.

``personalise`` freezes the model, wraps the linear layers that were asked for, and returns ``Adapters``: all that trains.
"""

import re
from collections.abc import Callable

import torch
from torch import nn

from lifelora.errors import ConfigError
from lifelora.lora.adapters import Adaptation, Adapters, in_place, listed
from lifelora.lora.coupling import Identity
from lifelora.lora.layer import PersonalLoRALinear, features
from lifelora.lora.rehearsal import layouts
from lifelora.lora.slot import Slot
from lifelora.lora.structure import Structure
from lifelora.seeds import torch_generator

ALL_LINEAR = "all-linear"
PATTERN = "re:"


def personalise(
    model: nn.Module,
    config: Adaptation,
    *,
    user_width: int | None = None,
    generator: torch.Generator | None = None,
) -> Adapters:
    """Freeze ``model`` and wrap every linear layer that a target names.

    A target is the last word of a module's name (``"q_proj"``), a regular expression for the whole name
    (``"re:.*layers[.][01][.].*_proj"``), or ``"all-linear"``: every linear layer but the LM head and those narrower than the
    rank. ``user_width`` is D of the representations u; couplings that need no user need none. The adapters start from
    ``generator`` (seed 0), so the same seed gives the same adapters. They are in place at once; a model that carries another set
    is a ConfigError, since it would be wrapped twice: ``unload`` that one first. Nothing is changed when an error is raised.

    A model of transformers first runs a few times on six tokens: a layer whose weight is read directly, or in which the rows of a
    personal coupling would be another user's, is a ConfigError that names it.
    """
    rank = config.coupling.rank
    names = select(model, config.targets, rank)
    left_out = tuple(name for name in select(model, config.targets) if name not in set(names))
    for name in names:
        width = min(features(model.get_submodule(name)) or (0,))
        if rank > width:
            raise ConfigError(f"rank = {rank} is wider than layer '{name}' ({width}); choose rank <= {width}.")
    found = layouts(model, names, personal=config.coupling.needs_user)
    mixing = [name for name, layout in found.items() if layout == "other"]
    if mixing:
        raise ConfigError(
            f"coupling '{config.coupling.kind}' is personal, but these layers get neither a row for each user nor the tokens of "
            "one user after another's (time stands first, or a router picks tokens), so users would be mixed: "
            f"{listed(mixing)}. Choose targets without them, or coupling 'identity'."
        )
    generator = torch_generator(0, "adapters") if generator is None else generator
    inputs = tuple((features(model.get_submodule(name)) or (0,))[0] for name in names)
    coupling = config.coupling.build(inputs, user_width, generator)
    rows, columns = config.coupling.rows, config.coupling.columns
    standing: Callable[[], Structure] | None = None if config.coupling.needs_user else coupling
    slot = Slot(len(names), columns, rows, standing)
    model.requires_grad_(False)
    layers: list[tuple[str, PersonalLoRALinear]] = []
    for index, name in enumerate(names):
        layer = PersonalLoRALinear(
            model.get_submodule(name),
            rows,
            columns,
            config.coupling.scaling,
            generator=generator,
            slot=None if isinstance(coupling, Identity) else slot,
            index=index,
            name=name,
            dropout=config.dropout,
            layout=found.get(name, "rows"),
        )
        if config.train == "coupling":
            layer.requires_grad_(False)
        layers.append((name, layer))
    coupling.to(layers[0][1].A_PI).train(model.training)
    adapters = Adapters(model, tuple(layers), coupling, slot, config, user_width, left_out)
    adapters.load()
    return adapters


def select(model: nn.Module, targets: tuple[str, ...], rank: int = 1) -> list[str]:
    """Names of the linear layers that ``targets`` mean, in the order of the model's modules.

    Of a model with towers for pictures or sound, its language model's alone; 'all-linear' means none narrower than ``rank``.
    """
    if in_place(model) is not None or any(isinstance(module, PersonalLoRALinear) for module in model.modules()):
        raise ConfigError("this model carries adapters already; take them out first (adapters.unload(), which keeps them).")
    inside = _language_model(model)
    linear = [name for name, module in model.named_modules() if name.startswith(inside) and features(module) is not None and name]
    heads = {
        head
        for module in model.modules()
        if callable(get := getattr(module, "get_output_embeddings", None))
        if (head := get()) is not None
    }
    chosen: set[str] = set()
    for target in targets:
        if target == ALL_LINEAR:
            found = [
                name
                for name in linear
                if model.get_submodule(name) not in heads and min(features(model.get_submodule(name)) or (0,)) >= rank
            ]
        elif target.startswith(PATTERN):
            found = [name for name in linear if _pattern(target).fullmatch(name)]
        else:
            found = [name for name in linear if name.rpartition(".")[2] == target]
        if not found:
            words = sorted({name.rpartition(".")[2] for name in linear})
            raise ConfigError(
                f"target '{target}' names no linear layer of {type(model).__name__}; it has {listed(words)}. "
                f"A target is one of these words, '{PATTERN}' and a regular expression for the whole name (such as "
                f"'{linear[0] if linear else 'model.layers.0.q_proj'}'), or '{ALL_LINEAR}'."
            )
        chosen.update(found)
    if not chosen:
        raise ConfigError(f"no target was given; name linear layers, or say '{ALL_LINEAR}'.")
    return [name for name in linear if name in chosen]


def _language_model(model: nn.Module) -> str:
    """How the names of the layers begin that read words: no prompt runs a tower for pictures beside them."""
    config = getattr(model, "config", None)
    text, decoder = getattr(config, "get_text_config", None), getattr(model, "get_decoder", None)
    if not callable(text) or not callable(decoder) or text() is config:
        return ""
    inner = decoder()
    name = next((name for name, module in model.named_modules() if module is inner), "")
    return name and f"{name}."


def _pattern(target: str) -> re.Pattern[str]:
    try:
        return re.compile(target.removeprefix(PATTERN))
    except re.error as error:
        raise ConfigError(f"target '{target}' is no regular expression: {error}.") from error
