"""No file of a user ends in a traceback, and none is misread in silence: seeded damage to small sound inputs of every reader."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from fuzz_world import Input, damage, inputs, judged

SMALL = 400
SLOW = ("goodreads", "amazon 2018", "amazon 2023", "llara names", "llara films", "tables csv", "tables json")
"""What asks DuckDB, which takes a sixtieth of a second to open: each gets a quarter as many inputs as another kind."""


@pytest.fixture(scope="module")
def every(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Input]:
    return inputs(tmp_path_factory.mktemp("adapter"))


def test_sound_inputs_are_read(every: dict[str, Input], tmp_path: Path):
    """Otherwise the damage would prove nothing."""
    for name, one in every.items():
        folder = tmp_path / name
        folder.mkdir(parents=True)
        assert judged(one, one.files, folder) == ("read", []), name


def fuzz(every: dict[str, Input], count: int, seed: int, place: Path) -> tuple[Counter[str], list[str]]:
    """How often each kind was read, refused or worse, and what was wrong, each with the numbers that make it again."""
    outcomes, faults = Counter[str](), list[str]()
    names = [name for name in every for _ in range(1 if name in SLOW else 4)]
    for number in range(count):
        name = names[number % len(names)]
        folder = place / str(names.index(name))
        folder.mkdir(parents=True, exist_ok=True)
        one = every[name]
        files = damage(one.files, np.random.default_rng([seed, number]), one.texts)
        outcome, wrong = judged(one, files, folder)
        outcomes[outcome] += 1
        faults += [f"{name}, seed {seed}, number {number}: {fault}" for fault in wrong]
    return outcomes, faults


def test_damaged_inputs(every: dict[str, Input], tmp_path: Path):
    outcomes, faults = fuzz(every, SMALL, 0, tmp_path)
    assert faults == []
    assert min(outcomes["read"], outcomes["refused"]) > SMALL / 10  # damage of both kinds: that can be borne, and that cannot


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_thousands_of_damaged_inputs(every: dict[str, Input], fuzz_inputs: int, tmp_path: Path):
    outcomes, faults = fuzz(every, fuzz_inputs, 1, tmp_path)
    assert faults == []
    assert sum(outcomes.values()) == fuzz_inputs
    assert min(outcomes["read"], outcomes["refused"]) > fuzz_inputs / 10
