"""Frames and columns of pandas, polars and pyarrow: what comes in, what goes back, and what is no frame."""

import datetime as dt
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
import torch

from lifelora.data.values import as_text
from lifelora.errors import ConfigError, DataError
from lifelora.frames import Frame, column_of, like

NOON = dt.datetime(2024, 5, 31, 12)
TABLE = pa.table({"item": ["x"], "score": [1.5]})


def texts(values: Any) -> list[str]:
    return as_text(column_of(values, "values")).to_pylist()


@pytest.mark.parametrize(
    "values",
    [
        [1, None],
        (1, None),
        np.array([1.0, np.nan]),
        torch.tensor([1.0, torch.nan], requires_grad=True),
        pa.array([1, None]),
        pa.chunked_array([[1], [None]]),
        pd.Series([1, None]),
        pd.Series([1, None], dtype="Int64"),
        pd.Series([1, None], dtype="int64[pyarrow]"),
        pd.Series([1, None], dtype="category"),
        pd.Series([Decimal("1.00"), None]),
        pd.Series([True, None], dtype="boolean"),
        pd.Series([1, np.nan], dtype="Sparse[float]"),
        pl.Series([1, None]),
        pl.Series(["1", None], dtype=pl.Categorical),
        pl.Series([Decimal("1.00"), None]),
    ],
    ids=lambda values: f"{type(values).__module__}-{getattr(values, 'dtype', type(values).__name__)}",
)
def test_one_and_nothing_in_every_kind_of_column(values: Any):
    assert texts(values) == ["1", ""]


@pytest.mark.parametrize("kind", [lambda o: pd.Series(o, dtype=object), lambda o: pl.Series("o", o, dtype=pl.Object), list])
def test_a_column_of_several_types_gives_the_text_of_each(kind: Any):
    mixed = ["a", 1, 2.0, 2.5, True, None, float("nan"), 2**70, NOON, NOON.date(), Decimal("1.5"), pd.NaT, pd.NA]
    assert texts(kind(mixed)) == [
        *("a", "1", "2", "2.5", "1", "", "", str(2**70)),
        *("2024-05-31T12:00:00", "2024-05-31", "1.5", "", ""),
    ]


def test_what_arrow_would_say_in_numbers_of_its_own_is_said_as_pandas_says_it():
    assert texts(pd.Series(pd.period_range("2024-01", periods=2, freq="M"))) == ["2024-01", "2024-02"]
    assert texts(pd.Series(pd.to_timedelta([90], unit="s"))) == ["90"]
    assert texts(pd.Series(pd.date_range("2024-05-31 12:00", periods=1, tz="Europe/Vienna"))) == ["2024-05-31 10:00:00Z"]


@pytest.mark.parametrize("values", ["abc", 5, None, {"a": 1}, iter([1])])
def test_what_is_no_column_is_refused(values: Any):
    with pytest.raises(ConfigError, match="^the score is .*, which is no column; give a Series, an array or a list"):
        column_of(values, "the score")


def test_a_matrix_is_no_column_and_half_a_character_is_none():
    with pytest.raises(ConfigError, match="has 2 axes"):
        column_of(np.zeros((2, 2)), "the score")
    with pytest.raises(DataError, match=r"the user\[1\].*surrogate pair"):
        column_of(["a", "\ud800"], "the user")


@pytest.mark.parametrize("given", ["log.csv", 5, None, {"a": [1]}, [{"a": 1}], np.zeros((2, 2)), pd.Series([1])])
def test_what_is_no_frame_is_refused(given: Any):
    with pytest.raises(ConfigError, match="interactions is .*, which is no frame; give a frame of pandas, polars or pyarrow"):
        Frame(given, "interactions")


def test_names_of_columns():
    indexed = pd.DataFrame({"b": [1]}, index=pd.MultiIndex.from_tuples([("u", "i")], names=["user", "item"]))
    assert Frame(indexed, "f").names == ["user", "item", "b"]
    assert Frame(indexed, "f").column("user").to_pylist() == ["u"]
    assert list(indexed.columns) == ["b"]
    assert Frame(pd.DataFrame({0: [1]}), "f").names == ["0"]
    both = pd.DataFrame({"user": [7]}, index=pd.Index([8], name="user"))
    assert Frame(both, "f").column("user").to_pylist() == [7]
    with pytest.raises(ConfigError, match="two columns of one name"):
        Frame(pd.DataFrame([[1, 2]], columns=["a", "a"]), "f")
    with pytest.raises(ConfigError, match="f has no column 'b'; it has: a"):
        Frame(pl.DataFrame({"a": [1]}), "f").column("b")


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (pd.DataFrame({"a": [1]}), pd.DataFrame),
        (pd.Series([1]), pd.DataFrame),
        (pl.DataFrame({"a": [1]}), pl.DataFrame),
        (pl.LazyFrame({"a": [1]}), pl.DataFrame),
        (pl.Series([1]), pl.DataFrame),
        (TABLE, pa.Table),
        (TABLE["item"], pa.Table),
        (["a"], pa.Table),
        (np.array([1]), pa.Table),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_goes_back_is_of_the_kind_that_came(given: Any, kind: type):
    back = like(given, TABLE)
    assert isinstance(back, kind)
    assert Frame(back, "back").table(["item", "score"]).to_pylist() == TABLE.to_pylist()


def test_lazy_frames_are_collected():
    frame = Frame(pl.LazyFrame({"a": [1, 2]}), "f")
    assert (len(frame), frame.column("a").to_pylist()) == (2, [1, 2])
