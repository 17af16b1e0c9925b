"""A whole run, from a log to a recommendation: what it leaves, what it makes again, and what it refuses."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import log_loss, roc_auc_score

import lifelora
from lifelora import seeds
from lifelora.cli import main
from lifelora.errors import ArtefactError, ConfigError, DataError
from lifelora.llm.nano import Nano
from lifelora.recipe.files import dump, parse
from lifelora.run import Options, Run
from lifelora.run.recommend import recommend
from lifelora.run.stages import Stages
from lifelora.stage import MANIFEST
from run_world import TRAINING, VALUES, scores, tiny

QUIET = Options(device="cpu", progress=False)
NAMES = ["popular", "din", "lora", "personal"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of a finished run."""
    folder = tmp_path_factory.mktemp("runs") / "tiny"
    Run(tiny(), folder, QUIET).all()
    return folder


@pytest.fixture
def run(folder: Path) -> Run:
    return Run.open(folder, QUIET)


def manifests(folder: Path) -> dict[str, int]:
    """When each stage was finished."""
    return {path.parent.relative_to(folder).as_posix(): path.stat().st_mtime_ns for path in folder.rglob(MANIFEST)}


def stages() -> set[str]:
    return {
        "1-data",
        "2-backbone",
        "2-vectors",
        "6-report",
        *(f"5-scores/{name}" for name in NAMES),
        "3-conventional/popular",
        "3-conventional/din",
        "4-systems/lora",
        "4-systems/personal",
    }


def test_every_stage_is_ready_and_sound(run: Run):
    assert set(manifests(run.folder)) == stages()
    assert run.status().count("  ready ") == len(stages())
    for stage in (
        run.stages.data,
        run.stages.backbone,
        run.stages.vectors,
        run.stages.report,
        *map(run.stages.scores, NAMES),
        *map(run.stages.system, ("lora", "personal")),
    ):
        assert stage.damage(thorough=True) == []


def test_the_table_has_everything_and_says_how_many(run: Run):
    table = run.table()
    for name in NAMES:
        assert re.search(rf"^\W*{name}\b", table, re.MULTILINE), table
    assert re.search(r"\b24\b", table), table
    assert table in run.status()


def test_the_report_stands_alone(run: Run):
    page = (run.folder / "6-report/report.html").read_text()
    assert not re.findall(r"""(?:src|href|url)\s*[=(]\s*["']?(?:https?:)?//[^"')\s]*""", page)
    for name in NAMES:
        assert name in page
    assert "trained here on the texts of the simulated world only" in page


def test_the_figures_are_those_of_the_stored_scores(run: Run):
    """Scikit-learn's AUC of the scores in 5-scores, against the labels of the stored events."""
    figures = json.loads((run.folder / "6-report/evaluation.json").read_text())
    dataset = run.context.dataset
    label_N = np.asarray(dataset.label_N[run.context.test_samples])
    assert len(label_N) == 24
    assert (figures["rows"], figures["positives"]) == (24, int(label_N.sum()))
    assert list(figures["systems"]) == NAMES
    for name in NAMES:
        score_N = np.load(run.folder / "5-scores" / name / "score.npy")
        assert score_N.shape == (24,)
        assert ((score_N >= 0) & (score_N <= 1)).all()
        told = figures["systems"][name]
        assert told["auc"]["value"] == pytest.approx(roc_auc_score(label_N, score_N), abs=1e-12)
        assert told["log_loss"]["value"] == pytest.approx(log_loss(label_N, score_N), abs=1e-6)
        assert told["auc"]["low"] <= told["auc"]["value"] <= told["auc"]["high"]
        assert f"{roc_auc_score(label_N, score_N):.4f}".removeprefix("0") in run.table()


def test_the_best_possible_is_the_auc_of_the_truth(run: Run):
    figures = json.loads((run.folder / "6-report/evaluation.json").read_text())
    dataset, rows = run.context.dataset, run.context.test_samples
    users, items = dataset.users.outside(dataset.user_N[rows]), dataset.items.outside(dataset.item_N[rows])
    truth_N = run.recipe.data.source.probability(users, items, np.asarray(dataset.time_N[rows]))
    assert figures["best_possible_auc"] == pytest.approx(roc_auc_score(np.asarray(dataset.label_N[rows]), truth_N), abs=1e-12)


