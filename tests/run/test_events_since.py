"""`lifelora recommend --events FILE`: what happened since a run was made, out of a file that may hold the whole log."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lifelora.cli import main
from lifelora.data.extend import Event
from lifelora.errors import ConfigError, DataError
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.recommend import many
from lifelora.run.recommend.since import add_events
from run_world import VALUES

OPTIONS = Options(device="cpu", progress=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = Run(
        parse(VALUES | {"conventional": {"din": VALUES["conventional"]["din"]}, "systems": {}, "backbone": {}}, "the test"),
        tmp_path_factory.mktemp("since") / "run",
        OPTIONS,
    )
    run.prepare()
    run.fit()
    return run.folder


def later(run: Run) -> list[Event]:
    """A known user, one who is new, and an item that is new."""
    dataset = run.context.dataset
    user, items, now = dataset.users.outside([2])[0], dataset.items.outside([5, 6]), int(np.asarray(dataset.time_N).max())
    return [Event(user, items[0], 5.0, now + 1), Event("x9", items[1], 1.0, now + 2), Event("x9", "new", 4.0, now + 3)]


def rows(events: list[Event]) -> list[dict[str, object]]:
    return [{"user": e.user, "item": e.item, "rating": e.rating, "time": e.time} for e in events]


def csv(path: Path, events: list[Event]) -> Path:
    path.write_text("user,item,rating,time\n" + "".join(f"{e.user},{e.item},{e.rating},{e.time}\n" for e in events))
    return path


def old(run: Run) -> list[Event]:
    """All that the run has of two users."""
    dataset = run.context.dataset
    return [
        Event(dataset.users.outside([user])[0], dataset.items.outside([item])[0], dataset.rating_levels[code], time)
        for user in (2, 3)
        for item, code, time in zip(
            *(
                np.asarray(column[dataset.log.rows_of(user)]).tolist()
                for column in (dataset.item_N, dataset.rating_N, dataset.time_N)
            ),
            strict=True,
        )
    ]


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_lists_are_those_of_a_log_that_was_extended(folder: Path, tmp_path: Path, ending: str):
    run, other = Run.open(folder, OPTIONS), Run.open(folder, OPTIONS)
    events = later(run)
    path = tmp_path / f"log.{ending}"
    if ending == "csv":
        csv(path, old(run) + events)
    else:
        pq.write_table(pa.Table.from_pylist(rows(old(run) + events)), path)
    known = len(old(run))
    assert add_events(run.context, path) == [
        f"{path}: 3 events came after those of the run.",
        f"{path}: {known} events are no newer than the last one of their user in the run, and were left out.",
    ]
    other.context.extend(events)
    assert many(run, k=5).equals(many(other, k=5))
    assert "x9" in run.context.dataset.users
    assert not many(Run.open(folder, OPTIONS), k=5).equals(many(other, k=5))


def test_what_is_wrong_with_a_file_is_told(folder: Path, tmp_path: Path):
    run = Run.open(folder, OPTIONS)
    path = tmp_path / "log.csv"
    path.write_text("user,item,time\nu1,b1,5\n")
    with pytest.raises(ConfigError, match="--events .* lacks the column rating, which the run's log has"):
        add_events(run.context, path)
    path.write_text("user,item,rating,time\nu1,b1,5,yesterday\nu1,b1,five,5000000000\n")
    with pytest.raises(DataError, match="'yesterday': Unix seconds are wanted"):
        add_events(run.context, path)
    csv(path, [Event("u1", "b1", 77.0, 5_000_000_000)])
    with pytest.raises(DataError, match="no such rating"):
        add_events(run.context, path)
    assert len(run.context.dataset) == len(Run.open(folder, OPTIONS).context.dataset)


def test_the_command_takes_it(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = Run.open(folder, OPTIONS)
    path = csv(tmp_path / "log.csv", later(run))
    out = tmp_path / "recs.csv"
    typed = ["recommend", str(folder), "--all-users", "-k", "3", "--events", str(path), "--out", str(out), "--device", "cpu"]
    assert main([*typed, "--quiet"]) == 0, capsys.readouterr().err
    assert out.read_text().count("x9") == 3
    run.context.extend(later(run))
    assert len(out.read_text().splitlines()) == 1 + many(run, k=3).num_rows
    *first, last = later(Run.open(folder, OPTIONS))
    csv(path, [*first, replace(last, rating=1.0)])  # as many events of the same users and items
    assert main([*typed, "--quiet"]) == 1, "the file was made of other events"
    assert "since differ" in capsys.readouterr().err
    csv(path, [*later(run), Event("x9", "new", 4.0, 6_000_000_000)])
    assert main([*typed, "--quiet"]) == 1, "the file was made of other events"
    assert "since differ" in capsys.readouterr().err
