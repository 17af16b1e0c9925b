"""Events are kept once: by their keys, or by what they are; a bulk whole or not at all."""

from types import SimpleNamespace

import pytest
from store_world import FORM, event, told

from lifelora.errors import ConflictError, DataError
from lifelora.serving.store import Accepted, Form, NewEvent, Store


def test_events_get_numbers_in_the_order_of_acceptance(store: Store):
    assert store.last_seq() == 0
    assert store.append([event("b", "x", 20), event("a", "y", 10)]) == [Accepted(1, True), Accepted(2, True)]
    assert store.append([event("a", "z", 5)]) == [Accepted(3, True)]
    assert store.append([]) == []
    assert [(e.seq, e.user) for e in store.since(0)] == [(1, "b"), (2, "a"), (3, "a")]
    assert [e.seq for e in store.since(2)] == [3]
    assert store.last_seq() == 3


def test_a_key_sent_again_is_acknowledged_again_and_kept_once(store: Store):
    bulk = [event("a", "x", 10, key="k1"), event("a", "y", 11, key="k2")]
    first = store.append(bulk)
    again = store.append([*bulk, event("a", "z", 12, key="k3")])
    assert again == [*(Accepted(one.seq, False) for one in first), Accepted(3, True)]
    assert [e.id for e in store.since(0)] == ["k1", "k2", "k3"]


@pytest.mark.parametrize("other", [{"user": "b"}, {"item": "y"}, {"rating": 5.0}, {"time": 11}])
def test_a_key_with_other_content_is_a_conflict_that_names_it_and_nothing_of_its_bulk_is_kept(
    store: Store, other: dict[str, object]
):
    store.append([event("a", "x", 10, key="k1")])
    told_again = NewEvent(**({"user": "a", "item": "x", "rating": 4.0, "time": 10, "id": "k1"} | other))
    with pytest.raises(ConflictError, match=r"events:2, column 'id', value 'k1': this key is of another event already"):
        store.append([event("a", "new", 9, key="k2"), told_again])
    assert told(list(store.since(0))) == [("a", "x", 4.0, 10)]
    assert store.append([event("a", "new", 9, key="k2")]) == [Accepted(2, True)]  # the key is free, and no number was lost


def test_a_key_twice_in_one_bulk(store: Store):
    same = event("a", "x", 10, key="k")
    assert store.append([same, same]) == [Accepted(1, True), Accepted(1, False)]
    with pytest.raises(ConflictError, match="value 'j'"):
        store.append([event("a", "x", 11, key="j"), event("a", "y", 11, key="j")])
    assert store.last_seq() == 1


def test_without_a_key_an_event_is_what_it_is(store: Store):
    assert store.append([event("a", "x", 10), event("a", "x", 10)]) == [Accepted(1, True), Accepted(1, False)]
    assert store.append([event("a", "x", 10)]) == [Accepted(1, False)]
    others = [event("a", "x", 10, rating=5.0), event("a", "x", 11), event("a", "y", 10), event("b", "x", 10)]
    assert [one.new for one in store.append(others)] == [True] * 4


def test_a_key_becomes_that_of_an_equal_event_without_one_and_the_next_key_is_a_second_event(store: Store):
    """A shop sends again, with keys, what its exported log has: nothing is doubled, and two lines of an order stay two."""
    store.append([event("a", "x", 10)])
    assert store.append([event("a", "x", 10, key="line-1"), event("a", "x", 10, key="line-2")]) == [
        Accepted(1, False),
        Accepted(2, True),
    ]
    assert [(e.seq, e.id) for e in store.since(0)] == [(1, "line-1"), (2, "line-2")]
    assert store.append([event("a", "x", 10, key="line-1"), event("a", "x", 10)]) == [Accepted(1, False), Accepted(1, False)]
    with pytest.raises(ConflictError):
        store.append([event("a", "y", 10, key="line-1")])
    assert store.append([event("b", "x", 1), event("b", "x", 1, key="own")]) == [Accepted(3, True), Accepted(3, False)]
    assert [e.id for e in store.history("b")] == ["own"]


