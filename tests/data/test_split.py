"""The splits, on numbers that can be counted by hand, and the published sizes of MovieLens-1M."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lifelora.data.split import Given, GlobalTime, LeaveOneOut, OneEach, UsersByTime, split
from lifelora.errors import ConfigError


def test_global_time_cuts_where_the_formula_says() -> None:
    n = 970_009  # MovieLens-1M's samples: int(.8 n), int(.1 n), the rest
    parts = split(GlobalTime(), np.arange(n), np.arange(n)[::-1].copy(), np.zeros(n, np.int64))
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 776_007, "valid": 97_000, "test": 97_002}
    assert parts["test"][-1] == 0  # the youngest, as times run backwards here


def test_ties_in_time_keep_the_order_of_rows() -> None:
    rows = np.arange(20)
    parts = split(GlobalTime(), rows, np.zeros(20, np.int64), rows)
    assert np.concatenate(list(parts.values())).tolist() == rows.tolist()


def test_leave_one_out_keeps_each_users_last_two() -> None:
    #            user 0 ......  user 1 ...  user 2
    user = np.array([0, 0, 0, 0, 1, 1, 1, 2])
    time = np.array([1, 2, 3, 9, 4, 5, 6, 7])
    parts = split(LeaveOneOut(), np.arange(8) + 100, time, user)
    assert parts["test"].tolist() == [106, 107, 103]  # in time order: 6, 7, 9
    assert parts["valid"].tolist() == [102, 105]
    assert parts["train"].tolist() == [100, 101, 104]


def test_one_sample_of_each_user_is_their_last() -> None:
    user = np.repeat(np.arange(40), 3)
    parts = split(OneEach(test=0.25, valid=0.2), np.arange(120) + 1000, np.arange(120) % 7, user)
    assert {part: len(rows) for part, rows in parts.items()} == {"train": 24, "valid": 6, "test": 10}  # 40: 30 + 10; 30: 24 + 6
    together = np.concatenate(list(parts.values())) - 1000
    assert sorted(together.tolist()) == list(range(2, 120, 3))
    for rows in parts.values():
        assert (np.diff((rows - 1000) % 7) >= 0).all()  # in time order


def test_one_sample_each_has_rella_s_sizes_and_is_drawn_by_seed() -> None:
    n = 17_714  # BookCrossing's users: the authors' parts are 15,942 and 1,772
    rows = np.arange(n)
    parts = split(OneEach(), rows, rows, rows)
    assert {part: len(chosen) for part, chosen in parts.items()} == {"train": 15_942 - 1_594, "valid": 1_594, "test": 1_772}
    again, other = split(OneEach(), rows, rows, rows), split(OneEach(seed=1), rows, rows, rows)
    assert all((again[part] == parts[part]).all() for part in parts)
    assert (other["test"] != parts["test"]).any()
    assert 0.4 < (parts["test"] < n / 2).mean() < 0.6  # users of all numbers


def test_too_few_users_for_one_sample_each() -> None:
    with pytest.raises(ConfigError, match="leaves no samples for valid"):
        split(OneEach(), np.arange(8), np.arange(8), np.arange(8))


def test_an_empty_part_is_an_error_with_the_mend() -> None:
    with pytest.raises(ConfigError, match=r"leaves no samples for valid.*min_history"):
        split(GlobalTime(), np.arange(5), np.arange(5), np.zeros(5, np.int64))
    with pytest.raises(ValueError, match="leaves nothing for test"):
        GlobalTime(train=0.9, valid=0.1)


@given(st.lists(st.integers(0, 50), min_size=30, max_size=200))
def test_parts_are_disjoint_complete_and_ordered_in_time(times: list[int]) -> None:
    time, rows = np.sort(np.array(times)), np.arange(len(times))
    parts = split(GlobalTime(), rows, time, np.zeros(len(times), np.int64))
    together = np.concatenate(list(parts.values()))
    assert sorted(together.tolist()) == rows.tolist()
    assert time[parts["train"]].max() <= time[parts["valid"]].min() <= time[parts["valid"]].max() <= time[parts["test"]].min()


def test_users_in_the_order_of_their_first_event_as_llara_splits_movielens():
    # Users 0 to 9 have three samples each; user u began at time 10 - u, so the first eight in time are 9, 8, …, 2.
    user = np.repeat(np.arange(10), 3)
    parts = split(UsersByTime(), np.arange(30) + 100, np.arange(30), user, began_N=10 - user)
    assert sorted(parts["train"] - 100) == list(range(6, 30))
    assert (parts["valid"] - 100).tolist() == [5]  # of user 1, the last
    assert (parts["test"] - 100).tolist() == [2]


def test_given_parts_are_taken_as_they_are():
    part = np.array([-1, 0, 0, 1, -1, 2])
    parts = split(Given(), np.arange(6) * 10, np.arange(6), np.arange(6), part_N=part)
    assert {name: rows.tolist() for name, rows in parts.items()} == {"train": [10, 20], "valid": [30], "test": [50]}
