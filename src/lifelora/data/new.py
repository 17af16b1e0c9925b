"""Items and users of which training sees no event: which items they are, what leaves the log, and what is noted. Knows no file.

With the split ``new-items`` the training samples are those of a global-time split of the log without these items. Their events
until the last training sample's time leave the log; the later ones stay. So whatever they were, nothing of training can depend on
them.
"""

from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int

from lifelora import seeds
from lifelora.data.idmap import IdMap
from lifelora.data.raw import RawTables
from lifelora.data.split import AnySplit, NewItems, NewUsers
from lifelora.errors import ConfigError
from lifelora.types import Part


@dataclass(frozen=True, eq=False)
class New:
    """What was drawn; without anything new ``ids`` is empty."""

    ids: pa.Array
    "Of the new items."
    left_out: pa.Table
    "user, item: their events that left the log."
    allowed: int
    "Items that may have been drawn."
    training: int
    "How many samples are for training: the first so many in time."

    def note(
        self,
        config: NewItems,
        parts: dict[Part, Int[np.ndarray, "_"]],
        item_A: Int[np.ndarray, "A"],
        new_M: Bool[np.ndarray, "M"],
    ) -> str:
        """What a reader has to know. ConfigError where no test sample is of a new item."""
        count = {part: int(new_M[item_A[rows]].sum()) for part, rows in parts.items()}
        if not count["test"]:
            raise ConfigError(
                f"data.rules.split = 'new-items': none of the {len(self.ids):,} new items has a test sample. Raise "
                "data.rules.split.share, or draw among better-known items: data.rules.split.min_events."
            )
        of = f"the {self.allowed:,} items" + (f" with {config.min_events} events or more" if config.min_events > 1 else "")
        how = f"drawn by seed {config.seed}" if config.by == "seed" else "those whose first event is the latest"
        return (
            f"new items: {len(self.ids):,} of {of} are in no training event, {how}. "
            f"{len(self.left_out):,} of their events, all until the last training sample, left the log; {count['valid']:,} "
            f"samples of valid and {count['test']:,} of test are theirs."
        )


def users_note(
    config: NewUsers,
    parts: dict[Part, Int[np.ndarray, "_"]],
    user_A: Int[np.ndarray, "A"],
    user_U: Int[np.ndarray, "U"],
    began_U: Int[np.ndarray, "U"],
) -> str:
    """What a reader has to know of new users, among the users who have samples and by when these began."""
    new = config.drawn(user_U, began_U)
    own = {part: user_A[rows][np.isin(user_A[rows], new)] for part, rows in parts.items()}
    how = f"drawn by seed {config.seed}" if config.by == "seed" else "those whose first event is the latest"
    told = " and ".join(
        f"{len(own[part]):,} samples of {part} are of {len(np.unique(own[part])):,}" for part in ("valid", "test")
    )
    return (
        f"new users: {len(new):,} of the {len(user_U):,} users who have samples are in no training event, {how}: {told} of them."
    )


def without_early_events(raw: RawTables, config: AnySplit, min_history: int) -> tuple[RawTables, New]:
    """The log without what training may not see of new items, and what they are; it needs times.

    Raises ConfigError where the share is of fewer than one item, and where no training sample is left.
    """
    log = raw.interactions
    if not isinstance(config, NewItems):
        return raw, New(pa.array([], pa.string()), log.select(["user", "item"]).slice(0, 0), 0, 0)
    items = IdMap.of(log.column("item"))
    item_A, time_A = items.inside(log.column("item")).astype(np.int64), log.column("time").to_numpy()
    new_M, allowed = drawn(config, item_A, time_A, len(items))
    old_A = ~new_M[item_A]
    user_A = pc.dictionary_encode(log.column("user").combine_chunks()).indices.to_numpy()
    time_N = sample_times(user_A[old_A], time_A[old_A], min_history)
    training = int(config.train * len(time_N))
    if not training:
        raise ConfigError(
            f"data.rules.split = 'new-items': the log without its {int(new_M.sum()):,} new items has {len(time_N):,} samples, of "
            "which none is for training. Lower data.rules.split.share or data.rules.min_history."
        )
    early_A = ~old_A & (time_A <= time_N[training - 1])
    left_out = log.select(["user", "item"]).filter(pa.array(early_A))
    ids = pa.array(items.outside(np.flatnonzero(new_M)), pa.string())
    return replace(raw, interactions=log.filter(pa.array(~early_A))), New(ids, left_out, allowed, training)


def drawn(
    config: NewItems, item_A: Int[np.ndarray, "A"], time_A: Int[np.ndarray, "A"], n_items: int
) -> tuple[Bool[np.ndarray, "M"], int]:
    """Which items are new, and how many may have been."""
    allowed = np.flatnonzero(np.bincount(item_A, minlength=n_items) >= config.min_events)
    count = int(config.share * len(allowed))
    if not count:
        raise ConfigError(
            f"data.rules.split.share = {config.share:g} of the {len(allowed):,} items with {config.min_events} events or more is "
            "less than one item. Raise it, or lower data.rules.split.min_events."
        )
    if config.by == "seed":
        order = seeds.generator(config.seed, "split", config.kind).permutation(allowed)
    else:
        first_M = np.full(n_items, np.iinfo(np.int64).max)
        np.minimum.at(first_M, item_A, time_A)
        order = allowed[np.argsort(first_M[allowed], kind="stable")]
    new_M = np.zeros(n_items, np.bool_)
    new_M[order[len(order) - count :]] = True
    return new_M, len(allowed)


def sample_times(user_A: Int[np.ndarray, "A"], time_A: Int[np.ndarray, "A"], min_history: int) -> Int[np.ndarray, "N"]:
    """The times of all events that have enough events of their user before them, sorted. Ties make no difference."""
    order = np.lexsort((time_A, user_A))
    first_A = np.searchsorted(user_A[order], user_A[order])
    return np.sort(time_A[order][np.arange(len(order)) - first_A >= min_history])
