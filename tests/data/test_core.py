"""The k-core against the plainest loop, and what makes it the core: dense enough, and nothing more could stay."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lifelora.data.core import k_core


def one_at_a_time(events: list[tuple[int, int]], k: int) -> list[int]:
    """The core by throwing out one event after another."""
    left = list(range(len(events)))
    while True:
        for at in left:
            alike = ([e for e in left if events[e][side] == events[at][side]] for side in (0, 1))
            if any(len(same) < k for same in alike):
                left.remove(at)
                break
        else:
            return left


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=60), st.integers(1, 5))
def test_it_is_what_throwing_out_one_by_one_leaves(events: list[tuple[int, int]], k: int) -> None:
    user, item = (np.array([e[side] for e in events], np.int64) for side in (0, 1))
    assert np.flatnonzero(k_core(user, item, k)).tolist() == one_at_a_time(events, k)


def test_it_goes_on_until_nothing_changes() -> None:
    # a ladder: each user has two items, each item two users, but for the ends, whose fall takes the next with it
    user = np.array([0, 1, 1, 2, 2, 3, 3, 4])
    item = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    assert not k_core(user, item, 2).any()
    ring = k_core(np.append(user, 0), np.append(item, 4), 1)
    assert ring.all()
    closed = k_core(np.array([0, 0, 1, 1, 5]), np.array([0, 1, 1, 0, 0]), 2)
    assert closed.tolist() == [True, True, True, True, False]
