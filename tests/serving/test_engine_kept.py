"""u and C(u) stay from one request to the next, and none that is stale is ever used: events, forgotten users, told histories."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_world import BACKBONE, DATA, DIN, GROWING, OWN, QUESTION, SASREC, U, coupling, made, offline, opened

from lifelora.data.extend import Event
from lifelora.recipe.files import parse
from lifelora.run import Run
from lifelora.run.recommend import recommend
from lifelora.run.recommend.cold import told_events
from lifelora.serving.engine import Engine, EngineOptions
from lifelora.serving.engine.answering import Answering
from lifelora.serving.engine.warm import Key, Warm

SYSTEMS: dict[str, Any] = {
    "own": OWN | U | coupling("full"),
    "same-u": OWN | U | coupling("experts", experts=2),
    "question": OWN | U | QUESTION | coupling("full"),
    "similar": OWN | U | coupling("full") | {"behaviours": {"kind": "most-similar", "k": 3}},
    "growing": GROWING | U | coupling("full"),
    "joint": OWN | coupling("full") | {"representation": {"model": "sasrec", "train": "joint"}},
    "random": OWN | coupling("full") | {"representation": {"kind": "random", "width": 6}},
    "soft": OWN | coupling("identity") | {"soft": {"model": "sasrec", "at": ["user"]}},
    "target": OWN | QUESTION | coupling("full") | {"representation": {"model": "din"}},
}
RECIPE = {
    "name": "kept",
    "data": DATA,
    "backbone": BACKBONE,
    "conventional": {"sasrec": SASREC, "din": DIN},
    "systems": SYSTEMS,
    "evaluation": {"test_samples": 8, "resamples": 100},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(parse(RECIPE, "the test"), tmp_path_factory.mktemp("kept") / "run")


@pytest.fixture(scope="module")
def live(folder: Path) -> Iterator[Engine]:
    with Engine(opened(folder), options=EngineOptions(fallback="sasrec")) as engine:
        yield engine


@pytest.fixture(scope="module")
def plain(folder: Path) -> Run:
    """It is told what the engine is told."""
    return opened(folder)


@pytest.fixture
def tell(live: Engine, plain: Run) -> Callable[..., None]:
    """Both, of an event after all others."""

    def told(user: str, item: int, **profile: str) -> None:
        dataset = plain.context.dataset
        one = Event(user, dataset.items.outside([item])[0], dataset.rating_levels[-1], int(np.asarray(dataset.time_N).max()) + 1)
        users = [{"user": user, **profile}] * bool(profile)
        live.add_events([one], users).result()
        plain.context.extend([one], users=users)

    return told


@pytest.fixture(scope="module")
def users(plain: Run) -> list[str]:
    return plain.context.dataset.users.outside(np.arange(6))


@pytest.fixture(scope="module")
def items(plain: Run) -> list[str]:
    return plain.context.dataset.items.outside(np.arange(20, 28))


def asked(live: Engine, user: str, items: list[str], name: str) -> dict[str, int]:
    """What was made and what was there for one request; none of it knows candidates, so eight ask for no more than one."""
    before = live.state()
    live.score(user, items, name, reasons=False).result()
    now = live.state()
    kinds = ("representations again", "representations made", "couplings again", "couplings made")
    return {kind: now[kind] - before[kind] for kind in kinds if now[kind] > before[kind]}


MADE = {
    "own": ("representations", "couplings"),
    "question": ("representations", "couplings"),
    "similar": ("representations", "couplings"),
    "growing": ("representations", "couplings"),
    "joint": ("couplings",),  # u is made beside the adapters, and only for C(u)
    "soft": ("representations",),
}


@pytest.mark.parametrize("name", MADE)
def test_they_are_made_once_until_the_user_does_something(
    live: Engine, users: list[str], items: list[str], tell: Callable[..., None], name: str
):
    user = users[0]
    while len(live.history(user)) % 3 != 2:  # with the next event a block of three ends
        tell(user, 3)
    live.work.kept.clear()
    first, again = ({f"{kind} {how}": 1 for kind in MADE[name]} for how in ("made", "again"))
    assert asked(live, user, items, name) == first
    assert asked(live, user, items[:3], name) == again
    tell(users[1], 1)
    assert asked(live, user, items, name) == again, "another user's event changes nothing"
    tell(user, 2)
    assert asked(live, user, items, name) == first


def test_systems_with_one_model_share_u(live: Engine, users: list[str], items: list[str]):
    live.work.kept.clear()
    assert asked(live, users[0], items, "own") == {"representations made": 1, "couplings made": 1}
    assert asked(live, users[0], items, "same-u") == {"representations again": 1, "couplings made": 1}


def test_what_knows_the_target_is_made_for_each(live: Engine, users: list[str], items: list[str]):
    """u of DIN is another for every candidate."""
    for _ in range(2):
        assert asked(live, users[0], items, "target") == {}


def close(answer: Any, scores: np.ndarray) -> None:
    assert [one.score for one in answer.items] == pytest.approx(scores.tolist(), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("name", SYSTEMS)
def test_no_stale_one_is_used_after_an_event(
    live: Engine, plain: Run, users: list[str], items: list[str], tell: Callable[..., None], name: str
):
    for item in range(4):
        close(live.score(users[1], items, name).result(), offline(plain, name, users[1], items))
        tell(users[1], 30 + item)
    close(live.score(users[1], items, name).result(), offline(plain, name, users[1], items))


@pytest.mark.parametrize("name", SYSTEMS)
def test_none_of_a_told_history_is_used_for_another(
    live: Engine, plain: Run, items: list[str], tell: Callable[..., None], name: str
):
    """The next new user has the same number, and here as many events."""
    outside = plain.context.dataset.items.outside
    before = len(live.work.kept.warm)
    for first in (1, 5):
        history = [(item, None) for item in outside(np.arange(first, first + 3))]
        answer = live.recommend_told(history, 4, name).result()
        with plain.context.supposing():
            plain.context.extend(told_events(plain.context.dataset, "told", history))
            due = recommend(plain, "told", None, 4, name)
        assert answer.user == "new user"
        assert [one.item for one in answer.items] == [one.item for one in due.items]
        close(answer, np.array([one.score for one in due.items]))
    assert len(live.work.kept.warm) == before, "nothing of them is kept"
    new = f"new {name}"
    tell(new, 40, age="35-44")
    tell(new, 41)
    tell(new, 42)
    close(live.score(new, items, name).result(), offline(plain, name, new, items))
    again = opened(plain.folder)  # which never heard of a history that was only told
    dataset = plain.context.dataset
    rows = dataset.log.rows_of(int(dataset.users.inside([new])[0]))
    again.context.extend(
        [
            Event(new, item, dataset.rating_levels[code], int(time))
            for item, code, time in zip(
                outside(np.asarray(dataset.item_N[rows], np.int64)), dataset.rating_N[rows], dataset.time_N[rows], strict=True
            )
        ],
        users=[{"user": new, "age": "35-44"}],
    )
    close(live.score(new, items, name).result(), offline(again, name, new, items))


def test_a_told_history_is_seen_by_nobody_else(live: Engine, items: list[str], monkeypatch: pytest.MonkeyPatch):
    """While it is answered, the log has a user more for who answers, and none more for who looks up users meanwhile."""
    before, events, seen = live.dataset.n_users, len(live.dataset), list[tuple[int, int, int]]()
    lists = Answering.lists

    def looked(answering: Answering, *words: Any) -> Any:
        seen.append((answering.run.context.dataset.n_users, live.dataset.n_users, len(live.dataset)))
        return lists(answering, *words)

    monkeypatch.setattr(Answering, "lists", looked)
    live.recommend_told([(items[0], None)], 3, "own").result()
    assert seen == [(before + 1, before, events)]
    assert (live.dataset.n_users, len(live.dataset)) == (before, events)


def test_nor_when_another_one_is_answered_in_its_midst(plain: Run, items: list[str]):
    """The quick model answers one that cannot wait for the end of the other."""
    context = plain.context
    before = context.dataset
    with context.supposing():
        context.extend(told_events(before, "outer", [(items[0], None)]))
        outer = context.dataset
        with context.supposing():
            context.extend(told_events(outer, "inner", [(items[1], None)]))
            assert context.settled is before
        assert (context.dataset, context.settled) == (outer, before)
    assert (context.dataset, context.settled) == (before, before)


def test_nothing_of_a_forgotten_user_is_left(live: Engine, plain: Run, users: list[str], items: list[str]):
    numbers = plain.context.dataset.users.inside(users)
    warm = live.work.kept.warm
    for name in SYSTEMS:
        live.score(users[5], items, name).result()
    assert {key.kind for key in warm._held if key.user == numbers[5]} == {"trunks", "representations", "couplings"}
    live.forget(users[5]).result()
    plain.context.forget(users[5])
    assert numbers[5] not in {key.user for key in warm._held}
    assert numbers[5] not in warm._of
    for name in SYSTEMS:
        close(live.score(users[1], items, name).result(), offline(plain, name, users[1], items))


def test_the_least_recently_used_goes_first_to_the_byte():
    """Budget: five floats of four bytes, by hand."""
    warm, keys = Warm(20), [Key("u", "sasrec", user) for user in range(4)]
    for key, size in zip(keys[:3], (2, 1, 2), strict=True):
        warm.keep(key, size, 0, [torch.zeros(size)])
    assert (warm.bytes, len(warm), warm.count["u"]) == (20, 3, 3)
    assert warm.get(keys[0]) is not None  # now user 1 was used longest ago
    warm.keep(keys[3], 1, 0, [torch.zeros(1)])
    assert (warm.get(keys[1]), warm.bytes) == (None, 20)
    warm.keep(keys[3], 2, 7, [torch.zeros(2)])  # in place of the other; then user 2 has to go
    assert (warm.get(keys[2]), warm.bytes, len(warm)) == (None, 16, 2)
    assert (held := warm.get(keys[3])) is not None
    assert (held.value, held.as_of) == (2, 7)
    base = torch.zeros(3)
    warm.keep(Key("C(u)", "own", 3), "two views", 0, [base[:1], base[1:]])  # of one storage, which counts once
    assert (warm.get(keys[0]), warm.bytes, warm.count["C(u)"]) == (None, 8 + 12, 1)
    warm.keep(Key("C(u)", "own", 9), "too large", 0, [torch.zeros(6)])
    assert (warm.get(Key("C(u)", "own", 9)), warm.bytes) == (None, 20)
    warm.forget(3)
    assert (warm.bytes, len(warm), warm.count["u"]) == (0, 0, 0)
