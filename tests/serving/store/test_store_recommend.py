"""`lifelora recommend --store URL`: lists know what a store has that came after the run, by the rules of the service."""

import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from http_world import NOW, opened, serving

from lifelora.cli import main
from lifelora.commands.serve import _told
from lifelora.data.extend import Event
from lifelora.run import Run
from lifelora.run.recommend import many, ranking
from lifelora.run.recommend.many import Batch
from lifelora.run.recommend.told import tell_items
from lifelora.serving.following import Position, add_store
from lifelora.serving.store import Form, NewEvent, Store

HARBOUR = {"item": "new", "title": "The Quiet Harbour"}


def form_of(folder: Path) -> Form:
    return Form.of(opened(folder).stages.data.require())


@pytest.fixture
def kept(plain: Path, url: str) -> str:
    """A store that has the run's own data, and of each kind one event: some that count, and some that do not."""
    data = opened(plain).stages.data.require()
    with Store.open(url, form_of(plain)) as store:
        store.import_data(data)
        store.append([NewEvent("u00002", "new", 5, NOW), NewEvent("u00004", "b00001", 5, NOW)])
        store.append([NewEvent("u00002", "b00003", 4, NOW + 5, "once"), NewEvent("fresh", "b00004", 5, NOW)])
        store.append([NewEvent("u00002", "b00005", 1, NOW + 2), NewEvent("u00003", "b00001", 5, 7)])
        store.append([NewEvent("u00002", "nothing", 5, NOW + 9), NewEvent("u00002", "b00003", 4, NOW + 5, "again")])
        store.append([NewEvent("u00005", "b00002", 5, NOW)])
        store.forget("u00005")
        store.forget("u00004")
        store.append([NewEvent("u00004", "b00002", 3, NOW)])
        store.add_items([HARBOUR])
    return url


def by_hand(run: Run) -> Run:
    """What a reader of ``kept`` would tell it: events by user and time."""
    run.context.forget("u00005")
    run.context.forget("u00004")
    tell_items(run.context, [HARBOUR])
    events = [("u00002", "new", 5, NOW), ("u00002", "b00005", 1, NOW + 2), ("u00002", "b00003", 4, NOW + 5)]
    run.context.extend([Event(*one) for one in (*events, ("u00004", "b00002", 3, NOW), ("fresh", "b00004", 5, NOW))])
    return run


def test_lists_know_what_the_store_has(plain: Path, kept: str):
    """By hand, and as the service answers that opens the same store."""
    run, due, as_it_was = opened(plain), by_hand(opened(plain)), many(opened(plain), k=5)
    own = len(run.context.dataset)
    with Store.open(kept, form_of(plain)) as store:
        place, events = store.place, sum(1 for _ in store.since(0))
        gone = own - (events - 8)
    notes, position = add_store(run.context, kept)
    assert notes == [
        f"{place}: 5 events came after those of the run.",
        f"{place}: {events - 7:,} events are in the run's log already.",
        f"{place}: 1 event was left out: before the last event of its user in the run's own data.",
        f"{place}: 1 event was left out: of an item that the catalogue lacks.",
        f"{place}: 1 item is new.",
        f"{place}: 2 users were forgotten there, and left out.",
    ]
    assert gone == sum(len(np.atleast_1d(rows)) for rows in forgotten_rows(plain))
    made = many(run, k=5)
    assert made.equals(many(due, k=5))
    assert not made.equals(as_it_was)
    users = made.column("user").unique().to_pylist()
    assert ("u00005" in users, "u00004" in users, "fresh" in users) == (False, True, True)
    with serving(plain, kept) as client:
        for user in ("u00002", "u00003", "u00004", "fresh"):
            came = client.get(f"/v1/recommend/{user}", params={"n": 5}).json()["items"]
            rows = [row for row in made.to_pylist() if row["user"] == user]
            assert [one["item"] for one in came] == [row["item"] for row in rows]
            assert [one["score"] for one in came] == pytest.approx([row["score"] for row in rows], rel=1e-5)
    with Store.open(kept, form_of(plain)) as store:
        store.append([NewEvent("u00001", "b00001", 5, NOW)])
        store.add_items([{"item": "newer", "title": "Another"}])
    again = opened(plain)
    assert add_store(again.context, kept, position)[1] == position == Position(events_end(kept, plain) - 1, 1)
    assert many(again, k=5).equals(made), "as of then"


