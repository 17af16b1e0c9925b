"""What may be opened, and what is told of all else; no message holds a password, and nothing that is no store is touched."""

import os
import sqlite3
import sys
from importlib import import_module
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import sqlalchemy as sa
from postgres_world import PASSWORD, Server
from store_world import FORM, event, small_data

from lifelora.errors import ArtefactError, ConfigError, LifeloraError, MissingExtraError, StoreError
from lifelora.serving.store import Form, Store, postgresql, tables
from lifelora.serving.store.place import Place

FORK = get_context("fork")
"A child that has imported what we have."


def test_a_store_is_made_and_opened_again(url: str):
    with Store.open(url, FORM) as store:
        store.append([event("a", "x", 1)])
        mark = store.mark("a")
    with Store.open(url, FORM) as store, Store.open(url, FORM) as other:
        assert [e.user for e in store.since(0)] == [e.user for e in other.since(0)] == ["a"]
        assert store.mark("a") == mark


def test_a_path_is_a_store_in_sqlite_that_only_its_owner_reads(tmp_path: Path):
    path = tmp_path / "events.db"
    with Store.open(path, FORM) as store:
        store.append([event("a", "x", 1)])
        assert {file.stat().st_mode & 0o777 for file in tmp_path.iterdir()} == {0o600}
        assert len(list(tmp_path.iterdir())) == 3
        with store._database.reading() as connection:
            settings = [
                connection.exec_driver_sql(f"PRAGMA {name}").scalar_one()
                for name in ("journal_mode", "synchronous", "secure_delete")
            ]
    assert settings == ["wal", 2, 1]  # synchronous: 2 is FULL
    with Store.open(f"sqlite:///{path}", FORM) as store:
        assert store.count_users() == 1


def test_postgresql_acknowledges_what_is_on_its_disk_whatever_its_setting(server: Server):
    url = server.new("careless")
    server.sql('ALTER DATABASE "careless" SET synchronous_commit = off')
    with Store.open(url, FORM) as store, store._database.reading() as connection:
        assert connection.exec_driver_sql("SHOW synchronous_commit").scalar_one() == "on"
        assert server.sql("SHOW synchronous_commit", "careless") == [("off",)]


@pytest.mark.parametrize(
    ("written", "what"),
    [
        ("mysql://lifelora:hunter2@host/db", "'mysql' is no database that lifelora knows; a store is sqlite:///FILE"),
        ("postgresql://lifelora:hun@ter2@host/db", r"cannot be read.*@ is written %40"),
        ("postgresql://lifelora:hunter2@host:hunter2/db", "cannot be read"),
        ("postgresql:///lifelora:hunter2@host/db", r"cannot be read.*postgresql://USER"),
        ("postgresql://life/lora:hunter2@host/db", r"cannot be read.*/ is %2F"),
        ("postgresql:///db?host=lifelora:hunter2@host", "cannot be read"),
        ("lifelora:hunter2@host/db", "has an @ and no sqlite:/// or postgresql:// before it"),
        ("sqlite://", "three slashes"),
        ("sqlite:///events.db?mode=ro", "no options"),
        ("sqlite:///:memory:", "in memory would lose its events"),
        ("", "in memory would lose its events"),
        ("no/such/folder/events.db", "there is no folder '.*no/such/folder' for the store 'events.db'; make it"),
        (".", "is a folder; a store is a file"),
        ("x" * 300, "cannot be written: File name too long"),
        ("a\0b", "cannot be written"),
    ],
)
def test_a_url_that_is_none_is_told_without_its_password(
    written: str, what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError, match=what) as caught:
        Store.open(written, FORM)
    assert "ter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert list(tmp_path.iterdir()) == []


def test_what_is_shown_of_a_url_has_no_password():
    place = Place.of("postgres://lifelora:hunter2@db.shop:5433/events?sslpassword=hunter3&sslmode=require")
    assert str(place) == repr(place) == "postgresql://lifelora@db.shop:5433/events"
    assert place.without_secrets("no 'hunter2'\nnor hunter3") == "no '***' nor ***"
    assert Place.of("postgresql://h/d").secrets == []
    assert Place.of("postgresql://h/d?password=hunter2&password=hunter3").secrets == ["hunter2", "hunter3"]


