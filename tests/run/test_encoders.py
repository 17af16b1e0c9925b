"""Encoders with two towers in a run: beside the others in every stage, scored as they score, and made again when due."""

import json
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lifelora.data.dataset import Targets
from lifelora.data.extend import Event
from lifelora.errors import ConfigError
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.recommend import recommend
from lifelora.stage import MANIFEST
from lifelora.training import HISTORY
from run_world import TRAINING, VALUES, judged_on, scores
from tiny_bert import saved_bert

QUIET = Options(device="cpu", progress=False)


def values(bert: Path, **changes: Any) -> dict[str, Any]:
    encoder = {
        "path": str(bert),
        "hidden": [8],
        "behaviours": {"kind": "most-recent", "k": 3},
        "train_samples": 32,
        "validation_samples": 20,
        "training": TRAINING,
    }
    encoders = {"towers": encoder | changes, "head": encoder | {"train": "head"}}
    return VALUES | {"conventional": {"popular": VALUES["conventional"]["popular"]}, "systems": {}, "two_towers": encoders}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def run(bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(parse(values(bert), "the tests' recipe"), tmp_path_factory.mktemp("runs") / "towers", QUIET)
    run.all()
    return run


def manifests(folder: Path) -> dict[str, int]:
    return {path.parent.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob(MANIFEST)}


def test_it_is_in_every_stage_and_asks_no_language_model(run: Run):
    assert set(manifests(run.folder)) == {
        "1-data",
        "3-conventional/popular",
        "4-two-towers/towers",
        "4-two-towers/head",
        "5-scores/popular",
        "5-scores/towers",
        "5-scores/head",
        "6-report",
    }
    assert run.status().count("  ready ") == 8
    assert run.stages.names == ["popular", "towers", "head"]
    assert all(name in run.table() for name in run.stages.names)
    page = (run.folder / "6-report/report.html").read_text()
    assert "encoder of towers" in page
    assert "only its head has learnt" in page
    assert "the 3 behaviours before the target: shown to towers" in page


def test_scores_are_those_of_the_towers_and_of_each_row_alone(run: Run):
    for name in ("towers", "head"):
        stored = np.load(run.stages.scores(name).require() / "score.npy")
        scorer, model = run.scorers[name], run.scorers[name].model
        batch = partial(scorer.batch, scorer.show(judged_on(run)))
        with torch.inference_mode():
            together = model.score(batch(np.arange(24)))
            alone = torch.cat([model.score(batch(np.array([row]))) for row in range(24)])
        np.testing.assert_allclose(stored, together, rtol=1e-4)
        torch.testing.assert_close(alone, together, rtol=1e-4, atol=1e-6)


def test_what_was_learnt_is_what_learns(run: Run):
    for name, encoder_learns in (("towers", True), ("head", False)):
        before, after = Run.open(run.folder, QUIET).scorers[name].untrained[0], run.scorers[name].model
        changed = {key for key, tensor in before.state_dict().items() if not torch.equal(tensor, after.state_dict()[key])}
        assert any(key.startswith("head.") for key in changed)
        assert any(key.startswith("encoder.") for key in changed) == encoder_learns
        assert (run.stages.two_tower(name).require() / HISTORY).exists()


def test_no_label_and_no_later_event_of_the_target_is_read(run: Run):
    targets = judged_on(run)
    flipped = Targets(targets.user_B, targets.item_B, targets.position_B, ~targets.label_B)
    np.testing.assert_array_equal(scores(run, "towers", targets), scores(run, "towers", flipped))
    _, chosen_NK, mask_NK = run.scorers["towers"].show(targets)
    assert (chosen_NK[mask_NK] < np.repeat(run.context.test_samples, mask_NK.sum(axis=1))).all()


def test_it_recommends_and_says_what_it_read(run: Run):
    user = run.context.dataset.users.outside(np.array([3]))[0]
    answer = recommend(run, user, None, 5, "towers")
    assert "items not seen yet" in answer.how
    assert "chose" not in answer.how
    assert [item.rank for item in answer.items] == [1, 2, 3, 4, 5]
    assert sorted((item.score for item in answer.items), reverse=True) == [item.score for item in answer.items]
    assert {len(item.shown) for item in answer.items} == {3}
    assert recommend(run, user, None, 3, None).system in ("towers", "head")


def test_an_event_makes_no_item_be_read_again(run: Run):
    """By the texts that go through the encoder; what comes out is what a run says that reads all of them again."""
    live, plain = (Run.open(run.folder, QUIET) for _ in range(2))
    dataset, items_P, read = live.context.dataset, np.arange(3, 23), list[int]()
    live.scorers["towers"].model.encoder.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(len(args[0] if args else kwargs["input_ids"])), with_kwargs=True
    )

    def asked(run: Run) -> np.ndarray:
        targets = run.context.dataset.candidates(np.array([2]), np.zeros(1, np.int64))
        return run.scorers["towers"].over(targets, items_P)

    def count() -> int:
        read.clear()
        asked(live)
        return sum(read)

    assert [count(), count()] == [21, 1], "twenty items and one user; the user"
    event = Event(dataset.users.outside([2])[0], dataset.items.outside([40])[0], dataset.rating_levels[0], 4_000_000_000)
    for one in (live, plain):
        one.context.extend([event])
    assert count() == 1
    np.testing.assert_allclose(asked(live), asked(plain), rtol=1e-5)
    live.context.extend([], items=[{"item": "quite new", "title": "Another"}])
    assert count() == 21, "the catalogue is another"


