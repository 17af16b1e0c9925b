"""A short forward before a model carries adapters: what its layers will be asked, and how the users of a batch lie in it.

Most layers get x as B x L x I, one row per user. Some get all tokens of the batch in one row (OPT's fc1, the shared expert of
a mixture), some get time before users (XLNet), some get tokens that a router picked; some are passed by, because their weight
is read directly (the output of Mamba-2). Found by trying and not by names: two users are asked, then one of them something else,
and what changes in x is that user's. Knows any model that is called with ``input_ids``; of others it says nothing.
"""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal, final

import torch
from torch import Tensor, nn

from lifelora.errors import ConfigError, LifeloraError

Layout = Literal["rows", "flat", "other"]
"""How the users of a batch lie in x: its first axis; all their tokens one after another; or in no such way."""
USERS, TOKENS = 2, 3
"""Different on purpose: with as many users as tokens, time first looks like users first."""
LEAK = 0.1
"""The share of all change that a user may have who was asked the same: in 8 bits the rows of a batch share their outliers."""


@final
class WeightReadError(ConfigError, AttributeError):
    """A layer's weight was read directly. Also an AttributeError, so that ``hasattr`` goes on saying that there is none."""

    def __init__(self, layer: str, what: str) -> None:
        super().__init__(
            f"the model reads the {what} of layer '{layer}' directly and does not call the layer, so it would skip an adapter "
            "there. Choose targets without this layer: words of names, or 're:PATTERN', and not 'all-linear'."
        )


def layouts(model: nn.Module, names: Sequence[str], *, personal: bool) -> dict[str, Layout]:
    """How users lie in what each layer gets, as far as a forward tells; empty where it tells nothing, and without ``personal``.

    Raises WeightReadError for a layer whose weight or bias is read directly. The model and torch's generators stay as they are.
    """
    tokens_BL = _tokens(model)
    if tokens_BL is None:
        return {}
    other_BL = tokens_BL.clone()
    other_BL[1] = tokens_BL[1].flip(0)
    devices = [tokens_BL.device] if tokens_BL.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices), _watched(model, names) as seen:
        try:
            # Some layers are passed by in training only.
            for training in (True, False):
                _run(model, tokens_BL, training)
            if not personal:
                return {}
            runs = []
            for asked_BL in (tokens_BL, other_BL):
                seen.clear()
                _run(model, asked_BL, False)
                runs.append(dict(seen))
            return {name: _layout(runs[0][name], runs[1][name]) for name in names if name in runs[0] and name in runs[1]}
        except LifeloraError:
            raise
        except (TypeError, ValueError, RuntimeError, IndexError, AttributeError):
            return {}  # not to be asked in this way: its own forward will say what it lacks


def _tokens(model: nn.Module) -> Tensor | None:
    """Token ids of two users; None for what is no language model."""
    get = getattr(model, "get_input_embeddings", None)
    if not callable(get) or "input_ids" not in inspect.signature(model.forward).parameters:
        return None
    weight = getattr(get(), "weight", None)
    if not isinstance(weight, Tensor) or weight.device.type == "meta" or len(weight) < TOKENS:
        return None
    return (torch.arange(USERS * TOKENS, device=weight.device) % len(weight)).view(USERS, TOKENS)


def _run(model: nn.Module, tokens_BL: Tensor, training: bool) -> None:
    was = {module: module.training for module in model.modules()}
    model.train(training)
    try:
        model(input_ids=tokens_BL, attention_mask=torch.ones_like(tokens_BL), use_cache=False)
    finally:
        for module, mode in was.items():
            module.training = mode


def _layout(one: Sequence[Tensor], other: Sequence[Tensor]) -> Layout:
    """Of all that a layer got in two forwards, between which the second user's tokens changed."""
    found = {_of(x, y) for x, y in zip(one, other, strict=False)} if len(one) == len(other) else {"other"}
    return found.pop() if len(found) == 1 else "other"  # type: ignore[return-value]


def _of(x: Tensor, y: Tensor) -> Layout:
    if x.shape != y.shape:
        return "other"
    moved = (x - y).abs().float().amax(dim=-1)
    most = LEAK * moved.sum()
    if moved.ndim and len(moved) == USERS and moved[0].sum() <= most:
        return "rows"
    if moved.shape == (USERS * TOKENS,) and moved[:TOKENS].sum() <= most:
        return "flat"
    return "other"


@contextmanager
def _watched(model: nn.Module, names: Sequence[str]) -> Iterator[dict[str, list[Tensor]]]:
    """What the layers get, by name, while they stand behind a module that has neither weight nor bias, as adapters have none."""
    seen: dict[str, list[Tensor]] = {}
    layers: Mapping[str, nn.Module] = {name: model.get_submodule(name) for name in names}
    try:
        for name, layer in layers.items():
            _put(model, name, _Watch(layer, name, seen))
        yield seen
    finally:
        for name, layer in layers.items():
            _put(model, name, layer)


class _Watch(nn.Module):
    def __init__(self, base: nn.Module, name: str, seen: dict[str, list[Tensor]]) -> None:
        super().__init__()
        self.base, self.name, self.seen = base, name, seen

    def forward(self, x: Tensor) -> Any:
        self.seen.setdefault(self.name, []).append(x.detach().clone())
        return self.base(x)

    def __getattr__(self, name: str) -> Any:
        if name in ("weight", "bias"):
            raise WeightReadError(self.name, name)
        return super().__getattr__(name)


def _put(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, module)
