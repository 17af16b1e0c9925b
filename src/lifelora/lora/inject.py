"""Puts adapters into a model and takes them out again. Knows nn.Module and names, nothing of language models.

``inject`` freezes the model, wraps the linear layers that were asked for, and returns ``Adapters``: all that trains.
"""

import re
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from lifelora.errors import ArtefactError, ConfigError, ScopeError
from lifelora.lora.coupling import Coupling
from lifelora.lora.layer import PersonalLoRALinear, Slot, features

ALL_LINEAR = "all-linear"
PATTERN = "re:"
SHOWN = 8
"""Names listed in an error before it says how many more there are."""


@final
@dataclass(frozen=True, eq=False)
class Adapters:
    """The adapters of one model: the layers in the order of its modules, their coupling, and the slot between them."""

    model: nn.Module
    layers: tuple[tuple[str, PersonalLoRALinear], ...]
    coupling: Coupling
    slot: Slot

    def scope(self, u_BD: Float[Tensor, "B D"] | None) -> AbstractContextManager[None]:
        """A context that holds C(u) for forward and backward of one batch; empty when the coupling needs nobody."""
        if not self.coupling.needs_user:
            return nullcontext()
        if u_BD is None:
            raise ScopeError(
                f"coupling '{type(self.coupling).__name__.lower()}' is personal, but the batch brings no "
                "representation u; give one row of u for each row of the batch."
            )
        return self.slot.holding(self.coupling(u_BD))

    def parameters(self) -> list[nn.Parameter]:
        """A and B of every layer, then the coupling's: what an optimiser gets."""
        adapters = [parameter for _, layer in self.layers for parameter in (layer.A_PI, layer.B_OQ)]
        return [*adapters, *self.coupling.parameters()]

    def adapter_state(self) -> dict[str, Tensor]:
        """Every tensor of the adapters by name, flat, as safetensors wants it; shares memory with the parameters."""
        state: dict[str, Tensor] = {}
        for name, layer in self.layers:
            state[f"layers.{name}.A_PI"] = layer.A_PI.detach()
            state[f"layers.{name}.B_OQ"] = layer.B_OQ.detach()
        # state_dict and not parameters(): buffers belong to the function too (iLoRA's checkpoints lost theirs).
        return state | {f"coupling.{name}": tensor for name, tensor in self.coupling.state_dict().items()}

    @torch.no_grad()
    def load_adapter_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy ``state`` in; ArtefactError, with nothing changed, unless it has exactly these names and shapes."""
        own = self.adapter_state()
        missing, unexpected = [n for n in own if n not in state], [n for n in state if n not in own]
        shapes = [f"{n} (came {list(state[n].shape)}, here {list(own[n].shape)})" for n in own
                  if n in state and state[n].shape != own[n].shape]
        faults = [f"{what}: {_listed(names)}" for what, names in
                  (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes)) if names]
        if faults:
            raise ArtefactError(
                f"these adapters were made for another model, other targets or another coupling; {'; '.join(faults)}. "
                "Load them with the recipe that they were trained with."
            )
        for name, tensor in own.items():
            tensor.copy_(state[name])

    def eject(self) -> None:
        """Put the original layers back; they stay frozen, and this object is of no more use."""
        for name, layer in self.layers:
            _replace(self.model, name, layer.base)


def inject(
    model: nn.Module, targets: tuple[str, ...], config: Coupling.Config, *,
    user_width: int | None, dropout: float, generator: torch.Generator,
) -> Adapters:
    """Freeze ``model`` and wrap every linear layer that a target names.

    A target is the last word of a module's name (``"q_proj"``), a regular expression for the whole name
    (``"re:.*layers[.][01][.].*_proj"``), or ``"all-linear"``: every linear layer but the LM head. The adapters start
    from ``generator``, so the same seed gives the same adapters. Nothing is changed when an error is raised.
    """
    names = select(model, targets)
    for name in names:
        width = min(features(model.get_submodule(name)) or (0,))
        if config.rank > width:
            raise ConfigError(f"rank = {config.rank} is wider than layer '{name}' ({width}); choose rank <= {width}.")
    coupling = config.build(len(names), user_width, generator)
    slot = Slot(len(names), coupling.columns, coupling.rows)
    model.requires_grad_(False)
    layers: list[tuple[str, PersonalLoRALinear]] = []
    for index, name in enumerate(names):
        layer = PersonalLoRALinear(
            model.get_submodule(name), coupling.rows, coupling.columns, coupling.scaling, generator=generator,
            slot=slot if coupling.needs_user else None, index=index, name=name, dropout=dropout,
        )
        _replace(model, name, layer.train(model.training))
        layers.append((name, layer))
    return Adapters(model, tuple(layers), coupling.to(layers[0][1].A_PI), slot)


def select(model: nn.Module, targets: tuple[str, ...]) -> list[str]:
    """Names of the linear layers that ``targets`` mean, in the order of the model's modules."""
    if any(isinstance(module, PersonalLoRALinear) for module in model.modules()):
        raise ConfigError("this model carries adapters already; eject them first, or load the backbone anew.")
    linear = [name for name, module in model.named_modules() if name and features(module) is not None]
    heads = {head for module in model.modules() if callable(get := getattr(module, "get_output_embeddings", None))
             if (head := get()) is not None}
    chosen: set[str] = set()
    for target in targets:
        if target == ALL_LINEAR:
            found = [name for name in linear if model.get_submodule(name) not in heads]
        elif target.startswith(PATTERN):
            found = [name for name in linear if _pattern(target).fullmatch(name)]
        else:
            found = [name for name in linear if name.rpartition(".")[2] == target]
        if not found:
            words = sorted({name.rpartition(".")[2] for name in linear})
            raise ConfigError(
                f"target '{target}' names no linear layer of {type(model).__name__}; it has {_listed(words)}. "
                f"A target is one of these words, '{PATTERN}' and a regular expression for the whole name (such as "
                f"'{linear[0] if linear else 'model.layers.0.q_proj'}'), or '{ALL_LINEAR}'."
            )
        chosen.update(found)
    if not chosen:
        raise ConfigError(f"no target was given; name linear layers, or say '{ALL_LINEAR}'.")
    return [name for name in linear if name in chosen]


def _pattern(target: str) -> re.Pattern[str]:
    try:
        return re.compile(target.removeprefix(PATTERN))
    except re.error as error:
        raise ConfigError(f"target '{target}' is no regular expression: {error}.") from error


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
