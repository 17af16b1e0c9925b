"""The built-in recipe of baselines from end to end, for both tasks; what is absent is named before anything is learnt."""

import sys
from pathlib import Path

import numpy as np
import pytest

from lifelora.cli import main
from lifelora.errors import MissingExtraError
from lifelora.recipe.files import load
from lifelora.run import Options, Run

QUIET = Options(device="cpu", progress=False)
SMALL = [
    "data.source.users=60",
    "data.source.items=80",
    "data.source.events_per_user=20",
    "conventional.sasrec.training.epochs=1",
]
COUNTED = ("popularity", "itemknn", "ease", "als", "bpr")


@pytest.mark.parametrize("task", ["next-item", "ctr"])
def test_they_run_open_again_without_the_library_and_score_the_same(
    task: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run = Run(load("baselines", None, [*SMALL, f"task={task}"]), tmp_path / "run", QUIET)
    run.all()
    assert {*run.scorers} == {*COUNTED, "sasrec"}
    assert not list((tmp_path / "run").rglob("*.pkl"))
    kept = {name: np.load(run.stages.scores(name).folder / ("score.npy" if task == "ctr" else "top.npy")) for name in COUNTED}
    monkeypatch.setitem(sys.modules, "implicit", None)
    again = Run.open(tmp_path / "run", QUIET)
    targets = again.context.dataset.targets(again.context.test_samples)
    for name in COUNTED:
        scorer = again.scorers[name]
        if task == "ctr":
            score_N = scorer.score(again.task.requests("test", again.context.test_samples))[:, 0]
            assert ((score_N > 0) & (score_N < 1)).all()
            np.testing.assert_array_equal(score_N, kept[name])
        else:
            np.testing.assert_array_equal(again.task.in_catalogue(scorer, targets).top_NK, kept[name])
        user = again.task.example_user()
        assert main(["recommend", str(tmp_path / "run"), "--user", user, "--system", name, "-k", "3", "--quiet"]) == 0
    assert "  3. " in capsys.readouterr().out


def test_without_the_library_the_recipe_says_so_before_anything_is_learnt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "implicit", None)
    run = Run(load("baselines", None, SMALL), tmp_path / "run", QUIET)
    run.prepare()
    with pytest.raises(MissingExtraError, match=r"pip install 'lifelora\[baselines\]'"):
        run.embed()
    assert not (tmp_path / "run" / "3-conventional").exists()


def test_the_same_recipe_gives_the_same_bits(tmp_path: Path):
    runs = [Run(load("baselines", None, SMALL), tmp_path / name, QUIET) for name in "ab"]
    for run in runs:
        run.prepare()
        run.fit()
    for name in COUNTED:
        first, second = ((run.stages.conventional(name).folder / "model.safetensors").read_bytes() for run in runs)
        assert first == second
