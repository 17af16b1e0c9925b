"""The adapters of one model, in place or taken out: their scope, their state, and who of several has the model now.

Several sets of adapters can live on one model, of which at most one is in place: ``load`` puts a set's layers where the
model's own were, ``unload`` puts those back. Neither copies a weight. Knows nn.Module and names, nothing of language models.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, final

from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn, no_grad

from lifelora.errors import ArtefactError, ConfigError, ScopeError
from lifelora.lora.coupling import AnyCoupling, Coupling, Identity
from lifelora.lora.layer import PersonalLoRALinear
from lifelora.lora.slot import Slot
from lifelora.lora.structure import Structure
from lifelora.types import Frozen

PREFIX = "base_model.model."
"PEFT writes it before the names of a model's modules; so do we."
SHOWN = 8
"""Names listed in an error before it says how many more there are."""
IN_PLACE = "lifelora_adapters"
"""The attribute of a model that says whose layers it carries."""
CHECKPOINTING = ("activation_checkpointing", "gradient_checkpointing")
"""What transformers calls it, since 5.23 and before."""


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
@dataclass(eq=False)
class Adapters:
    """One set of adapters of a model: the layers in the order of its modules, their coupling, and the slot between them.

    Only a set that is in place has a part in the model: in its forward, in its ``parameters()`` and ``state_dict()``, and in
    ``to``, ``train`` and ``eval``. While it is out, its weights stay as they are.
    """

    model: nn.Module
    layers: tuple[tuple[str, PersonalLoRALinear], ...]
    coupling: Coupling
    slot: Slot
    adaptation: Adaptation
    user_width: int | None
    left_out: tuple[str, ...] = ()
    "Layers that 'all-linear' left out because they are narrower than the rank."
    checkpointing: bool = field(default=False, init=False)
    "Whether the model's gradient checkpointing is on while the set is in place."

    @property
    def in_place(self) -> bool:
        """Whether the model carries this set now."""
        return in_place(self.model) is self

    def load(self) -> None:
        """Put the set in place, and take out the one that is there. Nothing happens where it is in place already.

        Raises ScopeError, with nothing changed, while a scope of the other one is open.
        """
        other = in_place(self.model)
        if other is self:
            return
        if other is not None:
            other.unload()
        for name, layer in self.layers:
            layer.follow()
            _replace(self.model, name, layer)
        self.coupling.to(self.layers[0][1].A_PI.device)
        if any(layer.flat for _, layer in self.layers):
            self.slot.watch(self.model)
        setattr(self.model, IN_PLACE, self)
        if self.checkpointing:
            self._switch_checkpointing(on=True)

    def unload(self) -> None:
        """Put the model's own layers back, which stay frozen; the set is kept. Nothing happens where it is out already.

        Do it after backward, for with gradient checkpointing that runs the layers again. Raises ScopeError while a scope is open.
        """
        if not self.in_place:
            return
        if self.slot.open:
            raise ScopeError(
                "a scope of these adapters is open, so they cannot be taken out of the model; leave it first (after backward)."
            )
        if self.checkpointing:
            self._switch_checkpointing(on=False)
        for name, layer in self.layers:
            _replace(self.model, name, layer.base)
        self.slot.unwatch()
        delattr(self.model, IN_PLACE)

    @contextmanager
    def loaded(self) -> Iterator[None]:
        """The set in place for the ``with`` block; after it the model carries what it carried before, another set or none."""
        before = in_place(self.model)
        self.load()
        try:
            yield
        finally:
            if before is None:
                self.unload()
            else:
                before.load()

    def scope(self, u_BD: Float[Tensor, "B D"] | None, repeats: int = 1) -> AbstractContextManager[None]:
        """A context that holds C(u) for forward and backward of one batch; empty when the coupling needs no user.

        ``repeats`` is how many rows of the batch each user has, one after the other (``num_beams``, say). u may have
        a graph of its own: then it learns, too.
        """
        return self.holding(self.couplings(u_BD), repeats)

    def couplings(self, u_BD: Float[Tensor, "B D"] | None) -> Structure | None:
        """C(u) of each row, to be kept and used again; None when the coupling needs no user."""
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
        """``scope`` for couplings that are there already. Raises ScopeError where the set is not in place."""
        if not self.in_place:
            raise ScopeError(
                "these adapters are not in the model now (it carries "
                f"{'none' if in_place(self.model) is None else 'another set'}); put them in place: "
                "`with adapters.loaded():`."
            )
        if C is None:
            return nullcontext()
        return self.slot.holding(C if repeats == 1 else C.repeated(repeats))

    def enable_checkpointing(self) -> None:
        """Turn on the gradient checkpointing of a model of transformers, so that running again brings back the right C(u).

        Backward may then also come after the scope, or after another batch's.
        """
        if not any(hasattr(self.model, f"{name}_enable") for name in CHECKPOINTING):
            raise ConfigError(
                f"{type(self.model).__name__} cannot turn on gradient checkpointing by itself; checkpoint its "
                "blocks with use_reentrant=False and context_fn=adapters.slot.recalled."
            )
        self.checkpointing = True
        if self.in_place:
            self._switch_checkpointing(on=True)

    def _switch_checkpointing(self, *, on: bool) -> None:
        model: Any = self.model
        name = next(name for name in CHECKPOINTING if hasattr(model, f"{name}_enable"))
        if on:
            options = {"use_reentrant": False, "context_fn": self.slot.recalled}
            getattr(model, f"{name}_enable")(**{f"{name}_kwargs": options})
        else:
            getattr(model, f"{name}_disable")()

    def parameters(self) -> list[nn.Parameter]:
        """A and B of every layer, then the coupling's: of these, an optimiser gets those that require a gradient.

        Raises ConfigError when the coupling alone is to learn and has no parameters, or B is zero everywhere.
        """
        if self.adaptation.train == "coupling" and isinstance(self.coupling, Identity):
            raise ConfigError(
                "train = 'coupling' leaves nothing to learn with coupling 'identity', which has no parameters; "
                "choose another coupling, or train = 'all'."
            )
        if self.adaptation.train == "coupling" and not any(layer.B_OQ.any() for _, layer in self.layers):
            raise ConfigError(
                "train = 'coupling' leaves A and B as they are, and B is zero, so nothing could be learnt. "
                "Load a LoRA first: start_from(adapters, folder)."
            )
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

    @no_grad()
    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Copy ``state`` in; ArtefactError, with nothing changed, unless it has exactly these names and shapes."""
        own = self.state()
        missing, unexpected = [n for n in own if n not in state], [n for n in state if n not in own]
        shapes = [
            f"{n} (came {list(state[n].shape)}, here {list(own[n].shape)})"
            for n in own
            if n in state and state[n].shape != own[n].shape
        ]
        faults = [
            f"{what}: {listed(names)}"
            for what, names in (("missing", missing), ("unexpected", unexpected), ("of another shape", shapes))
            if names
        ]
        if faults:
            raise ArtefactError(
                f"these adapters were made for another model, other targets or another coupling; {'; '.join(faults)}. "
                "Load them with the recipe that they were trained with."
            )
        for name, tensor in own.items():
            tensor.copy_(state[name])


def in_place(model: nn.Module) -> Adapters | None:
    """The set that a model carries now."""
    found: Adapters | None = getattr(model, IN_PLACE, None)
    return found


def listed(names: Iterable[str]) -> str:
    """Names for an error: the first of them, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)
