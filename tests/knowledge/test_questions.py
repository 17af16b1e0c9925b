"""Questions about items and users: what they say, and that no state shows anything from after its end."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from knowledge_world import log
from pydantic import ValidationError

from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.split import LeaveOneOut, OneEach
from lifelora.errors import ConfigError, LeakError
from lifelora.knowledge import questions
from lifelora.knowledge.questions import (
    FILM,
    AboutUsers,
    Questions,
    about_items,
    check,
    shown,
    state_before,
    states,
    training_states,
)


def films(folder, ratings=(4.0, 1.0, 3.5, 5.0, 2.0)):
    """User a saw five films in order of their numbers, user b one; the last film has no words at all."""
    interactions = pa.table(
        {
            "user": [*"aaaaa", "b"],
            "item": [*"12345", "1"],
            "rating": pa.array([*ratings, ratings[0]], pa.float32()),
            "time": pa.array([*range(5), 0], pa.int64()),
        }
    )
    catalogue = pa.table(
        {
            "item": [*"12345"],
            "title": ["Heat", "{title} [[x]]", "Ran", "Alien", ""],
            "genre": ["Crime", "", "War", "", ""],
            "description": ["Two\nmen meet  at last.", "", "", "", None],
        }
    )
    profiles = pa.table({"user": ["a", "b"], "gender": ["female", ""], "job": ["pilot", ""]})
    words = Words(item="film", items="films", did="watched")
    raw = RawTables(interactions, catalogue, profiles, words)
    return prepare(raw, Rules(min_history=1, split=LeaveOneOut()), folder, "films")


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return films(tmp_path_factory.mktemp("films"))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    return log(tmp_path_factory.mktemp("library"))


def test_a_question_about_an_item(small):
    asked = about_items(small, Questions(description_words=2))
    assert asked[0].splitlines() == [
        "This is known of one film: The film Heat. Genre: Crime. Two men",
        "Describe the film to somebody who recommends films, as far as you know it: genre, makers and cast, period and country, "
        "characters, plot, mood, reception and craft.",
        "Keep to plain sentences, and leave out what you do not know.",
    ]
    assert asked[1].startswith("This is known of one film: The film {title} [[x]].\n")
    assert asked[4] == ""  # nothing is known of it, so nothing is asked


def test_a_question_about_a_user(small):
    (first, second) = AboutUsers(small, Questions(every=2, behaviours=3))
    assert first.splitlines() == [
        "A person, gender: female; job: pilot.",
        "They watched these films, oldest first, and rated them from 1 to 5 stars:",
        "Heat (4 stars)",
        "{title} [[x]] (1 star)",
        "What does this list say of the person's likes and dislikes in films? Go through genre, makers and cast, period and "
        "country, characters, plot, mood, reception and craft.",
        "Keep to plain sentences, and leave out what the list does not show.",
    ]
    # After four events, the last three of them.
    assert second.splitlines()[2:5] == ["{title} [[x]] (1 star)", "Ran (3.5 stars)", "Alien (5 stars)"]


def test_nothing_is_said_of_unknown_profiles_or_of_equal_ratings(tmp_path):
    plain = films(tmp_path, [4.0] * 5)
    last = AboutUsers(plain, Questions(every=1))[5]  # user b's only state
    assert last.splitlines()[:2] == ["They watched these films, oldest first:", "Heat"]


def test_factors_are_the_domains_or_ones_own(small, library):
    assert Questions().words(small)["factors"].startswith("genre, makers and cast")
    assert Questions().words(library)["factors"] == "subject, author, period, style, themes, mood and audience"
    assert Questions(factors=("smell",)).words(small)["factors"] == "smell"
    assert FILM[0] == "genre"


def test_states_are_numbered_over_users_in_order(small):
    first_U, states_U = states(small, 2)
    assert (first_U.tolist(), states_U.tolist()) == ([0, 2], [2, 0])  # five events give two states, one gives none
    first_U, states_U = states(small, 1)
    assert (first_U.tolist(), states_U.tolist()) == ([0, 5], [5, 1])


@pytest.mark.parametrize("every", [1, 3, 7])
def test_a_target_reads_the_last_state_that_ended_before_it(library, every):
    targets = library.targets(np.arange(len(library)))
    row_B = state_before(library, targets, every)
    seen = shown(library, every, 30)
    has_B = row_B >= 0
    position_B = targets.position_B
    assert (has_B == (position_B >= every)).all()
    assert (seen.user_N[row_B[has_B]] == targets.user_B[has_B]).all()
    late_B = np.flatnonzero(has_B) - seen.end_N[row_B[has_B]]
    assert ((late_B >= 0) & (late_B < every)).all()


def test_no_state_depends_on_later_events(library):
    """A log cut off at a state's end gives the same text for it."""
    questions = Questions(every=4, behaviours=6)
    asked = AboutUsers(library, questions)
    for state in (0, 5, len(asked) - 1):
        end, user = int(asked.shown.end_N[state]), int(asked.shown.user_N[state])
        begin = int(library.log.offsets[user])
        titles = [library.titles[item] for item in library.item_N[begin:end]]
        listed = [line.rpartition(" (")[0] for line in asked[state].splitlines()[2:-2]]
        assert listed == titles[-6:]


