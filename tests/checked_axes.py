"""Every function of lifelora has its signature checked when tests call it; those with axes in it also have them compared.

jaxtyping's own hook compares axes around every function, also where there are none, which took a third of the suite's time.
"""

import inspect
from typing import Any, ForwardRef, get_args

import jaxtyping
from beartype import beartype

with_axes = jaxtyping.jaxtyped


def has_axes(hint: Any) -> bool:
    """A hint that is a text is not known here and may have them."""
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return True
    return isinstance(hint, str | ForwardRef) or any(map(has_axes, get_args(hint)))


def checked(what: Any = None, *, typechecker: Any = None) -> Any:
    """In place of ``jaxtyping.jaxtyped``, which its hook writes above each function and class."""
    if what is None:
        return lambda what: checked(what, typechecker=typechecker)
    if inspect.isfunction(what) and not any(map(has_axes, what.__annotations__.values())):
        return beartype(what)
    return with_axes(what, typechecker=typechecker)


def check() -> None:
    """Whatever of lifelora is imported from now on."""
    jaxtyping.jaxtyped = checked
    jaxtyping.install_import_hook("lifelora", "beartype.beartype")
