"""The one scoring loop: every row once, slices under the budget, results in the order asked."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelora.errors import ConfigError
from lifelora.scoring.batches import in_batches, in_trees

lengths = st.lists(st.integers(1, 40), min_size=1, max_size=60).map(np.array)


def seen_by(answer: Callable[[np.ndarray], Any]) -> tuple[list[np.ndarray], Callable[[np.ndarray], Any]]:
    """The slices that a scorer was asked, and the scorer."""
    slices: list[np.ndarray] = []

    def score(index_B: np.ndarray) -> Any:
        slices.append(index_B)
        return answer(index_B)

    return slices, score


@given(lengths, st.integers(1, 200))
def test_every_row_once_under_the_budget_and_back_in_its_place(length_N: np.ndarray, tokens: int):
    slices, score = seen_by(lambda index_B: index_B * 0.1)
    found_N = in_batches(length_N, score, tokens=tokens)
    np.testing.assert_array_equal(found_N, np.arange(len(length_N)) * 0.1)
    assert sorted(np.concatenate(slices)) == list(range(len(length_N)))
    for index_B in slices:
        assert len(index_B) == 1 or len(index_B) * length_N[index_B].max() <= tokens
    # By rising length; of equal lengths the first asked comes first.
    assert np.concatenate(slices).tolist() == sorted(range(len(length_N)), key=lambda row: (length_N[row], row))
    # No slice could have taken the next row.
    for index_B, after_B in itertools.pairwise(slices):
        assert (len(index_B) + 1) * length_N[after_B[0]] > tokens


@given(lengths, st.integers(1, 200), st.randoms(use_true_random=False))
def test_an_order_of_the_callers_own_is_kept(length_N: np.ndarray, tokens: int, draw: Any):
    order_N = np.arange(len(length_N))
    draw.shuffle(order_N)
    slices, score = seen_by(lambda index_B: index_B)
    np.testing.assert_array_equal(in_batches(length_N, score, tokens=tokens, order=order_N), np.arange(len(length_N)))
    np.testing.assert_array_equal(np.concatenate(slices), order_N)
    for index_B in slices:
        assert len(index_B) == 1 or len(index_B) * length_N[index_B].max() <= tokens


@given(lengths, st.integers(1, 200), st.integers(1, 9), st.randoms(use_true_random=False))
def test_trees_stay_together_under_the_budget_and_long_ones_are_cut(branch_N: np.ndarray, tokens: int, trees: int, draw: Any):
    tree_N = np.array([draw.randrange(trees) for _ in branch_N])
    trunk_R = np.array([draw.randrange(1, 60) for _ in range(trees)])
    slices, score = seen_by(lambda index_B: index_B * 0.1)
    found_N = in_trees(trunk_R, branch_N, tree_N, score, tokens=tokens)
    np.testing.assert_array_equal(found_N, np.arange(len(branch_N)) * 0.1)
    assert sorted(np.concatenate(slices)) == list(range(len(branch_N)))
    for index_B in slices:
        read = sum(int(trunk_R[tree]) for tree in set(tree_N[index_B].tolist())) + int(branch_N[index_B].sum())
        assert len(index_B) == 1 or read <= tokens
    for tree in range(trees):
        own = np.flatnonzero(tree_N == tree)
        asked_in = [place for place, index_B in enumerate(slices) if np.isin(own, index_B).any()]
        if trunk_R[tree] + branch_N[own].sum() <= tokens:
            assert len(asked_in) <= 1


def test_tuples_and_dicts_of_arrays_come_back_as_they_are():
    length_N = np.array([5, 1, 3, 2])
    pair = in_batches(length_N, lambda i_B: (i_B.astype(np.float32), np.stack([i_B, -i_B], axis=1)), tokens=5)
    assert pair[0].dtype == np.float32
    np.testing.assert_array_equal(pair[0], [0, 1, 2, 3])
    np.testing.assert_array_equal(pair[1], [[0, 0], [1, -1], [2, -2], [3, -3]])
    named = in_batches(length_N, lambda i_B: {"seen": i_B > 1, "names": np.array([f"row {i}" for i in i_B], object)}, tokens=5)
    np.testing.assert_array_equal(named["seen"], [False, False, True, True])
    assert named["names"].tolist() == ["row 0", "row 1", "row 2", "row 3"]


def test_nothing_to_score_is_said():
    with pytest.raises(ConfigError, match="din: there are no samples to score"):
        in_batches(np.zeros(0, int), lambda index_B: index_B, tokens=5, said="din")


def test_a_score_that_is_no_line_for_each_row_is_refused():
    with pytest.raises(ValueError, match=r"shape \(1,\) for 2 rows"):
        in_batches(np.array([1, 1]), lambda index_B: index_B[:1], tokens=5)
