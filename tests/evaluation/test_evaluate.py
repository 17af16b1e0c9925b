"""Somebody else's scores in a frame: figures against scikit-learn and the run's own path, intervals, paired tests, and faults."""

import json
import re
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from scored_world import world
from sklearn import metrics as sklearn

import lifelora
from lifelora.errors import ConfigError, DataError
from lifelora.evaluation.jackknife import Scored, jackknife
from lifelora.evaluation.ranks import Ranks
from lifelora.evaluation.significance import estimate, paired_test

approx = pytest.approx
KINDS = {"pandas": lambda frame: frame, "polars": pl.from_pandas, "pyarrow": pa.Table.from_pandas}


@pytest.fixture
def frame() -> pd.DataFrame:
    """600 samples of 40 users, who have names; two systems, one of which gives logits."""
    one, other = world(1, 600, 40), world(1, 600, 40, signal=0.4)
    return pd.DataFrame(
        {
            "who": [f"Zoë {user}" for user in one.user_N],
            "film": one.item_N,
            "clicked": one.label_N,
            "theirs": one.score_N,
            "old": other.score_N,
            "logit": np.log(one.score_N / (1 - one.score_N)),
        }
    )


WORDS: dict[str, Any] = {"label": "clicked", "user": "who", "item": "film"}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_figures_of_every_kind_of_frame(kind: Any, frame: pd.DataFrame):
    found = lifelora.evaluate(kind(frame), score=["theirs", "old"], **WORDS)
    label_N, score_N = frame["clicked"], frame["theirs"]
    figures = {metric: figure.value for metric, figure in found.systems["theirs"].items()}
    assert figures["auc"] == approx(sklearn.roc_auc_score(label_N, score_N), abs=1e-12)
    assert figures["log_loss"] == approx(sklearn.log_loss(label_N, score_N), abs=1e-9)
    assert figures["accuracy"] == approx(sklearn.accuracy_score(label_N, score_N > 0.5))
    by_user = [(len(g), sklearn.roc_auc_score(g.clicked, g.theirs)) for _, g in frame.groupby("who") if g.clicked.nunique() == 2]
    assert figures["gauc"] == approx(np.average([auc for _, auc in by_user], weights=[n for n, _ in by_user]), abs=1e-12)
    # The path that runs take: inner numbers of users in the order of their ids.
    own = Scored(*(np.unique(frame[c], return_inverse=True)[1] for c in ("who", "film")), label_N.to_numpy(), score_N.to_numpy())
    assert repr(found.systems["theirs"]["ece"]) == repr(estimate(jackknife(own), "ece"))  # nan differs from itself
    assert found.rows_hash == own.rows_hash()
    table = found.as_frame()
    assert type(table) is type(kind(frame))
    assert pl.DataFrame(table).select("system", "metric").rows()[5:7] == [("old", "auc"), ("old", "gauc")]
    assert json.loads(json.dumps(found.as_json()))["systems"]["old"]["auc"]["n"] == 600


def test_a_table_of_figures_says_what_it_stands_on(frame: pd.DataFrame):
    told = str(lifelora.evaluate(frame, score=["theirs", "logit"], **WORDS))
    assert re.search(r"^theirs  \.\d{4} \[\.\d{4}, \.\d{4}\]", told, re.MULTILINE)
    assert re.search(
        r"^n = 600 samples of 40 users \(\d\d\.\d % positive\), samples [0-9a-f]{16}; \[95 % interval\]", told, re.MULTILINE
    )
    assert told.endswith("logit: scores outside 0 to 1 are no probabilities, so only their order is judged.")


def test_logits_have_the_auc_of_their_probabilities(frame: pd.DataFrame):
    found = lifelora.evaluate(frame, score=["theirs", "logit"], **WORDS)
    assert list(found.systems["logit"]) == ["auc", "gauc"]
    assert found.systems["logit"] == {metric: found.systems["theirs"][metric] for metric in ("auc", "gauc")}
    assert found.minus("theirs").systems["logit"]["auc"].value == 0


