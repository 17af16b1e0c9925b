"""The events of all users: a prepared log, memory-mapped, and what came after it. Knows neither ids nor texts.

Prepared events stand by user and time, so a user's are rows ``offsets[u] .. offsets[u + 1]`` of flat arrays, oldest first. A log
grows at its end: rows of later events go on after the prepared ones, and nothing that was there is moved. So a
user's history is their prepared rows and then their later ones, and an event has two numbers: its *row* in the log, and its
*position* in its user's history (0, 1, …). What may be seen of a target is told by position.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int

from lifelora.data.column import Column, Values, grown, longer

EVENT_COLUMNS = {"user": np.int32, "item": np.int32, "rating": np.int8, "label": np.bool_, "time": np.int64}


@dataclass(frozen=True)
class Later:
    """n events, one after another, found by user: a user's are side by side in ``order_n``, in time order."""

    order_n: Int[np.ndarray, "n"]
    "Rows of the log, by user."
    user_n: Int[np.ndarray, "n"]
    "The users of ``order_n``."

    @classmethod
    def of(cls, user_n: Int[np.ndarray, "n"], first: int) -> "Later":
        """Of events from row ``first`` on, which stand in time order for each user."""
        order_n = np.argsort(user_n, kind="stable")
        return cls(first + order_n, user_n[order_n])

    def __len__(self) -> int:
        return len(self.order_n)

    def joined(self, other: "Later") -> "Later":
        """With those that came after."""
        row_n, user_n = np.concatenate([self.order_n, other.order_n]), np.concatenate([self.user_n, other.user_n])
        order_n = np.argsort(user_n, kind="stable")
        return Later(row_n[order_n], user_n[order_n])

    def found(self, users: Int[np.ndarray, "..."]) -> tuple[Int[np.ndarray, "..."], Int[np.ndarray, "..."]]:
        """Where each user's begin in ``order_n``, and how many there are."""
        start = np.searchsorted(self.user_n, users)
        return start, np.searchsorted(self.user_n, users, side="right") - start


class Log:
    """Events by row. A log without later events is the prepared one, and reads its arrays as they are."""

    def __init__(
        self,
        columns: dict[str, Values],
        offsets: Int[np.ndarray, "_"],
        later: tuple[Later, ...] = (),
        position_n: Values | None = None,
    ) -> None:
        """``columns`` as in ``EVENT_COLUMNS``; U + 1 ``offsets`` of the prepared users. The events ``later`` lie in pieces, as
        those of a ``Column`` do; ``position_n`` are their positions, in the order of their rows.
        """
        self.columns, self.offsets, self._later = columns, offsets, later
        self._position_n = np.zeros(0, np.int64) if position_n is None else position_n
        self.n_prepared = int(offsets[-1])
        self.line: object = object()
        """The same in a log and in all that it was extended from: in a later one of a line, all rows are what they were."""

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
        for piece in self._later:
            count = count + piece.found(users)[1]
        return count

    def prepared_count(self, users: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """How many of them are prepared ones."""
        return self._prepared(users)[1]

    def rows(self, users: Int[np.ndarray, "..."], positions: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """The rows at ``positions`` of the histories of ``users``; both are broadcast. A position that a history does not have
        gives a row that means nothing.
        """
        if not self._later:
            return np.asarray(self.offsets[users] + positions)
        first, count = self._prepared(users)
        rows, place = np.where(positions < count, first + positions, 0), positions - count
        for piece in self._later:
            start, count = piece.found(users)
            here = (place >= 0) & (place < count)
            rows = np.where(here, piece.order_n[np.where(here, start + place, 0)], rows)
            place = place - count
        return np.asarray(rows)

    def positions(self, rows: Int[np.ndarray, "..."]) -> Int[np.ndarray, "..."]:
        """Where in its user's history each row stands."""
        if not self._later:
            return np.asarray(rows - self.offsets[self.columns["user"][rows]])
        late = rows >= self.n_prepared
        prepared = np.where(late, 0, rows)
        found = np.asarray(prepared - self.offsets[self.columns["user"][prepared]])
        found[late] = self._position_n[rows[late] - self.n_prepared]
        return found

    def holds(
        self, user_B: Int[np.ndarray, "B"], position_B: Int[np.ndarray, "B"], rows_BK: Int[np.ndarray, "B K"]
    ) -> Bool[np.ndarray, "B K"]:
        """Whether rows are among the first ``position`` events of their user."""
        first_B, count_B = self._prepared(user_B)
        end_B = first_B + np.minimum(position_B, count_B)
        own_BK = np.asarray((rows_BK >= first_B[:, None]) & (rows_BK < end_B[:, None]))
        if self._later:
            late = (rows_BK >= self.n_prepared) & (rows_BK < len(self))
            b, rows = np.nonzero(late)[0], rows_BK[late]
            seen = self._position_n[rows - self.n_prepared] < position_B[b]
            own_BK[late] = (self.columns["user"][rows] == user_B[b]) & seen
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

        It costs what these cost, and once in a while what others cost that came since the data were prepared (``column.grown``).
        """
        user_n = later["user"].astype(np.int64)
        if not len(user_n):
            return self
        new = Later.of(user_n, len(self))
        rank_n = np.empty(len(new), np.int64)
        rank_n[new.order_n - len(self)] = np.arange(len(new)) - np.searchsorted(new.user_n, new.user_n)
        position_n = longer(self._position_n, self.count(user_n) + rank_n)
        columns: dict[str, Values] = {name: longer(column, later[name]) for name, column in self.columns.items()}
        made = Log(columns, self.offsets, grown(self._later, new, Later.joined), position_n)
        made.line = self.line
        return made

    def without(self, users: Int[np.ndarray, "..."] | int) -> "Log":
        """This log without what came of users after the prepared events, which stay; rows of others' later events move up."""
        rows_n = np.arange(self.n_prepared, len(self))
        kept_n = rows_n[~np.isin(self.columns["user"][rows_n], users)]
        bare = Log({name: c.first if isinstance(c, Column) else c for name, c in self.columns.items()}, self.offsets)
        return bare.extended({name: np.asarray(column[kept_n]) for name, column in self.columns.items()})

    def since(self, line: object, count: int) -> Int[np.ndarray, "_"]:
        """The later rows that a log of ``count`` events does not have; all of them where that is of another ``line``."""
        return np.arange(max(count, self.n_prepared) if line is self.line else self.n_prepared, len(self))

    def _prepared(self, users: Int[np.ndarray, "..."]) -> tuple[Int[np.ndarray, "..."], Int[np.ndarray, "..."]]:
        """The first prepared row of users, and how many they have; none for users who came later."""
        known = len(self.offsets) - 1
        first = self.offsets[np.minimum(users, known)]
        return first, self.offsets[np.minimum(users + 1, known)] - first
