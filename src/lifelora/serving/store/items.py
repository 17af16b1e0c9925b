"""Items that were told of since a data set was prepared, with their texts: each is kept once. Knows no catalogue.

They are about no user, so forgetting one changes nothing here.
"""

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from lifelora.data.extend import Told
from lifelora.serving.store.accept import hold
from lifelora.serving.store.database import Database
from lifelora.serving.store.events import known_id
from lifelora.serving.store.sql import answers, sa
from lifelora.serving.store.tables import ITEMS

PAGE = 1_000
_newest = sa.select(sa.func.max(ITEMS.c.seq))
_there = sa.select(ITEMS.c.item).where(ITEMS.c.item.in_(sa.bindparam("values", expanding=True)))
_since = sa.select(ITEMS).where(ITEMS.c.seq > sa.bindparam("seq")).order_by(ITEMS.c.seq).limit(PAGE)


class KeptItem(NamedTuple):
    """An item, and what was told of it."""

    seq: int
    "Its number among items."
    item: str
    texts: dict[str, str | list[str]]
    "By the names of the catalogue's columns, without the item."


def add(database: Database, items: Iterable[Told]) -> list[bool]:
    """Keep items, all or none; which are new. What was told of a kept one stays."""
    rows = [(known_id(told["item"], "item"), {name: told[name] for name in told if name != "item"}) for told in items]
    with database.writing() as connection:
        hold(connection)
        there = {row.item for row in answers(connection, _there, dict.fromkeys(item for item, _ in rows))}
        seq, made, new = connection.execute(_newest).scalar_one() or 0, [], []
        for item, texts in rows:
            new.append(item not in there)
            if new[-1]:
                there.add(item)
                seq += 1
                made.append((seq, item, json.dumps(texts)))
        database.insert(connection, ITEMS, made)
    return new


def since(database: Database, seq: int) -> Iterator[KeptItem]:
    """Items that were told after that one, in order."""
    while True:
        with database.reading() as connection:
            rows = connection.execute(_since, {"seq": seq}).all()
        for row in rows:
            yield KeptItem(row.seq, row.item, json.loads(row.texts))
        if not rows:
            return
        seq = rows[-1].seq
