"""Runs of one recipe under three seeds: their mean, their spread, and what must not be put together."""

from pathlib import Path

import numpy as np
import pytest
from run_world import tiny
from sklearn.metrics import roc_auc_score

from lifelora.cli import main
from lifelora.errors import ConfigError
from lifelora.run import Options, Run
from lifelora.run.seeds import over_seeds

OPTIONS = Options(device="cpu", progress=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Conventional models only, seeds 0 to 2: other test rows each time."""
    recipe = tiny().model_copy(update={"systems": {}})
    made = [Run(recipe.model_copy(update={"seed": seed}), tmp_path_factory.mktemp(f"seed{seed}"), OPTIONS) for seed in range(3)]
    for run in made:
        run.all()
    return made


def test_the_mean_and_the_spread_are_those_of_the_runs(runs: list[Run], capsys: pytest.CaptureFixture[str]):
    found = over_seeds([run.parts for run in runs], "popular")
    by_hand = []
    for run in runs:
        targets = run.parts.dataset.targets(run.parts.test_rows)
        by_hand.append(roc_auc_score(targets.label_B, np.load(run.stages.scores("din").folder / "score.npy")))
    one = found.systems["din"]
    assert one.by_run["auc"] == pytest.approx(by_hand)
    assert one.mean["auc"].value == pytest.approx(np.mean(by_hand))
    assert one.mean["auc"].n == 3 * 24
    assert one.minus["auc"].value == pytest.approx(np.mean(by_hand) - found.systems["popular"].mean["auc"].value)
    assert found.systems["popular"].minus["auc"].value == 0
    assert main(["seeds", *(str(run.folder) for run in runs)]) == 0
    shown = capsys.readouterr().out
    assert f"± {np.std(by_hand, ddof=1):.4f}".replace("0.", ".", 1) in shown
    assert "3 runs (seeds 0, 1, 2), 72 test rows" in shown


def test_one_run_is_its_own_mean(runs: list[Run]):
    found = over_seeds([runs[0].parts])
    assert found.reference == "popular"
    assert "± –" in str(found)


def test_what_is_not_one_recipe_is_not_put_together(runs: list[Run], tmp_path: Path):
    with pytest.raises(ConfigError, match="a seed that comes twice"):
        over_seeds([runs[0].parts, runs[0].parts])
    with pytest.raises(ConfigError, match="no system 'nobody'; they have popular, din"):
        over_seeds([runs[0].parts], "nobody")
    changed = runs[1].recipe.model_copy(update={"conventional": {"popular": runs[1].recipe.conventional["popular"]}})
    with pytest.raises(ConfigError, match="another recipe"):
        over_seeds([runs[0].parts, Run(changed, tmp_path, OPTIONS).parts])