def test_a_wrong_password_and_a_database_that_is_not_there_are_told(server: Server, caplog: pytest.LogCaptureFixture):
    for url, what in (
        (server.url("postgres", "hunter2"), 'password authentication failed for user "lifelora"'),
        (server.url("nothing"), 'database "nothing" does not exist'),
        (f"postgresql://lifelora:{PASSWORD}@127.0.0.1:1/x", "Connection refused"),
    ):
        with pytest.raises(StoreError, match=what) as caught:
            Store.open(url, FORM)
        shown = "".join(map(str, (caught.value, caught.value.__cause__, caught.value.__context__, caplog.text)))
        assert "hunter2" not in shown
        assert PASSWORD not in shown


@pytest.mark.parametrize("content", [b"user,item\na,b\n", b"x" * 5000, b"SQLite format 3\0" + b"x" * 5000])
def test_a_file_that_is_no_store_is_refused_and_stays_as_it_is(content: bytes, tmp_path: Path):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(ArtefactError, match=r"log.csv is no event store of lifelora; choose another path"):
        Store.open(path, FORM)
    assert path.read_bytes() == content
    assert list(tmp_path.iterdir()) == [path]


def test_the_database_of_another_program_is_refused_and_stays_as_it_is(tmp_path: Path):
    path = tmp_path / "photos.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE photos (id INTEGER)")
    connection.close()
    before = path.read_bytes()
    with pytest.raises(ArtefactError, match="no event store"):
        Store.open(path, FORM)
    assert path.read_bytes() == before


def test_in_postgresql_a_store_stands_beside_tables_of_others(server: Server):
    url = server.new("shared")
    server.sql("CREATE TABLE events (id int); INSERT INTO events VALUES (7)", "shared")
    with Store.open(url, FORM) as store:
        store.append([event("a", "x", 1)])
    assert server.sql("SELECT * FROM events", "shared") == [(7,)]


def test_a_store_whose_tables_are_not_all_there_is_damaged(url: str):
    with Store.open(url, FORM) as store, store._database.writing() as connection:
        connection.exec_driver_sql("DROP TABLE lifelora_store")
    with pytest.raises(ArtefactError, match="has lifelora_events, .* and no lifelora_store: it is damaged; restore a backup"):
        Store.open(url, FORM)


def test_a_file_with_damaged_pages_is_told(tmp_path: Path):
    path = tmp_path / "events.db"
    with Store.open(path, FORM) as store:
        store.append([event(f"user {n}", "x", n) for n in range(2000)])
    content = path.read_bytes()
    path.write_bytes(content[:4096] + b"\xff" * (len(content) - 4096))
    with pytest.raises(ArtefactError, match="is damaged .*; move it away and restore a backup"):
        Store.open(path, FORM)


def open_as_nobody(paths: list[Path], said: Connection) -> None:
    if os.geteuid() == 0:  # which may write anything
        os.setgid(65534)
        os.setuid(65534)
    for path in paths:
        with pytest.raises(ConfigError) as caught:
            Store.open(path, FORM)
        said.send(str(caught.value))


def test_a_file_or_folder_that_may_not_be_written_is_told():
    with TemporaryDirectory() as name:  # pytest's own folders are closed to other users
        paths = [Path(name) / "events.db", Path(name) / "new.db"]
        with Store.open(paths[0], FORM):
            pass
        paths[0].chmod(0o444)
        Path(name).chmod(0o555)
        ours, theirs = FORK.Pipe()
        child = FORK.Process(target=open_as_nobody, args=(paths, theirs))
        child.start()
        child.join()
        Path(name).chmod(0o755)
    assert [ours.recv() for path in paths] == [f"the store {path} cannot be written: Permission denied." for path in paths]


