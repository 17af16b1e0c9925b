"""Threads and processes that use one store at the same time."""

import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing import get_context

import pytest
from store_world import FORM, event

from lifelora.errors import BusyError, ConflictError, StoreError
from lifelora.serving.store import Accepted, Store, sqlite
from lifelora.serving.store import writer as writer_module
from lifelora.serving.store.events import Row
from lifelora.serving.store.writer import Writer

FORK = get_context("fork")
"A child that has imported what we have."


def test_threads_append_while_others_read(store: Store):
    """A reader that follows by number sees every event once, in order, and none appears before one that it has seen."""
    done, seen = threading.Event(), list[int]()

    def follow() -> None:
        last = False
        while not last:
            last = done.is_set()  # once more after the end
            seen.extend(e.seq for e in store.since(seen[-1] if seen else 0))

    def append(thread: int) -> list[Accepted]:
        sent = [event(f"u{thread}", f"i{n}", n, key=f"{thread}-{n}") for n in range(25)]
        return [*store.append(sent[:5]), *(store.append([one])[0] for one in sent[5:])]

    reader = threading.Thread(target=follow)
    reader.start()
    with ThreadPoolExecutor(8) as pool:
        accepted = list(pool.map(append, range(8)))
    done.set()
    reader.join()
    assert seen == list(range(1, 201))
    assert sorted(one.seq for mine in accepted for one in mine) == seen
    for thread, mine in enumerate(accepted):
        assert [e.seq for e in store.history(f"u{thread}")] == [one.seq for one in mine]


def test_threads_that_send_the_same_keys_keep_each_once(store: Store):
    sent = [event("a", f"i{n}", n, key=f"k{n}") for n in range(30)]
    with ThreadPoolExecutor(6) as pool:
        accepted = list(pool.map(lambda _: [store.append([one])[0] for one in sent], range(6)))
    for n in range(30):
        answers = [mine[n] for mine in accepted]
        assert len({one.seq for one in answers}) == 1
        assert sum(one.new for one in answers) == 1
    assert store.last_seq() == 30


def test_users_are_forgotten_while_others_append(store: Store):
    stop = threading.Event()

    def append(thread: int) -> int:
        n = 0
        while not stop.is_set():
            store.append([event(f"u{thread}", "x", n)])
            n += 1
        return n

    with ThreadPoolExecutor(4) as pool:
        sent = [pool.submit(append, thread) for thread in range(4)]
        for n in range(5):
            store.append([event("gone", "x", n)])
            store.forget("gone")
        stop.set()
        counts = [one.result() for one in sent]
    assert [len(list(store.history(f"u{thread}"))) for thread in range(4)] == counts
    assert list(store.history("gone")) == []


def append_all(url: str, process: int) -> None:
    with Store.open(url, FORM) as store:
        for n in range(20):
            store.append([event(f"u{process}", f"i{n}", n)])
            store.append([event("both", f"i{n}", n, key=f"key-{n}")])


def test_processes_append_to_one_store(url: str):
    """Each has users of its own, and both send what the other sends."""
    children = [FORK.Process(target=append_all, args=(url, process)) for process in range(3)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    assert [child.exitcode for child in children] == [0, 0, 0]
    with Store.open(url, FORM) as store:
        assert [len(list(store.history(user))) for user in ("u0", "u1", "u2", "both")] == [20, 20, 20, 20]
        assert [e.seq for e in store.since(0)] == list(range(1, 81))


def test_a_writer_that_does_not_end_is_told_after_some_patience(url: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite, "PATIENCE", 0.2)
    monkeypatch.setattr("lifelora.serving.store.postgresql.PATIENCE", 1)
    with Store.open(url, FORM) as store, Store.open(url, FORM) as other:
        with other._database.writing() as connection:
            connection.exec_driver_sql("UPDATE lifelora_store SET version = version")
            with pytest.raises(BusyError, match="is being written by another process for more than .* s; try again"):
                store.append([event("a", "x", 1)])
            assert store.count_users() == 0  # readers do not wait
        assert store.append([event("a", "x", 1)]) == [Accepted(1, True)]


def row(user: str) -> list[Row]:
    return [Row(user, "x", 4.0, 1)]


def test_bulks_that_wait_are_committed_together_and_each_has_its_own_outcome():
    """By hand: while the first is committed three more come, of which one is refused; they are one commit."""
    first_began, first_may_end, commits = threading.Event(), threading.Event(), []

    def commit(bulks):
        commits.append([list(rows) for rows in bulks])
        if len(commits) == 1:
            first_began.set()
            assert first_may_end.wait(10)
        return [ConflictError([]) if rows == row("bad") else [Accepted(len(commits), True)] for rows in bulks]

    writer = Writer(commit)
    with ThreadPoolExecutor(4) as pool:
        first = pool.submit(writer.write, row("one"))
        assert first_began.wait(10)
        others = [pool.submit(writer.write, row(name)) for name in ("two", "bad", "three")]
        while len(writer._queue) < 3:
            pass
        first_may_end.set()
        assert first.result() == [Accepted(1, True)]
        assert [other.result() for other in (others[0], others[2])] == [[Accepted(2, True)]] * 2
        with pytest.raises(ConflictError):
            others[1].result()
    assert commits[0] == [row("one")]
    assert sorted(commits[1]) == [row("bad"), row("three"), row("two")]


def test_a_thread_that_is_interrupted_while_it_waits_holds_up_no_other(monkeypatch: pytest.MonkeyPatch):
    began, may_end, commits = threading.Event(), threading.Event(), []

    def commit(bulks):
        commits.append([list(rows) for rows in bulks])
        began.set()
        assert may_end.wait(10)
        return [[Accepted(1, True)] for _ in bulks]

    def interrupted(event):
        raise KeyboardInterrupt

    writer = Writer(commit)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(writer.write, row("one"))
        assert began.wait(10)
        with monkeypatch.context() as patched:
            patched.setattr(writer_module.Event, "wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                writer.write(row("two"))
        last = pool.submit(writer.write, row("three"))
        while len(writer._queue) < 1:
            pass
        may_end.set()
        assert first.result() == last.result() == [Accepted(1, True)]
    assert commits == [[row("one")], [row("three")]]


def test_a_commit_that_fails_fails_for_all_and_the_next_is_tried():
    outcomes = [StoreError("disk full"), None]

    def commit(bulks):
        if (error := outcomes.pop(0)) is not None:
            raise error
        return [[Accepted(1, True)] for _ in bulks]

    writer = Writer(commit)
    with pytest.raises(StoreError, match="disk full"):
        writer.write(row("a"))
    assert writer.write(row("a")) == [Accepted(1, True)]
