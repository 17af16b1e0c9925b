"""Trees under torch.compile, in micro-batches and in two processes: as without."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tree_ranks_world import train

import lifelora

HERE = Path(__file__).parent


def program(*arguments: str) -> str:
    """What a program of Python printed."""
    environment = {**os.environ, "PYTHONPATH": str(Path(lifelora.__path__[0]).parent)}
    done = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def same(one: Path, two: Path) -> None:
    """The weights that two trainings ended with."""
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (one, two))
    assert mine.keys() == theirs.keys()
    for name, tensor in mine.items():
        torch.testing.assert_close(theirs[name], tensor, rtol=1e-3, atol=2e-5)


def test_micro_batches_of_trees_are_one_step(tmp_path: Path):
    whole, parts = train(tmp_path / "whole"), train(tmp_path / "parts", accumulation=2)
    assert [p.loss for p in parts.training] == pytest.approx([p.loss for p in whole.training], rel=1e-5)
    assert whole.training[0].loss != pytest.approx(whole.training[-1].loss, rel=1e-2)  # something is learnt
    same(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
def test_two_processes_give_what_one_gives(tmp_path: Path):
    """Under torchrun (gloo): each has a stretch of a step, so a user's trunk may be read by both."""
    launch = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
    program(*launch, str(HERE / "tree_ranks_world.py"), str(tmp_path / "two"))
    train(tmp_path / "one")
    same(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_compiled_a_model_reads_trees_as_before():
    """Attention of a tree is not compiled, so the graph ends there and begins anew: what is between is compiled."""
    told = json.loads(program(str(HERE / "compiled_trees_world.py")).splitlines()[-1])
    assert told["nodes"] > 50  # it was not run as it stands
    assert told["loss_off"] < 1e-5
    assert told["gradients_off"] < 1e-3
