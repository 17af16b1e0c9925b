"""Which items a sample's target has to stand out from: lists that are drawn once and kept. Knows no model.

iLoRA and LLaRA draw 19 items anew whenever a row is looked at, so that no two systems are asked the same. Here a list is
part of the prepared data: the target at a place that is drawn, among items that its user had not seen before it.
"""

import numpy as np
from jaxtyping import Bool, Int
from pydantic import Field

from lifelora import seeds
from lifelora.errors import ConfigError
from lifelora.types import Frozen, Part

ROUNDS = 1000
NO_ITEMS, NO_PAIRS = np.zeros(0, np.int64), np.zeros((2, 0), np.int64)


class Candidates(Frozen):
    """How many items, the target among them, and the seed they are drawn by."""

    count: int = Field(default=20, ge=2)
    seed: int = Field(default=0, ge=0)


def repeated_in_row(item_NC: Int[np.ndarray, "N C"]) -> Bool[np.ndarray, "N C"]:
    """Items that stand further left in their row already."""
    order = np.argsort(item_NC, axis=1, kind="stable")
    ordered = np.take_along_axis(item_NC, order, axis=1)
    again = np.zeros(item_NC.shape, np.bool_)
    np.put_along_axis(again, order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
    return again


def candidate_lists(
    config: Candidates,
    part: Part,
    rows_N: Int[np.ndarray, "N"],
    user_A: Int[np.ndarray, "A"],
    item_A: Int[np.ndarray, "A"],
    n_items: int,
    never: Int[np.ndarray, "_"] = NO_ITEMS,
    had_2P: Int[np.ndarray, "2 P"] = NO_PAIRS,
) -> Int[np.ndarray, "N C"]:
    """A list for each of the rows, which are places in the log's A events, sorted by user and time.

    Items are drawn without repetition from all but the target and what the user had seen before it. Later events play no part.
    Items that are ``never`` drawn stand in no list but their own. ``had`` are users and items of early events that are no longer
    in the log: they count as seen.
    Raises ConfigError if a user has seen so many items that too few are left.
    """
    random = seeds.generator(config.seed, "candidates", part)
    count = config.count - 1
    user_N, target_N = user_A[rows_N].astype(np.int64), item_A[rows_N].astype(np.int64)
    # (user, item) -> the first event of the two: a pair was seen before row n if it has an event there.
    pairs = np.append(had_2P[0] * n_items + had_2P[1], user_A.astype(np.int64) * n_items + item_A)
    pair_P, first_P = np.unique(pairs, return_index=True)
    first_P -= had_2P.shape[1]
    open_M = np.setdiff1d(np.arange(n_items), never)

    def taken(row_N: Int[np.ndarray, "n"], item_NC: Int[np.ndarray, "n c"]) -> np.ndarray:
        wanted = user_N[row_N, None] * n_items + item_NC
        place = np.minimum(np.searchsorted(pair_P, wanted), len(pair_P) - 1)
        seen = (pair_P[place] == wanted) & (first_P[place] < rows_N[row_N, None])
        wrong: np.ndarray = seen | repeated_in_row(item_NC) | (item_NC == target_N[row_N, None])
        return wrong

    others_NC = open_M[random.integers(0, len(open_M), (len(rows_N), count))]
    open_N = np.arange(len(rows_N))
    for _ in range(ROUNDS):
        wrong = taken(open_N, others_NC[open_N])
        open_N, wrong = open_N[wrong.any(axis=1)], wrong[wrong.any(axis=1)]
        if not len(open_N):
            break
        fresh = others_NC[open_N]
        fresh[wrong] = open_M[random.integers(0, len(open_M), int(wrong.sum()))]
        others_NC[open_N] = fresh
    else:
        raise ConfigError(
            f"data.rules.candidates.count = {config.count}: of {len(open_M):,} items too few are left for the user of "
            f"event {rows_N[open_N[0]]:,}, who has seen the others. Lower it."
        )
    lists_NC = np.concatenate([target_N[:, None], others_NC], axis=1)
    place_N = random.integers(0, config.count, len(rows_N))
    rows = np.arange(len(rows_N))
    lists_NC[rows, 0], lists_NC[rows, place_N] = lists_NC[rows, place_N], target_N
    return lists_NC.astype(np.int32)
