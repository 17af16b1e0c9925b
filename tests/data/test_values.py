"""Typed values as text: what the same table would be as CSV."""

from datetime import date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from lifelora.data.values import as_text

NOON = datetime(2024, 5, 31, 12)


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        (pa.array([8.0, None, float("nan"), 12345678901.0, 0.5]), ["8", "", "", "12345678901", "0.5"]),
        (pa.array([Decimal("8.00"), Decimal("1.50"), Decimal("100.00"), None]), ["8", "1.50", "100", ""]),
        (pa.array([True, False, None]), ["1", "0", ""]),
        (pa.array([8.0, None]).dictionary_encode(), ["8", ""]),
        (pa.array([NOON, None]), ["2024-05-31 12:00:00", ""]),
        (pa.array([NOON.replace(microsecond=500_000)]), ["2024-05-31 12:00:00.500000"]),
        (pa.array([NOON.replace(hour=0)]), ["2024-05-31"]),
        (pa.array([NOON.replace(hour=0), NOON]), ["2024-05-31 00:00:00", "2024-05-31 12:00:00"]),
        # 12 o'clock in Vienna in summer is 10 o'clock in UTC
        (pa.array([NOON.replace(hour=10)]).cast(pa.timestamp("us", "Europe/Vienna")), ["2024-05-31 10:00:00Z"]),
        (pa.array([date(2024, 5, 31), None]), ["2024-05-31", ""]),
        (pa.nulls(2), ["", ""]),
        (pa.array([["a", None, "b"], None, [], [""]]), [["a", "b"], [], [], []]),
        (pa.array([[8.0], [0.5, 12345678901.0]], pa.large_list(pa.float64())), [["8"], ["0.5", "12345678901"]]),
        (pa.array([["a", "b"], ["a", None]], pa.list_(pa.string(), 2)), [["a", "b"], ["a"]]),
        (pa.array([["a"], ["b"], ["c", "d"]])[1:], [["b"], ["c", "d"]]),
    ],
)
def test_values_as_text(values: pa.Array, texts: list[str]):
    assert as_text(pa.chunked_array([values])).to_pylist() == texts


@pytest.mark.parametrize("values", [[{"a": 1}], [[{"a": 1}]], [[["a"]]]])
def test_what_has_no_text_is_an_error(values: list):
    with pytest.raises(pa.ArrowException):
        as_text(pa.chunked_array([pa.array(values)]))
