"""The events of all users: a prepared log, memory-mapped, and what came after it. Knows neither ids nor texts.

Prepared events stand by user and time, so a user's are rows ``offsets[u] .. offsets[u + 1]`` of flat arrays, oldest first. A log
grows at its end: rows of later events go on after the prepared ones, and nothing that was there is moved or copied. So a
user's history is their prepared rows and then their later ones, and an event has two numbers: its *row* in the log, and its
*position* in its user's history (0, 1, …). What may be seen of a target is told by position.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from lifelora.data.column import Column, Values, longer

EVENT_COLUMNS = {"user": np.int32, "item": np.int32, "rating": np.int8, "label": np.bool_, "time": np.int64}


@dataclass(frozen=True)
class Later:
    """The n events after the prepared ones, found by user: a user's are side by side in ``order``, in time order."""

    user_n: Int[np.ndarray, "n"]
    position_n: Int[np.ndarray, "n"]
    order: Int[np.ndarray, "_"]
    "Numbers of the events by user, and one 0 more, so that a place behind the last can be looked at."
    of_order: Int[np.ndarray, "n"]
    "The users of ``order``."

    @classmethod
    def of(cls, user_n: Int[np.ndarray, "n"], position_n: Int[np.ndarray, "n"]) -> "Later":
        """Of events that stand in time order for each user."""
        order = np.argsort(user_n, kind="stable")
        return cls(user_n, position_n, np.append(order, 0), user_n[order])


class Log:
    """Events by row. A log without later events is the prepared one, and reads its arrays as they are."""

    def __init__(self, columns: dict[str, Values], offsets: Int[np.ndarray, "_"], later: Later | None = None) -> None:
        """``columns`` as in ``EVENT_COLUMNS``; U + 1 ``offsets`` of the prepared users."""
        self.columns, self.offsets, self._later = columns, offsets, later
        self.n_prepared = int(offsets[-1])

    @classmethod
    def open(cls, folder: Path) -> "Log":
        """A prepared log, memory-mapped."""

        def mapped(name: str) -> np.ndarray:
            array: np.ndarray = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
            return array

        return cls({name: mapped(name) for name in EVENT_COLUMNS}, np.asarray(mapped("offsets")))

    def __len__(self) -> int:
        return len(self.columns["item"])

    def count(self, users: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """How many events users have in all: the position that their next one will have."""
        _, count = self._prepared(users)
        if self._later is not None:
            count = count + np.diff(np.searchsorted(self._later.of_order, [users, users + 1]), axis=0)[0]
        return count

    def rows(self, users: Int[np.ndarray, "..."], positions: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """The rows at ``positions`` of the histories of ``users``; both are broadcast. A position that a history does not have
        gives a row that means nothing.
        """
        if self._later is None:
            return np.asarray(self.offsets[users] + positions)
        first, count = self._prepared(users)
        place = np.searchsorted(self._later.of_order, users) + positions - count
        last = len(self._later.order) - 1
        later = self.n_prepared + self._later.order[np.clip(place, 0, last)]
        return np.asarray(np.where(positions < count, first + positions, later))

    def positions(self, rows: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Where in its user's history each row stands."""
        if self._later is None:
            return np.asarray(rows - self.offsets[self.columns["user"][rows]])
        late = rows >= self.n_prepared
        prepared = np.where(late, 0, rows)
        found = np.asarray(prepared - self.offsets[self.columns["user"][prepared]])
        found[late] = self._later.position_n[rows[late] - self.n_prepared]
        return found

    def holds(
        self, user_B: Int[np.ndarray, "B"], position_B: Int[np.ndarray, "B"], rows_BK: Int[np.ndarray, "B K"]
    ) -> Bool[np.ndarray, "B K"]:
        """Whether rows are among the first ``position`` events of their user."""
        first_B, count_B = self._prepared(user_B)
        end_B = first_B + np.minimum(position_B, count_B)
        own_BK = np.asarray((rows_BK >= first_B[:, None]) & (rows_BK < end_B[:, None]))
        if self._later is not None:
            late = (rows_BK >= self.n_prepared) & (rows_BK < len(self))
            b, number = np.nonzero(late)[0], rows_BK[late] - self.n_prepared
            own_BK[late] = (self._later.user_n[number] == user_B[b]) & (self._later.position_n[number] < position_B[b])
        return own_BK

    def past(
        self, user_B: Int[np.ndarray, "B"], count_B: Int[np.ndarray, "B"]
    ) -> tuple[Int[np.ndarray, "P"], Int[np.ndarray, "P"]]:
        """The first ``count`` events of each user, one after another: the number in the batch that each belongs to, its row."""
        number_P = np.repeat(np.arange(len(user_B)), count_B)
        position_P = np.arange(len(number_P)) - np.repeat(np.cumsum(count_B) - count_B, count_B)
        return number_P, self.rows(user_B[number_P], position_P)

    def rows_of(self, user: int, count: int | None = None) -> Int[np.ndarray, "H"] | slice:
        """One user's first ``count`` events, or all: as a slice where they lie side by side."""
        user_1 = np.array([user])
        first, n = (int(value_1[0]) for value_1 in self._prepared(user_1))
        count = int(self.count(user_1)[0]) if count is None else count
        return slice(first, first + count) if count <= n else self.rows(user_1, np.arange(count))

    def extended(self, later: dict[str, np.ndarray]) -> "Log":
        """This log with n more events after its last row; each user's stand in time order, after all that they had.

        It costs what all later events cost, and nothing of what was prepared.
        """
        user_n = later["user"].astype(np.int64)
        order = np.argsort(user_n, kind="stable")
        rank_n = np.empty(len(order), np.int64)
        rank_n[order] = np.arange(len(order)) - np.searchsorted(user_n[order], user_n[order])
        position_n = self.count(user_n) + rank_n
        if self._later is not None:
            user_n = np.concatenate([self._later.user_n, user_n])
            position_n = np.concatenate([self._later.position_n, position_n])
        columns: dict[str, Values] = {name: longer(column, later[name]) for name, column in self.columns.items()}
        return Log(columns, self.offsets, Later.of(user_n, position_n))

    def without(self, user: int) -> "Log":
        """This log without what came of a user after the prepared events, which stay; rows of others' later events move up."""
        if self._later is None:
            return self
        kept_n = self._later.user_n != user
        columns: dict[str, Values] = {
            name: Column(column.first, column.later[kept_n])
            for name, column in self.columns.items()
            if isinstance(column, Column)
        }
        return Log(columns, self.offsets, Later.of(self._later.user_n[kept_n], self._later.position_n[kept_n]))

    def _prepared(self, users: Int[np.ndarray, "..."]) -> tuple[Int[np.ndarray, "..."], Int[np.ndarray, "..."]]:
        """The first prepared row of users, and how many they have; none for users who came later."""
        known = len(self.offsets) - 1
        first = self.offsets[np.minimum(users, known)]
        return first, self.offsets[np.minimum(users + 1, known)] - first
