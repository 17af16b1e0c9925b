"""The benchmarks that need no data run; how fast they find things to be is not looked at."""

import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SMALLEST = [
    ("conventional.py", "throughput", "--models", "din", "caser", "--steps", "1"),
    ("prompts.py", "--rounds", "1", "--batch", "64", "--strings", "8", "--out", "OUT"),
    ("titles.py", "--rounds", "2", "--rows", "1", "--out", "OUT"),
]


@pytest.mark.slow
@pytest.mark.parametrize("command", SMALLEST, ids=lambda command: command[0])
def test_it_runs(command: tuple[str, ...], tmp_path: Path):
    words = [str(tmp_path / "result.json") if word == "OUT" else word for word in command[1:]]
    script = BENCHMARKS / command[0]
    ran = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout
