"""What columns of any tables mean, by the names that they usually have. Knows no file, no frame and no value."""

import re
from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

from lifelora.errors import ConfigError, on_one_line

RESERVED = ("item", "title", "description", "user")
THINGS = ("item", "product", "article", "movie", "film", "book", "song", "track", "artist", "game", "anime", "video", "business")
USERS = ("user", "customer", "client", "member", "reviewer", "reader", "visitor", "profile")
NAMES: dict[str, set[str]] = {
    "user": {"user", "uid", "customer", *(f"{user}id" for user in USERS)},
    "item": {"item", "iid", "sku", "asin", "parentasin", "isbn", "ean", "gtin", *(f"{thing}id" for thing in THINGS)},
    "rating": {"rating", "stars", "score", "overall", "label", *map("".join, product((*USERS, *THINGS), ("rating",)))},
    "time": {"time", "timestamp", "ts", "unixtime", "unixtimestamp", "date", "datetime", "createdat", "eventtime", "boughtat"}
    | {
        "purchasedat",
        "ratedat",
        "reviewtime",
        "unixreviewtime",
        "orderdate",
        "purchasedate",
        "ratingtimestamp",
        "eventtimestamp",
    },
    # Not "fold": those of a cross-validation have numbers.
    "part": {"part", "split", "subset", "partition"},
    "title": {"title", "name", *map("".join, product(THINGS, ("title", "name")))},
    "description": {"description", "desc", "text", "summary", "overview", "plot", "synopsis"},
}
"""What a column of each meaning may be called, in small letters and without signs: userId, user_id and "User ID" are one."""
PART = "columns.part"
INDEX = re.compile(r"|index|unnamed\d+|level\d+")
"""What pandas calls a column of row numbers."""


def by_names(
    log: Sequence[str], items: Sequence[str] = (), users: Sequence[str] = (), said: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The layout of a log, a catalogue and profiles, by the names of their columns.

    Columns of the catalogue and the profiles that have no other meaning are fields. What ``said``, a layout, says itself is not
    looked for. ``notes`` of the layout say which names were recognised and which columns of the log are not used. Raises
    ConfigError where two columns may have one meaning.
    """
    said = {key: value for key, value in (said or {}).items() if isinstance(value, str | Mapping)}
    own = said["columns"] if isinstance(said.get("columns"), Mapping) else {}
    columns = dict(own)
    for role in ("user", "item", "rating", "time", "part"):
        told = role in own or (role == "rating" and not own.keys().isdisjoint({"event", "count"}))
        if not told and (name := _called(role, log, "the log", f"columns.{role}")):
            columns[role] = name
    values: dict[str, Any] = {}
    for key, role, names, table in (("item_id", "item", items, "the catalogue"), ("user_id", "user", users, "the profiles")):
        if key not in said and columns.get(role, role) not in names and (name := _called(role, names, table, key)):
            values[key] = name
    for role in ("title", "description"):  # beside a column of our own name, others are fields
        name = role if role in items else _called(role, items, "the catalogue", role) if role not in said else None
        if role not in said and name:
            values[role] = name
    recognised = {f"columns.{role}": name for role, name in columns.items() if role not in own} | values
    changed = [f"{key} = {_quoted(name)}" for key, name in recognised.items() if key.rpartition(".")[2] != name or key == PART]
    unused = [name for name in log if name not in columns.values()]
    notes = [f"columns by their names: {', '.join(changed)}."] if changed else []
    notes += [f"columns of the log that nothing reads: {', '.join(map(_quoted, unused))}."] if unused else []
    of_items = [columns.get("item"), *((said | values).get(key) for key in ("item_id", "title", "description"))]
    of_users = [columns.get("user"), (said | values).get("user_id")]
    return values | {
        "columns": columns,
        "item_fields": _fields(items, of_items),
        "user_fields": _fields(users, of_users),
        "notes": notes,
    }


def _fields(names: Sequence[str], others: Sequence[Any]) -> list[str]:
    return [name for name in names if name not in RESERVED and name not in others and not INDEX.fullmatch(_plain(name))]


def _plain(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).lower()


def _quoted(name: str) -> str:
    return f"'{on_one_line(name)}'"


def _called(role: str, names: Sequence[str], table: str, key: str) -> str | None:
    found = [name for name in names if name == role or _plain(name) in NAMES[role]]
    if len(found) > 1:
        listed = " and ".join(map(_quoted, found))
        raise ConfigError(
            f"{listed} of {table} may each be the {role}; say which one is: {key} = '{on_one_line(found[0])}' "
            "(of files, in a TOML file that names them: tables:PATH.toml)."
        )
    return found[0] if found else None