def test_without_times_an_event_has_that_of_its_acceptance_and_keys_tell_events_apart(url: str):
    form = Form(FORM.levels, has_times=False)
    with Store.open(url, form) as store:
        one = NewEvent("a", "x", 4.0, None, "k")
        assert store.append([one, NewEvent("a", "x", 4.0), NewEvent("a", "x", 4.0)]) == [Accepted(n, True) for n in (1, 2, 3)]
        assert store.append([one]) == [Accepted(1, False)]
        (time,) = {e.time for e in store.history("a")}
        assert time > 1_700_000_000


def test_many_events_at_once(store: Store):
    """More than one question to a database may ask for, and more than a page."""
    bulk = [event(f"u{n % 13}", f"i{n}", n // 7, key=f"k{n}" if n % 3 else None) for n in range(2_500)]
    assert store.append(bulk) == [Accepted(n + 1, True) for n in range(2_500)]
    assert store.append(bulk) == [Accepted(n + 1, False) for n in range(2_500)]
    assert told(list(store.since(0))) == [(e.user, e.item, e.rating, e.time) for e in bulk]


@pytest.mark.parametrize(
    ("column", "value", "what"),
    [
        ("user", "", "an id is missing"),
        ("user", " \t ", "an id is missing"),
        ("user", None, "an id is a text"),
        ("user", 7, "an id is a text"),
        ("item", "a\0b", "an id has no NUL"),
        ("item", "\ud800", "half of a surrogate pair"),
        ("item", "x" * 1001, "too long for an id: 1,001 bytes, and 1,000 are allowed"),
        ("id", "k\0", "an id has no NUL"),
        ("id", "", "an id is missing"),
        ("id", 3, "an id is a text"),
        ("rating", float("nan"), "a rating must be finite"),
        ("rating", float("inf"), "a rating must be finite"),
        ("rating", 1e300, "too large for a rating"),
        ("rating", 10**400, "too large for a rating"),
        ("rating", 4.5, "this data set has no such rating; its ratings are 1, 2, 3, 4, 5"),
        ("rating", True, "a rating is a number"),
        ("rating", None, "a rating is a number"),
        ("time", 2**63, "too large for a time: no log holds the year 5138"),
        ("time", -(2**63), "too large for a time"),
        ("time", 10**5000, "too large for a time|not a time"),
        ("time", float("nan"), "not a time"),
        ("time", 1_700_000_000_000, "this looks like milliseconds since 1970; a time is in seconds"),
        ("time", "2024-01-01", "a time is a number"),
        ("time", None, "a time is a number"),
    ],
    ids=range(24),
)
def test_what_is_no_event_is_told_and_nothing_is_kept(store: Store, column: str, value: object, what: str):
    bad = SimpleNamespace(**({"user": "a", "item": "x", "rating": 4.0, "time": 10, "id": "k"} | {column: value}))
    with pytest.raises(DataError, match=f"events:2, column '{column}'.*({what})") as caught:
        store.append(iter([event("a", "x", 9), bad]))
    assert not isinstance(caught.value, ConflictError)
    assert store.last_seq() == 0


def test_all_faults_are_told_at_once(store: Store):
    with pytest.raises(DataError) as caught:
        store.append([NewEvent("", "\0", float("nan"), None)] * 2)
    assert caught.value.count == 8


@pytest.mark.parametrize(
    "user", ["o'Brien\"; --", "Zoë", "ユーザー", "a\nb\tc", "%s", "$1 :user ?", "\\", "x" * 1000, "\x1b[31m", "null", "🜚"]
)
def test_any_other_text_is_an_id(store: Store, user: str):
    store.append([event(user, user, 10, key=user)])
    assert told(store.last(user, 5)) == [(user, user, 4.0, 10)]
    assert list(store.users()) == [user]
    store.forget(user)
    assert store.last(user, 5) == []


def test_ids_are_in_composed_form_and_without_blanks_around_them(store: Store):
    assert store.append([event(" Zoe\u0308 ", "x", 10), event("Zo\u00eb", "x", 10)]) == [Accepted(1, True), Accepted(1, False)]
    assert [e.user for e in store.history("Zoe\u0308")] == ["Zo\u00eb"]