def test_samples_are_drawn_by_the_same_names_as_ever(run: Run):
    """With another name of a stream every published figure would be of other samples."""
    context = run.context
    for part, name, drawn in (
        ("train", "shots", context.training_samples(9)),
        ("valid", "validation", context.validation_samples(9)),
        ("test", "test rows", context.test_samples),
    ):
        rows = np.asarray(context.dataset.samples[part])
        chosen = seeds.generator(run.recipe.seed, name).permutation(len(rows))[: len(drawn)]
        assert drawn.tolist() == rows[np.sort(chosen)].tolist()
    assert len(context.test_samples) < len(context.dataset.samples["test"])  # or there was nothing to draw


def test_the_kept_recipe_is_the_recipe(run: Run):
    assert parse(tomllib.loads((run.folder / "recipe.toml").read_text()), "kept") == tiny()
    assert run.recipe == tiny()


def test_running_again_makes_nothing(folder: Path):
    before = manifests(folder)
    Run(tiny(), folder, QUIET).all()
    Run.open(folder, QUIET).all()
    assert manifests(folder) == before


def test_a_changed_system_is_made_again_with_what_follows_from_it(folder: Path, tmp_path: Path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    before = manifests(copy)
    run = Run(tiny(training=TRAINING | {"learning_rate": 1e-2}), copy, QUIET)
    assert not run.stages.report.complete()
    assert "learning_rate" in run.stages.system("lora").why_not()
    run.all()
    after = manifests(copy)
    assert {name for name in after if after[name] != before[name]} == {"4-systems/lora", "5-scores/lora", "6-report"}
    assert not np.array_equal(np.load(copy / "5-scores/lora/score.npy"), np.load(folder / "5-scores/lora/score.npy"))


@pytest.mark.parametrize(
    ("stage", "before"),
    [
        (Run.fit, "prepare"),
        (Run.embed, "prepare"),
        (Run.train, "prepare"),
        (Run.evaluate, "prepare"),
    ],
)
def test_a_stage_without_its_inputs_names_the_command(stage: Callable[[Run], None], before: str, tmp_path: Path):
    with pytest.raises(ArtefactError, match=rf"run `lifelora {before}` with the same recipe and --out first"):
        stage(Run(tiny(), tmp_path / "new", QUIET))


def test_training_before_fitting_names_the_command(folder: Path, tmp_path: Path):
    copy = Path(shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("3-conventional", "4-systems")))
    with pytest.raises(ArtefactError, match=r"'fit/din'.*run `lifelora fit`"):
        Run(tiny(), copy, QUIET).train()


def test_a_folder_that_is_no_run(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"is not a run \(it has no recipe\.toml\); make one with `lifelora run`"):
        Run.open(tmp_path, QUIET)


def test_a_finished_run_answers_without_its_log(folder: Path, tmp_path: Path):
    """By the hash of the source's files that 1-data keeps: the files themselves may be gone."""
    log = tmp_path / "shop"
    log.mkdir()
    rows = [f"u{u},i{(u * 7 + e) % 30},{(u + e) % 2},{1_700_000_000 + e * 10 + u}" for u in range(8) for e in range(12)]
    (log / "interactions.csv").write_text("\n".join(["user,item,rating,time", *rows]))
    from lifelora.data.sources import parse_source

    recipe = parse(
        {
            "name": "shop",
            "conventional": {"popular": {"model": {"kind": "popularity"}}},
            "evaluation": {"resamples": 100},
            "data": {
                "rules": {"label_above": 0.5},
                "source": parse_source(f"tables:{log}").model_dump(mode="json", exclude_none=True),
            },
        },
        "shop",
    )
    Run(recipe, tmp_path / "run", QUIET).all()
    before = manifests(tmp_path / "run")
    shutil.rmtree(log)
    again = Run.open(tmp_path / "run", QUIET)
    again.all()
    assert manifests(tmp_path / "run") == before
    assert len(recommend(again, "u3", None, 4, None).items) == 4


def test_scores_do_not_depend_on_who_stands_beside_whom(run: Run):
    rows = run.context.test_samples
    order = np.random.default_rng(0).permutation(len(rows))
    for name in NAMES:
        stored = np.load(run.folder / "5-scores" / name / "score.npy")
        moved = scores(run, name, run.context.dataset.targets(rows[order]))
        np.testing.assert_allclose(moved, stored[order], atol=1e-5, rtol=0, err_msg=name)


