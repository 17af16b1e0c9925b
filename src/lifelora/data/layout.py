"""What the columns of a user's own tables mean, and what is done about faults that every log has. Knows no file and no frame.

``sources/tables`` reads files by it. Whatever brings a log, a catalogue and profiles as ``Rows`` comes through here.
"""

import difflib
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import pyarrow as pa
from pydantic import Field, ValidationError, model_validator

from lifelora import foreign
from lifelora.data.assemble import assembled
from lifelora.data.faults import Faults
from lifelora.data.feedback import Counts, Log, Names, Quantiles, Thresholds, rated
from lifelora.data.interactions import RATING, Columns
from lifelora.data.listed import LISTED
from lifelora.data.raw import RawTables, Words
from lifelora.data.rows import Meaning, Problems, Rows
from lifelora.data.synonyms import RESERVED
from lifelora.data.times import Times
from lifelora.errors import ConfigError, on_one_line
from lifelora.types import Frozen

KEYS = {
    "events": "say what each kind is worth: events = { view = 1, purchase = 3 }",
    "counts": "give a rule: counts = { rule = 'log' }",
}
SHOWN = 20
"""Mistakes of a layout, and columns, that a message lists."""


class Layout(Faults, Times):
    """Columns, words and knobs of one data set; the defaults refuse what is doubtful."""

    PARTS: ClassVar[Mapping[str, type[Frozen]]] = {}
    "Keys that a subclass adds and that hold keys of their own."
    columns: Columns = Columns()
    "The log's columns."
    events: dict[str, float] = Field(default_factory=dict)
    "With columns.event: what each kind of event is worth; one above ``data.rules.label_above`` is a like."
    other_events: Literal["refuse", "drop"] = "refuse"
    "What to do with events of kinds that ``events`` does not name."
    counts: Counts | None = None
    "With columns.count: the rule that makes a few levels of counts."
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
    words: Words = Words()
    notes: tuple[str, ...] = ()
    "What a reader should know about these tables; reports say it."

    @model_validator(mode="after")
    def _consistent(self) -> "Layout":
        for key, told, said in (("events", self.columns.event, self.events), ("counts", self.columns.count, self.counts)):
            if bool(said) != (told is not None):
                raise ValueError(
                    f"columns.{key[:-1]} names a column, and {key} says nothing of what is in it; {KEYS[key]}"
                    if told
                    else f"{key} is about a column that is not named; say which one it is: columns.{key[:-1]} = COLUMN"
                )
        if not all(kind.strip() == kind != "" and math.isfinite(value) for kind, value in self.events.items()):
            raise ValueError(
                "events has a kind that is empty or has space at its ends, or a value without an end; give a name and a number"
            )
        low, high = self.rating_range or (0, 1)
        if not (low < high and math.isfinite(low) and math.isfinite(high)):
            raise ValueError(f"rating_range = [{low:g}, {high:g}] is empty or without an end; give two numbers, the least first")
        if self.columns.time is None and (self.time_format or self.time_unit != "seconds"):
            raise ValueError("time_unit and time_format tell of the log's times; say with columns.time which column holds them")
        for name, fields in (("item_fields", self.item_fields), ("user_fields", self.user_fields)):
            wrong = sorted({f for f in fields if f in RESERVED or fields.count(f) > 1})
            if wrong:
                raise ValueError(f"{name} holds '{wrong[0]}', which is taken or named twice; rename or drop it")
        if others := sorted(set(self.lists) - {*self.item_fields, *self.user_fields, LISTED}):
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
        """What each column of the log is; that of ratings may be missing where none is named."""
        columns = self.columns.among([RATING])
        known: dict[str | None, Meaning] = {columns.rating: "number", columns.count: "number"}
        known |= {columns.user: "id", columns.item: "id"}
        return {name: known.get(name, "word") for name in columns.names}

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
    columns, names, words, others = layout.columns, Names(), layout.words, None
    if log is not None:
        log, columns, names, others = rated(
            log, columns, layout.events, layout.counts, layout.other_events, layout, problems, notes
        )
        if columns.rating is None:
            there = ", ".join(map(on_one_line, [*log.table.column_names, *log.unread][:SHOWN]))
            notes.append(
                f"{log.file} has no ratings: a row says that a user chose an item. If a column holds ratings, name it in "
                f"columns.rating; it has: {there}."
            )
        if (columns.rating is None or names) and words.did == Words().did:  # nobody has rated anything
            words = words.model_copy(update={"did": "interacted with"})
    raw = assembled(
        log,
        items,
        users,
        words,
        problems,
        notes,
        columns=columns,
        rating_range=None if names else layout.rating_range,
        item_id=layout.item,
        title=layout.title,
        description=layout.description,
        item_fields=layout.item_fields,
        user_id=layout.user,
        user_fields=layout.user_fields,
        lists=layout.lists,
        faults=layout,
        times=layout,
    )
    # Without an id they say nothing of a user and an item, and are no problem: nothing else reads them.
    seen = others and pa.table({"user": others.ids(columns.user, Problems()), "item": others.ids(columns.item, Problems())})
    return replace(raw, level_names=names, seen=seen)


def _explain(detail: Mapping[str, Any], model: type[Frozen]) -> str:
    # Of what may be written in several ways, pydantic names the way that was tried: "a table".
    *parents, key = [str(part) for part in detail["loc"] if not str(part).startswith("a ")] or ["the whole"]
    place = ".".join([*parents, key])
    if detail["type"] == "extra_forbidden":
        nested: dict[str, type[Frozen]] = {"columns": Columns, "words": Words}
        nested |= model.PARTS if issubclass(model, Layout) else {}
        nested |= {"log": Log, "quantiles": Quantiles, "thresholds": Thresholds} if "counts" in parents else {}
        way = next((str(part) for part in reversed(detail["loc"]) if str(part).startswith("a ")), "")
        of = nested.get(way) or nested.get(parents[-1], nested.get(parents[0])) if parents else model
        if of is None:
            return f"{place}: there is no such key."
        allowed = sorted(set(of.model_fields) - {"kind"})
        near = difflib.get_close_matches(key, allowed, n=1)
        guess = f"did you mean '{near[0]}'? " if near else ""
        return f"{place}: there is no such key; {guess}allowed: {', '.join(allowed)}."
    came = "" if detail["type"] in ("missing", "value_error") else f" (came: {foreign.shown(detail['input'])})"
    return f"{place}: {str(detail['msg']).removeprefix('Value error, ')}{came}"
