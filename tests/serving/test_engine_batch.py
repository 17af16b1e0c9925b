"""`recommend --all-users` is the engine's answer for each user: each kind of system, as the log grew, and no token more."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from engine_world import TITLES, YES_NO, held, opened

from lifelora.data.extend import Event
from lifelora.run import Run
from lifelora.run.recommend import many
from lifelora.run.recommend.told import tell_items
from lifelora.run.scorers.yes_no import YesNo
from lifelora.serving.engine import Answer, Engine, EngineOptions

LIKES = ("popular", "din", "sasrec", "towers", "identity", "similar", "prior", "growing", "growing-full", "ids", "both")
NEXTS = ("sasrec", "itemknn", "titles", "unlisted", "titles-growing", "both")
"""Of each kind, and of each way in which a language model's past is read."""
K = 4
NEW = {"item": "n1", "title": "Quite New"}


@dataclass
class Told:
    """By the name of a system: the rows of a batch and an engine's answers, and the tokens that each read for them."""

    rows: dict[str, pa.Table] = field(default_factory=dict)
    answers: dict[str, list[Answer]] = field(default_factory=dict)
    read: dict[str, tuple[int, int]] = field(default_factory=dict)
    run: Run | None = None


def events_of(run: Run) -> list[Event]:
    """Of a user of the log, and of a new one."""
    dataset = run.context.dataset
    (user,), items, now = dataset.users.outside([0]), dataset.items.outside([3, 4, 5]), int(np.asarray(dataset.time_N).max())
    told = [(user, items[0]), ("somehow new", items[1]), ("somehow new", "n1"), (user, items[2])]
    return [Event(who, item, dataset.rating_levels[-1], now + place) for place, (who, item) in enumerate(told, start=1)]


def tokens(run: Run, name: str) -> int:
    """That went through language models for a system so far; a blend's go through its members."""
    return run.scorers[name].spent().tokens


def among(run: Run) -> list[str]:
    """More than the titles' shortlist, so that a retriever chooses."""
    return run.context.dataset.items.outside([*range(15), run.context.dataset.n_items - 1])


def both(place: Path, names: tuple[str, ...]) -> Told:
    told, run = Told(run=opened(place)), opened(place)
    assert told.run is not None
    tell_items(told.run.context, [NEW])
    told.run.context.extend(events_of(run))
    users = [*run.context.dataset.users.outside([0]), "somehow new", "unknown"]
    with Engine(run, names, options=EngineOptions(turn=600.0)) as engine:
        engine.add_items([NEW]).result()
        engine.add_events(events_of(told.run)).result()
        for name in names:
            before = tokens(told.run, name), tokens(run, name)
            told.rows[name] = many(told.run, users, K, system=name, among=among(told.run))
            futures = [engine.recommend(user, K, name, among=among(run), reasons=False) for user in users]
            told.answers[name] = [future.result() for future in futures]
            told.read[name] = tokens(told.run, name) - before[0], tokens(run, name) - before[1]
            engine.work.kept.clear()  # members of blends are systems, too
    return told


@pytest.fixture(scope="module")
def likes(every_like: Path) -> Told:
    return both(every_like, LIKES)


@pytest.fixture(scope="module")
def nexts(every_next: Path) -> Told:
    return both(every_next, NEXTS)


def equal(told: Told, name: str) -> None:
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in told.rows[name].to_pylist():
        rows.setdefault(row["user"], []).append(row)
    for answer in told.answers[name]:
        due = rows[answer.user]
        assert answer.system == ("popularity" if answer.user == "unknown" else name)
        assert [(one.rank, one.item, one.title) for one in answer.items] == [
            (row["rank"], row["item"], row["title"]) for row in due
        ]
        assert [one.score for one in answer.items] == pytest.approx([row["score"] for row in due], rel=1e-4, abs=1e-6)
    assert [row["how"] for row in told.rows[name].to_pylist()[::K]] == ["history"] * 2 + ["popularity"]
    batch, engine = told.read[name]
    assert batch == engine
    assert (batch > 0) == (name in (*YES_NO, *TITLES, "both"))


@pytest.mark.parametrize("name", LIKES)
def test_lists_of_likes_are_the_engines(likes: Told, name: str):
    equal(likes, name)


@pytest.mark.parametrize("name", NEXTS)
def test_lists_of_next_items_are_the_engines(nexts: Told, name: str):
    equal(nexts, name)


def test_the_budget_of_tokens_bounds_a_blend(every_like: Path):
    """With one token for all no two requests go together, as its members read more for each."""
    with Engine(opened(every_like), ["both"], EngineOptions(turn=600.0, tokens=1)) as engine:
        dataset = engine.run.context.dataset
        with held(engine):
            users, items = dataset.users.outside([0, 1, 2]), dataset.items.outside([3, 4])
            futures = [engine.score(user, items, "both") for user in users]
        assert all(future.result().system == "both" for future in futures)
        done = engine.state()
    assert done["turns"] == 3
    assert done["tokens"] > 0


@pytest.mark.parametrize("name", ["identity", "growing", "growing-full"])
def test_what_a_batch_reads_of_a_user_is_read_once(likes: Told, name: str):
    """Counted by full prompts: the past of each user, which they have in common, and the question about each candidate."""
    run, due = likes.run, 0
    assert run is not None
    scorer, dataset = run.scorers[name], run.context.dataset
    assert isinstance(scorer, YesNo)
    users, pool = [*dataset.users.outside([0]), "somehow new"], dataset.items.inside(among(run)).tolist()
    for user in dataset.users.inside(users).tolist():
        seen = set(np.asarray(dataset.item_N[dataset.log.rows_of(user)]).tolist())
        asked = run.task.now(user, np.array([item for item in pool if item not in seen], np.int64))
        shown = scorer.show(asked)
        prompt_N = scorer.builder.lengths(shown.requests.targets, shown.chosen_NK, shown.mask_NK)
        question_N = np.diff(scorer.builder.lines.offsets_N)[scorer.builder.lines.question_M[shown.requests.targets.item_B]]
        (past,) = set((prompt_N - question_N).tolist())
        due += past + int(question_N.sum())
    assert likes.read[name][0] == due
