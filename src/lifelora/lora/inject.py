"""Puts adapters into a model and takes them out again. Knows nn.Module and names, nothing of language models.

``personalise`` freezes the model, wraps the linear layers that were asked for, and returns ``Adapters``: all that trains.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, final

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from lifelora.errors import ArtefactError, ConfigError, ScopeError
from lifelora.lora.coupling import AnyCoupling, Coupling, Identity
from lifelora.lora.layer import PersonalLoRALinear, features
from lifelora.lora.rehearsal import layouts
from lifelora.lora.slot import Slot
from lifelora.lora.structure import Structure
from lifelora.seeds import torch_generator
from lifelora.types import Frozen

ALL_LINEAR = "all-linear"
PATTERN = "re:"
PREFIX = "base_model.model."
"PEFT writes it before the names of a model's modules; so do we."
SHOWN = 8
"""Names listed in an error before it says how many more there are."""


class Adaptation(Frozen):
    """How a model is made personal: which layers carry an adapter, and what couples their A and B."""

    coupling: AnyCoupling = Identity.Config()
    targets: tuple[str, ...] = ("q_proj", "v_proj")
    "Which linears carry an adapter: last part of the name, 're:PATTERN', or 'all-linear'."
    dropout: float = Field(default=0.05, ge=0, lt=1)
    "On what goes into A, while training."
    train: Literal["all", "coupling"] = "all"
    "What learns: A, B and the coupling; or the coupling alone on the A and B of a loaded LoRA (ReLLaX's second stage)."


@final
@dataclass(frozen=True, eq=False)
class Adapters:
    """The adapters of one model: the layers in the order of its modules, their coupling, and the slot between them."""

    model: nn.Module
    layers: tuple[tuple[str, PersonalLoRALinear], ...]
    coupling: Coupling
    slot: Slot
    adaptation: Adaptation
    user_width: int | None
    left_out: tuple[str, ...] = ()
    "Layers that 'all-linear' left out because they are narrower than the rank."

    def scope(self, u_BD: Float[Tensor, "B D"] | None, repeats: int = 1) -> AbstractContextManager[None]:
        """A context that holds C(u) for forward and backward of one batch; empty when the coupling needs nobody.

        ``repeats`` is how many rows of the batch each person has, one after the other (``num_beams``, say). u may have
        a graph of its own: then it learns, too.
        """
        return self.holding(self.couplings(u_BD), repeats)

    def couplings(self, u_BD: Float[Tensor, "B D"] | None) -> Structure | None:
        """C(u) of each row, to be kept and used again; None when the coupling needs nobody."""
        if not self.coupling.config.needs_user:
            return None
        if u_BD is None:
            raise ScopeError(
                f"coupling '{type(self.coupling).__name__.lower()}' is personal, but the batch brings no "
                "representation u; give one row of u for each row of the batch."
            )
        # The coupling is no part of the model, so model.eval() does not reach it.
        C: Structure = self.coupling.train(self.model.training)(u_BD)
        return C

    def holding(self, C: Structure | None, repeats: int = 1) -> AbstractContextManager[None]:
        """``scope`` for couplings that are there already."""
        if C is None:
            return nullcontext()
        return self.slot.holding(C if repeats == 1 else C.repeated(repeats))

    def enable_checkpointing(self) -> None:
        """Turn on the gradient checkpointing of a model of transformers, so that running again brings back the right C(u).

        Backward may then also come after the scope, or after another batch's.
        """
        model: Any = self.model
        options = {"use_reentrant": False, "context_fn": self.slot.recalled}
        if hasattr(model, "activation_checkpointing_enable"):  # its name since transformers 5.23
            model.activation_checkpointing_enable(activation_checkpointing_kwargs=options)
        elif hasattr(model, "gradient_checkpointing_enable"):
            model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=options)
        else:
            raise ConfigError(f"{type(model).__name__} cannot turn on gradient checkpointing by itself; checkpoint its blocks "
                              "with use_reentrant=False and context_fn=adapters.slot.recalled.")

    def parameters(self) -> list[nn.Parameter]:
        """A and B of every layer, then the coupling's: of these, an optimiser gets those that require a gradient.

        Raises ConfigError when the coupling alone is to learn and has no parameters, or B is zero everywhere.
        """
        if self.adaptation.train == "coupling" and isinstance(self.coupling, Identity):
            raise ConfigError("train = 'coupling' leaves nothing to learn with coupling 'identity', which has no parameters; "
                              "choose another coupling, or train = 'all'.")
        if self.adaptation.train == "coupling" and not any(layer.B_OQ.any() for _, layer in self.layers):
            raise ConfigError("train = 'coupling' leaves A and B as they are, and B is zero, so nothing could ever be learnt; "
                              "load a LoRA first: start_from(adapters, folder).")
        adapters = [parameter for _, layer in self.layers for parameter in (layer.A_PI, layer.B_OQ)]
        return [*adapters, *self.coupling.parameters()]

    def state(self) -> dict[str, Tensor]:
        """Every tensor of the adapters by name, flat, as safetensors wants it; shares memory with the parameters.

        A and B have the names that PEFT gives them.
        """
        state: dict[str, Tensor] = {}
        for name, layer in self.layers:
            state[f"{PREFIX}{name}.lora_A.weight"] = layer.A_PI.detach()
            state[f"{PREFIX}{name}.lora_B.weight"] = layer.B_OQ.detach()
        # state_dict and not parameters(): buffers belong to the function too (iLoRA's checkpoints lost theirs).
        return state | {f"coupling.{name}": tensor for name, tensor in self.coupling.state_dict().items()}

    @torch.no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy ``state`` in; ArtefactError, with nothing changed, unless it has exactly these names and shapes."""
        own = self.state()
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
        self.slot.unwatch()


