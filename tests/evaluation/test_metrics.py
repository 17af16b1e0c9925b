"""The figures against sums done by hand and against scikit-learn."""

import math

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import metrics as sklearn

from lifelora.errors import ConfigError
from lifelora.evaluation.metrics import (
    CLIP,
    accuracy,
    auc,
    auc_by_user,
    checked,
    expected_calibration_error,
    gauc,
    log_loss,
    reliability,
)

approx = pytest.approx


def rows(*triples):
    """Users, labels and scores of (user, label, score) rows."""
    user_N, label_N, score_N = (np.array(column) for column in zip(*triples, strict=True))
    return user_N, label_N, score_N.astype(np.float64)


tables = st.lists(
    st.tuples(st.integers(0, 4), st.booleans(), st.integers(0, 8).map(lambda tie: tie / 8)), min_size=1, max_size=60
).map(lambda drawn: rows(*drawn))


@pytest.mark.parametrize(
    ("labels", "scores", "value"),
    [
        ([1, 0], [0.9, 0.1], 1 / 1),
        ([1, 0], [0.1, 0.9], 0 / 1),
        ([1, 0], [0.5, 0.5], 0.5 / 1),
        ([1, 1, 0, 0], [0.8, 0.4, 0.4, 0.2], (2 + 1.5) / 4),
    ],
)
def test_auc_is_the_share_of_pairs_won(labels, scores, value):
    assert auc(np.array(labels), np.array(scores)) == approx(value)


@settings(max_examples=60)
@given(tables)
def test_auc_equals_scikit_learn_with_ties(table):
    _, label_N, score_N = table
    if label_N.all() or not label_N.any():
        assert math.isnan(auc(label_N, score_N))
    else:
        assert auc(label_N, score_N) == approx(sklearn.roc_auc_score(label_N, score_N), abs=1e-12)


@settings(max_examples=60)
@given(tables)
def test_gauc_is_the_weighted_mean_of_each_users_auc(table):
    user_N, label_N, score_N = table
    weighted, counted, idle_users = 0.0, 0, 0
    for user in np.unique(user_N):
        mine = user_N == user
        if len(np.unique(label_N[mine])) == 2:
            weighted += mine.sum() * sklearn.roc_auc_score(label_N[mine], score_N[mine])
            counted += mine.sum()
        else:
            idle_users += 1
    found = gauc(user_N, label_N, score_N)
    assert (found.rows, found.idle_rows, found.idle_users) == (counted, len(user_N) - counted, idle_users)
    assert found.users + found.idle_users == len(np.unique(user_N))
    if counted:
        assert found.value == approx(weighted / counted, abs=1e-12)
    else:
        assert math.isnan(found.value)


def test_gauc_counts_the_users_that_it_cannot_use():
    # user 7: (.9 > .1) 1 of 1 pair, 2 rows; user 3: (.2 < .6) 0 and (.8 > .6) 1, of 2 pairs, 3 rows; user 5: one class
    table = rows((7, 1, 0.9), (3, 1, 0.2), (5, 1, 0.5), (3, 0, 0.6), (7, 0, 0.1), (3, 1, 0.8), (5, 1, 0.4))
    found = gauc(*table)
    assert found.value == approx((2 * 1.0 + 3 * 0.5) / 5)
    assert (found.users, found.rows, found.idle_users, found.idle_rows) == (2, 5, 1, 2)
    auc_U, rows_U = auc_by_user(*table)
    np.testing.assert_array_equal(auc_U, [0.5, np.nan, 1.0])
    np.testing.assert_array_equal(rows_U, [3, 2, 2])


def test_log_loss_worked_and_clipped():
    assert log_loss(np.array([1, 0]), np.array([0.8, 0.4])) == approx((-math.log(0.8) - math.log(0.6)) / 2)
    assert log_loss(np.array([1]), np.array([0.0])) == approx(-math.log(CLIP))
    assert log_loss(np.array([0]), np.array([1.0], np.float32)) == approx(-math.log(CLIP))


@settings(max_examples=40)
@given(tables)
def test_log_loss_equals_scikit_learn(table):
    _, label_N, score_N = table
    inside_N = 0.01 + 0.98 * score_N
    assert log_loss(label_N, inside_N) == approx(sklearn.log_loss(label_N, inside_N, labels=[0, 1]), abs=1e-12)


def test_accuracy_wants_more_than_one_half():
    assert accuracy(np.array([1, 0, 1, 0]), np.array([0.6, 0.5, 0.5, 0.7])) == 2 / 4  # .5 says no: right, then wrong


def test_ece_worked():
    # two bins of [0, 1]: below, scores .2 .4 with one yes of two; above, .9 and 1 with two of two
    label_N, score_N = np.array([1, 0, 1, 1]), np.array([0.2, 0.4, 0.9, 1.0])
    assert expected_calibration_error(label_N, score_N, bins=2) == approx(2 / 4 * (0.5 - 0.3) + 2 / 4 * (1 - 0.95))
    table = reliability(label_N, score_N, bins=2)
    np.testing.assert_array_equal(table.rows_G, [2, 2])
    np.testing.assert_allclose(table.score_G, [0.3, 0.95])
    np.testing.assert_allclose(table.label_G, [0.5, 1.0])


