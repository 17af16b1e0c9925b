"""Where the layers of one model find C(u): one writer, many readers, and empty outside a scope. Knows no layer."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, final

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from lifelora.errors import ScopeError
from lifelora.lora.structure import Structure


@final
class Slot:
    """C(u) of the batch in scope, or at any time that of a coupling which needs no user.

    The scope must contain forward *and* backward of the same batch: with gradient checkpointing the layers run again
    during backward and read C(u) a second time. So: one batch, one scope, one backward. The exception is checkpointing with
    ``context_fn=slot.recalled``, which brings back what its forward had read. Checkpointing has to be
    non-reentrant (``use_reentrant=False``); the reentrant kind goes backward through the graph of C(u) once per
    checkpoint, which torch refuses.

    It is a plain attribute and not a context variable, because backward on an accelerator runs in threads of its own,
    which would not see the variable. One model therefore serves one scope at a time; a second one is an error.
    """

    def __init__(self, layers: int, columns: int, rows: int, standing: Callable[[], Structure] | None = None) -> None:
        """``standing`` gives the C of a coupling that needs no user; then no scope is needed."""
        self.layers, self.columns, self.rows, self.standing = layers, columns, rows, standing
        self._C: Structure | None = None
        self._watch: RemovableHandle | None = None

    @property
    def open(self) -> bool:
        """Whether a scope is open."""
        return self._C is not None

    @contextmanager
    def holding(self, C: Structure) -> Iterator[None]:
        """C(u) of every layer and every row of one batch, from here to the end of the ``with`` block."""
        if self._C is not None:
            raise ScopeError(
                f"a scope of {self._C.batch} rows is open on this model already, and scopes do not nest. Leave it first "
                "(after backward), or use another copy of the model."
            )
        if (self.layers, self.columns, self.rows) != (C.layers, C.columns, C.rows):
            raise ScopeError(
                f"C(u) came for {C.layers} layers with {C.columns}x{C.rows} entries, but this model has {self.layers} "
                f"adapted layers with {self.columns}x{self.rows} (layers x columns of B x rows of A)."
            )
        self._C = C
        try:
            yield
        finally:
            self._C = None

    def read(self, name: str, batch: int, *, flat: bool = False) -> Structure:
        """C(u) for ``batch`` rows; ScopeError if no user, or another number of users, is in scope.

        ``flat`` rows are tokens, as many of each user.
        """
        if self._C is None:
            if self.standing is not None:
                return self.standing()
            raise ScopeError(
                f"layer '{name}' is personal, but no user is in scope. Run forward and backward inside "
                "`with module.scope(batch):`, or `with adapters.scope(u):` (with gradient checkpointing the layer runs "
                "again during backward)."
            )
        if flat and self._C.batch and batch % self._C.batch == 0:
            return self._C
        # Without this check C of batch 1 would be broadcast over all rows: all users would get the weights of one.
        if self._C.batch != batch:
            raise ScopeError(
                f"layer '{name}' got {batch} rows while C(u) of {self._C.batch} is in scope; open the scope with one "
                "representation per row (beam search repeats rows: say how often, `scope(u, repeats=beams)`)."
            )
        return self._C

    def watch(self, model: nn.Module) -> None:
        """From now on compare the rows that come into ``model`` with those in scope.

        For layers that get the tokens of all users in one row, and cannot tell how many users there are.
        """
        self._watch = model.register_forward_pre_hook(self._check, with_kwargs=True)

    def unwatch(self) -> None:
        """The end of ``watch``."""
        if self._watch is not None:
            self._watch.remove()
            self._watch = None

    def _check(self, module: nn.Module, args: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        given = [*args, inputs.get("input_ids"), inputs.get("inputs_embeds")]
        rows = next((x.shape[0] for x in given if isinstance(x, Tensor)), None)
        if rows is not None:
            self.read(type(module).__name__, rows)

    def recalled(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """For ``torch.utils.checkpoint(context_fn=...)``: running again, a layer finds what it found the first time."""
        return nullcontext(), self._recalling(self._C)

    @contextmanager
    def _recalling(self, C: Structure | None) -> Iterator[None]:
        now, self._C = self._C, C
        try:
            yield
        finally:
            self._C = now