def test_two_columns_compared_are_the_paired_test(frame: pd.DataFrame):
    found = lifelora.compare(pl.from_pandas(frame), "theirs", "old", **WORDS)
    user_N = np.unique(frame["who"], return_inverse=True)[1]
    own = [Scored(user_N, frame["film"].to_numpy(), frame["clicked"].to_numpy(), frame[c].to_numpy()) for c in ("theirs", "old")]
    assert repr(found.systems["theirs"]) == repr(paired_test(*map(jackknife, own)))
    assert found.as_frame().columns == ["system", "minus", "metric", "value", "low", "high", "p", "n", "users"]
    assert found.as_json()["systems"]["theirs"]["auc"]["p"] < 0.05
    assert re.search(r"minus old, paired over users:\n  theirs  AUC  +\.\d{4} \[\.\d{4}, \.\d{4}\]  p [=<]", str(found))


def test_ranks_and_lists_of_scores_give_the_figures_of_lists():
    """Three lists by hand: the right item first, third, and tied for first of two."""
    lists = [[0.9, 0.1, 0.2], [0.5, 0.9, 0.7, 0.1], [0.4, 0.4]]
    frame = pl.DataFrame({"user": ["a", "b", "c"], "scores": lists, "right": [0, 0, 1], "rank": [1, 3, 2]})
    found = lifelora.evaluate(frame, score="scores", target="right").systems["scores"]
    assert found["hr@1"].value == approx((1 + 0 + 1 / 2) / 3)
    assert found["mrr"].value == approx((1 + 1 / 3 + (1 + 1 / 2) / 2) / 3)
    ranked = lifelora.evaluate(frame, rank="rank")
    assert ranked.systems["rank"]["ndcg@5"].value == approx((1 + 1 / np.log2(4) + 1 / np.log2(3)) / 3)
    assert ranked.systems["rank"]["mrr"].value == approx(Ranks(np.array([0, 2, 1]), np.ones(3, int)).reciprocal().mean())
    assert "HR@1" in str(ranked)
    assert ranked.positives is None
    both = frame.with_columns(worse=pl.Series([2, 4, 2]))
    assert lifelora.compare(both, "rank", "worse", ranks=True).systems["rank"]["hr@1"].value == approx(1 / 3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"theirs": [None, *[0.5] * 599]},
            "1 problem in the data:\n  frame[0], column 'theirs': a score is missing",
        ),
        ({"theirs": [np.inf, *[0.5] * 599]}, "frame[0], column 'theirs', value 'inf': a score is a finite number"),
        ({"clicked": [*[0] * 599, 2]}, "frame[599], column 'clicked', value '2': a label is 0 or 1"),
        ({"who": [*["a"] * 598, None, ""]}, "2 problems in the data:\n  frame[598], column 'who': an id is missing"),
        ({"theirs": ["high"] * 600}, "600 problems in the data:\n  frame[0], column 'theirs', value 'high': a score is a finite"),
        ({"theirs": [[1]] * 600}, "frame[0], column 'theirs', value '[1]': a score is a number, and this is list<"),
    ],
)
def test_what_is_wrong_is_said_with_its_row(change: dict[str, Any], said: str, frame: pd.DataFrame):
    with pytest.raises(DataError) as refused:
        lifelora.evaluate(frame.assign(**change), score=["theirs", "old"], **WORDS)
    assert said in str(refused.value)


def test_what_cannot_be_asked(frame: pd.DataFrame):
    with pytest.raises(DataError, match="frame, column 'label': there is no such column; the file has: .*clicked"):
        lifelora.evaluate(frame, score="theirs", user="who")
    with pytest.raises(ConfigError, match="name at least one, and each once"):
        lifelora.evaluate(frame, **WORDS)
    with pytest.raises(ConfigError, match="'theirs' is the only system"):
        lifelora.evaluate(frame, score="theirs", **WORDS).minus("theirs")
    with pytest.raises(ConfigError, match="no system 'bert' to subtract; there are theirs, old"):
        lifelora.evaluate(frame, score=["theirs", "old"], **WORDS).minus("bert")
    with pytest.raises(ConfigError, match="frame is list, which is no frame"):
        lifelora.evaluate([1, 2], score="theirs")
    with pytest.raises(DataError, match=r"frame\[1\], column 'rank', value '0': a rank is a whole number from 1"):
        lifelora.evaluate(pd.DataFrame({"user": [1, 2], "rank": [1, 0]}), rank="rank")
    with pytest.raises(DataError, match="place in 's' counts from 0 and ends before its length"):
        lifelora.evaluate(pl.DataFrame({"user": [1], "s": [[0.1]], "t": [1]}), score="s", target="t")
