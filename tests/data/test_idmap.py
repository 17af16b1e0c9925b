"""Outside ids to indices and back: order, unknown ids, files, speed."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelora.data.idmap import IdMap
from lifelora.errors import ArtefactError, DataError


def test_digits_sort_as_numbers_and_anything_else_as_text():
    assert IdMap.of(["10", "9", "2", "9"]).outside([0, 1, 2]) == ["2", "9", "10"]
    assert IdMap.of(["10", "9", "b2"]).outside([0, 1, 2]) == ["10", "9", "b2"]
    assert IdMap.of(["10", "9", "-2"]).outside([0, 1, 2]) == ["-2", "10", "9"]  # a sign is not a digit


def test_long_digits_and_leading_zeros():
    longer, shorter = "9" * 19 + "1", "9" * 19 + "0"  # past 64 bits
    ids = IdMap.of([longer, shorter, "007", "7", "0", "10"])
    assert ids.outside(range(6)) == ["0", "007", "7", "10", shorter, longer]


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=8), min_size=1, max_size=40))
def test_any_ids_round_trip_in_python_s_text_order(ids):
    ids = [f"x{one}" for one in ids]  # not all digits
    made = IdMap.of(ids)
    assert made.outside(np.arange(len(made))) == sorted(set(ids))
    assert made.outside(made.inside(ids)) == ids
    assert np.array_equal(made.inside(made.outside(np.arange(len(made)))), np.arange(len(made)))


@given(st.lists(st.integers(0, 10**30), min_size=1, max_size=40))
def test_any_numbers_round_trip_in_their_order(numbers):
    made = IdMap.of([str(n) for n in numbers])
    assert made.outside(np.arange(len(made))) == [str(n) for n in sorted(set(numbers))]


def test_columns_of_tables_are_ids_too():
    chunked = pa.chunked_array([["b", "a"], ["c", "a"]])
    made = IdMap.of(chunked)
    assert made.inside(chunked).tolist() == [1, 0, 2, 0]
    assert made.inside(chunked).dtype == np.int32
    assert made.inside(["c"]).tolist() == [2]


def test_length_and_membership():
    made = IdMap.of(["u1", "u2"])
    assert len(made) == 2
    assert "u1" in made
    assert "u3" not in made
    assert 1 not in made


def test_unknown_ids_are_all_counted_and_come_with_near_ones():
    made = IdMap.of(["alice", "bob", "carol"], name="users")
    with pytest.raises(DataError) as caught:
        made.inside(["alice", "alica", "bib", "alica"])
    assert caught.value.count == 2  # distinct ones
    assert [p.value for p in caught.value.problems] == ["alica", "bib"]
    assert "nearest are 'alice'" in caught.value.problems[0].what
    assert "users, value 'alica'" in str(caught.value)
    with pytest.raises(DataError) as caught:
        made.inside([f"x{n}" for n in range(50)])
    assert caught.value.count == 50
    assert len(caught.value.problems) == 20


def test_a_number_that_stands_for_none_has_no_id():
    made = IdMap.of(["a", "b", "c"]).extended(IdMap.of(["0"]))
    assert made.without("b").without("0").extended(IdMap.of(["d"])).all() == ["a", "c", "d"]


@pytest.mark.parametrize("ask", [IdMap.inside, IdMap.known])
def test_half_of_a_surrogate_pair_is_no_id(ask):
    """What a terminal that is not UTF-8 types after --user comes as one."""
    with pytest.raises(DataError, match=r"users, value '.*udcff': this has half of a surrogate pair"):
        ask(IdMap.of(["a", "b"], "users"), ["a", "\udcff"])


def test_a_missing_id_is_not_an_index():
    with pytest.raises(DataError, match="an id is missing"):
        IdMap.of(["a"]).inside(pa.array(["a", None]))


def test_saving_and_loading_changes_nothing(tmp_path: Path):
    made = IdMap.of(["2", "10", "1"])
    made.save(tmp_path / "items.parquet")
    loaded = IdMap.load(tmp_path / "items.parquet")
    assert loaded.outside([0, 1, 2]) == ["1", "2", "10"]
    assert loaded.name == "items"
    with pytest.raises(ArtefactError, match="does not exist"):
        IdMap.load(tmp_path / "users.parquet")


def test_many_ids():
    """A look-up of each row through Arrow would run into the time-out."""
    ids = pa.array(np.random.default_rng(0).permutation(300_000)).cast(pa.string())
    made = IdMap.of(ids)
    indices = made.inside(ids)
    assert np.array_equal(indices, ids.cast(pa.int32()).to_numpy())  # 0 .. n-1 in numeric order are their own indices
