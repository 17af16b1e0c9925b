"""Real processes: killed with SIGKILL and gone on with; two under torchrun."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_world import PARALLEL, Alternating, Course, MixedOfTwo, Scoped, run

import lifelora
from lifelora.training.curve import History

WORLD = Path(__file__).with_name("training_world.py")
SOURCES = str(Path(lifelora.__path__[0]).parent)


def start(*command: str) -> str:
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_killed_at_any_moment_it_ends_with_the_same_bits(tmp_path):
    log = json.loads(start(str(WORLD), "kill", str(tmp_path)).splitlines()[-1])
    assert [attempt["status"] for attempt in log[:6]] == [-9] * 6, log  # those killed at a counted moment
    assert log[-1]["status"] == 0
    steps = [attempt["steps"] for attempt in log[:-1]]
    assert steps[:6] == sorted(steps[:6]), log
    assert steps[5] > 0, log
    assert [attempt["torn"] for attempt in log[:6] if attempt["moment"] == "fsync"] == [1, 1, 1], log
    history = History.model_validate_json((tmp_path / "whole/history.json").read_text())
    assert history.stopped == "patience"
    assert 0 < history.best < len(history.evaluations) - 1
    for name in ("model.safetensors", "history.json"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    left = {path.name for path in (tmp_path / "killed").iterdir()}
    assert left == {"history.json", "model.safetensors", "tensorboard"}


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path):
    """Under torchrun (gloo): a parameter used in the scope only, a last batch that leaves one process idle, and a curriculum
    that leaves a parameter out at times: for a step, or for some micro-batches of a step and of one process.
    """
    start("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", str(WORLD), "parallel", str(tmp_path / "two"))
    assert (tmp_path / "two/rank1").exists()
    one = run(Scoped(), tmp_path / "one", **PARALLEL)
    two = History.model_validate_json((tmp_path / "two/history.json").read_text())
    assert [p.loss for p in two.training] == pytest.approx([p.loss for p in one.training], rel=1e-5)
    assert two.key == one.key
    assert [e.step for e in two.evaluations] == [5, 10]
    same_weights(tmp_path / "one", tmp_path / "two")
    run(Course(), tmp_path / "course", gather=Alternating(), **PARALLEL)
    same_weights(tmp_path / "course", tmp_path / "two/course")
    run(Course(), tmp_path / "mixed", gather=MixedOfTwo(), **PARALLEL | {"accumulation": 1})
    same_weights(tmp_path / "mixed", tmp_path / "two/mixed")
    assert len(list((tmp_path / "two/tensorboard").iterdir())) == 1  # only the first process writes


def same_weights(one: Path, two: Path) -> None:
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (one, two))
    for name, tensor in mine.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-5, atol=1e-6)