def personalise(
    model: nn.Module, config: Adaptation, *, user_width: int | None = None,
    generator: torch.Generator | None = None,
) -> Adapters:
    """Freeze ``model`` and wrap every linear layer that a target names.

    A target is the last word of a module's name (``"q_proj"``), a regular expression for the whole name
    (``"re:.*layers[.][01][.].*_proj"``), or ``"all-linear"``: every linear layer but the LM head and those narrower than the
    rank. ``user_width`` is D of the representations u; couplings that need nobody need none. The adapters start from
    ``generator`` (seed 0), so the same seed gives the same adapters. Nothing is changed when an error is raised.

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
            f"{_listed(mixing)}. Choose targets without them, or coupling 'identity'.")
    generator = torch_generator(0, "adapters") if generator is None else generator
    inputs = tuple((features(model.get_submodule(name)) or (0,))[0] for name in names)
    coupling = config.coupling.build(inputs, user_width, generator)
    rows, columns = config.coupling.rows, config.coupling.columns
    standing: Callable[[], Structure] | None = None if config.coupling.needs_user else coupling
    slot = Slot(len(names), columns, rows, standing)
    if "flat" in found.values():
        slot.watch(model)
    model.requires_grad_(False)
    layers: list[tuple[str, PersonalLoRALinear]] = []
    for index, name in enumerate(names):
        layer = PersonalLoRALinear(
            model.get_submodule(name), rows, columns, config.coupling.scaling, generator=generator,
            slot=None if isinstance(coupling, Identity) else slot, index=index, name=name, dropout=config.dropout,
            layout=found.get(name, "rows"),
        )
        if config.train == "coupling":
            layer.requires_grad_(False)
        _replace(model, name, layer.train(model.training))
        layers.append((name, layer))
    coupling.to(layers[0][1].A_PI).train(model.training)
    return Adapters(model, tuple(layers), coupling, slot, config, user_width, left_out)


def select(model: nn.Module, targets: tuple[str, ...], rank: int = 1) -> list[str]:
    """Names of the linear layers that ``targets`` mean, in the order of the model's modules.

    Of a model with towers for pictures or sound, its language model's alone; 'all-linear' means none narrower than ``rank``.
    """
    if any(isinstance(module, PersonalLoRALinear) for module in model.modules()):
        raise ConfigError("this model carries adapters already; eject them first, or load the backbone anew.")
    inside = _language_model(model)
    linear = [name for name, module in model.named_modules() if name.startswith(inside) and features(module) is not None and name]
    heads = {head for module in model.modules() if callable(get := getattr(module, "get_output_embeddings", None))
             if (head := get()) is not None}
    chosen: set[str] = set()
    for target in targets:
        if target == ALL_LINEAR:
            found = [name for name in linear if model.get_submodule(name) not in heads
                     and min(features(model.get_submodule(name)) or (0,)) >= rank]
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


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)


def _listed(names: Iterable[str]) -> str:
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more
