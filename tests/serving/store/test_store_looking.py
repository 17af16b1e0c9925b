"""A store that is opened only to be read: it has to be there, nothing of it changes, and who writes does not matter."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from postgres_world import PASSWORD, Server
from store_world import FORM, event

from lifelora.errors import ArtefactError, ConfigError, StoreError
from lifelora.serving.store import Form, Store, tables
from lifelora.serving.store.place import Place


def test_where_none_is_there_none_is_made(url: str, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"there is no event store at .*; `lifelora serve` makes one") as caught:
        Store.open(url, FORM, make=False)
    assert PASSWORD not in str(caught.value)
    assert list(tmp_path.iterdir()) == []
    if url.startswith("postgresql"):
        engine = sa.create_engine(Place.of(url).url)
        assert sa.inspect(engine).get_table_names() == []
        engine.dispose()


def test_an_empty_file_is_no_store_and_stays_empty(tmp_path: Path):
    path = tmp_path / "events.db"
    path.touch()
    with pytest.raises(ConfigError, match="there is no event store at"):
        Store.open(path, FORM, make=False)
    assert path.read_bytes() == b""


def test_it_reads_while_another_writes_and_writes_nothing(url: str):
    with Store.open(url, FORM) as store:
        store.append([event("a", "x", 1)])
        store.forget("b")
        with store._database.writing(), Store.open(url, FORM, make=False) as looking:
            assert [e.user for e in looking.since(0)] == ["a"]
            assert looking.forgotten_among(["a", "b"]) == {"b"}
        with Store.open(url, FORM, make=False) as looking:
            for write in (lambda: looking.append([event("a", "y", 2)]), lambda: looking.forget("a")):
                with pytest.raises(StoreError, match=r"read-?only"):
                    write()
        assert [e.item for e in store.since(0)] == ["x"]


def test_what_may_only_be_read_is_read(server: Server):
    url = server.new("tests")
    with Store.open(url, FORM) as store:
        store.append([event("a", "x", 1)])
    server.sql("DROP ROLE IF EXISTS reader")
    server.sql("CREATE ROLE reader LOGIN PASSWORD 'r'")
    server.sql("GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader", "tests")
    with Store.open(url.replace(f"lifelora:{PASSWORD}", "reader:r"), FORM, make=False) as looking:
        assert [e.user for e in looking.since(0)] == ["a"]
    server.sql("REVOKE ALL ON ALL TABLES IN SCHEMA public FROM reader", "tests")


def test_another_shop_is_refused(url: str):
    with Store.open(url, FORM):
        pass
    with pytest.raises(ArtefactError, match="have times, and those of this data set have none: it is of another shop"):
        Store.open(url, Form(FORM.levels, has_times=False), make=False)


def test_an_older_store_stays_as_it_is(url: str, monkeypatch: pytest.MonkeyPatch):
    with Store.open(url, FORM):
        pass
    with monkeypatch.context() as future:
        future.setattr(tables, "VERSION", 2)
        future.setattr(tables, "STEPS", {1: lambda connection: connection.exec_driver_sql("DROP TABLE lifelora_events")})
        with pytest.raises(
            ArtefactError, match=r"by an older lifelora \(its version is 1, .* 2\); `lifelora serve` brings it up"
        ):
            Store.open(url, FORM, make=False)
    with Store.open(url, FORM) as store:
        assert list(store.since(0)) == []