def forgotten_rows(plain: Path) -> list[np.ndarray]:
    dataset = opened(plain).context.dataset
    return [np.arange(len(dataset))[dataset.log.rows_of(int(u))] for u in dataset.users.inside(["u00004", "u00005"])]


def events_end(url: str, plain: Path) -> int:
    with Store.open(url, form_of(plain)) as store:
        return store.last_seq()


def typed(folder: Path, *words: object) -> list[str]:
    return ["recommend", str(folder), *map(str, words), "--device", "cpu", "--quiet"]


def test_the_command_takes_it_for_one_and_for_all(plain: Path, kept: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    due = by_hand(opened(plain))
    out = tmp_path / "recs.parquet"
    assert main(typed(plain, "--all-users", "-k", 5, "--store", kept, "--out", out)) == 0, capsys.readouterr().err
    table = pq.read_table(out)
    assert table.equals(many(due, k=5))
    assert "s3cret" not in "".join(path.read_text() for path in tmp_path.glob("*.json"))
    capsys.readouterr()
    assert main(typed(plain, "--user", "fresh", "-k", 5, "--store", kept, "--json")) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [one["item"] for one in answer["items"]] == [row["item"] for row in table.to_pylist() if row["user"] == "fresh"]
    assert main(typed(plain, "--user", "u00005", "--store", kept)) == 1
    assert "unknown id" in capsys.readouterr().err


def test_what_is_said_of_a_store_has_no_password(plain: Path, kept: str):
    assert "s3cret" not in _told(opened(plain), kept)


def test_a_store_that_is_none_is_told(plain: Path, url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(typed(plain, "--user", "u00001", "--store", url)) == 1
    assert "there is no event store at" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    with Store.open(url, Form((1.0,), has_times=False)):
        pass
    assert main(typed(plain, "--user", "u00001", "--store", url)) == 1
    assert "it is of another shop" in capsys.readouterr().err
    assert main(typed(plain, "--user", "u00001", "--store", url, "--events", "log.csv")) == 1
    assert "--store and --events both tell" in capsys.readouterr().err


def test_a_file_that_was_begun_goes_on_as_of_then(
    plain: Path, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(ranking, "CELLS", 8 * 81)  # eight users at a time
    due = many(by_hand(opened(plain)), k=5)
    out = tmp_path / "recs.parquet"
    words = typed(plain, "--all-users", "-k", 5, "--store", kept, "--out", out)
    block = Batch.block

    def killed(batch: Batch, number: int) -> object:
        if number == 1:
            raise KeyboardInterrupt
        return block(batch, number)

    with monkeypatch.context() as first:
        first.setattr(Batch, "block", killed)
        main(words)
    assert not out.exists()
    assert [path.name for path in (tmp_path / "recs.parquet.parts").glob("*.parquet")] == ["0000000.parquet"]
    with Store.open(kept, form_of(plain)) as store:
        store.append([NewEvent(f"u{number:05}", "b00001", 5, NOW + 50) for number in range(4)])
        store.add_items([{"item": "newer", "title": "Another"}])
    capsys.readouterr()
    assert main(words) == 0, capsys.readouterr().err
    assert pq.read_table(out).equals(due)
    assert main(words) == 1, "whole, and the store has more"
    assert "since" in capsys.readouterr().err
    assert pq.read_table(out).equals(due)


def test_who_was_forgotten_meanwhile_is_in_no_file(
    plain: Path, kept: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "recs.csv"
    words = typed(plain, "--all-users", "-k", 5, "--store", kept, "--out", out)
    with monkeypatch.context() as first:
        first.setattr(Batch, "block", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt()))
        main(words)
    with Store.open(kept, form_of(plain)) as store:
        store.forget("u00001")
    capsys.readouterr()
    assert main(words) == 1
    assert "users" in capsys.readouterr().err
    assert not out.exists()