def test_a_store_of_other_events_is_refused(url: str):
    with Store.open(url, FORM):
        pass
    for form, what in (
        (Form(FORM.levels, has_times=False), "have times, and those of this data set have none"),
        (Form(FORM.levels, has_ratings=False), "have ratings, and those of this data set have none"),
    ):
        with pytest.raises(ArtefactError, match=f"the events of the store .* {what}: it is of another shop"):
            Store.open(url, form)


def test_the_form_is_that_of_a_prepared_data_set(tmp_path: Path):
    dataset = small_data(tmp_path / "data")
    form = Form.of(tmp_path / "data")
    assert (form.levels, form.has_times, form.has_ratings, form.keep_from) == (dataset.rating_levels, True, True, None)
    with pytest.raises(ArtefactError, match="does not exist"):
        Form.of(tmp_path)


def test_a_newer_store_is_refused_and_stays_as_it_is(url: str):
    with Store.open(url, FORM) as store:
        store.append([event("a", "x", 1)])
        with store._database.writing() as connection:
            connection.execute(tables.STORE.update().values(version=7))
    with pytest.raises(ArtefactError, match=r"by a newer lifelora \(its version is 7, and this lifelora knows 1\); upgrade"):
        Store.open(url, FORM)


def later_lifelora(monkeypatch: pytest.MonkeyPatch, last: str) -> None:
    """A lifelora of the future, two versions on, for which the stores of today are old; ``last`` is what its last step does."""
    steps = {
        1: lambda connection: connection.exec_driver_sql("ALTER TABLE lifelora_events ADD COLUMN place TEXT"),
        2: lambda connection: (
            connection.exec_driver_sql("UPDATE lifelora_events SET place = 'web'"),
            connection.exec_driver_sql(last),
        ),
    }
    monkeypatch.setattr(tables, "VERSION", 3)
    monkeypatch.setattr(tables, "STEPS", steps)


def columns_and_version(url: str) -> tuple[set[str], int]:
    with Store.open(url, FORM) as store, store._database.reading() as connection:
        names = {column["name"] for column in sa.inspect(connection).get_columns("lifelora_events")}
        return names, connection.execute(sa.select(tables.STORE.c.version)).scalar_one()


def test_an_older_store_is_brought_up_to_date_step_by_step(url: str, monkeypatch: pytest.MonkeyPatch):
    with Store.open(url, FORM) as store:
        store.append([event("a", "x", 1, key="k")])
    later_lifelora(monkeypatch, "SELECT 1")
    with Store.open(url, FORM) as store:
        assert [e.id for e in store.since(0)] == ["k"]
        with store._database.reading() as connection:
            assert connection.exec_driver_sql("SELECT place FROM lifelora_events").all() == [("web",)]
    assert columns_and_version(url) == ({"seq", "user", "item", "rating", "time", "id", "place"}, 3)


def test_a_step_that_fails_changes_nothing(url: str, monkeypatch: pytest.MonkeyPatch):
    with Store.open(url, FORM) as store:
        store.append([event("a", "x", 1, key="k")])
    with monkeypatch.context() as future:
        later_lifelora(future, "SELECT * FROM nowhere")
        with pytest.raises(LifeloraError, match="nowhere"):
            Store.open(url, FORM)
    assert columns_and_version(url) == ({"seq", "user", "item", "rating", "time", "id"}, 1)


def test_a_missing_package_is_told_with_the_command_that_brings_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "sqlalchemy", None)
    monkeypatch.delitem(sys.modules, "lifelora.serving.store.sql")
    with pytest.raises(MissingExtraError, match=r"event store needs 'sqlalchemy', .* pip install 'lifelora\[serve\]'"):
        import_module("lifelora.serving.store.sql")


def test_a_missing_driver_is_told_too(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(postgresql, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"a store in PostgreSQL needs 'psycopg', .* pip install 'lifelora\[serve\]'"):
        Store.open("postgresql://lifelora@localhost/x", FORM)