def test_another_model_or_setting_makes_it_anew(run: Run, bert: Path, tmp_path: Path):
    """Also the same folder with other weights; the encoder beside it stays."""
    other = Path(shutil.copytree(bert, tmp_path / "bert"))
    recipe = values(other)
    recipe["two_towers"].pop("head")
    copy = tmp_path / "run"
    Run(parse(recipe, "it"), copy, QUIET).all()
    before = manifests(copy)
    Run(parse(recipe, "it"), copy, QUIET).all()
    assert manifests(copy) == before
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"hidden_dropout_prob": 0.2}))
    again = Run(parse(recipe, "it"), copy, replace(QUIET, checkpointing=True))
    assert "files" in again.stages.two_tower("towers").why_not()
    again.all()
    after = manifests(copy)
    assert {name for name in after if after[name] != before[name]} == {"4-two-towers/towers", "5-scores/towers", "6-report"}
    recipe["two_towers"]["towers"]["max_tokens"] = 64
    assert "max_tokens" in Run(parse(recipe, "it"), copy, QUIET).stages.two_tower("towers").why_not()


def test_behaviours_like_the_target(bert: Path, tmp_path: Path):
    recipe = values(bert, behaviours={"kind": "most-similar", "k": 3})
    recipe["two_towers"].pop("head")
    run = Run(parse(recipe, "it"), tmp_path / "run", QUIET)
    run.all()
    assert {"2-backbone", "2-vectors", "4-two-towers/towers"} <= set(manifests(run.folder))
    assert "the 3 behaviours most like the target" in (run.folder / "6-report/report.html").read_text()


def test_recipes_that_are_refused(bert: Path, tmp_path: Path):
    def refused(recipe: dict[str, Any]) -> str:
        with pytest.raises(ConfigError) as caught:
            parse(recipe, "it")
        return str(caught.value)

    assert "the name 'popular' stands for a conventional model and a two-tower encoder" in refused(
        values(bert) | {"two_towers": {"popular": {"path": "x"}}}
    )
    assert "two_towers.towers.path: Field required" in refused(values(bert) | {"two_towers": {"towers": {}}})
    assert "two_towers.towers.pth: there is no such key; allowed here: behaviours" in refused(values(bert, pth=1))
    assert "cannot be the name of a folder" in refused(values(bert) | {"two_towers": {"a/b": {"path": "x"}}})
    nowhere = Run(parse(values(tmp_path / "nowhere"), "it"), tmp_path / "run", QUIET)
    nowhere.prepare()
    with pytest.raises(ConfigError, match=r"^two_towers\.towers\.path = '.*nowhere': no such folder"):
        nowhere.train()
