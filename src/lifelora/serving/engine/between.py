"""Looks up from work that takes long: between two layers of the models that are at it. Knows modules and a clock, no request.

A forward of a large model may take seconds, and what came meanwhile may have less time than that. Where one layer ends and the
next begins anything may be done that does not ask these models.
"""

import time
from collections.abc import Callable

from torch import nn
from torch.utils.hooks import RemovableHandle

EVERY = 0.005
"""Seconds from one look to the next, at least."""
SHARE = 20
"""A look may take a part of the time: one in so many."""


class Between:
    """Calls ``look`` in the thread that runs the models."""

    def __init__(self, look: Callable[[], None], clock: Callable[[], float] = time.monotonic) -> None:
        self.clock = clock
        self._look, self._next, self._hooks = look, float("-inf"), list[RemovableHandle]()

    def watch(self, model: nn.Module) -> None:
        """Look up before each of the model's layers, the modules of its lists."""
        layers = [layer for one in model.modules() if isinstance(one, nn.ModuleList) for layer in one]
        self._hooks += [layer.register_forward_pre_hook(self._before) for layer in layers]

    def end(self) -> None:
        """The models are as they were."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()

    def _before(self, *_: object) -> None:
        began = self.clock()
        if began >= self._next:
            self._look()
            now = self.clock()
            self._next = now + max(EVERY, SHARE * (now - began))
