"""The task next-item from end to end: places against plain Python, the report, a recommendation, and what is refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from run_world import TRAINING, VALUES

from lifelora.cli import main
from lifelora.errors import ConfigError
from lifelora.recipe import load, parse
from lifelora.run import Options, Run, next_item

SMALL = {"embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}
RECIPE: dict[str, Any] = {
    "name": "next", "task": "next-item", "evaluation": VALUES["evaluation"] | {"test_rows": 16},
    "data": VALUES["data"] | {"rules": {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 8}}},
    "conventional": {
        "popularity": {"model": {"kind": "popularity"}},
        "sasrec": {"model": {"kind": "sasrec"} | SMALL, "training": TRAINING | {"epochs": 2}},
    },
}
OPTIONS = Options(device="cpu", progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(parse(RECIPE, "the tests' recipe"), tmp_path_factory.mktemp("next") / "run", OPTIONS)
    run.all()
    return run


@pytest.mark.parametrize("name", ["popularity", "sasrec"])
def test_places_are_those_that_counting_gives(run: Run, name: str):
    parts, dataset = run.parts, run.parts.dataset
    kept = np.load(run.stages.scores(name).folder / next_item.PLACES)
    assert kept.shape == (16, 4)
    model, samples = parts.next_item(name), dataset.samples["test"].tolist()
    for row, (better, tied, whole_better, whole_tied) in zip(parts.test_rows.tolist(), kept.tolist(), strict=True):
        target = dataset.targets(np.array([row]))
        with torch.inference_mode():
            score = model.scores(parts.samples(name, model, target))[0].tolist()
        own = score[int(dataset.item_N[row])]
        among = [score[item] for item in dataset.lists["test"][samples.index(row)].tolist()]
        assert (better, tied) == (sum(s > own for s in among), among.count(own))
        met = set(dataset.item_N[dataset.offsets[dataset.user_N[row]] : row].tolist()) - {int(dataset.item_N[row])}
        others = [s for item, s in enumerate(score) if item not in met]
        assert (whole_better, whole_tied) == (sum(s > own for s in others), others.count(own))


def test_the_report_says_what_was_asked(run: Run, capsys: pytest.CaptureFixture[str]):
    assert main(["show", str(run.folder)]) == 0
    shown = capsys.readouterr().out
    assert "16 test rows of 16 users, 8 candidates each" in shown
    assert "catalogue HR@10" in shown
    assert "Which of 8 comes next?" in (run.stages.report.folder / "report.html").read_text()


def test_what_comes_next_for_one_person(run: Run, capsys: pytest.CaptureFixture[str]):
    user = run.parts.dataset.users.outside(np.array([0]))[0]
    assert main(["recommend", str(run.folder), "--user", user, "-k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"For user {user}, by 'sasrec'")
    chances = [float(line.split()[1]) for line in lines[1:4]]
    assert chances == sorted(chances, reverse=True)


def test_training_that_was_stopped_is_gone_on_with(run: Run, tmp_path: Path):
    again = Run(parse(RECIPE, "the tests' recipe"), tmp_path / "again", OPTIONS)
    again.all()
    for name in ("popularity", "sasrec"):
        ours, theirs = (np.load(one.stages.scores(name).folder / next_item.PLACES) for one in (run, again))
        assert np.array_equal(ours, theirs)


@pytest.mark.parametrize(("changes", "message"), [
    ({"conventional": {"din": {"model": {"kind": "din"}}}}, "cannot be asked what comes next; choose one of popularity"),
    ({"systems": {"lora": {}}}, "for conventional models so far"),
])
def test_what_cannot_be_asked(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        parse(RECIPE | changes, "the tests' recipe")


def test_without_lists_there_is_the_catalogue(tmp_path: Path):
    values = RECIPE | {"data": VALUES["data"] | {"rules": {"min_history": 3, "split": {"kind": "leave-one-out"}}}}
    run = Run(parse(values, "the tests' recipe"), tmp_path / "run", OPTIONS)
    run.all()
    assert "HR@1 " not in run.table()
    assert "catalogue MRR" not in run.table()
    assert "catalogue HR@10" in run.table()


def test_the_recipe_is_llaras_protocol():
    rules = load("next-item").data.rules
    assert (rules.keep_from, rules.min_history, rules.split.kind) == (3, 3, "users-by-time")
    assert rules.candidates is not None
    assert rules.candidates.count == 20
