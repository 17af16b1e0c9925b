"""Every benchmark runs, small; how fast it finds things to be is not looked at. test_studies.py runs two_stages.py."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
SMALLEST = [
    ("adapter.py", "--models", "tiny", "--targets", "q,v", "--variants", "full", "--rounds", "1", "--users", "4", "--out", "OUT"),
    (
        "adapter.py",
        "--part",
        "large",
        "--large-shape",
        "stand-in",
        "--targets",
        "q,v",
        "--rounds",
        "1",
        "--checkpointing",
        "--out",
        "OUT",
    ),
    ("backbones.py", "--size", "nano", "--prompts", "8", "--json", "OUT"),
    ("conventional.py", "throughput", "--steps", "1"),
    ("engine.py", "--quick"),
    ("prompts.py", "--rounds", "1", "--batch", "64", "--strings", "8", "--out", "OUT"),
    ("prompts.py", "--rounds", "1", "--batch", "64", "--strings", "8", "--soft-at", "behaviours", "target", "--out", "OUT"),
    ("recommend.py", "--users", "5"),
    ("reading.py", "--rows", "2000", "--rounds", "1", "--out", "OUT"),
    ("retrieval.py", "--part", "growth", "online", "--events", "3000", "--dimensions", "8", "--history", "30", "--out", "OUT"),
    ("store.py", "--quick", "--out", "OUT"),
    ("titles.py", "--rounds", "2", "--rows", "1", "--out", "OUT"),
    (
        "trees.py",
        "--part",
        "train",
        "score",
        "--sizes",
        "nano",
        "--settings",
        "10-16",
        "--rounds",
        "1",
        "--no-memory",
        "--json",
        "OUT",
    ),
    (
        "trees.py",
        "--part",
        "score",
        "growth",
        "--sizes",
        "nano",
        "--ways",
        "cache",
        "--rounds",
        "1",
        "--most-samples",
        "1000",
        "--longest-trunk",
        "1000",
        "--json",
        "OUT",
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("command", SMALLEST, ids=lambda command: " ".join(command[:3]))
def test_it_runs(command: tuple[str, ...], tmp_path: Path):
    words = [str(tmp_path / "result.json") if word == "OUT" else word for word in command[1:]]
    script = BENCHMARKS / command[0]
    ran = subprocess.run([sys.executable, script, *words], capture_output=True, text=True, timeout=500, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert ran.stdout
    assert "OUT" not in command or json.loads((tmp_path / "result.json").read_text())


def test_there_is_one_for_each():
    assert {command[0] for command in SMALLEST} | {"two_stages.py"} == {path.name for path in BENCHMARKS.glob("*.py")}
