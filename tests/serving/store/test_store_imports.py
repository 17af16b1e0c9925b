"""A prepared data set becomes the beginning of a store's history: whole, once, and as its log has it."""

import os
import signal
import time
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import pytest
from store_world import event, small_data, told

from lifelora.data.dataset import Dataset
from lifelora.data.extend import Event
from lifelora.errors import ArtefactError
from lifelora.serving.store import Form, NewEvent, Store, imports

FORK = get_context("fork")
"A child that has imported what we have."


def history_of(dataset: Dataset, user: str) -> list[tuple[str, str, float, int]]:
    """As the data set's own log has it."""
    rows = dataset.log.rows_of(int(dataset.users.inside([user])[0]))
    columns = dataset.items.outside(dataset.item_N[rows]), dataset.rating_N[rows].tolist(), dataset.time_N[rows].tolist()
    return [(user, item, dataset.rating_levels[code], time) for item, code, time in zip(*columns, strict=True)]


@pytest.mark.parametrize("times", [True, False])
def test_every_history_is_that_of_the_log(url: str, tmp_path: Path, times: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(imports, "AT_ONCE", 10)  # several pieces
    dataset = small_data(tmp_path / "data", times=times)
    users = dataset.users.outside(np.arange(dataset.n_users))
    with Store.open(url, Form.of(dataset.folder)) as store:
        assert store.import_data(dataset.folder) == (len(dataset), 0, 0)
        assert [e.seq for e in store.since(0)] == list(range(1, len(dataset) + 1))
        for user in users:
            assert told(list(store.history(user))) == history_of(dataset, user)
        assert store.import_data(str(dataset.folder)) == (0, len(dataset), 0)
        assert store.last_seq() == len(dataset)
        new = store.append([NewEvent(users[0], "item-new", 4.0, 1_900_000_000)])
        assert store.last(users[0], 1)[0].seq == new[0].seq == len(dataset) + 1


def test_events_that_clients_sent_before_are_not_doubled_and_later_ones_go_on(url: str, tmp_path: Path):
    dataset = small_data(tmp_path / "data")
    user, item, rating, time = history_of(dataset, "user-3")[4]
    with Store.open(url, Form.of(dataset.folder)) as store:
        store.append([event(user, item, time, rating, "k"), event("new", "x", 1_600_000_001, 3.0)])
        assert store.import_data(dataset.folder) == (len(dataset) - 1, 1, 0)
        assert sorted(told(list(store.history(user)))) == sorted(history_of(dataset, user))
        assert store.count_users() == dataset.n_users + 1


def test_a_later_export_of_the_shop_adds_what_is_new_in_it(url: str, tmp_path: Path):
    first, later = small_data(tmp_path / "first", users=5), small_data(tmp_path / "later", users=8)
    with Store.open(url, Form.of(first.folder)) as store:
        store.import_data(first.folder)
        before = {one[:4] for one in told(list(store.since(0)))}
        theirs = {one for u in range(8) for one in history_of(later, f"user-{u}")}
        assert store.import_data(later.folder) == (len(theirs - before), len(theirs & before), 0)
        assert set(told(list(store.since(0)))) == before | theirs


def test_without_times_a_second_data_set_cannot_be_told_from_the_first(url: str, tmp_path: Path):
    first, later = small_data(tmp_path / "first", times=False), small_data(tmp_path / "later", users=8, times=False)
    with Store.open(url, Form.of(first.folder)) as store:
        store.import_data(first.folder)
        with pytest.raises(ArtefactError, match="has the data set 'small' already, and without times .* into a new store"):
            store.import_data(later.folder)
        assert store.last_seq() == len(first)


@pytest.mark.parametrize("missing", ["events/item.npy", "users.parquet", "dataset.json"])
def test_a_data_set_that_is_not_whole_is_refused(url: str, tmp_path: Path, missing: str):
    dataset = small_data(tmp_path / "data")
    form = Form.of(dataset.folder)
    (dataset.folder / missing).unlink()
    with Store.open(url, form) as store:
        with pytest.raises(ArtefactError, match="does not exist|is no whole data set"):
            store.import_data(dataset.folder)
        assert store.last_seq() == 0


def test_a_data_set_of_another_shop_is_refused(url: str, tmp_path: Path):
    dataset = small_data(tmp_path / "data", times=False)
    with Store.open(url, Form((1.0, 2.0))) as store, pytest.raises(ArtefactError, match="of another shop than this store"):
        store.import_data(dataset.folder)


def test_an_import_that_is_interrupted_leaves_nothing_and_is_done_anew(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dataset = small_data(tmp_path / "data")
    real, pieces = imports.Database.insert, []

    def stop(*arguments: object) -> None:
        pieces.append(1)
        if len(pieces) == 3:
            raise KeyboardInterrupt
        real(*arguments)

    with Store.open(url, Form.of(dataset.folder)) as store:
        with monkeypatch.context() as patched:
            patched.setattr(imports, "AT_ONCE", 10)
            patched.setattr(imports.Database, "insert", stop)
            with pytest.raises(KeyboardInterrupt):
                store.import_data(dataset.folder)
        assert store.last_seq() == 0
        assert store.import_data(dataset.folder).events == len(dataset)


def import_until_killed(url: str, folder: Path, said: Connection) -> None:
    """In a child: some pieces are written, and the next never is."""
    real, pieces = imports.Database.insert, []

    def stop(*arguments: object) -> None:
        pieces.append(1)
        if len(pieces) == 3:
            said.send("two pieces are written")
            time.sleep(600)
        real(*arguments)

    imports.AT_ONCE, imports.Database.insert = 10, stop
    with Store.open(url, Form.of(folder)) as store:
        store.import_data(folder)


def test_an_import_that_is_killed_leaves_nothing_and_is_done_anew(url: str, tmp_path: Path):
    dataset = small_data(tmp_path / "data")
    with Store.open(url, Form.of(dataset.folder)) as store:
        store.append([event("before", "item-0", 1)])
    ours, theirs = FORK.Pipe(duplex=False)
    child = FORK.Process(target=import_until_killed, args=(url, dataset.folder, theirs))
    child.start()
    assert ours.poll(60)
    os.kill(child.pid, signal.SIGKILL)
    child.join()
    with Store.open(url, Form.of(dataset.folder)) as store:
        assert [e.user for e in store.since(0)] == ["before"]
        assert store.append([event("after", "item-0", 2)])[0].new, "no lock is left"
        assert store.import_data(dataset.folder) == (len(dataset), 0, 0)
        assert store.count_users() == dataset.n_users + 2


def test_what_the_store_gives_a_data_set_takes(url: str, tmp_path: Path):
    """The whole path of an event: sent, kept, given back, and in the log that models read."""
    dataset = small_data(tmp_path / "data")
    with Store.open(url, Form.of(dataset.folder)) as store:
        store.import_data(dataset.folder)
        before = store.last_seq()
        store.append([event("user-1", "item-0", 1_900_000_000, 2.0, "k"), event("new", "item-new", 1_900_000_001, 5.0)])
        grown = dataset.extended(store.since(before))
        assert history_of(grown, "user-1") == told(list(store.history("user-1")))
        assert history_of(grown, "new") == [("new", "item-new", 5.0, 1_900_000_001)]


def test_ratings_that_models_leave_out_are_kept(tmp_path: Path):
    form = Form((4.0, 5.0), keep_from=4.0)
    with Store.open(tmp_path / "events.db", form) as store:
        store.append([Event("a", "x", 1.5, 1)])
        assert told(list(store.since(0))) == [("a", "x", 1.5, 1)]
