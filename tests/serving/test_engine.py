"""An engine's own doings: batches, deadlines, who stands in, warm trunks and their bytes, errors, forgetting, its end."""

import gc
import threading
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_world import BACKBONE, DATA, GROWING, OPTIONS, OWN, SASREC, U, coupling, held, made, offline, opened

from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event
from lifelora.errors import ArtefactError, ClosedError, ConfigError, DataError, DeadlineError, FullError
from lifelora.lora.structure import Structure
from lifelora.recipe.files import parse
from lifelora.run import Run
from lifelora.run.recommend import recommend
from lifelora.run.scorers.language import LanguageScorer
from lifelora.run.scorers.yes_no import YesNo
from lifelora.serving.engine import Engine, EngineOptions
from lifelora.serving.engine.kept import Kept
from lifelora.serving.engine.trunks import tensors_of

SYSTEMS: dict[str, Any] = {
    "window": OWN | coupling("identity") | {"behaviours": {"kind": "most-recent", "k": 3}},
    "growing": GROWING | U | coupling("experts", experts=2),
    "similar": OWN | U | coupling("full") | {"behaviours": {"kind": "most-similar", "k": 3}},
}
RECIPE = {
    "name": "few",
    "data": DATA,
    "backbone": BACKBONE,
    "conventional": {"popular": {"model": {"kind": "popularity"}}, "sasrec": SASREC},
    "systems": SYSTEMS,
    "evaluation": {"test_samples": 8, "resamples": 100},
}
NAMES = ("popular", "sasrec", *SYSTEMS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(parse(RECIPE, "the test"), tmp_path_factory.mktemp("engine") / "run")


@pytest.fixture(scope="module")
def plain(folder: Path) -> Run:
    """Never extended."""
    return opened(folder)


@pytest.fixture
def engine(folder: Path) -> Iterator[Engine]:
    with Engine(opened(folder), options=EngineOptions(fallback="sasrec", turn=600.0)) as engine:
        yield engine


@pytest.fixture
def users(plain: Run) -> list[str]:
    return plain.context.dataset.users.outside(np.arange(6))


@pytest.fixture
def items(plain: Run) -> list[str]:
    return plain.context.dataset.items.outside(np.arange(20, 30))


def event(run: Run, user: str, item: str, later: int = 1) -> Event:
    dataset = run.context.dataset
    return Event(user, item, dataset.rating_levels[-1], int(np.asarray(dataset.time_N).max()) + later)


def close(answer: Any, scores: np.ndarray) -> None:
    assert [one.score for one in answer.items] == pytest.approx(scores.tolist(), rel=1e-4, abs=1e-5)


def test_requests_of_many_threads_are_answered_as_one_by_one(engine: Engine, plain: Run, users: list[str], items: list[str]):
    with ThreadPoolExecutor(8) as pool:
        asked = [(name, user, some) for name in NAMES for user in users for some in (items, items[:3])]
        answers = list(pool.map(lambda one: engine.score(one[1], one[2], one[0]).result(), asked))
    for (name, user, some), answer in zip(asked, answers, strict=True):
        assert (answer.user, answer.system, [one.item for one in answer.items]) == (user, name, some)
        close(answer, offline(plain, name, user, some))


def test_what_waits_for_one_system_is_one_call(engine: Engine, plain: Run, users: list[str], items: list[str]):
    before = engine.state()["turns"]
    with held(engine):
        futures = [engine.score(user, items[: 2 + place], "growing") for place, user in enumerate(users)]
        other = engine.score(users[0], items, "similar")
    answers = [future.result() for future in futures]
    other.result()
    assert engine.state()["turns"] == before + 2
    for place, (user, answer) in enumerate(zip(users, answers, strict=True)):
        close(answer, offline(plain, "growing", user, items[: 2 + place]))


def test_a_history_is_read_once_for_all_candidates_and_not_again(engine: Engine, users: list[str], items: list[str]):
    """By the tokens of plain prompts, and by calls of the model: none of them writes."""
    scorer = engine.run.scorers["growing"]
    assert isinstance(scorer, YesNo)
    calls = list[int]()
    hook = engine.run.context.backbone.model.register_forward_pre_hook(lambda *_: calls.append(1))
    dataset = engine.run.context.dataset
    shown = scorer.show(engine.run.task.now(0, dataset.items.inside(items).astype(np.int64)))
    prompt_N = scorer.builder.lengths(shown.requests.targets, shown.chosen_NK, shown.mask_NK)
    question_N = np.diff(scorer.builder.lines.offsets_N)[scorer.builder.lines.question_M[shown.requests.targets.item_B]]
    trunk = set((prompt_N - question_N).tolist())
    assert len(trunk) == 1
    read = list[int]()
    for _ in range(2):
        before = engine.state()["tokens"]
        engine.score(users[0], items, "growing").result()
        read.append(engine.state()["tokens"] - before)
    hook.remove()
    assert read == [trunk.pop() + question_N.sum(), question_N.sum()]
    assert len(calls) == 3, "the trunk, its branches; its branches"


def test_an_event_makes_a_growing_trunk_longer_until_its_block_ends(engine: Engine, users: list[str], items: list[str]):
    """Of a user who has two events of a block of three; a window loses its oldest line each time."""
    user = next(user for user in users if len(engine.history(user)) % 3 == 2)

    def read(name: str) -> list[str]:
        before = engine.state()
        engine.score(user, items, name).result()
        now = engine.state()
        return [how for how in ("again", "on", "anew", "first") if now[f"trunks read {how}"] > before[f"trunks read {how}"]]

    assert [read("growing"), read("window")] == [["first"], ["first"]]
    found = []
    for number in range(4):
        engine.add_events([event(engine.run, user, items[number], 1 + number)]).result()
        found.append((read("growing"), read("window")))
    assert [growing for growing, _ in found] == [["anew"], ["on"], ["on"], ["anew"]]
    assert [window for _, window in found] == [["anew"]] * 4
    assert read("growing") == ["again"]
    assert read("similar") == [], "retrieved behaviours share no trunk"


def test_what_is_kept_is_counted_to_the_byte_and_the_oldest_go(folder: Path, users: list[str], items: list[str]):
    def tensors(value: Any) -> list[torch.Tensor]:
        return (
            [value]
            if isinstance(value, torch.Tensor)
            else [value.tensor]
            if isinstance(value, Structure)
            else [*tensors_of(value)]
        )

    def held_bytes(kept: Kept) -> int:
        """Every storage that is held, found by walking through all that is kept."""
        every = [t.untyped_storage() for held in kept.warm._held.values() for t in tensors(held.value)]
        return sum({storage.data_ptr(): storage.nbytes() for storage in every}.values())

    with Engine(opened(folder), ["growing"]) as engine:
        for user in users:
            engine.score(user, items, "growing").result()
        kept, state = engine.work.kept, engine.state()
        assert (state["trunks"], state["representations"], state["couplings"]) == (6, 6, 6)
        one = kept.warm.bytes / 6
        dataset = engine.run.context.dataset
        layers, heads, width = 2, 2, 8
        scorer = engine.run.scorers["growing"]
        assert isinstance(scorer, YesNo)
        of_kind = {key.kind: held for key, held in kept.warm._held.items()}
        length = of_kind["trunks"].value.length_R.item()
        # Keys and values, then what each token is, then how many there are.
        assert of_kind["trunks"].bytes == length * (layers * heads * width * 2 * 4 + 2 * 8) + 8
        assert of_kind["representations"].bytes == 4 * scorer.lm.adapters.user_width
        assert of_kind["couplings"].bytes == 4 * 2 * len(scorer.lm.adapters.layers), "a weight for each of two experts"
        assert held_bytes(kept) == kept.warm.bytes == state["warm bytes"]
        assert dataset.n_users > 6
    assert len(kept.warm) == kept.warm.bytes == 0
    with Engine(opened(folder), ["growing"], EngineOptions(warm_bytes=int(3.5 * one))) as engine:
        kept = engine.work.kept
        for number, user in enumerate([*users, *users, users[-1]], start=1):
            engine.score(user, items, "growing").result()
            assert held_bytes(kept) == kept.warm.bytes <= int(3.5 * one)
            assert engine.state()["trunks"] >= min(number, 2)
        assert engine.state()["trunks read again"] == 1, "whoever was asked about last"
        for together in (users, users[::-1]):  # more than may be kept, some of which are there
            with held(engine):
                futures = [engine.score(user, items, "growing") for user in together]
            assert all(len(future.result().items) == len(items) for future in futures)
            assert held_bytes(kept) == kept.warm.bytes <= int(3.5 * one)
    with Engine(opened(folder), ["growing"], EngineOptions(warm_bytes=0)) as engine:
        engine.score(users[0], items, "growing").result()
        assert len(engine.work.kept.warm) == 0


def test_memory_does_not_grow_with_requests(engine: Engine, users: list[str], items: list[str]):
    def asked(count: int) -> None:
        futures = [engine.score(users[n % 6], items, NAMES[n % len(NAMES)]) for n in range(count)]
        futures += [engine.recommend(users[n % 6], 3, NAMES[n % len(NAMES)]) for n in range(10)]
        for future in futures:
            future.result()

    def there() -> int:
        """Ours, torch's and what waits; checks of types, which tests alone have, make objects of their own."""
        gc.collect()
        return sum(str(type(one).__module__).partition(".")[0] in ("lifelora", "torch", "concurrent") for one in gc.get_objects())

    asked(60)
    gc.unfreeze()
    counts = []
    for _ in range(4):
        asked(60)
        counts.append(there())
    # What is made once, in whatever round, is no growth.
    assert min(later - before for before, later in pairwise(counts)) <= 0, counts


def test_what_is_loaded_is_no_garbage(folder: Path):
    gc.unfreeze()
    with Engine(opened(folder), ["popular"]):
        assert gc.get_freeze_count() > 10_000
        with pytest.raises(ArtefactError):
            Engine(Run.open(folder, OPTIONS), ["growing"]).start()  # it is not trained
        assert gc.get_freeze_count() > 10_000, "what is refused has frozen nothing"
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("name", NAMES)
def test_recommendations_are_those_of_a_run(engine: Engine, folder: Path, users: list[str], items: list[str], name: str):
    run = opened(folder)
    for step in range(2):
        with held(engine):
            futures = [engine.recommend(user, 5, name) for user in users]
        for user, future in zip(users, futures, strict=True):
            answer, due = future.result(), recommend(run, user, None, 5, name)
            assert [one.item for one in answer.items] == [one.item for one in due.items]
            close(answer, np.array([one.score for one in due.items]))
            shown = [one.shown if one.shown is not None else answer.shown for one in answer.items]
            assert [[past.title for past in past_K] for past_K in shown] == [[p.title for p in one.shown] for one in due.items]
        if step == 0:
            more = [event(run, users[0], answer.items[0].item), event(run, "new here", items[0], 2)]
            engine.add_events(more).result()
            run.context.extend(more)
            users = [*users[:2], "new here"]
    first = engine.recommend(users[0], 3, name).result()
    without = engine.recommend(users[0], 3, name, exclude=[first.items[0].item, "no such item"]).result()
    assert [one.item for one in without.items][:2] == [one.item for one in first.items][1:]
    among = engine.recommend(users[0], 3, name, among=items, allow_seen=True).result()
    assert {one.item for one in among.items} <= {*items}
    few = engine.recommend(users[0], 9, name, among=items[:2], allow_seen=True).result()
    assert "fewer than the 9" in few.note


def slow(monkeypatch: pytest.MonkeyPatch, engine: Engine, seconds: dict[str, float]) -> None:
    """As if systems took so long."""
    monkeypatch.setattr(engine.work.pace, "expect", lambda work, size: seconds.get(work[1], 0.0))


def test_a_quick_model_stands_in_where_the_deadline_would_be_missed(
    engine: Engine, plain: Run, users: list[str], items: list[str], monkeypatch: pytest.MonkeyPatch
):
    slow(monkeypatch, engine, {"growing": 900.0})
    answer = engine.score(users[0], items, "growing", deadline=600.0).result()
    assert (answer.system, answer.asked, answer.fallback) == ("sasrec", "growing", True)
    assert answer.why == "'growing' would have missed the deadline"
    close(answer, offline(plain, "sasrec", users[0], items))
    listed = engine.recommend(users[0], 4, "growing", deadline=600.0).result()
    assert listed.fallback
    assert [one.item for one in listed.items] == [one.item for one in recommend(plain, users[0], None, 4, "sasrec").items]
    patient = engine.score(users[0], items, "growing").result()
    assert (patient.system, patient.fallback) == ("growing", False)
    assert engine.state()["stood in"] == 2
    slow(monkeypatch, engine, {"growing": 900.0, "sasrec": 900.0})
    with pytest.raises(DeadlineError, match="'growing' could not answer before the deadline, nor 'sasrec' in its place"):
        engine.score(users[0], items, "growing", deadline=600.0).result()
    with pytest.raises(DeadlineError, match="no other system stands in"):
        engine.score(users[0], items, "sasrec", deadline=600.0).result()


def test_who_was_answered_quickly_is_not_answered_again_between_the_layers_of_others(
    engine: Engine, users: list[str], items: list[str], monkeypatch: pytest.MonkeyPatch
):
    slow(monkeypatch, engine, {"growing": 900.0})
    with held(engine):
        patient = engine.score(users[0], items, "growing")
        hurried = [
            engine.score(users[1], items, "growing", deadline=600.0),
            engine.score(users[2], items, "sasrec", deadline=0.0),
        ]
    assert (patient.result().system, hurried[0].result().system) == ("growing", "sasrec")
    with pytest.raises(DeadlineError):
        hurried[1].result()
    state = engine.state()
    assert [state[name] for name in ("answered", "stood in", "late", "failed")] == [1, 1, 1, 0]


def test_a_deadline_shorter_than_the_batch_that_runs_is_kept(
    engine: Engine, plain: Run, users: list[str], items: list[str], monkeypatch: pytest.MonkeyPatch
):
    """By a clock of the test's, on which each layer takes a second; what is asked while the first layer runs has less than that
    batch will take. Whatever calls a model does so in the engine's own thread.
    """
    clock, seen, threads = [engine.work.clock() + 1000.0], list[list[bool]](), set[str]()
    asked = list["Future[Any]"]()
    engine.work.clock = lambda: clock[0]
    slow(monkeypatch, engine, {"growing": 100.0})
    score = engine.run.scorers["sasrec"].score
    monkeypatch.setattr(
        engine.run.scorers["sasrec"], "score", lambda *some: (threads.add(threading.current_thread().name), score(*some))[1]
    )

    def second(*_: object) -> None:
        clock[0] += 1.0
        threads.add(threading.current_thread().name)
        if not asked:
            asked.append(engine.score(users[1], items, "growing", deadline=1.5))
            asked.append(engine.recommend(users[2], 4, "growing", deadline=1.5))
            asked.append(engine.recommend_told([(items[0], None)], 4, "growing", deadline=1.5))
            asked.append(engine.score(users[3], items, "growing", deadline=0.0))
            asked.append(engine.score(users[4], items, "growing", deadline=900.0))
            asked.append(engine.score(users[5], items, "growing"))
        seen.append([future.done() for future in asked])

    hooks = [layer.register_forward_pre_hook(second) for layer in engine.run.context.backbone.model.model.layers]
    long = engine.score(users[0], items, "growing").result()
    assert seen[:2] == [[False] * 6, [True] * 4 + [False] * 2], "before the second layer"
    close(long, offline(plain, "growing", users[0], items))
    for hook in hooks:
        hook.remove()
    answers = [future.result() for future in (*asked[:3], *asked[4:])]
    assert [answer.system for answer in answers] == ["sasrec"] * 3 + ["growing"] * 2
    assert [answer.fallback for answer in answers] == [True] * 3 + [False] * 2
    close(answers[0], offline(plain, "sasrec", users[1], items))
    assert [one.item for one in answers[1].items] == [one.item for one in recommend(plain, users[2], None, 4, "sasrec").items]
    with pytest.raises(DeadlineError):
        asked[3].result()
    for answer, user in zip(answers[3:], users[4:], strict=True):
        close(answer, offline(plain, "growing", user, items))
    assert threads == {"lifelora engine"}
    assert {name: engine.state()[name] for name in ("stood in", "late", "waiting")} == {"stood in": 3, "late": 1, "waiting": 0}


def test_told_histories_wait_for_their_turn(folder: Path, users: list[str], items: list[str]):
    """A turn of no length takes one request: what came first is answered first, whatever it is."""
    order = list[str]()

    def put(name: str, future: "Future[Any]") -> "Future[Any]":
        future.add_done_callback(lambda _: order.append(name))
        return future

    histories = [[(item, None)] for item in items]
    with Engine(opened(folder), options=EngineOptions(turn=0.0, waiting=5)) as engine:
        with held(engine):
            futures = [put(f"told {n}", engine.recommend_told(histories[n], 3, "growing")) for n in range(2)]
            futures.append(put("known", engine.score(users[0], items, "growing")))
            futures += [put(f"told {n}", engine.recommend_told(histories[n], 3, "growing")) for n in range(2, 4)]
            with pytest.raises(FullError):
                engine.recommend_told(histories[0], 3, "growing")
        for future in futures:
            future.result()
    assert order == ["told 0", "told 1", "known", "told 2", "told 3"]


def test_told_histories_go_together_and_each_is_refused_for_itself(engine: Engine, items: list[str]):
    histories = [[(items[0], None)], [(items[1], None), (items[2], None)], [("nothing", None)], [(items[3], 77.0)]]
    alone = [engine.recommend_told(history, 4, "growing").result() for history in histories[:2]]
    before = engine.state()["turns"]
    with held(engine):
        futures = [engine.recommend_told(history, 4, "growing") for history in histories]
    assert [future.exception() is None for future in futures] == [True, True, False, False]
    assert engine.state()["turns"] == before + 1
    for future, answer in zip(futures, alone, strict=False):
        close(answer, np.array([one.score for one in future.result().items]))
        assert future.result().items[0].item == answer.items[0].item
    for future, what in zip(futures[2:], ("nothing", "no such rating"), strict=True):
        with pytest.raises(DataError, match=what):
            future.result()


def test_what_is_late_or_cancelled_is_not_computed(engine: Engine, users: list[str], items: list[str]):
    before = engine.state()
    with held(engine):
        late = engine.score(users[0], items, "growing", deadline=0.0)
        cancelled = engine.score(users[0], items, "growing")
        assert cancelled.cancel()
    with pytest.raises(DeadlineError):
        late.result()
    engine._worker.do(lambda: None).result()
    now = engine.state()
    assert (now["late"] - before["late"], now["cancelled"] - before["cancelled"]) == (1, 1)
    assert (now["turns"], now["tokens"]) == (before["turns"], before["tokens"])


def test_each_request_is_refused_for_itself(engine: Engine, plain: Run, users: list[str], items: list[str]):
    with held(engine):
        futures = [
            engine.score("nobody", items, "growing", cold="refuse"),
            engine.score(users[0], [*items, "nothing"], "growing"),
            engine.score(users[0], items, "growing"),
            engine.score("nobody", items, "growing"),
        ]
    for future, what in zip(futures[:2], ("nobody", "nothing"), strict=True):
        with pytest.raises(DataError, match=what):
            future.result()
    close(futures[2].result(), offline(plain, "growing", users[0], items))
    popular = futures[3].result()
    assert (popular.system, popular.asked, popular.fallback) == ("popularity", "growing", True)
    assert "no such user" in popular.note
    share = [one.score for one in popular.items]
    rows = plain.context.dataset.training_events()
    count_M = np.bincount(plain.context.dataset.item_N[rows], minlength=plain.context.dataset.n_items)
    assert share == pytest.approx((count_M[plain.context.dataset.items.inside(items)] / count_M.sum()).tolist())
    assert len(engine.recommend("nobody", 3, "growing").result().items) == 3


def test_what_is_popular_is_counted_once_and_no_pace_of_a_system(
    engine: Engine, items: list[str], monkeypatch: pytest.MonkeyPatch
):
    """It took a look at every event for each unknown user, and the time was taken for that of the system that was asked."""
    counted, count, measured = list[Dataset](), Dataset.training_events, list[tuple[Any, int]]()

    def counting(dataset: Dataset) -> Any:
        counted.append(dataset)
        return count(dataset)

    monkeypatch.setattr(Dataset, "training_events", counting)
    monkeypatch.setattr(engine.work.pace, "saw", lambda kind, size, took: measured.append((kind, size)))
    first = engine.recommend("nobody", 3, "growing").result()
    engine.add_items([{"item": "newer", "title": "Newer"}]).result()
    assert [one.item for one in engine.recommend("nobody", 3, "growing").result().items] == [one.item for one in first.items]
    scores = [one.score for one in engine.score("nobody", [first.items[0].item, "newer"], "growing").result().items]
    assert scores == [first.items[0].score, 0.0]
    assert (len(counted), measured) == (1, [])
    known = engine.dataset.users.outside([0])[0]
    with held(engine):
        asked = [engine.score(user, items[:4], "growing") for user in ("nobody", known)]
    assert [one.result().user for one in asked] == ["nobody", known]
    assert measured == [(("score", "growing"), 4)], "the known user's candidates alone"


def test_what_is_not_allowed_is_told_at_once(engine: Engine, users: list[str], items: list[str]):
    for refused, what in (
        (lambda: engine.score(users[0], []), "0 candidates came; give 1 to 1,000"),
        (lambda: engine.score(users[0], items * 101, "growing"), "1,010 candidates came"),
        (lambda: engine.score(users[0], "b00001", "growing"), "candidates are ids"),
        (lambda: engine.score(users[0], items, "no"), "has no system 'no'; it has popular"),
        (lambda: engine.score(users[0], items), "name a system"),
        (lambda: engine.recommend(users[0], 0, "growing"), "n = 0 is not the length"),
        (lambda: Engine(engine.run, ["no"]), "has no system 'no'"),
        (lambda: Engine(engine.run, options=EngineOptions(fallback="growing")), "no conventional model of this name"),
        (lambda: EngineOptions(turn=-1.0), "turn = -1.0"),
    ):
        with pytest.raises(ConfigError, match=what):
            refused()


def test_only_so_many_wait(folder: Path, users: list[str], items: list[str]):
    with Engine(opened(folder), ["popular"], EngineOptions(waiting=2)) as engine:
        with held(engine):
            futures = [engine.score(user, items) for user in users[:2]]
            with pytest.raises(FullError, match="2 requests wait"):
                engine.score(users[2], items)
        assert [future.result().system for future in futures] == ["popular", "popular"]
        assert futures[0].result().why == "the only one"


def test_an_end_answers_what_waits_or_refuses_it(folder: Path, users: list[str], items: list[str]):
    engine = Engine(opened(folder), ["growing"])
    with pytest.raises(ClosedError):
        engine.score(users[0], items, "growing")
    for drain in (True, False):
        engine = Engine(opened(folder), ["growing"]).start()
        futures: list[Future[Any]] = []
        with held(engine):
            futures = [engine.score(user, items, "growing") for user in users]
            closing = threading.Thread(target=engine.close, kwargs={"drain": drain})
            closing.start()
            while engine._worker._open:
                pass
            with pytest.raises(ClosedError, match="Ask the one that is in its place"):
                engine.score(users[0], items, "growing")
            with pytest.raises(ClosedError):
                engine.add_events([])
        closing.join(60)
        for future in futures:
            if drain:
                assert len(future.result(0).items) == len(items)
            else:
                with pytest.raises(ClosedError, match="before it came to this request"):
                    future.result(0)
        assert all(getattr(scorer, "keeper", None) is None for scorer in engine.run.scorers.values())


def test_bad_events_change_nothing(engine: Engine, users: list[str], items: list[str]):
    before = engine.history(users[0])
    with pytest.raises(DataError, match="no such rating"):
        engine.add_events([event(engine.run, users[0], items[0]), Event(users[0], items[1], 77.0, 1 << 33)]).result()
    with pytest.raises(DataError, match="a log grows at its end"):
        engine.add_events([Event(users[0], items[1], engine.run.context.dataset.rating_levels[0], 5)]).result()
    with pytest.raises(DataError):
        engine.add_items([{"item": items[0], "title": "Again"}]).result()
    assert engine.history(users[0]) == before
    assert engine.state()["events"] == 0


def test_a_forgotten_user_is_unknown_and_others_stay(engine: Engine, plain: Run, users: list[str], items: list[str]):
    mine = event(engine.run, users[0], items[0])
    engine.add_events([mine, event(engine.run, "guest", items[1], 2), event(engine.run, users[1], items[2], 3)]).result()
    both = opened(plain.folder)
    both.context.extend([mine, event(both, "guest", items[1], 2), event(both, users[1], items[2], 3)])
    for user in (users[0], users[1], "guest"):
        engine.score(user, items, "growing").result()
    warm = engine.work.kept.warm
    numbers = engine.run.context.dataset.users.inside([users[0], "guest"]).tolist()
    held_now = len(warm)
    assert sum(key.user in numbers for key in warm._held) == 6, "a trunk, u and C(u) of each"
    for user in (users[0], "guest"):
        engine.forget(user).result()
        with pytest.raises(DataError, match="unknown id"):
            engine.history(user)
        with pytest.raises(DataError):
            engine.score(user, items, "growing", cold="refuse").result()
        with pytest.raises(DataError):
            engine.forget(user).result()
    assert len(warm) == held_now - 6
    assert all(one.last is None for one in engine.run.scorers.values() if isinstance(one, LanguageScorer))
    assert not any(key.user in numbers for key in warm._held)
    dataset = engine.run.context.dataset
    assert len(dataset) == len(plain.context.dataset) + 1, "the later events of both are gone"
    assert dataset.profiles.column("user").to_pylist().count(users[0]) == 0
    for name in NAMES:
        close(engine.score(users[1], items, name).result(), offline(both, name, users[1], items))
    engine.add_events([event(engine.run, users[0], items[3], 9)]).result()
    assert [past.item for past in engine.history(users[0])] == [items[3]]
    again = opened(plain.folder)
    again.context.extend([event(again, "another", items[3], 9)])
    close(engine.score(users[0], items, "growing").result(), offline(again, "growing", "another", items))


def test_an_answer_says_why(engine: Engine, plain: Run, users: list[str], items: list[str]):
    context, dataset = plain.context, plain.context.dataset
    answer = engine.score(users[0], items, "growing").result()
    count = len(engine.history(users[0]))
    assert [past.item for past in answer.shown] == [past.item for past in engine.history(users[0])][count - count % 3 - 2 :]
    assert answer.weights is not None
    assert (answer.weights.of, answer.weights.names) == ("experts", ("expert 1", "expert 2"))
    assert sum(answer.weights.values) == pytest.approx(1)
    assert len({*answer.weights.values}) == 2
    assert dict(answer.run) == {
        "recipe": "few",
        "data": plain.stages.data.key,
        "system": plain.stages.system("growing").key,
    }
    vectors_ME = context.vectors.vectors_NE.double().numpy()
    unit_ME = vectors_ME / np.linalg.norm(vectors_ME, axis=1, keepdims=True)
    seen = dataset.items.inside([past.item for past in answer.shown])
    for placed in answer.items:
        likeness_K = unit_ME[seen] @ unit_ME[dataset.items.inside([placed.item])[0]]
        assert placed.nearest is not None
        best = dataset.items.inside([placed.nearest.item])[0]
        assert likeness_K[seen.tolist().index(best)] == pytest.approx(likeness_K.max(), abs=1e-6)
        assert placed.shown is None
    own = engine.score(users[0], items, "similar").result()
    assert own.shown == ()
    assert all(one.shown is not None and one.nearest in one.shown for one in own.items)
    assert own.weights is not None
    assert (own.weights.of, own.weights.names) == ("full", ("layer 1", "layer 2"))
    scorer, best = plain.scorers["similar"], min(range(len(items)), key=lambda place: own.items[place].rank)
    requests = plain.task.now(int(dataset.users.inside([users[0]])[0]), dataset.items.inside(items).astype(np.int64))
    C_SBQP = scorer.lm.adapters.couplings(scorer.represented(scorer.asked(requests), np.array([best]))).tensor.detach().numpy()
    size_S = [np.sqrt(((C_QP - np.eye(len(C_QP))) ** 2).sum()) for C_QP in C_SBQP[:, 0]]
    depth_S = np.array([int(name.split(".layers.")[1].split(".")[0]) for name, _ in scorer.lm.adapters.layers])
    assert own.weights.values == pytest.approx([np.mean(np.array(size_S)[depth_S == depth]) for depth in (0, 1)])
    bare = engine.score(users[0], items, "growing", reasons=False).result()
    assert (bare.shown, bare.weights, {one.nearest for one in bare.items}) == ((), None, {None})
    assert [one.score for one in bare.items] == [one.score for one in answer.items]
    assert answer.as_json()["run"]["recipe"] == "few"
