"""An engine says of candidates what evaluation says: every kind of scorer, cold and warm, as the log grows."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from engine_world import CTR_NAMES, NEXT_NAMES, TITLES, YES_NO, offline, opened

from lifelora.data.extend import Event
from lifelora.run import Run
from lifelora.run.recommend.told import tell_items
from lifelora.serving.engine import Answer, Engine

NEW_ITEM, BARE_ITEM, NEW_USER = "n1", "n2", "somehow new"


@dataclass
class Said:
    """By the name of a scorer: what an engine and a plain run said of the same, in turn."""

    engine: dict[str, list[Answer]] = field(default_factory=dict)
    plain: dict[str, list[np.ndarray]] = field(default_factory=dict)
    state: dict[str, int] = field(default_factory=dict)
    passes: dict[str, int] = field(default_factory=dict)
    "Through the language model, for six candidates of a user who was asked about before."


def events_of(run: Run) -> list[list[Event]]:
    """One after another: of users of the log, of one who is new, with items that are new."""
    dataset = run.context.dataset
    users, items = dataset.users.outside(np.arange(4)), dataset.items.outside(np.arange(20))
    levels, now = dataset.rating_levels, int(np.asarray(dataset.time_N).max())
    steps = [[(users[0], items[3]), (NEW_USER, items[0]), (NEW_USER, NEW_ITEM), (users[1], BARE_ITEM)]]
    steps += [[(user, items[5 + number]) for user in (users[0], NEW_USER)] for number in range(2)]
    return [
        [
            Event(user, item, levels[(number + place) % len(levels)], now + 10 * number + place)
            for place, (user, item) in enumerate(step)
        ]
        for number, step in enumerate(steps, start=1)
    ]


def heard(engine: Engine, plain: Run, names: tuple[str, ...]) -> Said:
    """The whole story: every scorer is asked after every step, of several users at once and again."""
    said = Said()
    users, items = plain.context.dataset.users.outside(np.arange(2)), plain.context.dataset.items.outside(np.arange(7, 12))

    def ask(users: list[str], some: list[str]) -> None:
        futures = [(name, user, engine.score(user, some, name)) for name in names for user in users]
        for name, user, future in futures:
            answer = future.result()
            said.engine.setdefault(name, []).append(answer)
            said.plain.setdefault(name, []).append(offline(plain, name, user, [one.item for one in answer.items]))

    ask(users, items)
    engine.add_items([{"item": NEW_ITEM, "title": "Quite New"}]).result()
    tell_items(plain.context, [{"item": NEW_ITEM, "title": "Quite New"}])
    users, items = [*users, NEW_USER], [*items, NEW_ITEM, BARE_ITEM]
    for step in events_of(plain):
        engine.add_events(step).result()
        plain.context.extend(step)
        ask(users, items)
    ask(users[:1], items[:1])  # one candidate, in a warm trunk
    said.state = engine.state()
    calls = list[int]()
    hook = engine.run.context.backbone.model.register_forward_pre_hook(lambda *_: calls.append(1))
    for name in names:
        for _ in range(2):
            calls.clear()
            engine.score(users[0], items[:6], name).result()
        said.passes[name] = len(calls)
    hook.remove()
    return said


def story(names: tuple[str, ...], place: Path) -> Said:
    with Engine(opened(place)) as engine:
        return heard(engine, opened(place), names)


@pytest.fixture(scope="module")
def likes(every_like: Path) -> Said:
    return story(CTR_NAMES, every_like)


@pytest.fixture(scope="module")
def nexts(every_next: Path) -> Said:
    return story(NEXT_NAMES, every_next)


def equal(said: Said, name: str) -> None:
    known = 0
    for answer, plain_C in zip(said.engine[name], said.plain[name], strict=True):
        assert (answer.system, answer.asked, answer.fallback) == (name, name, False)
        for placed, plain in zip(answer.items, plain_C, strict=True):
            if placed.score is not None:
                assert placed.score == pytest.approx(plain, rel=1e-4, abs=1e-5), (name, placed)
                known += 1
            else:
                assert placed.item in (NEW_ITEM, BARE_ITEM)
        by_score = sorted(answer.items, key=lambda one: one.rank)
        scores = [one.score for one in by_score if one.score is not None]
        assert scores == sorted(scores, reverse=True)
        assert [one.rank for one in by_score] == list(range(1, len(by_score) + 1))
    assert known > 50
    plain_N = np.concatenate(said.plain[name])
    assert plain_N[np.isfinite(plain_N)].std() > 1e-4, "the answers tell candidates apart"


@pytest.mark.parametrize("name", CTR_NAMES)
def test_scores_of_likes_are_those_of_evaluation(likes: Said, name: str):
    equal(likes, name)


@pytest.mark.parametrize("name", NEXT_NAMES)
def test_scores_of_next_items_are_those_of_evaluation(nexts: Said, name: str):
    equal(nexts, name)


def test_nothing_is_written_to_be_scored(likes: Said, nexts: Said):
    """P(yes) of all candidates takes one pass. Titles of several words take one for the question and one for all of them."""
    assert {name: likes.passes[name] for name in YES_NO} == dict.fromkeys(YES_NO, 1)
    assert {nexts.passes[name] for name in TITLES} == {1, 2}
    assert {likes.passes[name] for name in ("popular", "din", "towers", "ids")} == {0}


def test_the_story_was_told_by_warm_trunks(likes: Said, nexts: Said):
    for said in (likes, nexts):
        assert said.state["failed"] == said.state["refused"] == 0
        for how in ("again", "on", "anew", "first"):
            assert said.state[f"trunks read {how}"] > 0, how
