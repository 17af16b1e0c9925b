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


BACKENDS = ("aot_eager", "inductor")
"""Inductor needs a C++ compiler."""


@pytest.mark.slow
@pytest.mark.parametrize("config", EVERY, ids=called)
def test_every_coupling(config: Coupling.Config):
    world = Path(__file__).with_name("compiled_world.py")
    words = [sys.executable, str(world), called(config), *BACKENDS]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": SOURCES}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout)
    assert found["graphs"] == 1
    assert found["logits_off"] < 1e-5
    for backend in BACKENDS:
        assert found[f"gradients_off_{backend}"] < 1e-4
