"""Runs of one recipe under three seeds: their mean, their spread, and what must not be put together."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from lifelora.cli import main
from lifelora.errors import ConfigError
from lifelora.evaluation.ranking_report import RankedSystem
from lifelora.run import Options, Run
from lifelora.run.tasks.next_item import NextItem
from lifelora.study.seeds import over_seeds
from run_world import next_items, tiny

OPTIONS = Options(device="cpu", progress=False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """Conventional models only, seeds 0 to 2: other test samples each time."""
    recipe = tiny().model_copy(update={"systems": {}})
    made = [Run(recipe.model_copy(update={"seed": seed}), tmp_path_factory.mktemp(f"seed{seed}"), OPTIONS) for seed in range(3)]
    for run in made:
        run.all()
    return made


def test_the_mean_and_the_spread_are_those_of_the_runs(runs: list[Run], capsys: pytest.CaptureFixture[str]):
    found = over_seeds(runs, "popular")
    by_hand = []
    for run in runs:
        targets = run.context.dataset.targets(run.context.test_samples)
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
    assert "3 runs (seeds 0, 1, 2), 72 test samples" in shown


def test_one_run_is_its_own_mean(runs: list[Run]):
    found = over_seeds([runs[0]])
    assert found.reference == "popular"
    assert "± –" in str(found)
    assert "\n1 run (seed 0), 24 test samples" in str(found)


def test_few_users_get_no_interval_and_no_p_over_seeds_nor_against_another_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    """Six test samples are of six users at most; every output says that they are too few."""
    recipe = tiny().model_copy(update={"systems": {}})
    recipe = recipe.model_copy(update={"evaluation": recipe.evaluation.model_copy(update={"test_samples": 6})})
    for seed in range(2):
        Run(recipe.model_copy(update={"seed": seed}), tmp_path / str(seed), OPTIONS).all()
    folders = [str(tmp_path / str(seed)) for seed in range(2)]
    assert main(["seeds", folders[0]]) == 0
    over = capsys.readouterr().out
    assert main(["show", folders[0], "--against", folders[0]]) == 0
    against = capsys.readouterr().out
    assert main(["show", folders[0]]) == 0
    shown = capsys.readouterr().out
    for text in (over, against, shown):
        assert "no intervals and no tests: " in text
        assert not re.search(r"\[[−.01]", text)
        assert "p = " not in text
    assert "no test" in over
    assert "no test" in against
    found = over_seeds([Run.open(tmp_path / "0", OPTIONS)]).as_json()["systems"]["din"]
    assert found["mean"]["auc"]["low"] is found["minus"]["auc"]["p"] is None


def test_what_is_not_one_recipe_is_not_put_together(runs: list[Run], tmp_path: Path):
    with pytest.raises(ConfigError, match="give each seed once"):
        over_seeds([runs[0], runs[0]])
    with pytest.raises(ConfigError, match="no system 'nobody'; they have popular, din"):
        over_seeds([runs[0]], "nobody")
    changed = runs[1].recipe.model_copy(update={"conventional": {"popular": runs[1].recipe.conventional["popular"]}})
    with pytest.raises(ConfigError, match="another recipe"):
        over_seeds([runs[0], Run(changed, tmp_path, OPTIONS)])


@pytest.fixture(scope="module")
def next_runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    """What comes next, by conventional models, seeds 0 and 1."""
    made = [
        Run(next_items().model_copy(update={"seed": seed}), tmp_path_factory.mktemp(f"next{seed}"), OPTIONS) for seed in range(2)
    ]
    for run in made:
        run.all()
    return made


def test_next_items_too(next_runs: list[Run], capsys: pytest.CaptureFixture[str]):
    found = over_seeds(next_runs, "popularity")
    by_hand = []
    for run in next_runs:
        ranks = run.task.ranked("sasrec").ranks
        assert ranks is not None
        by_hand.append(ranks.ndcg(10).mean())
    one = found.systems["sasrec"]
    assert one.by_run["ndcg@10"] == pytest.approx(by_hand)
    assert one.mean["ndcg@10"].value == pytest.approx(np.mean(by_hand))
    assert one.minus["ndcg@10"].value == pytest.approx(np.mean(by_hand) - found.systems["popularity"].mean["ndcg@10"].value)
    assert main(["seeds", *(str(run.folder) for run in next_runs)]) == 0
    head, popularity, *_ = capsys.readouterr().out.splitlines()
    assert head.split("  ")[-1] == "HR@1 minus popularity"
    assert head.index("NDCG@10 ±") == popularity.index(f"{found.systems['popularity'].mean['ndcg@10'].value:.4f}"[1:])
    assert {"hr@5", "catalogue hr@50"} <= found.as_json()["systems"]["sasrec"]["mean"].keys()


def test_without_candidates_the_catalogue_is_shown(next_runs: list[Run], monkeypatch: pytest.MonkeyPatch):
    ranked = NextItem.ranked

    def unlisted(task: NextItem, name: str) -> RankedSystem:
        return replace(ranked(task, name), ranks=None)

    monkeypatch.setattr(NextItem, "ranked", unlisted)
    head = str(over_seeds(next_runs)).splitlines()[0]
    assert [cell.split(" ±")[0].strip() for cell in head.split("  ") if "±" in cell] == [
        "catalogue HR@10",
        "catalogue NDCG@10",
        "catalogue MRR",
    ]
    assert head.endswith("catalogue HR@10 minus popularity")
