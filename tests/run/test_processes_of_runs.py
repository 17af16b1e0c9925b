"""`lifelora run` under torchrun, two processes on a CPU: the scores of one process, killed or not; errors are told once."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from kills_world import asked_next

import lifelora
from lifelora.owner import LOCK
from lifelora.recipe.files import dump
from lifelora.training import HISTORY, History
from run_world import tiny

TORCHRUN = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2")
LATER = ('systems.added={like="lora", prior="din", dropout=0}',)
"""An LM that adds to a conventional model."""
RECIPES = {"ctr": (tiny, ("din", "lora", "personal")), "next-item": (asked_next, ("sasrec", "text"))}


def start(cache: Path, *words: str, processes: int) -> "subprocess.Popen[str]":
    """``lifelora words`` by one process or two; runs with one cache share their nano LM."""
    environment = {**os.environ, "PYTHONPATH": str(Path(lifelora.__path__[0]).parent), "LIFELORA_CACHE": str(cache)}
    launcher = TORCHRUN if processes == 2 else ()
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "lifelora.cli", *words],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def run(cache: Path, *words: str, processes: int) -> str:
    """What it prints when it ends well."""
    with start(cache, *words, processes=processes) as process:
        out, err = process.communicate(timeout=300)
    assert process.returncode == 0, err[-3000:]
    return out


def recipe(task: str, folder: Path) -> tuple[str, ...]:
    """Words that run a task's tiny recipe, without dropout, whose noise is each process's own."""
    make, names = RECIPES[task]
    path = folder / "recipe.toml"
    path.write_text(dump(make()))
    parts = [f"systems.{name}" if name in make().systems else f"conventional.{name}.model" for name in names]
    more = [f"{part}.dropout=0" for part in parts] + [*(LATER if task == "ctr" else ())]
    return ("run", str(path), *(word for setting in more for word in ("--set", setting)), "--device", "cpu")


def arrays(folder: Path) -> dict[str, np.ndarray]:
    """All that was kept of each test sample."""
    return {str(path.relative_to(folder)): np.load(path) for path in sorted(folder.glob("5-scores/*/*.npy"))}


def histories(folder: Path) -> dict[str, list[float]]:
    """Every loss and metric of all trainings."""
    found = {}
    for path in sorted(folder.rglob(HISTORY)):
        told = History.model_validate_json(path.read_text())
        metrics = [value for evaluation in told.evaluations for value in evaluation.metrics.values()]
        found[str(path.relative_to(folder))] = [point.loss for point in told.training] + metrics
    return found


@pytest.mark.slow
@pytest.mark.parametrize("task", RECIPES)
def test_two_processes_end_with_the_scores_of_one(task, tmp_path):
    words = recipe(task, tmp_path)
    cache, one, two, scored = (tmp_path / name for name in ("cache", "one", "two", "scored"))
    run(cache, *words, "--out", str(one), processes=1)
    # With the same nano LM, whose loss is a mean over all tokens of a micro-batch, and so another one in two halves.
    told = run(cache, *words, "--out", str(two), processes=2)
    assert told.count("Report: ") == 1  # the first process's word
    # Trained by two, gradients are added up in another order, which moves the last digits.
    for name, expected in arrays(one).items():
        np.testing.assert_allclose(arrays(two)[name], expected, rtol=0, atol=1e-5, err_msg=name)
    assert histories(two).keys() == histories(one).keys()
    for name, values in histories(one).items():
        assert histories(two)[name] == pytest.approx(values, abs=1e-5), name
    # Scored by two, what one has trained gives the same to the last digit.
    shutil.copytree(one, scored)
    for stage in ("5-scores", "6-report"):
        shutil.rmtree(scored / stage)
    run(cache, "evaluate", str(scored), "--device", "cpu", processes=2)
    assert len(arrays(scored)) == len(arrays(one)) > 2
    for name, expected in arrays(one).items():
        np.testing.assert_array_equal(arrays(scored)[name], expected, err_msg=name)
    assert not list(tmp_path.rglob("*.working"))


@pytest.mark.slow
def test_killed_in_the_middle_of_a_training_two_processes_go_on(tmp_path):
    words = recipe("ctr", tmp_path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    run(tmp_path / "cache", *words, "--out", str(whole), processes=2)
    with start(tmp_path / "other", *words, "--out", str(killed), processes=2) as process:
        until = time.monotonic() + 200
        while not list(killed.rglob("lora.working")) and time.monotonic() < until:
            time.sleep(0.01)
        owner = re.match(r"process (\d+) ", (killed / LOCK).read_text())
        assert owner is not None
        os.kill(int(owner[1]), signal.SIGKILL)
        process.communicate(timeout=200)
    assert process.returncode != 0
    assert list(killed.rglob("lora.working"))
    run(tmp_path / "other", *words, "--out", str(killed), processes=2)
    assert arrays(killed).keys() == arrays(whole).keys()
    for name, expected in arrays(whole).items():
        np.testing.assert_array_equal(arrays(killed)[name], expected, err_msg=name)
    assert histories(killed) == histories(whole)
    assert not list(killed.rglob("*.working"))


@pytest.mark.slow
def test_an_error_ends_both_processes_and_is_told_once(tmp_path):
    words = recipe("ctr", tmp_path)
    (tmp_path / "log.csv").write_text("user,item\n")
    broken = ("--data", f"csv:{tmp_path / 'log.csv'}")
    with start(tmp_path, *words, *broken, "--out", str(tmp_path / "out"), processes=2) as process:
        _, err = process.communicate(timeout=200)
    assert process.returncode != 0
    assert err.count("lifelora: ") == 1, err
    assert "log.csv" in err
    assert "Traceback (most recent call last)" not in err.partition("torch/distributed")[0]
