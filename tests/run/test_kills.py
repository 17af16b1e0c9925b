"""Killed at any moment, of both tasks, in any stage and while old ones are removed, a run ends with the same bits."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import lifelora

KILLS = 25


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("task", ["ctr", "next-item"])
def test_killed_at_any_moment_a_run_ends_with_the_same_bits(task: str, tmp_path: Path):
    places = (Path(lifelora.__path__[0]).parent, Path(__file__).parents[1])  # the package, and what the tests share
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, places)), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, str(Path(__file__).with_name("kills_world.py")), task, str(tmp_path), str(KILLS)]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=850, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    log = json.loads(done.stdout)
    kills = [kill for kill in log["kills"] if kill[3] == -signal.SIGKILL]
    assert len(kills) == KILLS, log["kills"]
    assert log["files"] > 30
    assert log["differing"] == []
    assert log["left"] == []
    where = " ".join(kill[4] for kill in kills)
    assert ".old" in where, where  # also while old stages were removed
    assert ".working" in where
