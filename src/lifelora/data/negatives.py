"""Items that users did not choose, drawn once beside those that they did: what ``ctr`` learns from where a log holds likes alone.

For each sample that is a like, ``count`` different items with which its user has no event in the whole log, later events and all
parts included, and none that was left out of it (rated below ``keep_from``, or of another kind): so no negative is a like of
another part, and none was seen. (A core leaves out no event of a user and an item that are both in it.) They stand at the time of
their like, with the same history and the label 0, and are the same for all systems. Item i is drawn in proportion to

    uniform      1
    popularity   its events in training; an item without any is never drawn

Knows numbers of users, items and rows, and no model.
"""

from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int
from pydantic import Field

from lifelora import seeds
from lifelora.data.candidates import NO_ITEMS, repeated_in_row
from lifelora.errors import ConfigError
from lifelora.types import Frozen, Part

ROUNDS = 30
"""Draws of all that are still open; what is open then is drawn user by user, out of what is left for each."""
NONE = np.zeros((2, 0), np.int64)


class Negatives(Frozen):
    """How many items for each like, how they are drawn, and the seed."""

    count: int = Field(default=1, ge=1, le=100)
    by: Literal["uniform", "popularity"] = "uniform"
    seed: int = Field(default=0, ge=0)


class Drawn:
    """Negatives by number: n is sample ``-1 - n``. Each belongs to the row of its like."""

    def __init__(self, row_n: Int[np.ndarray, "n"], item_n: Int[np.ndarray, "n"]) -> None:
        self.row_n, self.item_n = row_n, item_n

    def __len__(self) -> int:
        return len(self.row_n)

    @classmethod
    def open(cls, folder: Path) -> "Drawn":
        """As ``save`` left them, memory-mapped; none where it left nothing."""
        if not (folder / "row.npy").exists():
            return cls(np.zeros(0, np.int64), np.zeros(0, np.int64))
        return cls(*(np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False) for name in ("row", "item")))

    def save(self, folder: Path) -> None:
        """Two arrays in a folder of their own."""
        folder.mkdir(exist_ok=True)
        np.save(folder / "row.npy", self.row_n.astype(np.int64))
        np.save(folder / "item.npy", self.item_n.astype(np.int32))

    def rows(self, samples_N: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """The event of each sample: its own, or that of the like which a negative was drawn beside."""
        drawn_N = samples_N < 0
        if not drawn_N.any():
            return samples_N
        rows_N = samples_N.copy()
        rows_N[drawn_N] = self.row_n[-1 - samples_N[drawn_N]]
        return rows_N

    def items(self, samples_N: Int[np.ndarray, "N"], item_N: Int[np.ndarray, "N"]) -> Int[np.ndarray, "N"]:
        """The items of samples, where ``item_N`` are those of their events."""
        drawn_N = samples_N < 0
        return np.where(drawn_N, self.item_n[np.where(drawn_N, -1 - samples_N, 0)], item_N) if drawn_N.any() else item_N

    def beside(self, samples_N: Int[np.ndarray, "N"]) -> dict[int, list[int]]:
        """The items of the negatives among samples, by the row of their like."""
        found: dict[int, list[int]] = {}
        number_n = -1 - samples_N[samples_N < 0]
        for row, item in zip(self.row_n[number_n].tolist(), self.item_n[number_n].tolist(), strict=True):
            found.setdefault(row, []).append(item)
        return found


def sampled(
    config: Negatives,
    parts: dict[Part, Int[np.ndarray, "_"]],
    user_A: Int[np.ndarray, "A"],
    item_A: Int[np.ndarray, "A"],
    label_A: Bool[np.ndarray, "A"],
    training: Int[np.ndarray, "_"],
    n_items: int,
    known_2P: Int[np.ndarray, "2 P"] = NONE,
    new_items: Int[np.ndarray, "_"] = NO_ITEMS,
) -> tuple[dict[Part, Int[np.ndarray, "_"]], Drawn]:
    """The samples of each part with negatives right behind their likes.

    ``parts`` are rows of the log's A events, which stand by user; ``training`` are those that training may look at. ``known`` are
    users and items of further events, which the log leaves out; ``new_items`` are never drawn for training. Raises ConfigError
    where fewer than ``count`` items are left for a user.
    """
    weight_M = np.ones(n_items) if config.by == "uniform" else np.bincount(item_A[training], minlength=n_items).astype(np.float64)
    known_P = np.unique(np.append(user_A.astype(np.int64) * n_items + item_A, known_2P[0] * n_items + known_2P[1]))
    made, rows, items, first = dict[Part, np.ndarray](), list[np.ndarray](), list[np.ndarray](), 0
    for part, rows_N in parts.items():
        like_N = np.asarray(label_A[rows_N], np.bool_)
        likes = rows_N[like_N]
        random = seeds.generator(config.seed, "negatives", part)
        part_M = weight_M.copy()
        part_M[new_items if part == "train" else NO_ITEMS] = 0
        drawn_NC = _drawn(config, random, user_A[likes].astype(np.int64), known_P, part_M)
        place_S = np.repeat(np.arange(len(rows_N)), np.where(like_N, 1 + config.count, 1))
        behind_S = np.append(False, place_S[1:] == place_S[:-1])
        made[part] = rows_N[place_S].astype(np.int64)
        made[part][behind_S] = -1 - first - np.arange(drawn_NC.size)
        rows.append(np.repeat(likes, config.count))
        items.append(drawn_NC.ravel())
        first += drawn_NC.size
    return made, Drawn(np.concatenate(rows), np.concatenate(items))


def in_words(
    config: Negatives, drawn: Drawn, user_A: Int[np.ndarray, "A"], item_A: Int[np.ndarray, "A"], left_out: int = 0
) -> str:
    """What a reader of AUC has to know of what likes are told apart from; so many events were ``left_out`` of the log."""
    pair_A = user_A.astype(np.int64) * (int(item_A.max(initial=0)) + 1) + item_A
    again_A = np.ones(len(pair_A), np.bool_)
    again_A[np.unique(pair_A, return_index=True)[1]] = False  # rows stand by user and time: the first is the earliest
    likes = np.unique(drawn.row_n)
    share = 100 * again_A[likes].mean() if len(likes) else 0.0
    how = "uniformly" if config.by == "uniform" else "in proportion to their events in training"
    items = f"{config.count} item{'s' * (config.count > 1)} with which the user has no event in the whole log"
    items += f" (nor one of the {left_out:,} that were left out of it)" if left_out else ""
    return (
        f"negatives: beside each like {items}, drawn once and {how} (seed {config.seed}), {len(drawn):,} in all. AUC tells likes "
        f"from these, not from dislikes. {share:.1f} % of the likes are with an item that the user had before, as no negative is."
    )


def _drawn(
    config: Negatives,
    random: np.random.Generator,
    user_N: Int[np.ndarray, "N"],
    known_P: Int[np.ndarray, "P"],
    weight_M: Float[np.ndarray, "M"],
) -> Int[np.ndarray, "N C"]:
    """Items for each user, one after another in proportion to their weights, none twice in a row and none that the user knows."""
    n_items, end_M = len(weight_M), np.cumsum(weight_M)

    def fresh(count: int) -> Int[np.ndarray, "n"]:
        return np.asarray(np.searchsorted(end_M, random.random(count) * end_M[-1], side="right"))

    def wrong(at_n: Int[np.ndarray, "n"]) -> Bool[np.ndarray, "n C"]:
        pair_nC = user_N[at_n, None] * n_items + item_NC[at_n]
        known_nC = known_P[np.minimum(np.searchsorted(known_P, pair_nC), len(known_P) - 1)] == pair_nC
        return np.asarray(known_nC | repeated_in_row(item_NC[at_n]))

    item_NC = fresh(len(user_N) * config.count).reshape(-1, config.count)
    open_n = np.arange(len(user_N))
    for _ in range(ROUNDS):
        wrong_nC = wrong(open_n)
        open_n, wrong_nC = open_n[wrong_nC.any(axis=1)], wrong_nC[wrong_nC.any(axis=1)]
        if not len(open_n):
            return item_NC
        some = item_NC[open_n]
        some[wrong_nC] = fresh(int(wrong_nC.sum()))
        item_NC[open_n] = some
    for row, wrong_C in zip(open_n.tolist(), wrong(open_n), strict=True):
        start, end = np.searchsorted(known_P, [user_N[row] * n_items, (user_N[row] + 1) * n_items])
        left_M = weight_M.copy()
        left_M[known_P[start:end] - user_N[row] * n_items] = 0
        left_M[item_NC[row, ~wrong_C]] = 0
        need, left = int(wrong_C.sum()), int(np.count_nonzero(left_M))
        if left < need:
            others = " of those with events in training" if config.by == "popularity" else ""
            mend = "draw by = 'uniform'" if others else "bring a larger catalogue"
            raise ConfigError(
                f"data.rules.negatives.count = {config.count}: of {n_items:,} items{others} only {left + config.count - need} "
                f"are left for a user who has events with {end - start:,}. Lower it, or {mend}."
            )
        if need:
            item_NC[row, wrong_C] = random.choice(n_items, need, replace=False, p=left_M / left_M.sum())
    return item_NC
