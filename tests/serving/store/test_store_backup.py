"""The backups of docs/operations.md: made while a store is open, they hold all of it, and are stores."""

import re
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from postgres_world import Server, binary
from store_world import FORM, event

from lifelora.serving.store import Store

TEXT = (Path(__file__).parents[3] / "docs/operations.md").read_text()


def filled(url: str, copied: Callable[[], object], copy: str) -> None:
    """What was acknowledged is in the copy, what came later is not, and who was forgotten stays so."""
    with Store.open(url, FORM) as store:
        store.append([event(f"user-{n}", "x", 1_700_000_000 + n, key=f"key-{n}") for n in range(50)])
        store.forget("user-7")
        store.add_items([{"item": "new", "title": "New"}])
        copied()
        before = list(store.since(0))
        store.append([event("late", "x", 1_800_000_000)])
        with Store.open(copy, FORM) as restored:
            assert list(restored.since(0)) == before
            assert restored.forgotten_among(["user-7", "user-8"]) == {"user-7"}
            assert [item.item for item in restored.items()] == ["new"]
            again = restored.append([event("user-3", "x", 1_700_000_003, key="key-3"), event("late", "x", 1_800_000_000)])
            assert [one.new for one in again] == [False, True]  # as a client sends again what it does not know to be kept


def test_of_sqlite(tmp_path: Path):
    (words,) = re.findall(r"^sqlite3 .* \"(VACUUM INTO) '", TEXT, re.MULTILINE)
    path, copy = tmp_path / "events.db", tmp_path / "copy.db"

    def copied() -> None:
        with sqlite3.connect(path) as live:
            live.execute(f"{words} '{copy}'")
        live.close()

    filled(str(path), copied, str(copy))


@pytest.mark.skipif(binary("pg_dump") is None, reason="PostgreSQL's pg_dump is not installed here")
def test_of_postgresql(server: Server, tmp_path: Path):
    url, copy = server.new("tests"), server.new("restored")
    dump, restore = (re.search(rf"^{name} (.*)$", TEXT, re.MULTILINE) for name in ("pg_dump", "pg_restore"))
    assert dump is not None
    assert restore is not None

    def run(program: str, words: list[str], database: str) -> None:
        said = {"lifelora": database, "lifelora_restored": database, "backup/events.dump": str(tmp_path / "events.dump")}
        for old, new in said.items():
            words = [re.sub(rf"(^|=){old}$", rf"\g<1>{new}", word) for word in words]
        subprocess.run([binary(program) or "", *words], check=True)

    def copied() -> None:
        run("pg_dump", dump[1].split(), url)
        run("pg_restore", restore[1].split(), copy)

    filled(url, copied, copy)
