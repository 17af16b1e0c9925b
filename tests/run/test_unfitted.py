"""Samples that a conventional model has not fitted: what it is fitted on, and that their answers cannot be in what it says."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_growing_runs import GROWING

from lifelora.errors import ConfigError
from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.run import Options, Run
from lifelora.run.fitted import Folds, fitted, held_out
from lifelora.run.scorers.base import MODEL
from lifelora.run.scorers.like import LikeModel
from lifelora.run.scorers.yes_no import YesNo
from lifelora.tensors import read_tensors
from run_world import TRAINING, VALUES, replace_array

OPTIONS = Options(device="cpu", progress=False)
DIN = VALUES["conventional"]["din"] | {"training": TRAINING | {"learning_rate": 2e-2}}
LORA = VALUES["systems"]["lora"] | {"validation_samples": 8}
FED: dict[str, dict[str, Any]] = {
    "u": LORA | {"coupling": {"kind": "full", "rank": 2}, "representation": {"model": "din"}, "train_samples": 20},
    "soft": LORA | {"soft": {"model": "din"}, "train_samples": 24},
    "prior": LORA | {"prior": "din", "train_samples": 30},
    "growing": GROWING | {"prior": "din", "train_samples": 26},
    "growing-8": GROWING | {"prior": "din", "train_samples": 11, "block": 8},
}
NEGATIVES = {"rules": {"negatives": {"count": 2}, "min_history": 3}}


def recipe(systems: dict[str, Any], data: dict[str, Any] | None = None, **din: Any) -> Recipe:
    conventional = VALUES["conventional"] | {"din": DIN | din}
    values = VALUES | {"conventional": conventional, "systems": systems, "data": VALUES["data"] | (data or {})}
    return parse(values, "the tests' recipe")


def prepared(folder: Path, *systems: Any, **din: Any) -> Run:
    run = Run(recipe(*systems, **din), folder, OPTIONS)
    run.prepare()
    return run


@pytest.mark.parametrize("data", [{}, NEGATIVES], ids=["ratings", "negatives"])
def test_held_out_are_the_samples_of_all_systems_that_it_feeds(data: dict[str, Any], tmp_path: Path):
    apart = LORA | {"train_samples": 100}  # fed by nothing, so nothing is held out for it
    run = prepared(tmp_path, FED | {"apart": apart}, data, held_out="systems")
    own, train = {*fitted(run.context, "din").tolist()}, {*run.context.dataset.samples["train"].tolist()}
    learnt: set[int] = set()
    for name, system in FED.items():
        samples = run.context.training_samples(system["train_samples"], system.get("block")).tolist()
        assert not own & {*samples}, name
        learnt |= {*samples}
    events = run.context.dataset.negatives.rows(np.array(sorted(learnt)))
    besides = {one for one in train if run.context.dataset.negatives.rows(np.array([one]))[0] in events}
    assert own == train - besides
    assert (learnt < besides) == bool(data), "with a like, what was drawn beside it"
    assert {*run.context.training_samples(100).tolist()} & own


def test_fewer_samples_are_drawn_from_the_rest(tmp_path: Path):
    run = prepared(tmp_path, FED, held_out="systems", train_samples=60)
    own = fitted(run.context, "din")
    assert len(own) == 60
    assert not held_out(run.context, "din")[np.isin(run.context.dataset.samples["train"], own)].any()
    # As the order has it: what would be drawn without holding out, but for that, comes first.
    order = run.context.training_samples(60 + int(held_out(run.context, "din").sum()))
    assert {*own.tolist()} <= {*order.tolist()}
    assert "60 training samples" in run.scorers["din"].reads()


def changed(run: Run, samples: np.ndarray) -> None:
    """Turn the answers of some training samples round, in the prepared data."""

    def turned(label_N: np.ndarray) -> np.ndarray:
        label_N = label_N.copy()
        label_N[samples] = ~label_N[samples]
        return label_N

    replace_array(run.stages.data, "events/label.npy", turned)


def logits(run: Run, samples: np.ndarray) -> torch.Tensor:
    model = run.scorers["din"]
    assert isinstance(model, LikeModel)
    return model.prior(run.context.dataset.targets(samples))


@pytest.mark.parametrize("kept", ["held out", "neither"])
def test_the_answers_of_samples_that_are_held_out_are_in_no_weight(kept: str, tmp_path: Path):
    """Turned round, they change nothing of the model; and everything where they are not held out."""
    made = []
    for turn in (False, True):
        run = prepared(tmp_path / f"{turn}", {"prior": FED["prior"]}, held_out="systems" if kept == "held out" else "none")
        if turn:
            changed(run, run.context.training_samples(30))
            run = Run.open(run.folder, OPTIONS)
        run.fit()
        made.append(read_tensors(run.stages.conventional("din").require() / MODEL)[0])
    same = [torch.equal(made[0][name], made[1][name]) for name in made[0]]
    assert all(same) if kept == "held out" else not any(same)


def test_no_prior_of_a_training_sample_knows_its_users_answers(tmp_path: Path):
    """With folds, the prior of a user's samples stays the same when all answers of the user are turned round; that of
    others does not, nor does what the model itself says, which is the prior of test samples."""
    said = []
    for turn in (False, True):
        run = prepared(tmp_path / f"{turn}", {"prior": LORA | {"prior": "din"}}, folds=2)
        train = np.asarray(run.context.dataset.samples["train"])
        user_N = run.context.dataset.targets(train).user_B
        folds = Folds.of(run.context, "din")
        mine_N = user_N == user_N[0]
        other_N = folds.fold_N != folds.fold_N[0]
        if turn:
            changed(run, train[mine_N])
            run = Run.open(run.folder, OPTIONS)
        run.fit()
        model = run.scorers["din"]
        assert isinstance(model, LikeModel)
        test = np.asarray(run.context.dataset.samples["test"])
        targets = run.context.dataset.targets(test)
        torch.testing.assert_close(model.prior(targets), model.logits(targets), rtol=0, atol=0)
        said.append([logits(run, some) for some in (train[mine_N], train[other_N], test)])
    (mine, others, test_N), (mine_turned, others_turned, test_turned) = said
    assert torch.equal(mine, mine_turned)
    assert not torch.isclose(others, others_turned).any()
    assert not torch.equal(test_N, test_turned)


def test_folds_are_of_users_and_every_copy_lacks_one(tmp_path: Path):
    run = prepared(tmp_path, {"prior": LORA | {"prior": "din"}}, folds=3, train_samples=90)
    folds, dataset = Folds.of(run.context, "din"), run.context.dataset
    assert folds.samples_N.tolist() == run.context.training_samples(90).tolist()
    whose = [{*dataset.targets(folds.samples_N[folds.fold_N == fold]).user_B.tolist()} for fold in range(3)]
    assert sum(map(len, whose)) == len(set().union(*whose))
    model = run.scorers["din"]
    assert isinstance(model, LikeModel)
    for fold, copy in enumerate(model.copies):
        assert not whose[fold] & {*dataset.targets(copy.fitted).user_B.tolist()}
        assert len(copy.fitted) == 90 - int((folds.fold_N == fold).sum())
    # A sample that the model was not fitted on has the prior of the model itself.
    rest = np.setdiff1d(dataset.samples["train"], folds.samples_N)
    assert (folds.at(dataset.targets(rest)) == -1).all()
    assert folds.at(dataset.targets(folds.samples_N)).tolist() == folds.fold_N.tolist()
    asked = dataset.candidates(3, np.arange(5))
    assert (folds.at(asked) == -1).all()


def test_a_system_on_folds_runs_to_its_report_and_copies_are_kept(tmp_path: Path):
    run = Run(recipe({"prior": LORA | {"prior": "din"}}, folds=2), tmp_path, OPTIONS)
    run.all()
    page = (run.stages.report.require() / "report.html").read_text()
    assert "of training samples that of 2 copies that were not fitted on their users; α = " in page
    assert "was fitted on" not in page
    assert "2 copies of din" in page
    assert [stage.complete() for stage in run.stages.folds("din")] == [True, True]
    assert "3-folds" in run.status()
    system = Run.open(tmp_path, OPTIONS).scorers["prior"]
    assert isinstance(system, YesNo)
    shown = system.show(system.requests_of_training())
    assert shown.prior_N is not None
    model = run.scorers["din"]
    assert isinstance(model, LikeModel)
    assert not torch.isclose(shown.prior_N, model.logits(shown.requests.targets)).all()


@pytest.mark.parametrize(
    ("systems", "din", "said"),
    [
        (
            {"one": LORA | {"prior": "din", "train_samples": "null"}},
            {"held_out": "systems"},
            "systems.one learns from all training",
        ),
        ({"one": LORA}, {"held_out": "systems"}, "conventional.din.held_out .* it feeds none; remove held_out"),
        ({"one": FED["u"]}, {"folds": 2}, "conventional.din.folds = 2 is for priors alone .* no system has prior = 'din'"),
        ({"one": FED["prior"]}, {"folds": 2, "held_out": "systems"}, "conventional.din has held_out and folds; .* remove one"),
        ({"one": FED["prior"]}, {"folds": 1}, "conventional.din.folds"),
        (
            {"one": FED["prior"]},
            {"folds": 2, "model": {"kind": "popularity"}},
            "conventional.din.folds: popularity counts all training events",
        ),
    ],
)
def test_what_does_not_fit_is_said(systems: dict[str, Any], din: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        recipe(systems, **din)


def test_where_nothing_is_left_it_is_said(tmp_path: Path):
    run = prepared(tmp_path, {"one": FED["prior"] | {"train_samples": 10**6}}, held_out="systems")
    with pytest.raises(ConfigError, match="conventional.din.held_out = 'systems' leaves nothing to fit 'din' on"):
        run.fit()


def test_keys_of_stages(tmp_path: Path):
    """Neither default stands in a key; another number of samples of a system makes another model that was held out of them."""

    def key(systems: dict[str, Any], **din: Any) -> str:
        return Run(recipe(systems, **din), tmp_path, OPTIONS).stages.conventional("din").key

    plain, prior = Run(recipe(FED), tmp_path, OPTIONS).stages.conventional("din"), {"one": FED["prior"]}
    assert not {"held_out", "folds", "learnt_from"} & {*plain.config}
    assert plain.key == key(prior) == key(prior, folds=2)
    assert key(prior, held_out="systems") != plain.key
    assert key(prior, held_out="systems") == key(prior | {"less": FED["u"], "apart": LORA}, held_out="systems")
    assert key(prior, held_out="systems") != key(prior | {"blocks": FED["growing"]}, held_out="systems")
    assert key(prior, held_out="systems") != key({"one": FED["prior"] | {"train_samples": 31}}, held_out="systems")
