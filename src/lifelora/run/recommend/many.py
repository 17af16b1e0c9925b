"""Lists for many users as one table, made in blocks that are always cut alike. Knows scorers by their ranking, and no file."""

from collections.abc import Iterable, Sequence
from functools import cached_property
from hashlib import sha256
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float, Int

from lifelora.artefacts import key_of
from lifelora.errors import ConfigError
from lifelora.progress import Progress
from lifelora.run.recommend.answer import check, scorer_of, unscored
from lifelora.run.recommend.cold import POPULARITY, Cold, most_popular
from lifelora.run.recommend.pool import pool
from lifelora.run.recommend.ranking import NONE, Ranking
from lifelora.run.run import Run

SCHEMA = pa.schema(
    [
        ("user", pa.string()),
        ("rank", pa.int32()),
        ("item", pa.string()),
        ("title", pa.string()),
        ("score", pa.float64()),
        ("how", pa.string()),
    ]
)
"""``score`` is null for an item that the system cannot know. ``how`` says by what a user was answered: "history", "profile" (no
behaviours are known) or "popularity" (nothing that the system could read is known)."""


def many(
    run: Run,
    users: Sequence[str] | None = None,
    k: int = 10,
    *,
    system: str | None = None,
    among: Sequence[str] | None = None,
    where: Sequence[str] = (),
    allow_seen: bool = False,
    cold: Cold = POPULARITY,
) -> pa.Table:
    """The ``k`` best items for each user (None: all users), as ``SCHEMA`` says, in the order of the users.

    ``among``, ``where``, ``allow_seen`` and the errors are those of ``recommend``. A user for whom fewer items are left has
    fewer rows. An unknown user gets the most popular items, with "popularity" in ``how``; with ``cold = "refuse"`` unknown
    users are a DataError.
    """
    batch = Batch(run, users, k, system=system, among=among, where=where, allow_seen=allow_seen, cold=cold)
    with Progress("recommend", len(batch.users), unit="users", enabled=run.context.shows_progress) as ticker:
        blocks = []
        for number in range(batch.blocks):
            blocks.append(batch.block(number))
            ticker.advance(len(batch.of_block(number)))
    return pa.concat_tables(blocks)


