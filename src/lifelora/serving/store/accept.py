"""What becomes of events that are sent: new, there already, or a key used twice. Works in a transaction that others open and end.

An event with a key is that key's: sent again it is acknowledged again, and with other content it is a conflict. An event without
a key is its content (user, item, rating and time): sent again it is the same event, too. A key that comes for an event that was
kept without one (from a data set, say) becomes that event's; a second key for the same content is a second event, such as the
second line of an order. Events without times have no content that would tell two of them apart, so without a key each is new.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from lifelora.data.extend import EVENTS as SENT
from lifelora.errors import ConflictError, Problem
from lifelora.serving.store.database import Database
from lifelora.serving.store.events import Accepted, Kept, Row
from lifelora.serving.store.reading import newest
from lifelora.serving.store.sql import answers, sa
from lifelora.serving.store.tables import EVENTS, STORE

Outcome = list[Accepted] | ConflictError
Content = tuple[str, str, float, int]
_by_key = sa.select(EVENTS).where(EVENTS.c.id.is_not(None), EVENTS.c.id.in_(sa.bindparam("values", expanding=True)))
_claim = EVENTS.update().where(EVENTS.c.seq == sa.bindparam("of")).values(id=sa.bindparam("key"))
_held = sa.select(STORE.c.version).with_for_update()


@dataclass
class Known:
    """Events that those on their way in may be, and what is to be written of them."""

    by_key: dict[str, Kept] = field(default_factory=dict)
    by_content: dict[Content, list[Kept]] = field(default_factory=dict)
    new: list[Kept] = field(default_factory=list)
    claimed: dict[int, str] = field(default_factory=dict)
    "Keys of events that were kept without one."

    def add(self, kept: Kept) -> None:
        """One that is there, once."""
        same = self.by_content.setdefault(kept[1:5], [])
        if kept not in same:
            same.append(kept)
        if kept.id is not None:
            self.by_key[kept.id] = kept

    def equal(self, row: Row) -> Kept | None:
        """The event that a row is; a key makes an event without one its own."""
        if row.id is not None and row.id in self.by_key:
            return self.by_key[row.id]
        if row.time is None:
            return None
        content = (row.user, row.item, row.rating, row.time)
        same = self.by_content.get(content, [])
        if row.id is None:
            return same[0] if same else None
        for at, kept in enumerate(same):
            if kept.id is None:
                same[at] = self.by_key[row.id] = kept._replace(id=row.id)
                self.claimed[kept.seq] = row.id
                return kept
        return None


def hold(connection: sa.Connection) -> int:
    """The last sequence number, once no other process can take the next."""
    if connection.dialect.name == "postgresql":  # a transaction that writes has all of SQLite
        connection.execute(_held)
    return newest(connection)


def accept(database: Database, connection: sa.Connection, bulks: Sequence[Sequence[Row]]) -> list[Outcome]:
    """Add what is new of each bulk, in order; a bulk with a conflict adds nothing."""
    seq, known, now = hold(connection), Known(), int(time.time())
    _find(database, connection, [row for bulk in bulks for row in bulk], known)
    outcomes: list[Outcome] = []
    for bulk in bulks:
        if (conflict := _conflict(bulk, known)) is not None:
            outcomes.append(conflict)
            continue
        accepted = []
        for row in bulk:
            kept, new = known.equal(row), False
            if kept is None:
                seq, new = seq + 1, True
                kept = Kept(seq, row.user, row.item, row.rating, now if row.time is None else row.time, row.id)
                known.new.append(kept)
                known.add(kept)
            accepted.append(Accepted(kept.seq, new))
        outcomes.append(accepted)
    added = {kept.seq for kept in known.new}
    old = [{"of": seq, "key": key} for seq, key in known.claimed.items() if seq not in added]
    if old:
        connection.execute(_claim, old)
    claimed = known.claimed
    database.insert(connection, EVENTS, [k._replace(id=claimed[k.seq]) if k.seq in claimed else k for k in known.new])
    return outcomes


def _find(database: Database, connection: sa.Connection, rows: Sequence[Row], known: Known) -> None:
    ids = dict.fromkeys(row.id for row in rows if row.id is not None)
    pairs = dict.fromkeys((row.user, row.time) for row in rows if row.time is not None)
    for found in answers(connection, _by_key, ids):
        known.add(Kept._make(found))
    if pairs:
        asked = database.kind.PAIRS
        both = sa.and_(EVENTS.c.user == asked.c.user, EVENTS.c.time == asked.c.time)
        for found in connection.execute(sa.select(EVENTS).join_from(asked, EVENTS, both), database.kind.as_pairs(pairs)):
            known.add(Kept._make(found))


def _conflict(bulk: Sequence[Row], known: Known) -> ConflictError | None:
    """The keys of a bulk that stand for other events, in the store or in the bulk."""
    problems, told = [], dict[str, Row | Kept]()
    for number, row in enumerate(bulk, start=1):
        if row.id is None:
            continue
        first = known.by_key.get(row.id) or told.setdefault(row.id, row)
        same_time = row.time is None or row.time == first.time
        if not (same_time and (row.user, row.item, row.rating) == (first.user, first.item, first.rating)):
            what = (
                "this key is of another event already; a client sends an event again as it was, and another one under its own key"
            )
            problems.append(Problem(SENT, number, "id", row.id, what))
    return ConflictError(problems) if problems else None
