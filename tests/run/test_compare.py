"""Two runs compared: a run against itself differs by nothing, a changed score is seen, other rows are refused."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from lifelora.cli import main
from lifelora.errors import ConfigError
from lifelora.evaluation.ranks import Ranks
from lifelora.evaluation.significance import paired_test
from lifelora.evaluation.tables import with_span
from lifelora.run import Options, Run
from lifelora.run.tasks.next_item import RANKS
from lifelora.study.compare import compare, minus
from run_world import next_items, replace_array, tiny


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, Run]:
    """Conventional models only: the same recipe twice, and the scores of the second's DIN turned round."""
    recipe = tiny().model_copy(update={"systems": {}})
    runs = tuple(Run(recipe, tmp_path_factory.mktemp(name), Options(device="cpu", progress=False)) for name in "ab")
    for run in runs:
        run.all()
    replace_array(runs[1].stages.scores("din"), "score.npy", lambda score_N: 1 - score_N)
    return runs[0], runs[1]


def test_a_run_and_itself_cannot_be_told_apart(two: tuple[Run, Run], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["show", str(two[0].folder), "--against", str(two[0].folder)]) == 0
    lines = [line for line in capsys.readouterr().out.splitlines() if " AUC " in line]
    assert len(lines) == len(two[0].stages.names)
    assert all(" .0000 [.0000, .0000]  p = 1.000" in line for line in lines)


def test_scores_turned_round_differ_by_twice_the_distance_from_guessing(two: tuple[Run, Run]) -> None:
    from sklearn.metrics import roc_auc_score

    context = two[0].context
    label_N = context.dataset.targets(context.test_samples).label_B
    area = roc_auc_score(label_N, np.load(two[0].stages.scores("din").folder / "score.npy"))
    line = next(line for line in compare(*two).splitlines() if "din" in line)
    assert float(line.split()[2].replace("\u2212", "-")) == pytest.approx(area - (1 - area), abs=1e-4)


def test_every_pair_of_a_run_on_demand(two: tuple[Run, Run], capsys: pytest.CaptureFixture[str]) -> None:
    """Each other system minus one of them, by all metrics, in words and as JSON; it is the paired test of their scores."""
    run, names = two[0], two[0].stages.names
    found = minus(run, "popular")
    assert set(found.systems) == {*names} - {"popular"}
    expected = paired_test(run.task.judged("din"), run.task.judged("popular"))
    assert repr(found.systems["din"]) == repr(expected)  # nan, of too few users, is not equal to itself
    assert {"auc", "gauc", "log_loss", "accuracy", "ece"} == set(expected)
    assert main(["show", str(run.folder), "--minus", "popular"]) == 0
    printed = capsys.readouterr().out
    head, *lines, basis = printed.splitlines()
    assert head == f"{run.folder}, each system minus popular, paired over users:"
    assert len(lines) == 5 * (len(names) - 1)
    assert with_span(expected["auc"]) in next(line for line in lines if line.split()[:2] == ["din", "AUC"])
    assert basis.startswith("n = ")
    assert main(["show", str(run.folder), "--minus", "popular", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["systems"]["din"]["auc"]["value"] == pytest.approx(expected["auc"].value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--minus", "sasrek"], "has no system 'sasrek'; it has popular"),
        (["--minus", "din", "--against", "b"], "--against compares two runs, and --minus the systems of one"),
        (["--json"], "--json needs --minus NAME; all figures of a run are in"),
    ],
)
def test_wrong_words_are_answered(
    two: tuple[Run, Run], words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", str(two[0].folder), *words]) != 0
    assert message in capsys.readouterr().err


def test_other_rows_are_refused(two: tuple[Run, Run], tmp_path: Path) -> None:
    recipe = two[0].recipe
    other = Run(recipe.model_copy(update={"seed": recipe.seed + 1}), tmp_path, Options(device="cpu", progress=False))
    other.all()
    with pytest.raises(ConfigError, match="different samples"):
        compare(two[0], other)


def test_next_items_moved_to_the_front_are_better(tmp_path: Path) -> None:
    run = Run(next_items(), tmp_path / "run", Options(device="cpu", progress=False))
    run.all()
    shutil.copytree(tmp_path / "run", tmp_path / "first")
    first = Run.open(tmp_path / "first", Options(device="cpu", progress=False))
    ranks_N4 = replace_array(  # alone at the front of the candidates
        first.stages.scores("sasrec"), RANKS, lambda was_N4: was_N4 * [0, 0, 1, 1] + np.array([0, 1, 0, 0], np.int32)
    )
    lines = compare(first, run).splitlines()
    assert len(lines) == 2 + 2 * 3
    gap = 1 - Ranks(*ranks_N4[:, :2].T.astype(np.int64)).hit(1).mean()
    hits = next(line for line in lines if line.split()[:2] == ["sasrec", "HR@1"])
    assert float(hits.split()[2]) == pytest.approx(gap, abs=1e-4)
    assert sum(" .0000 [.0000, .0000]  p = 1.000" in line for line in lines) == 4  # popularity, and the catalogue
