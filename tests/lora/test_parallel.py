"""Two processes, by DDP and by FSDP2, train as one does on the whole batch."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import lifelora

SOURCES = str(Path(lifelora.__path__[0]).parent)
WORLD = str(Path(__file__).with_name("parallel_world.py"))


def losses(*command: str) -> dict[str, list[float]]:
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    done = subprocess.run([sys.executable, *command], env=environment, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_two_processes_train_as_one():
    alone = losses(WORLD, "alone")
    two = losses(
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node",
        "2",
        WORLD,
        "ddp",
        "fsdp",
        "fsdp-checkpointing",
        "fsdp-bf16",
    )
    assert len(alone) == 4
    assert len(two) == 16
    for name, values in two.items():
        expected = alone["alone " + name.split()[1]]
        assert values[-1] < values[0], name
        assert values == pytest.approx(expected, rel=0.02 if "bf16" in name else 1e-4), name
