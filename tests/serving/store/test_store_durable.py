"""An event that was acknowledged is there, once, whatever was killed: the process that sent it, or the database's server.

A child appends bulks and says which were acknowledged; it is killed in the middle of that. What a power cut would take is not
tested: settings say that each commit is flushed to disk, and test_store_opening.py looks at them.
"""

import os
import random
import signal
import threading
import time
from collections import Counter
from multiprocessing import get_context
from multiprocessing.connection import Connection

import pytest
from postgres_world import Server
from store_world import FORM, event, told

from lifelora.errors import StoreError
from lifelora.serving.store import NewEvent, Store

FORK = get_context("fork")
"A child that has imported what we have."


def bulk(round: int, number: int) -> list[NewEvent]:
    """Two events with keys and one without."""
    user, time, key = f"u{number % 5}", 1000 * round + number, f"{round}-{number}"
    return [
        event(user, "x", time, key=f"{key}-a"),
        event(user, "y", time, key=f"{key}-b"),
        event(user, "z", time),
    ]


def append_for_ever(url: str, round: int, said: Connection) -> None:
    with Store.open(url, FORM) as store:
        number = 0
        while True:
            store.append(bulk(round, number))
            said.send(number)
            number += 1


def rounds_of_kills(url: str, rounds: int) -> None:
    draw, acknowledged = random.Random(0), list[tuple[int, int]]()
    with Store.open(url, FORM):
        pass
    for round in range(rounds):
        ours, theirs = FORK.Pipe(duplex=False)
        child = FORK.Process(target=append_for_ever, args=(url, round, theirs))
        child.start()
        theirs.close()
        wanted, said = draw.randrange(1, 40), list[int]()
        while len(said) < wanted:
            said.append(ours.recv())
        time.sleep(draw.random() * 0.01)
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        try:
            while True:
                said.append(ours.recv())
        except EOFError:
            ours.close()
        acknowledged += [(round, number) for number in said]
    assert len(acknowledged) >= rounds
    with Store.open(url, FORM) as store:
        there = Counter(told(list(store.since(0))))
        assert set(there.values()) == {1}
        for round, number in acknowledged:
            for one in bulk(round, number):
                assert there[one.user, one.item, one.rating, one.time] == 1
        per_bulk = Counter(e.time for e in store.since(0))
        assert set(per_bulk.values()) == {3}  # whole or not at all
        assert len(per_bulk) - len(acknowledged) <= rounds  # of each child one more may be there, which it could not say
        numbers = [e.seq for e in store.since(0)]
        assert numbers == list(range(1, len(numbers) + 1))
        for round, number in acknowledged:  # and a client that sends all of it again adds nothing
            assert not any(one.new for one in store.append(bulk(round, number)))


def test_what_was_acknowledged_outlives_its_process(url: str):
    rounds_of_kills(url, 3)


@pytest.mark.slow
def test_what_was_acknowledged_outlives_its_process_many_times(url: str):
    rounds_of_kills(url, 40)


def kills_of_the_server(server: Server, rounds: int) -> None:
    """Threads append to one store while its server is killed and started again; each sends again what failed."""
    url = server.new("killed")
    acknowledged, stop, failures = list[int](), threading.Event(), list[str]()
    with Store.open(url, FORM) as store:

        def append(thread: int) -> None:
            number = thread
            while not stop.is_set():
                try:
                    store.append(bulk(0, number))
                except StoreError as error:
                    failures.append(str(error))
                    time.sleep(0.05)
                    continue
                acknowledged.append(number)
                number += 3

        threads = [threading.Thread(target=append, args=(thread,)) for thread in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(rounds):
            before = len(acknowledged)
            while len(acknowledged) < before + 20:
                time.sleep(0.01)
            server.kill()
            server.start()
        before = len(acknowledged)
        while len(acknowledged) < before + 20:
            time.sleep(0.01)
        stop.set()
        for thread in threads:
            thread.join()
        assert failures
        there = Counter(told(list(store.since(0))))
        assert sum(there.values()) == 3 * len(acknowledged)
        assert set(there.values()) == {1}
        assert {e.time for e in store.since(0)} == set(acknowledged)


def test_what_was_acknowledged_outlives_the_server_and_the_store_finds_it_again(server: Server):
    kills_of_the_server(server, 1)


@pytest.mark.slow
def test_what_was_acknowledged_outlives_the_server_many_times(server: Server):
    kills_of_the_server(server, 10)
