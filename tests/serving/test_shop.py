"""examples/shop is true: its files are what its script makes, its recipe and commands are read, and its day is kept whole."""

import csv
import importlib.util
import re
import shlex
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest
from http_process import process

from lifelora.cli import main
from lifelora.commands import parser
from lifelora.data.dataset import Dataset
from lifelora.recipe.files import load
from lifelora.serving.store import Form, Store

ROOT = Path(__file__).parents[2]
SHOP = ROOT / "examples/shop"
FILES = ("orders.csv", "teas.csv", "new-teas.csv", "customers.csv", "day.csv")
SMALL = [
    "conventional.deepfm.training.max_steps=2",
    "backbone.width=16",
    "backbone.layers=1",
    "backbone.heads=2",
    "backbone.vocabulary=500",
    "backbone.histories=0.05",
    "backbone.training.max_steps=2",
    "systems.personal.train_samples=24",
    "systems.personal.validation_samples=24",
    "systems.personal.training.max_steps=2",
    "blends.both.validation_samples=24",
    "evaluation.test_samples=24",
    "evaluation.resamples=100",
]


def rows(name: str) -> list[dict[str, str]]:
    with (SHOP / name).open(newline="") as file:
        return list(csv.DictReader(file))


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"shop_{name}", SHOP / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_the_files_are_what_the_script_makes(tmp_path: Path):
    script("make").make(tmp_path)
    for name in FILES:
        assert (tmp_path / name).read_bytes() == (SHOP / name).read_bytes(), name
    assert sum((SHOP / name).stat().st_size for name in FILES) < 300_000


def test_the_day_can_be_played():
    """In order, each order once, of a tea that is sold by then and new to its customer, who is known or signs up."""
    day, sold = rows("day.csv"), {row["item"] for row in rows("teas.csv")}
    known, had = {row["user"] for row in rows("customers.csv")}, {(row["user"], row["item"]) for row in rows("orders.csv")}
    new, gone = {row["item"] for row in rows("new-teas.csv")}, set[str]()
    assert [row["time"] for row in day] == sorted(row["time"] for row in day)
    assert max(row["time"] for row in rows("orders.csv")) < day[0]["time"]
    for row in day:
        match row["what"]:
            case "launch":
                sold.add(row["item"])
                new.remove(row["item"])
            case "sign-up":
                known.add(row["user"])
            case "forget":
                gone.add(row["user"])
            case "order":
                assert row["item"] in sold
                assert row["user"] in known - gone
                assert (row["user"], row["item"]) not in had
                had.add((row["user"], row["item"]))
    ids = [row["id"] for row in day if row["what"] == "order"]
    assert len(set(ids)) == len(ids) > 200
    assert (new, len(gone)) == (set(), 1)


def test_the_recipe_is_read():
    recipe = load(str(SHOP / "shop.toml"))
    raw = recipe.data.source.read()
    assert raw.interactions.num_rows == len(rows("orders.csv"))
    assert raw.catalogue.column_names == ["item", "title", "description", "kind", "price"]
    assert list(recipe.systems) == ["personal"]


def test_a_list_that_nobody_waits_for_is_asked_for_again(monkeypatch: pytest.MonkeyPatch):
    """A busy service says 503 and is asked again; one that is not there ends the day at once."""
    day = script("day")
    answers = [day.BusyError("503"), {"items": ["a"]}, day.BusyError("503"), day.BusyError("503"), {"items": ["b"]}]

    def call(*_: object, **__: object) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(day.time, "sleep", lambda seconds: None)
    service = day.Service("http://127.0.0.1:9")
    with pytest.raises(day.NoAnswerError, match="refused") as away:
        day.Lists(service).of_all(["u"])
    assert not isinstance(away.value, day.BusyError)
    monkeypatch.setattr(day.Service, "call", call)
    assert day.Lists(service).of_all(["u", "v"]) == {"u": ["a"], "v": ["b"]}


@pytest.mark.parametrize("name", ["examples/shop/README.md", "docs/operations.md", "docs/service.md"])
def test_every_command_line_is_one(name: str):
    blocks = re.findall(r"^```(?:sh)?\n(.*?)^```$", (ROOT / name).read_text(), re.DOTALL | re.MULTILINE)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("lifelora ")]
    assert lines or name == "docs/service.md"
    for line in lines:
        parser().parse_args(shlex.split(line, comments=True)[1:])


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_day_through_a_kill_is_kept_whole_and_is_the_next_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """The service is killed in the middle and started again; the store itself says what it has."""
    settings = [word for one in SMALL for word in ("--set", one)]
    run, db = tmp_path / "run", tmp_path / "run.events.db"
    for more in (["--estimate"], []):
        assert main(["run", str(SHOP / "shop.toml"), "--out", str(run), "--device", "cpu", "--quiet", *settings, *more]) == 0
    assert "personal, training" in capsys.readouterr().out
    with process(run) as (service, address, _):
        played = subprocess.Popen(
            [sys.executable, SHOP / "day.py", address, "--minutes", "0.3"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        with Store.open(db, Form.of(run / "1-data")) as store:
            while store.last_seq() < 50:  # it is on its way
                assert played.poll() is None, played.communicate()
                time.sleep(0.1)
        service.kill()
        service.wait()
    with process(run, "--port", address.rpartition(":")[2]):
        said, wrong = played.communicate(timeout=200)
    assert played.returncode == 0, wrong
    day = rows("day.csv")
    (gone,) = {row["user"] for row in day if row["what"] == "forget"}
    orders = [row for row in day if row["what"] == "order"]
    kept = {(row["id"], row["user"], row["item"], int(row["time"])) for row in orders if row["user"] != gone}
    with Store.open(db, Form.of(run / "1-data")) as store:
        there = [(one.id, one.user, one.item, one.time) for one in store.since(0)]
        assert Counter(there) == Counter(kept)
        assert [item.item for item in store.items()] == [row["item"] for row in rows("new-teas.csv")]
        assert store.forgotten_among([gone]) == {gone}
    assert f"Orders: {len(orders)} acknowledged" in said
    assert f"Kept: of {len(kept)} orders of all others {len(kept)} once, 0 not at all, 0 more than once; 0 events" in said
    assert not re.search(r" 0 times something was sent again", said)
    assert main(["store", "export", str(run), "--out", str(tmp_path / "night")]) == 0
    words = ["--data", f"tables:{tmp_path}/night/tables.toml", "--out", str(tmp_path / "next"), "--quiet"]
    assert main(["prepare", str(SHOP / "shop.toml"), *words, *settings]) == 0
    following = Dataset(tmp_path / "next/1-data")
    of_gone = sum(row["user"] == gone for row in rows("orders.csv"))
    assert len(following) == len(rows("orders.csv")) - of_gone + len(kept)
    assert gone not in following.users
    assert all(row["item"] in following.items for row in rows("new-teas.csv"))
