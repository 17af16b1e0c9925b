"""What passes the store's door is what ``Dataset.extended`` makes of it: compared with the log's own check, on any input."""

from types import SimpleNamespace

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from lifelora.data.extend import Event, checked_events
from lifelora.errors import DataError
from lifelora.serving.store.events import Form, checked

LEVELS = (1.0, 2.5, 3.700000047683716, 5.0)
ODD = ["", " ", "\x1c", "\u3000a\u2009", "e\u0301", "a\0", "\ud800", "\ufeff", "\u200b"]
TEXTS = st.text(st.characters(), max_size=8) | st.sampled_from(ODD)
NUMBERS = st.integers() | st.floats() | st.sampled_from([*LEVELS, 3.7, 1e11, 1e11 + 1, 2**63, 10**400, -0.5, True, None, "5"])


@given(TEXTS, TEXTS, NUMBERS, NUMBERS, st.booleans(), st.booleans())
@example("a", "x", 3.7, 1.9, True, True)
def test_the_door_lets_nothing_pass_that_the_log_would_refuse(
    user: str, item: str, rating: object, time: object, has_times: bool, has_ratings: bool
):
    sent = SimpleNamespace(user=user, item=item, rating=rating, time=time)
    try:
        (row,) = checked(iter([sent]), Form(LEVELS, has_times, has_ratings))
    except DataError:
        return
    (there,) = checked_events(iter([sent]), LEVELS, has_times, None, has_ratings).to_pylist()
    assert there == {"user": row.user, "item": row.item, "rating": row.rating, **({"time": row.time} if has_times else {})}
    assert has_times or row.time is None


@pytest.mark.parametrize("good", [Event("a", "x", 3.7, 1_700_000_000.9), Event(" b", "\u00c5", 5, -3)])
def test_what_a_log_takes_passes(good: Event):
    """The test above would not see a door that lets nothing pass."""
    (row,) = checked([good], Form(LEVELS))
    (there,) = checked_events([good], LEVELS, True, None).to_pylist()
    assert tuple(there.values()) == row[:4]
