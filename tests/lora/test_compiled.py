"""Under torch.compile: the same numbers, one graph, and no new compilation for the next batch of users."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lora_world import EVERY, called

import lifelora
from lifelora.lora.coupling import Coupling

SOURCES = str(Path(lifelora.__path__[0]).parent)


def measured(backend: str, wanted: list[Coupling.Config]) -> None:
    world = Path(__file__).with_name("compiled_world.py")
    environment = {**os.environ, "PYTHONPATH": SOURCES}
    done = subprocess.run(
        [sys.executable, str(world), backend, *map(called, wanted)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [f["coupling"] for f in found] == [called(config) for config in wanted]
    assert [f["graphs"] for f in found] == [1] * len(wanted), found
    assert max(f["logits_off"] for f in found) < 1e-5, found
    assert max(f["gradients_off"] for f in found) < 1e-4, found


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_every_coupling(backend: str):
    """Inductor needs a C++ compiler."""
    measured(backend, EVERY)
