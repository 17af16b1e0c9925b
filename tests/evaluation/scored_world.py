"""Rows of users who differ, scored by a system that knows something."""

import numpy as np
from scipy.stats import norm

from lifelora.evaluation.jackknife import Scored


def world(seed, n, users, signal=1.0, decimals=9):
    """Rows of users who differ in how much they like everything; scores in (0, 1), tied when rounded."""
    random = np.random.default_rng(seed)
    user_N = random.integers(0, users, n) * 3 + 5
    label_N = random.random(n) < 0.3 + 0.4 * (user_N % 2)
    score_N = norm.cdf(random.normal(signal * label_N, 1.0) - signal / 2).round(decimals)
    return Scored(user_N, random.integers(0, 50, n), label_N, score_N)


def taken(scored, index_N):
    return Scored(*(column[index_N] for column in (scored.user_N, scored.item_N, scored.label_N, scored.score_N)))
