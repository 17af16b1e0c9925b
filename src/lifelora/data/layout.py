"""What the columns of a user's own tables mean, and what is done about faults that every log has. Knows no file and no frame.

``sources/tables`` reads files by it. Whatever brings a log, a catalogue and profiles as ``Rows`` comes through here.
"""

import difflib
import math
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator

from lifelora import foreign
from lifelora.data.assemble import assembled
from lifelora.data.interactions import Columns
from lifelora.data.raw import RawTables, Words
from lifelora.data.rows import Meaning, Problems, Rows
from lifelora.data.synonyms import RESERVED
from lifelora.errors import ConfigError
from lifelora.types import Frozen

SHOWN = 20
"""Mistakes of a layout that are listed."""


class Layout(Frozen):
    """Columns, words and knobs of one data set; the defaults refuse what is doubtful."""

    PARTS: ClassVar[Mapping[str, type[Frozen]]] = {}
    "Keys that a subclass adds and that hold keys of their own."
    columns: Columns = Columns()
    "The log's columns. There must be a rating (or a 0/1 label): what is learned is whether a user likes an item."
    rating_range: tuple[float, float] | None = None
    "Least and greatest allowed rating."
    item_id: str | None = None
    "The catalogue's column of ids, where it is not called as in the log."
    title: str = "title"
    description: str | None = None
    item_fields: tuple[str, ...] = ()
    "Further columns of the catalogue: genre, brand, author."
    user_id: str | None = None
    "The profiles' column of ids, where it is not called as in the log."
    user_fields: tuple[str, ...] = ()
    lists: dict[str, Annotated[str, Field(min_length=1)]] = Field(default_factory=dict)
    """Fields that may have several values, and what stands between these: { genres = "|" }. A column of lists needs no entry."""
    unknown_items: Literal["refuse", "allow"] = "refuse"
    "What to do with interactions whose item the catalogue lacks; allowed ones have no text."
    words: Words = Words()
    notes: tuple[str, ...] = ()
    "What a reader should know about these tables; reports say it."

    @model_validator(mode="after")
    def _consistent(self) -> "Layout":
        low, high = self.rating_range or (0, 1)
        if not (low < high and math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"rating_range = [{low:g}, {high:g}] is empty or without an end; give two numbers, the least first")
        for name, fields in (("item_fields", self.item_fields), ("user_fields", self.user_fields)):
            wrong = sorted({f for f in fields if f in RESERVED or fields.count(f) > 1})
            if wrong:
                raise ValueError(f"{name} holds '{wrong[0]}', which is taken or named twice; rename or drop it")
        if others := sorted(set(self.lists) - {*self.item_fields, *self.user_fields}):
            raise ValueError(f"lists holds '{others[0]}', which is neither in item_fields nor in user_fields; put it into one")
        return self

    @property
    def item(self) -> str:
        """The catalogue's column of ids."""
        return self.item_id or self.columns.item

    @property
    def user(self) -> str:
        """The profiles' column of ids."""
        return self.user_id or self.columns.user

    @property
    def of_log(self) -> dict[str, Meaning]:
        """What each column of the log is."""
        known: dict[str | None, Meaning] = {self.columns.rating: "number", self.columns.user: "id", self.columns.item: "id"}
        return {name: known.get(name, "word") for name in self.columns.names}

    @property
    def of_items(self) -> dict[str, Meaning]:
        """What each column of the catalogue is."""
        found: dict[str, Meaning] = dict.fromkeys(self.item_fields, "field")
        found |= {self.description: "text"} if self.description else {}
        found |= {self.title: "word", self.item: "id"}
        return found

    @property
    def of_users(self) -> dict[str, Meaning]:
        """What each column of the profiles is."""
        found: dict[str, Meaning] = dict.fromkeys(self.user_fields, "field")
        found |= {self.user: "id"}
        return found


One = TypeVar("One", bound=Frozen)


def made(model: type[One], values: Mapping[str, Any], where: str) -> One:
    """A layout (or other settings) of the values that stand in ``where``; ConfigError lists all that is wrong with them."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        found = error.errors(include_url=False)
        lines = [f"  {_explain(dict(detail), model)}" for detail in found[:SHOWN]]
        count = f"{len(found)} mistake{'s' * (len(found) > 1)}"
        raise ConfigError("\n".join([f"{where} has {count}:", *lines])) from error


def laid_out(
    layout: Layout, log: Rows | None, items: Rows | None, users: Rows | None, problems: Problems, notes: list[str]
) -> RawTables:
    """Checked tables from rows; DataError lists everything that is wrong with them, and ``problems`` that were there before."""
    notes[:0] = layout.notes
    return assembled(
        log,
        items,
        users,
        layout.words,
        problems,
        notes,
        columns=layout.columns,
        rating_range=layout.rating_range,
        item_id=layout.item,
        title=layout.title,
        description=layout.description,
        item_fields=layout.item_fields,
        user_id=layout.user,
        user_fields=layout.user_fields,
        lists=layout.lists,
        unknown_items=layout.unknown_items == "allow",
    )


def _explain(detail: Mapping[str, Any], model: type[Frozen]) -> str:
    # Of what may be written in several ways, pydantic names the way that was tried: "a table".
    *parents, key = [str(part) for part in detail["loc"] if not str(part).startswith("a ")] or ["the whole"]
    place = ".".join([*parents, key])
    if detail["type"] == "extra_forbidden":
        nested: dict[str, type[Frozen]] = {"columns": Columns, "words": Words}
        nested |= model.PARTS if issubclass(model, Layout) else {}
        of = nested.get(parents[0]) if parents else model
        if of is None:
            return f"{place}: there is no such key."
        allowed = sorted(set(of.model_fields) - {"kind"})
        near = difflib.get_close_matches(key, allowed, n=1)
        guess = f"did you mean '{near[0]}'? " if near else ""
        return f"{place}: there is no such key; {guess}allowed: {', '.join(allowed)}."
    came = "" if detail["type"] in ("missing", "value_error") else f" (came: {foreign.shown(detail['input'])})"
    return f"{place}: {str(detail['msg']).removeprefix('Value error, ')}{came}"
