"""Under torch.compile: the same numbers, one graph, and no new compilation for the next batch of users."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lora_world import EVERY, called

import lifelora

SOURCES = str(Path(lifelora.__path__[0]).parent)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_coupling():
    """All in one process, which has loaded the compiler once. Inductor needs a C++ compiler."""
    words = [sys.executable, str(Path(__file__).with_name("compiled_world.py"))]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": SOURCES}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [f["coupling"] for f in found] == [called(config) for config in EVERY]
    assert [f["graphs"] for f in found] == [1] * len(EVERY), found
    assert max(f["logits_off"] for f in found) < 1e-5, found
    assert max(f["gradients_off"] for f in found) < 1e-4, found
