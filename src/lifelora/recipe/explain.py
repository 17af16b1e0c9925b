"""Mistakes of a recipe in words: the place as a user writes it, what came, and what is allowed there. Knows no file."""

import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

from lifelora import foreign
from lifelora.kinds import Role
from lifelora.recipe.like import LIKE, SECTIONS
from lifelora.recipe.recipe import Recipe
from lifelora.recipe.retired import new_name


def explain(detail: Any, values: Mapping[str, Any]) -> str:
    """One of pydantic's errors about the ``values`` of a recipe."""
    unknown = detail["type"] == "extra_forbidden"
    place, allowed = _at(Recipe, detail["loc"][:-1] if unknown else detail["loc"], values)
    if unknown:
        if len(place) == 2 and place[0] in SECTIONS:
            allowed = sorted([*allowed, LIKE])
        place = [*place, str(detail["loc"][-1])]
        said = new_name(place, detail["input"])
        return f"{'.'.join(place)}: " + (said or f"there is no such key; allowed here: {', '.join(allowed)}.")
    where = ".".join(place) or "the recipe as a whole"
    if detail["type"] == "union_tag_not_found":
        kinds = ", ".join(f"'{kind}'" for kind in allowed)
        return f"{where}: it lacks its kind, which is one of {kinds} (came: {foreign.shown(detail['input'])})"
    message = str(detail["msg"]).removeprefix("Value error, ")
    came = "" if detail["type"] in ("missing", "value_error") else f" (came: {foreign.shown(detail['input'])})"
    return f"{where}: {message}{came}"


def _at(annotation: Any, loc: Sequence[int | str], value: Any, metadata: Sequence[Any] = ()) -> tuple[list[str], list[str]]:
    """``loc`` as a user writes it, and the keys (at a union: the kinds) allowed there; ``value`` is what was given.

    A union's step in ``loc`` is its ``kind``, which is not part of any key; that of a role is in the value alone.
    """
    if get_origin(annotation) is Annotated:
        annotation, *metadata = get_args(annotation)
    for role in metadata:
        if isinstance(role, Role):
            annotation = role.class_of(value)
    if get_origin(annotation) in (Union, types.UnionType):
        members = [m for m in get_args(annotation) if m is not type(None)]
        if len(members) == 1:
            return _at(members[0], loc, value)
        kinds = {str(m.model_fields["kind"].default): m for m in members if _is_model(m) and "kind" in m.model_fields}
        return _at(kinds[str(loc[0])], loc[1:], value) if loc and loc[0] in kinds else (list(map(str, loc)), list(kinds))
    if get_origin(annotation) is dict and loc:
        place, allowed = _at(get_args(annotation)[1], loc[1:], _inner(value, loc[0]))
        return [str(loc[0]), *place], allowed
    if _is_model(annotation) and not loc:
        return [], sorted(annotation.model_fields)
    if _is_model(annotation) and loc[0] in annotation.model_fields:
        # pydantic moves the discriminator out of the annotation, so a union arrives here bare.
        field = annotation.model_fields[str(loc[0])]
        place, allowed = _at(field.annotation, loc[1:], _inner(value, loc[0]), field.metadata)
        return [str(loc[0]), *place], allowed
    return list(map(str, loc)), []


def _inner(value: Any, key: int | str) -> Any:
    return value.get(key) if isinstance(value, Mapping) else None


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)
