"""A drawn order: the same events at the same end, from seed, user and position alone, and every order as likely as any other."""

from math import factorial

import numpy as np

from lifelora.data.dataset import Targets
from lifelora.retrieval.shuffled import newest, shuffled


def targets(user_B: np.ndarray, position_B: np.ndarray) -> Targets:
    return Targets(user_B, np.zeros_like(user_B), position_B, np.zeros(len(user_B), np.bool_))


def histories(count: int, k: int) -> tuple[Targets, np.ndarray, np.ndarray]:
    """``count`` samples of 7 users, of histories that begin shorter than k."""
    user_B, position_B = np.arange(count) % 7, 1 + np.arange(count) // 7
    place_BK = position_B[:, None] - k + np.arange(k)
    mask_BK = place_BK >= 0
    return targets(user_B, position_B), np.where(mask_BK, 100_000 * user_B[:, None] + place_BK, 0), mask_BK


def test_the_same_events_stand_in_a_drawn_order() -> None:
    asked, rows_BK, mask_BK = histories(700, 6)
    drawn_BK, drawn_mask_BK = shuffled((rows_BK, mask_BK), asked, seed=3)
    assert np.array_equal(drawn_mask_BK, mask_BK)
    for row_K, drawn_K, mask_K in zip(rows_BK, drawn_BK, mask_BK, strict=True):
        assert sorted(drawn_K[mask_K]) == sorted(row_K[mask_K])
    full_B = mask_BK.all(axis=1)
    kept = (drawn_BK[full_B] == rows_BK[full_B]).all(axis=1).mean()
    assert kept < 5 / factorial(6) + 0.01


def test_an_order_depends_on_seed_user_and_position_and_on_nothing_beside_it() -> None:
    asked, rows_BK, mask_BK = histories(70, 6)
    drawn_BK, _ = shuffled((rows_BK, mask_BK), asked, seed=3)
    for place in (0, 23, 69):  # alone, in another batch, about another item
        alone = Targets(*(column[[place]] for column in (asked.user_B, asked.item_B + 5, asked.position_B, asked.label_B)))
        assert np.array_equal(shuffled((rows_BK[[place]], mask_BK[[place]]), alone, 3)[0][0], drawn_BK[place])
    # Cells before a history that is shorter than K are no part of it.
    wider = np.pad(rows_BK, ((0, 0), (4, 0))), np.pad(mask_BK, ((0, 0), (4, 0)))
    assert np.array_equal(shuffled(wider, asked, 3)[0][:, 4:], drawn_BK)
    assert not np.array_equal(shuffled((rows_BK, mask_BK), asked, 4)[0], drawn_BK)
    place_BK = np.argsort(drawn_BK[mask_BK.all(axis=1)], axis=1)
    assert len(np.unique(place_BK, axis=0)) > 30, "samples of one user, and of several, have orders of their own"


def test_every_order_is_as_likely() -> None:
    """Of 6,000 samples with three events each of the 6 orders has 1,000, with a standard deviation of √(6000·1/6·5/6) = 29."""
    user_B, position_B = np.arange(6000) % 50, 3 + np.arange(6000) // 50
    rows_BK, mask_BK = np.tile(np.arange(3), (6000, 1)), np.ones((6000, 3), np.bool_)
    drawn_BK, _ = shuffled((rows_BK, mask_BK), targets(user_B, position_B), seed=0)
    _, count = np.unique(drawn_BK, axis=0, return_counts=True)
    assert len(count) == 6
    assert abs(count - 1000).max() < 4.5 * 29


def test_the_newest_cells() -> None:
    mask_BK = np.array([[False, True, True, True], [True, True, True, True], [False, False, False, True], [False] * 4])
    kept = newest(mask_BK, np.array([2, 0, 3, 1]))
    assert kept.tolist() == [[False, False, True, True], [False] * 4, [False, False, False, True], [False] * 4]