def test_nobody_asks_about_a_state_that_nothing_reads(library, tmp_path):
    """With one sample a user, the last event, a user reads what is known before it and what is known now, nothing else."""
    one_each = log(tmp_path, Rules(split=OneEach()))
    asked, (first_U, _) = AboutUsers(one_each, Questions(every=3)), states(one_each, 3)
    events_U = np.diff(one_each.log.offsets)
    before_U = np.where(events_U > Rules().min_history, events_U - 1, 0)  # whoever has a sample
    read = {
        int(first + number // 3 - 1)
        for number_U in (before_U, events_U)
        for first, number in zip(first_U, number_U, strict=True)
        if number >= 3
    }
    assert {state for state, text in enumerate(asked) if text} == read
    assert len(read) < 2 * one_each.n_users < len(asked)
    everything = AboutUsers(library, Questions(every=10))  # each event but the first five is a sample here
    assert all(everything)


@pytest.mark.parametrize(
    "broken",
    [
        {"end_N": 1},  # one event too many at the end
        {"start_N": -30},  # the user before
        {"end_N": 1000},
    ],
)
def test_a_leak_is_found(library, monkeypatch, broken):
    right = shown(library, 5, 5)
    check(library, 5, right)
    ((name, shift),) = broken.items()
    wrong = replace(right, **{name: getattr(right, name) + shift})
    with pytest.raises(LeakError, match="would show events"):
        check(library, 5, wrong)
    monkeypatch.setattr(questions, "shown", lambda *_: wrong)
    with pytest.raises(LeakError, match=r"the question about user 'u00000' after 5 events"):
        AboutUsers(library, Questions(every=5, behaviours=5))


def test_training_states_show_what_training_may_see(library):
    seen, rows = shown(library, 3, 3), set(library.training_events().tolist())
    expected = [
        all(row in rows for row in range(library.log.offsets[u], end)) for u, end in zip(seen.user_N, seen.end_N, strict=True)
    ]
    assert training_states(library, 3).tolist() == expected
    assert 0 < sum(expected) < len(expected)


def test_questions_are_checked(small):
    with pytest.raises(ValidationError, match="give it one line that is"):
        Questions(about_user=("They {did} these: {behaviours}",))
    with pytest.raises(ValidationError, match="must say which item"):
        Questions(about_item=("Describe it.",))
    with pytest.raises(ConfigError, match="about_item uses {author}, which this data set does not have"):
        about_items(small, Questions(about_item=("{title} by {author}",)))
    assert AboutUsers(small, Questions(every=6))[:] == []
