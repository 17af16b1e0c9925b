"""What a store has that came after a run, put behind the open run's log once: `recommend --store`. Knows no service.

The rules and the order are those of a service that opens the same run on the same store, so both answer alike.
"""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event, Told
from lifelora.run.context import Context
from lifelora.run.recommend.told import tell_items
from lifelora.serving.following.follower import Follower, Position
from lifelora.serving.store import Form, Store


@dataclass(frozen=True)
class OpenRun:
    """The log of a run that this process has open."""

    context: Context

    @property
    def dataset(self) -> Dataset:
        return self.context.dataset

    def add_events(self, events: list[Event], anew: Collection[str]) -> None:
        self.context.extend(events, anew=anew)

    def add_items(self, items: list[Told]) -> list[str]:
        return tell_items(self.context, items)

    def forget(self, user: str) -> None:
        self.context.forget(user)


def add_store(context: Context, place: str | Path, as_of: Position | None = None) -> tuple[list[str], Position]:
    """Put behind the log what a store has that came after the run: its items and events. Users who were forgotten there go.

    Gives what a reader should know of it, and how far the store was read; ``as_of`` is that of an earlier call, which reads
    the same events and items again, whatever came since. Nothing is written, into the store or the run. Raises what
    ``Store.open`` raises, and StoreError.
    """
    data, refused = context.stages.data.require(), list[str]()

    def told(what: str, error: Exception | None = None, **count: int) -> None:
        if error is not None:  # no item comes later that something could wait for
            refused.append(f"{what}: {error}")

    with Store.open(place, form := Form.of(data), make=False) as store:
        follower = Follower(OpenRun(context), store, form, told, as_of)
        follower.advance()
        counts, name = follower.counts, store.place
    notes = [f"{_many(counts.used, 'event')} came after those of the run."]
    notes += [f"{_many(counts.there, 'event', 'is')} in the run's log already."] if counts.there else []
    notes += [f"{_many(count, 'event', 'was')} left out: {why}." for why, count in sorted(counts.left_out.items())]
    notes += [f"{_many(counts.items, 'item', 'is')} new."] if counts.items else []
    notes += [f"{_many(counts.forgotten, 'user', 'was')} forgotten there, and left out."] if counts.forgotten else []
    return [f"{name}: {note}" for note in (*notes, *follower.notes(), *refused)], follower.position


def _many(count: int, what: str, verb: str = "") -> str:
    several = {"is": " are", "was": " were", "": ""}
    return f"1 {what} {verb}".rstrip() if count == 1 else f"{count:,} {what}s{several[verb]}"