class Batch:
    """What is asked for, checked, in blocks of users."""

    def __init__(
        self,
        run: Run,
        users: Sequence[str] | None,
        k: int,
        *,
        system: str | None = None,
        among: Sequence[str] | None = None,
        where: Sequence[str] = (),
        allow_seen: bool = False,
        cold: Cold = POPULARITY,
    ) -> None:
        check(k, cold)
        dataset = run.context.dataset
        self.run, self.k = run, k
        self.users = dataset.users.all() if users is None else list(users)
        if not self.users:
            raise ConfigError("there are no users to recommend for; give one or more.")
        if len(set(self.users)) < len(self.users):
            raise ConfigError("a user is named twice; give each once.")
        # An unknown one among them is refused by name.
        self.user_U = (dataset.users.known if cold == POPULARITY else dataset.users.inside)(self.users).astype(np.int64)
        self.scorer, self.why = scorer_of(run, system)
        if self.scorer.ids_alone:  # it would read no profile of a user who came after training
            nothing_U = (self.user_U >= dataset.known_users) & (dataset.log.count(np.maximum(self.user_U, 0)) == 0)
            self.user_U[nothing_U] = NONE
        self.pool = pool(dataset, among, where)
        self.ranking = Ranking(run, self.scorer, self.pool.items_P, k, allow_seen=allow_seen)

    @property
    def blocks(self) -> int:
        """How many blocks there are."""
        return -(-len(self.users) // self.ranking.at_once)

    def of_block(self, number: int) -> list[str]:
        """The users of a block."""
        return self.users[number * self.ranking.at_once : (number + 1) * self.ranking.at_once]

    @property
    def settings(self) -> dict[str, Any]:
        """All that decides what the table holds, as JSON has it."""
        dataset, retriever = self.run.context.dataset, self.ranking.retriever
        later = {"catalogue": dataset.known_items, "profiles": dataset.known_users}
        told = [getattr(dataset, name).slice(known).to_pylist() for name, known in later.items()]
        events = [np.asarray(column[dataset.log.n_prepared :]) for column in dataset.log.columns.values()]
        return {
            "data": self.run.stages.data.key,
            "system": self.scorer.name,
            "system key": self.scorer.stage.key,
            "retriever key": None if retriever is None else retriever.stage.key,
            "k": self.k,
            "allow seen": self.ranking.allow_seen,
            "users": key_of([self.users, (self.user_U >= 0).tolist()]),
            "items": key_of(dataset.items.outside(self.pool.items_P)),
            "since": key_of([told, [sha256(column_N.tobytes()).hexdigest() for column_N in events]]),
        }

    def block(self, number: int) -> pa.Table:
        """The rows of a block's users."""
        start = number * self.ranking.at_once
        user_B = self.user_U[start : start + self.ranking.at_once]
        item_BK = np.full((len(user_B), min(self.k, len(self.pool.items_P))), NONE, np.int64)
        score_BK = np.full(item_BK.shape, np.nan)
        known = np.flatnonzero(user_B >= 0)
        if len(known):
            ranked = self.ranking.of(user_B[known])
            item_BK[known, : ranked.item_BK.shape[1]] = ranked.item_BK
            score_BK[known, : ranked.item_BK.shape[1]] = ranked.score_BK
        if len(known) < len(user_B):
            item_BK[user_B < 0], score_BK[user_B < 0] = self._popular
        return self._rows(self.of_block(number), self._how(user_B), item_BK, score_BK)

    def _how(self, user_B: Int[np.ndarray, "B"]) -> Int[np.ndarray, "B"]:
        count_B = self.run.context.dataset.log.count(np.maximum(user_B, 0))
        return np.where(user_B < 0, 2, np.where(count_B > 0, 0, 1))

    def _rows(
        self,
        users: list[str],
        how_B: Int[np.ndarray, "B"],
        item_BK: Int[np.ndarray, "B K"],
        score_BK: Float[np.ndarray, "B K"],
    ) -> pa.Table:
        dataset = self.run.context.dataset
        row_N, rank_N = np.nonzero(item_BK != NONE)
        item_N, score_N = item_BK[row_N, rank_N], score_BK[row_N, rank_N]
        columns = [
            pa.array(users, pa.string()).take(pa.array(row_N)),
            pa.array(rank_N + 1, pa.int32()),
            pa.array(dataset.items.outside(item_N), pa.string()),
            dataset.catalogue.column("title").take(pa.array(item_N)).combine_chunks(),
            pa.array(score_N, mask=np.isnan(score_N)),
            pa.array(["history", "profile", POPULARITY]).take(pa.array(how_B[row_N])),
        ]
        return pa.table(columns, SCHEMA)

    @cached_property
    def _popular(self) -> tuple[Int[np.ndarray, "K"], Float[np.ndarray, "K"]]:
        return most_popular(self.run.context, self.pool.items_P, self.k)

    def notes(self, tables: Iterable[pa.Table]) -> list[str]:
        """What a reader should know of the blocks that came out."""
        dataset, users, short = self.run.context.dataset, 0, 0
        for table in tables:
            count = pc.value_counts(table.column("user").combine_chunks()).field("counts").to_numpy()
            users += len(count)
            short += int((count < self.k).sum())
        unknown, empty = int((self.user_U < 0).sum()), len(self.users) - users
        new = int((self.pool.items_P >= dataset.known_items).sum())
        return [
            *([f"{unknown:,} users are unknown: they get the most popular items, and 'how' says so."] if unknown else []),
            *([f"{empty:,} users have no rows: they have seen every item that may be recommended."] if empty else []),
            *([f"{short:,} users have fewer than {self.k:,} rows: no more items are left for them."] if short else []),
            *([unscored(new, self.scorer)] if new and self.scorer.ids_alone else []),
        ]
