"""Several processes as one: what they tell one another, who makes a stage, and how an error of one ends all."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ranks_world

import lifelora
from lifelora.stage import manifest_of

WORLD = Path(__file__).with_name("ranks_world.py")


def two(way: str, folder: Path) -> list[dict[str, Any]]:
    """What each of two processes saw."""
    environment = {**os.environ, "PYTHONPATH": str(Path(lifelora.__path__[0]).parent)}
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(WORLD), way, str(folder)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.slow
def test_two_processes_share_the_work(tmp_path):
    first, second = two("share", tmp_path)
    for seen in (first, second):
        assert seen["gathered"] == [0.1, 1.1]
        assert seen["agreed"] == "the word of 0"
        assert seen["alone"] == "1"
        assert seen["both"] == "0"
        assert seen["again"] is True
    # Each scores its share, and both have all, the same as one process to the last digit.
    sums_N, pairs_N2, rows = ranks_world.scored()
    assert sorted(first["rows"] + second["rows"]) == sorted(rows)
    assert min(len(first["rows"]), len(second["rows"])) > len(rows) // 3
    for seen in (first, second):
        np.testing.assert_array_equal(seen["sums"], sums_N)
        np.testing.assert_array_equal(seen["pairs"], pairs_N2)
    assert first["by itself"] == len(rows)
    # A room of its own for each, and one of them is the stage.
    assert first["room"].endswith("2-both.working")
    assert first["room"] != second["room"]
    assert not Path(second["room"]).exists()
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_dir()) == ["1-alone", "2-both"]
    made = [manifest_of(tmp_path / "run" / name) for name in ("1-alone", "2-both")]
    assert [manifest["processes"] for manifest in made if manifest] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize(("way", "failing"), [("alone 0", 0), ("together 0", 0), ("together 1", 1)])
def test_an_error_of_one_ends_all_with_its_words(way, failing, tmp_path):
    seen = two(way, tmp_path)
    assert seen[failing] == {"error": "no such thing", "kind": "ConfigError", "told": False}
    heard = f"process {failing + 1} of 2 ended: no such thing"
    assert seen[1 - failing] == {"error": heard, "kind": "PeerError", "told": True}
    assert not (tmp_path / "run/1").exists()


def test_one_process_is_a_world_of_one(monkeypatch):
    from lifelora.training import parallel

    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert (parallel.world(), parallel.rank(), parallel.is_main()) == (1, 0, True)
    assert parallel.gathered("x") == ["x"]
    assert parallel.agreed("x") == "x"
    with parallel.by_the_first() as first, parallel.together():
        assert first
    assert not parallel.distributed.is_initialized()
