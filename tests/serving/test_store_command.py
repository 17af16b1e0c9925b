"""`lifelora store`: what a service was told is the next run's data, in the words of the command line."""

from pathlib import Path

import pytest
from http_world import event, opened

from lifelora.cli import main
from lifelora.data.prepare import Rules, prepare
from lifelora.data.sources import parse_source
from lifelora.serving.store import Form, NewEvent, Store


def test_export_and_import(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "current").symlink_to(plain)
    data = opened(plain).stages.data.folder
    before = len(opened(plain).context.dataset)
    with Store.open(tmp_path / "current.events.db", Form.of(data)) as store:  # as `lifelora serve` calls it by default
        store.append([NewEvent(**event("u00001", "b00001")), NewEvent(**event("new", "b00002"))])
    run = str(tmp_path / "current")
    assert main(["store", "export", run, "--out", str(tmp_path / "tonight")]) == 0
    assert (
        f"export: {before + 2:,} events (2 that the run lacks), 0 new items; forgotten users left out: 0"
        in capsys.readouterr().out
    )
    found = prepare(parse_source(f"tables:{tmp_path}/tonight/tables.toml").read(), Rules(), tmp_path / "next", "next")
    assert len(found) == before + 2
    assert "new" in found.users
    elsewhere = str(tmp_path / "other.db")
    assert main(["store", "import", run, "--store", elsewhere]) == 0
    assert main(["store", "import", run, "--store", elsewhere]) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.split(";")[0] for line in said] == [f"import: {before:,} new events", "import: 0 new events"]
    with Store.open(elsewhere, Form.of(data)) as store:
        assert store.last_seq() == before


def test_what_cannot_be_done_is_said(plain: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    store = ("--store", str(tmp_path / "events.db"))
    assert main(["store", "export", str(plain), "--out", str(tmp_path / "out"), *store]) == 1
    assert "there is no event store at" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "mine.txt").touch()
    assert main(["store", "import", str(plain), *store]) == 0
    assert main(["store", "export", str(plain), "--out", str(tmp_path), *store]) == 1
    assert str(tmp_path) in capsys.readouterr().err
    assert main(["store", "export", str(tmp_path / "nowhere"), "--out", str(tmp_path / "out"), *store]) == 1
    assert "nowhere" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["store"])
    assert "export" in capsys.readouterr().err
