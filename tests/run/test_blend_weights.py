"""Weights of several scores: scikit-learn's logistic regression, a case worked by hand, and what no data can decide."""

import math

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from lifelora.run.scorers.weights import RIDGE, conditional, logistic


def test_logistic_regression_is_scikit_learns():
    random = np.random.default_rng(0)
    x_NJ = random.normal(size=(1000, 3)) * [1.3, 4.0, 0.01] + [0.2, -3.0, 5.0]
    label_N = random.random(1000) < 1 / (1 + np.exp(-(0.3 + 0.7 * x_NJ[:, 0] + 0.1 * x_NJ[:, 1])))
    found, spread_J = logistic(x_NJ, label_N), x_NJ.std(axis=0)
    # Its sum is Σ losses + ½ |v|² / C without the intercept, on what it is given: here scores of spread 1.
    reference = LogisticRegression(C=1 / RIDGE, tol=1e-12, max_iter=10_000).fit(x_NJ / spread_J, label_N)
    np.testing.assert_allclose(np.array(found.weights) * spread_J, reference.coef_[0], atol=1e-6)
    assert found.bias == pytest.approx(reference.intercept_[0], abs=1e-4)  # 5 / .01 times the error of the third
    assert found.samples == 1000
    np.testing.assert_allclose(found.spread, spread_J)


def test_by_hand():
    """Of score 0 one in four says yes, of score 1 three in four: P = 1/4 and 3/4, so b = log(1/3) and b + w = log 3.

    16,000 samples make the ridge, .01 / 2 · (σ w)² with σ = 1/2, vanish: the minimum moves by ridge / information, about 1e-5.
    """
    score_N = np.tile([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 1.0, 1.0], 2000)
    label_N = np.tile([True, False, False, False, True, True, True, False], 2000)
    found = logistic(score_N[:, None], label_N)
    assert found.bias == pytest.approx(-math.log(3), abs=2e-5)
    assert found.weights[0] == pytest.approx(2 * math.log(3), abs=2e-5)
    assert found.spread == (0.5,)


def test_lists_by_hand():
    """The target has score 1 and two others 0 in two of three lists; in the third another has it. P(score 1) = e^w / (e^w + 2),
    which is 2/3 where e^w = 4."""
    score_NC1 = np.tile([[[1.0], [0.0], [0.0]]], (3000, 1, 1))
    target_N = np.tile([0, 0, 1], 1000)
    found = conditional(score_NC1, target_N)
    assert found.weights[0] == pytest.approx(math.log(4), abs=2e-5)
    assert found.bias == 0.0
    assert found.spread[0] == pytest.approx(math.sqrt(2) / 3)  # of 2/3, -1/3, -1/3


def test_a_constant_of_a_list_changes_nothing():
    """So log-likelihoods and the logits of a softmax are one thing."""
    random = np.random.default_rng(1)
    logit_NCJ = random.normal(size=(200, 6, 2)) * [1.0, 7.0]
    target_N = (logit_NCJ @ [0.8, 0.1] + random.gumbel(size=(200, 6))).argmax(axis=1)
    found = conditional(logit_NCJ, target_N)
    logp_NCJ = logit_NCJ - np.log(np.exp(logit_NCJ).sum(axis=1, keepdims=True))
    np.testing.assert_allclose(conditional(logp_NCJ, target_N).weights, found.weights, rtol=1e-9)
    np.testing.assert_allclose(found.weights, [0.8, 0.1], atol=0.25)


def test_a_list_of_two_is_a_yes_or_no_of_the_difference():
    random = np.random.default_rng(2)
    score_N2J = random.normal(size=(300, 2, 2))
    target_N = random.integers(0, 2, 300)
    weights = conditional(score_N2J, target_N).weights
    x_NJ = score_N2J[:, 1] - score_N2J[:, 0]
    spread_J = (score_N2J - score_N2J.mean(axis=1, keepdims=True)).std(axis=(0, 1))
    reference = LogisticRegression(C=1 / RIDGE, fit_intercept=False, tol=1e-12, max_iter=10_000).fit(x_NJ / spread_J, target_N)
    np.testing.assert_allclose(np.array(weights) * spread_J, reference.coef_[0], atol=1e-6)


def test_equal_members_get_equal_weights_and_what_tells_all_apart_stays_finite():
    score_N, label_N = np.linspace(-1, 1, 40), np.arange(40) >= 20
    found = logistic(np.column_stack([score_N, score_N]), label_N)
    assert found.weights[0] == pytest.approx(found.weights[1])
    assert 0 < found.weights[0] < 1e4
    assert logistic(np.column_stack([score_N, np.ones(40)]), label_N).weights[1] == 0.0  # says nothing
    assert conditional(np.zeros((5, 3, 2)), np.zeros(5, np.int64)).weights == (0.0, 0.0)
