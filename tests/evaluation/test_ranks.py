"""HR, NDCG and MRR against scikit-learn and against every order of the ties."""

from itertools import pairwise, permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from lifelora.errors import ConfigError
from lifelora.evaluation.ranks import Ranks


def test_by_hand():
    score_NC = np.array([[0.9, 0.1, 0.5], [0.2, 0.3, 0.1], [0.5, 0.5, 0.1]])
    ranks = Ranks.of(score_NC, np.array([0, 0, 0]))  # first; second; first or second
    assert ranks.hit(1).tolist() == [1, 0, 0.5]
    assert ranks.hit(2).tolist() == [1, 1, 1]
    assert ranks.reciprocal().tolist() == [1, 0.5, 0.75]
    assert ranks.ndcg(1).tolist() == [1, 0, 0.5]
    assert ranks.ndcg(2) == pytest.approx([1, 1 / np.log2(3), (1 + 1 / np.log2(3)) / 2])


@pytest.mark.parametrize("k", [1, 3, 10, 20])
def test_ndcg_is_scikit_learns(k: int):
    random = np.random.default_rng(0)
    score_NC, target_N = random.random((50, 20)), random.integers(0, 20, 50)
    relevance_NC = np.eye(20)[target_N]
    expected = [ndcg_score(relevance_NC[n : n + 1], score_NC[n : n + 1], k=k) for n in range(50)]
    assert Ranks.of(score_NC, target_N).ndcg(k) == pytest.approx(expected)


@given(st.lists(st.integers(0, 2), min_size=2, max_size=5), st.integers(1, 6), st.data())
def test_ties_are_the_mean_over_their_orders(scores: list[int], k: int, data: st.DataObject):
    target = data.draw(st.integers(0, len(scores) - 1))
    ranks = Ranks.of(np.array([scores], np.float64), np.array([target]))
    found = []  # the target's place in every order that the scores allow
    for order in permutations(range(len(scores))):
        if all(scores[a] >= scores[b] for a, b in pairwise(order)):
            found.append(1 + order.index(target))
    found_P = np.array(found)
    assert ranks.hit(k)[0] == pytest.approx((found_P <= k).mean())
    assert ranks.ndcg(k)[0] == pytest.approx(np.where(found_P <= k, 1 / np.log2(1 + found_P), 0).mean())
    assert ranks.reciprocal()[0] == pytest.approx((1 / found_P).mean())


def test_who_says_the_same_of_everything_gets_what_guessing_gets():
    ranks = Ranks.of(np.zeros((7, 20)), np.arange(7))
    assert ranks.hit(1) == pytest.approx(np.full(7, 1 / 20))


def test_a_score_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="sample 1 has a score that is not a number"):
        Ranks.of(np.array([[0.1, 0.2], [np.nan, 0.3]]), np.array([0, 0]))