@pytest.mark.parametrize("system", ["lora", "personal", "din"])
def test_a_recommendation_is_of_the_unmet_and_shows_the_users_own_past(run: Run, system: str):
    dataset = run.context.dataset
    answer = recommend(run, "u00007", None, 5, system)
    assert (answer.user, answer.system) == ("u00007", system)
    assert [item.rank for item in answer.items] == [1, 2, 3, 4, 5]
    given = [item.score for item in answer.items]
    assert given == sorted(given, reverse=True)
    user = int(dataset.users.inside(["u00007"])[0])
    seen = np.asarray(dataset.item_N[dataset.log.offsets[user] : dataset.log.offsets[user + 1]])
    past = {dataset.titles[item] for item in seen}
    chosen = dataset.items.inside([item.item for item in answer.items])
    assert not set(chosen.tolist()) & set(seen.tolist())
    for item, index in zip(answer.items, chosen.tolist(), strict=True):
        assert item.title == dataset.titles[index]
        assert {behaviour.title for behaviour in item.shown} <= past
        assert len(item.shown) == (0 if system == "din" else 3)
    # By the model itself, over all that is unmet, or over what its conventional model chose of it.
    everything = np.setdiff1d(np.arange(dataset.n_items), seen)
    all_scores = scores(run, system, dataset.candidates(user, everything))
    assert given[0] == pytest.approx(all_scores.max(), abs=1e-5)


def test_most_recent_behaviours_are_the_last_ones(run: Run):
    dataset = run.context.dataset
    user = int(dataset.users.inside(["u00003"])[0])
    last = [dataset.titles[item] for item in dataset.item_N[dataset.log.offsets[user + 1] - 3 : dataset.log.offsets[user + 1]]]
    answer = recommend(run, "u00003", None, 2, "lora")
    assert [[behaviour.title for behaviour in item.shown] for item in answer.items] == [last, last]
    assert "Shown for all of them: " in str(answer)