def test_reliability_keeps_every_row_and_says_which_bins_are_empty():
    table = reliability(np.array([True, False, True]), np.array([0.0, 0.04, 1.0]))
    assert table.rows_G.tolist() == [2] + 13 * [0] + [1]
    assert np.isnan(table.label_G).tolist() == [False] + 13 * [True] + [False]
    assert table.edges[[0, 1, -1]] == approx([0, 1 / 15, 1])


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 0], [0.5, float("nan")], r"1 scores are not a probability .* first is that of sample 1: nan"),
        ([1, 0], [1.5, 0.5], r"first is that of sample 0: 1.5"),
        ([1, 2], [0.5, 0.5], r"labels are 0 or 1 .* sample 1 is"),
        ([1, 0, 1], [0.5, 0.5], r"labels \(3,\) and scores \(2,\)"),
        ([], [], "equally long"),
        ([[1]], [[0.5]], "labels has 2 axes; a column has one"),
    ],
)
def test_what_is_refused(labels, scores, message):
    with pytest.raises(ConfigError, match=message):
        checked(np.array(labels), np.array(scores), probability=True)


def test_auc_takes_any_finite_score_but_no_nan():
    assert auc(np.array([True, False]), np.array([3.0, -2.0])) == 1.0
    with pytest.raises(ConfigError, match="finite"):
        auc(np.array([True, False]), np.array([np.nan, 0.0]))


SERIES = {
    "pandas": pd.Series,
    "polars": pl.Series,
    "pyarrow": pa.array,
    "chunked": lambda values: pa.chunked_array([values[:3], values[3:]]),
    "numpy": np.array,
    "torch": lambda values: torch.tensor(values, dtype=torch.float64),
    "list": list,
}


@pytest.mark.parametrize("kind", SERIES.values(), ids=SERIES)
def test_every_kind_of_column_gives_what_scikit_learn_gives(kind):
    random = np.random.default_rng(3)
    label_N, score_N = random.integers(0, 2, 60), random.random(60).round(1)
    label, score = kind(label_N.tolist()), kind(score_N.tolist())
    assert auc(label, score) == approx(sklearn.roc_auc_score(label_N, score_N), abs=1e-12)
    assert log_loss(label, score) == approx(sklearn.log_loss(label_N, np.clip(score_N, CLIP, 1 - CLIP)), abs=1e-9)
    assert accuracy(label, score) == approx(sklearn.accuracy_score(label_N, score_N > 0.5))
    assert expected_calibration_error(label, score) == expected_calibration_error(label_N, score_N)


@pytest.mark.parametrize("kind", [kind for name, kind in SERIES.items() if name != "torch"])
def test_users_may_be_texts_and_stand_in_the_order_of_their_ids(kind):
    users = ["ben", "ann", "ben", "Zoë", "ann", "ann"]
    labels, scores = [1, 1, 0, 1, 0, 0], [0.9, 0.2, 0.1, 0.5, 0.7, 0.1]
    auc_U, rows_U = auc_by_user(kind(users), kind(labels), kind(scores))
    # Zoë has one class; ann's 1 wins one of two pairs; ben's wins his one
    assert (np.nan_to_num(auc_U, nan=-1).tolist(), rows_U.tolist()) == ([-1, 1 / 2, 1], [1, 3, 2])
    assert gauc(kind(users), kind(labels), kind(scores)).value == approx((3 * 1 / 2 + 2 * 1) / 5)


def test_users_of_any_type_are_told_apart():
    labels, scores = [1, 0, 1, 0], [0.9, 0.1, 0.2, 0.8]
    for users in (
        pd.Series(["a", "a", "b", "b"], dtype="category"),
        pl.Series(["a", "a", "b", "b"], dtype=pl.Categorical),
        pd.Series([1, 1, 2, 2], dtype="Int64"),
        pd.Series([7.0, 7.0, 8.0, 8.0]),
        pd.Series([7, 7, "b", "b"], dtype=object),
        [2**63, 2**63, 2**63 + 1, 2**63 + 1],
    ):
        assert gauc(users, labels, scores).value == 1 / 2


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: auc(pd.Series([1, None]), [0.1, 0.2]), "labels are 0 or 1 .* sample 1 is missing"),
        (lambda: auc([1, 0], pl.Series([0.1, None])), "1 scores are not a finite number; the first is that of sample 1"),
        (lambda: auc([1, 0], ["a", "b"]), "scores are string, and numbers are due; the first is 'a'"),
        (lambda: auc(["yes", "no"], [0.1, 0.2]), "labels are string, and numbers are due; the first is 'yes'"),
        (lambda: auc([1, 0], 5), "scores is int, which is no column"),
        (lambda: gauc(["a", None], [1, 0], [0.1, 0.2]), "users are missing in 1 samples; the first is sample 1"),
        (lambda: gauc(pd.Series([1, np.nan]), [1, 0], [0.1, 0.2]), "users are missing in 1 samples; the first is sample 1"),
        (lambda: gauc(["a"], [1, 0], [0.1, 0.2]), r"users \(1,\) and labels \(2,\) must be two equally long columns"),
        (lambda: gauc([["a"], ["b"]], [1, 0], [0.1, 0.2]), "users are list.*, and ids are due"),
    ],
)
def test_a_wrong_column_is_refused_with_its_place(call, said):
    with pytest.raises(ConfigError, match=said):
        call()