def test_items_that_were_asked_for(run: Run, capsys: pytest.CaptureFixture[str]):
    answer = recommend(run, "u00001", ["b00003", "b00001", "b00002"], 10, "lora")
    assert {item.item for item in answer.items} == {"b00001", "b00002", "b00003"}
    words = [
        "recommend",
        str(run.folder),
        "--user",
        "u00001",
        "--items",
        "b00003",
        "b00001",
        "-k",
        "1",
        "--system",
        "personal",
        "--json",
        "--quiet",
        "--device",
        "cpu",
    ]
    assert main(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert set(told) == {"user", "system", "how", "items", "why", "note"}
    assert told["system"] == "personal"
    assert set(told["items"][0]) == {"rank", "item", "title", "score", "shown"}
    assert told["items"][0]["item"] in ("b00003", "b00001")
    assert len(told["items"]) == 1
    assert set(told["items"][0]["shown"][0]) == {"title", "rating"}


def test_a_changed_sentence_encoder_makes_the_vectors_anew(tmp_path: Path):
    """A file of the model's folder, or of a folder in it, is part of the stage's key."""
    (tmp_path / "model/1_Pooling").mkdir(parents=True)
    files = [tmp_path / "model/model.safetensors", tmp_path / "model/1_Pooling/config.json"]
    for file in files:
        file.write_text("one")
    vectors = {"kind": "sentence-encoder", "model": str(tmp_path / "model")}
    recipe = parse(VALUES | {"vectors": vectors}, "the tests' recipe")

    def keys() -> tuple[str, str]:
        stages = Stages(recipe, tmp_path / "run")
        return stages.vectors.key, stages.system("personal").key

    before = keys()
    assert keys() == before
    for file in files:
        file.write_text("two")
        after = keys()
        assert not set(after) & set(before)
        before = after


def test_what_cannot_be_recommended(run: Run):
    with pytest.raises(DataError, match=r"'u0007'.*unknown id.*nearest are .*'u00007'"):
        recommend(run, "u0007", None, 5, None)
    with pytest.raises(DataError, match=r"'c1'.*unknown id"):
        recommend(run, "u00007", ["c1"], 5, None)
    with pytest.raises(ConfigError, match=r"no system 'persona'; it has popular, din, lora, personal"):
        recommend(run, "u00007", None, 5, "persona")
    with pytest.raises(ConfigError, match=r"-k 0 is not the length"):
        recommend(run, "u00007", None, 0, None)
    with pytest.raises(ConfigError, match=r"names an item twice"):
        recommend(run, "u00007", ["b00001", "b00001"], 5, None)


def test_another_run_on_the_same_data_takes_the_nano_lm_from_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def never(*words: object, **named: object) -> None:
        raise AssertionError("pretrained a second time")

    monkeypatch.setattr(Nano, "make", never)
    run = Run(tiny(), tmp_path / "second", QUIET)
    run.prepare()
    run.embed()
    assert run.stages.vectors.complete()
    cached = Path(os.environ["LIFELORA_CACHE"]) / "nano" / run.stages.backbone.key
    assert cached.is_dir()
    for name in ("model.safetensors", "tokenizer.json", "about.json"):
        first = (folder / "2-backbone" / name).read_bytes()
        assert (tmp_path / "second/2-backbone" / name).read_bytes() == first
        assert (cached / name).read_bytes() == first
    assert not [path for path in cached.parent.iterdir() if path.name.startswith("tmp")]


def test_a_run_is_named_by_its_folder_on_the_command_line(folder: Path, capsys: pytest.CaptureFixture[str]):
    before = manifests(folder)
    assert main(["run", str(folder), "--quiet", "--device", "cpu"]) == 0
    said = capsys.readouterr().out
    assert Run.open(folder, QUIET).table() in said
    assert "6-report/report.html" in said
    assert main(["evaluate", str(folder), "--quiet", "--device", "cpu"]) == 0
    assert main(["show", str(folder)]) == 0
    assert manifests(folder) == before
    assert main(["run", str(folder), "--set", "seed=1"]) == 1
    assert "is a run, which has its own recipe" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_killed_run_ends_with_the_same_bits(tmp_path: Path):
    """SIGKILL while each kind of stage is being made; then the same command again, to the end."""
    (tmp_path / "tiny.toml").write_text(dump(tiny()))
    sources = str(Path(lifelora.__path__[0]).parent)

    def start(out: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": sources, "LIFELORA_CACHE": str(tmp_path / f"cache-{out}")}
        return subprocess.Popen(
            [sys.executable, "-m", "lifelora.cli", "run", "tiny.toml", "--out", out, "--quiet", "--device", "cpu"],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

    def to_the_end(out: str) -> None:
        with start(out) as process:
            _, said = process.communicate(timeout=800)
        assert process.returncode == 0, said.decode()[-3000:]

    to_the_end("whole")
    killed = []
    for place, wait in (("1-data", 0.0), ("2-backbone", 0.3), ("3-conventional/din", 0.02), ("4-systems/personal", 0.3)):
        with start("killed") as process:
            working = tmp_path / "killed" / f"{place}.working"
            until = time.monotonic() + 600
            while not working.exists() and process.poll() is None and time.monotonic() < until:
                time.sleep(0.001)
            time.sleep(wait)
            process.send_signal(signal.SIGKILL)
            process.communicate()
        killed.append(process.returncode)
    assert killed == [-signal.SIGKILL] * 4
    to_the_end("killed")
    same = [f"4-systems/{name}/model.safetensors" for name in ("lora", "personal")]
    same += [f"5-scores/{name}/score.npy" for name in NAMES]
    same += ["2-backbone/model.safetensors", "2-vectors/vectors.safetensors", "3-conventional/din/model.safetensors"]
    for name in same:
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name
    assert not list((tmp_path / "killed").rglob("*.working"))


def test_a_folder_may_be_a_text(tmp_path: Path):
    run = Run(tiny(), str(tmp_path / "run"), QUIET)
    assert (run.folder, run.stages.data.folder) == (tmp_path / "run", tmp_path / "run/1-data")
    run.prepare()
    assert len(lifelora.Dataset(str(tmp_path / "run/1-data"))) == len(run.context.dataset)
    assert Run.open(str(tmp_path / "run"), QUIET).stages.data.complete()
    (tmp_path / "log.csv").write_text("user,item\nu,a\n")
    (tmp_path / "shop.toml").write_text('interactions = "log.csv"\n')
    (tmp_path / "shop").mkdir()
    (tmp_path / "log.csv").rename(tmp_path / "shop/log.csv")
    assert lifelora.Tables.of_folder(str(tmp_path / "shop")).label == "log"
    assert lifelora.Tables.from_toml(str(tmp_path / "shop.toml")).interactions == str(tmp_path / "log.csv")


def test_what_refuses_a_foreign_folder_fits_python_and_the_command_line(tmp_path: Path):
    (tmp_path / "1-data").mkdir()
    (tmp_path / "1-data/mine.txt").write_text("mine")
    with pytest.raises(ArtefactError, match=r"move it away, or choose another folder\. It was left as it is") as caught:
        Run(tiny(), tmp_path, QUIET).prepare()
    assert "--out" not in str(caught.value)
