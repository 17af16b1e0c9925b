"""Blends in a run: fitted on kept scores of validation samples, judged by kept scores of test; no member is asked twice."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, log_softmax, logit, softmax
from sklearn.linear_model import LogisticRegression

from lifelora.cli import main
from lifelora.errors import ArtefactError, ConfigError
from lifelora.evaluation.metrics import auc
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.choice import all_kept, best
from lifelora.run.estimate import forecast
from lifelora.run.scorers.base import Scorer
from lifelora.run.scorers.blend import WEIGHTS
from lifelora.run.scorers.conventional import ConventionalScorer, NextItemModel
from lifelora.run.scorers.kept import SCORES
from lifelora.run.scorers.like import LikeModel
from lifelora.run.scorers.titles import Titles, candidates_of
from lifelora.run.scorers.weights import RIDGE
from lifelora.run.scorers.yes_no import YesNo
from lifelora.study.compare import minus
from lifelora.study.seeds import over_seeds
from run_world import TRAINING, VALUES

OPTIONS = Options(device="cpu", progress=False)
CTR: dict[str, Any] = VALUES | {
    "systems": {"lora": VALUES["systems"]["lora"]},
    "blends": {
        "both": {"of": ["din", "lora"], "validation_samples": 20},
        "more": {"of": ["popular", "din", "lora"], "validation_samples": 22},
        "ids": {"of": ["popular", "din"], "validation_samples": "null"},
    },
}
SYSTEM = {"behaviours": {"kind": "most-recent", "k": 4}, "train_samples": 32, "validation_samples": 16, "training": TRAINING}
NEXT: dict[str, Any] = {
    "name": "next",
    "task": "next-item",
    "evaluation": VALUES["evaluation"] | {"test_samples": 16, "written_tokens": 0},
    "backbone": VALUES["backbone"] | {"template": {"kind": "next-item"}},
    "data": VALUES["data"] | {"rules": {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 8}}},
    "conventional": {
        "popularity": {"model": {"kind": "popularity"}},
        "sasrec": {
            "model": {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "history_length": 6},
            "training": TRAINING | {"epochs": 2},
        },
    },
    "systems": {"text": SYSTEM | {"retriever": "sasrec", "shortlist": 12}},
    "blends": {"both": {"of": ["sasrec", "text"]}, "ids": {"of": ["popularity", "sasrec"]}},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(parse(CTR, "the tests' recipe"), tmp_path_factory.mktemp("blends") / "run", OPTIONS)
    run.all()
    return run


@pytest.fixture(scope="module")
def ranking(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(parse(NEXT, "the tests' recipe"), tmp_path_factory.mktemp("blends") / "next", OPTIONS)
    run.all()
    return run


def said(run: Run, names: tuple[str, ...], part: Any, rows_N: np.ndarray) -> np.ndarray:
    """Each member asked anew: [N, C, J]."""
    requests = run.task.requests(part, rows_N)
    return np.stack([run.scorers[name].score(requests) for name in names], axis=2)


def test_weights_are_those_of_logistic_regression_on_members_that_are_asked_anew(run: Run):
    rows = run.context.validation_samples(20)
    x_NJ = logit(said(run, ("din", "lora"), "valid", rows)[:, 0])
    spread_J, label_N = x_NJ.std(axis=0), run.context.dataset.targets(rows).label_B
    reference = LogisticRegression(C=1 / RIDGE, tol=1e-12, max_iter=10_000).fit(x_NJ / spread_J, label_N)
    found = run.scorers["both"].weights
    np.testing.assert_allclose(np.array(found.weights) * spread_J, reference.coef_[0], atol=1e-5)
    assert found.bias == pytest.approx(reference.intercept_[0], abs=1e-5 * abs(found.bias))
    assert found.samples == 20


def test_test_scores_are_the_members_weighed(run: Run):
    found, p_NJ = run.scorers["more"].weights, said(run, ("popular", "din", "lora"), "test", run.context.test_samples)[:, 0]
    by_hand_N = expit(found.bias + logit(p_NJ) @ np.array(found.weights))
    np.testing.assert_allclose(run.task.scores("more"), by_hand_N, rtol=1e-6)
    requests = run.task.requests("test", run.context.test_samples)
    np.testing.assert_allclose(run.scorers["more"].score(requests)[:, 0], by_hand_N, rtol=1e-6)


def test_weights_of_a_ranking_have_the_highest_likelihood(ranking: Run):
    """By another optimiser, from the definition, on the members' own scores; its gradient there is nothing."""
    rows = ranking.context.validation_samples(1000)
    score_NCJ, requests = said(ranking, ("sasrec", "text"), "valid", rows), ranking.task.requests("valid", rows)
    own_NC = requests.candidates == requests.targets.item_B[:, None]
    spread_J = (score_NCJ - score_NCJ.mean(axis=1, keepdims=True)).std(axis=(0, 1))

    def loss(v_J: np.ndarray) -> float:
        return float(-log_softmax(score_NCJ @ (v_J / spread_J), axis=1)[own_NC].sum() + RIDGE / 2 * (v_J**2).sum())

    v_J = np.array(ranking.scorers["both"].weights.weights) * spread_J
    reference = minimize(loss, np.zeros(2), method="BFGS", options={"gtol": 1e-9})
    np.testing.assert_allclose(v_J, reference.x, atol=1e-4)
    assert loss(v_J) <= reference.fun + 1e-9
    p_NC = softmax(score_NCJ @ (v_J / spread_J), axis=1)
    gradient_J = np.einsum("nc,ncj->j", p_NC - own_NC, score_NCJ) / spread_J + RIDGE * v_J
    np.testing.assert_allclose(gradient_J, 0, atol=1e-6)


def test_a_ranking_blend_ranks_by_the_sum(ranking: Run):
    found, rows = ranking.scorers["both"].weights, ranking.context.test_samples
    score_NCJ, requests = said(ranking, ("sasrec", "text"), "test", rows), ranking.task.requests("test", rows)
    sum_NC = score_NCJ @ np.array(found.weights)
    own_N = sum_NC[requests.candidates == requests.targets.item_B[:, None]]
    np.testing.assert_array_equal(ranking.task.ranked("both").ranks.better_N, (sum_NC > own_N[:, None] + 1e-9).sum(axis=1))
    np.testing.assert_allclose(ranking.scorers["both"].probabilities(requests), softmax(sum_NC, axis=1), atol=1e-6)


def test_a_shortlist_that_a_language_model_ranked_is_put_in_order_by_the_blend(ranking: Run):
    """The shortlist is SASRec's first 12 of what the user had not seen; behind it SASRec's order stays."""
    dataset, found = ranking.context.dataset, ranking.task.ranked("both")
    assert found.answers is None
    targets = dataset.targets(ranking.context.test_samples)
    (_, sasrec_BM) = next(ranking.scorers["sasrec"].catalogue(targets))
    number_P, event_P = dataset.log.past(targets.user_B, targets.position_B)
    weight, other = ranking.scorers["both"].weights.weights
    for row, target in enumerate(targets.item_B.tolist()):
        seen = {int(dataset.item_N[event]) for event in event_P[number_P == row]} - {target}
        unseen = [item for item in np.argsort(-sasrec_BM[row], kind="stable").tolist() if item not in seen]
        short = np.sort(unseen[:12])
        text_1C = ranking.scorers["text"].score(candidates_of(targets.at(slice(row, row + 1)), short[None]))
        order = short[np.argsort(-(weight * sasrec_BM[row, short] + other * text_1C[0]), kind="stable")].tolist() + unseen[12:]
        assert found.catalogue.better_N[row] == order.index(target)
        assert found.lists.top_NK[row].tolist() == order[:10]


def test_the_catalogue_is_ranked_where_every_member_ranks_it_alone(ranking: Run):
    targets = ranking.context.dataset.targets(ranking.context.test_samples)
    (_, popular_BM), (_, sasrec_BM) = (next(ranking.scorers[name].catalogue(targets)) for name in ("popularity", "sasrec"))
    first, second = ranking.scorers["ids"].weights.weights
    sum_BM = first * popular_BM.astype(np.float64) + second * sasrec_BM.astype(np.float64)
    seen: list[set[int]] = [set() for _ in range(len(targets))]
    number_P, event_P = ranking.context.dataset.log.past(targets.user_B, targets.position_B)
    for row, event in zip(number_P, event_P, strict=True):
        seen[row].add(int(ranking.context.dataset.item_N[event]))
    for row, target in enumerate(targets.item_B):
        others = [m for m in range(sum_BM.shape[1]) if m != target and m not in seen[row]]
        better = (sum_BM[row, others] > sum_BM[row, target] + 1e-9).sum()
        assert ranking.task.ranked("ids").catalogue.better_N[row] == better
    over_BP = ranking.scorers["ids"].over(targets, np.array([3, 5]))
    np.testing.assert_allclose(over_BP, softmax(sum_BM, axis=1)[:, [3, 5]], atol=1e-6)


@pytest.mark.parametrize("which", ["run", "ranking"])
def test_no_member_is_asked_again(which: str, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """With their scores kept, blends are fitted, judged, validated and reported without any model."""
    made: Run = request.getfixturevalue(which)
    shutil.copytree(made.folder, tmp_path / "run")
    for stage in ("4-blends", "5-scores/both", "5-scores/ids", "6-report"):
        shutil.rmtree(tmp_path / "run" / stage)

    def never(*_: Any) -> Any:
        raise AssertionError("a model is asked")

    for scorer in (LikeModel, YesNo, Titles, NextItemModel):
        monkeypatch.setattr(scorer, "score", never)
    again = Run.open(tmp_path / "run", OPTIONS)
    again.all()
    for name in ("both", "ids"):
        kept = [(folder / "4-blends" / name / WEIGHTS).read_text() for folder in (made.folder, again.folder)]
        assert kept[0] == kept[1]
        scores = [np.load(folder / "5-scores" / name / SCORES) for folder in (made.folder, again.folder)]
        np.testing.assert_array_equal(*scores)


def test_an_estimate_knows_that_members_are_asked(run: Run, tmp_path: Path):
    shutil.copytree(run.folder, tmp_path / "run")
    shutil.rmtree(tmp_path / "run/4-validation/lora")
    (part,) = forecast(Run.open(tmp_path / "run", OPTIONS).task).parts
    assert (part.system, part.way, part.samples) == ("lora", "for blends", 22)
    assert not forecast(run.task).parts


def test_validation_counts_are_the_first_of_those_of_the_blend_with_most(run: Run):
    assert run.stages.members == ["popular", "din", "lora"]
    assert [run.stages.validation_count(name) for name in run.stages.members] == [None, None, 22]
    rows, lora = run.context.validation_samples(20), run.scorers["lora"]
    np.testing.assert_array_equal(lora.validated(rows), lora.score(run.task.requests("valid", rows)))
    assert lora.validated(run.context.validation_samples(None)) is None
    assert run.scorers["both"].validated(run.context.validation_samples(None)) is None


def test_the_choice_of_a_scorer_includes_blends(run: Run):
    rows = run.context.validation_samples(20)  # what every scorer has had
    label_N, validated = run.context.dataset.targets(rows).label_B, all_kept(run.task)
    assert validated.samples == 20
    for name, scorer in run.scorers.items():
        assert validated.auc[name] == pytest.approx(auc(label_N, scorer.score(run.task.requests("valid", rows))[:, 0]))
    highest = max(validated.auc.values())
    assert validated.auc[best(run.task, list(run.scorers.values())).scorer.name] == highest


def test_the_report_says_the_weights(run: Run):
    found = run.scorers["both"].weights
    said = run.scorers["both"].reads()
    for weight, name in zip(found.weights, ("din", "lora"), strict=True):
        assert f"{'− ' if weight < 0 and name != 'din' else ''}{abs(weight):.3g} · {name}" in said
    assert said.endswith("fitted on 20 validation samples")
    assert said in (run.folder / "6-report/report.html").read_text()
    figures = json.loads((run.folder / "6-report/evaluation.json").read_text())
    assert figures["systems"]["both"]["auc"]["value"] == pytest.approx(
        auc(run.context.dataset.targets(run.context.test_samples).label_B, run.task.scores("both"))
    )
    assert figures["reference"] == "lora"


@pytest.mark.parametrize("which", ["run", "ranking"])
@pytest.mark.parametrize("name", ["both", "ids"])
def test_a_blend_recommends(which: str, name: str, request: pytest.FixtureRequest, capsys: pytest.CaptureFixture[str]):
    made: Run = request.getfixturevalue(which)
    user = made.task.example_user()
    assert main(["recommend", str(made.folder), "--user", user, "--system", name, "-k", "3", "--quiet", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert [item["rank"] for item in answer["items"]] == [1, 2, 3]
    inside = made.context.dataset.items.inside([item["item"] for item in answer["items"]]).astype(np.int64)
    if which == "run":
        asked = made.task.now(int(made.context.dataset.users.inside([user])[0]), inside)
        np.testing.assert_allclose([item["score"] for item in answer["items"]], made.scorers[name].score(asked)[:, 0], rtol=1e-5)
    assert all(bool(item["shown"]) == (name == "both") for item in answer["items"])


def test_show_minus_measures_blends_and_export_says_no(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["show", str(run.folder), "--minus", "din"]) == 0
    assert "both" in capsys.readouterr().out
    over = over_seeds([run], "din")
    assert over.systems["both"].minus["auc"] == minus(run, "din").systems["both"]["auc"]
    assert main(["show", str(run.folder)]) == 0
    status = capsys.readouterr().out
    assert all(f"ready          {run.folder / stage}" in status for stage in ("4-validation/lora", "4-blends/both"))
    assert main(["export", str(run.folder), "--system", "both", "--out", str(tmp_path / "out")]) == 1
    assert "'both' is a blend, which has no adapter; export a system that it weighs: lora" in capsys.readouterr().err
    assert main(["prompt", str(run.folder), "--system", "both"]) == 1
    assert "'both' is a blend, which reads no prompt" in capsys.readouterr().err


def test_damage_to_kept_scores_is_found_and_mended(run: Run, tmp_path: Path):
    shutil.copytree(run.folder, tmp_path / "run")
    (tmp_path / "run/4-validation/lora" / SCORES).write_bytes(b"no array")
    damaged = Run.open(tmp_path / "run", OPTIONS)
    with pytest.raises(ArtefactError, match="4-validation/lora"):
        damaged.status()
    damaged.all()
    np.testing.assert_array_equal(*(np.load(folder / "4-validation/lora" / SCORES) for folder in (run.folder, damaged.folder)))


def test_scores_of_an_earlier_version_have_to_be_made_again(ranking: Run, tmp_path: Path):
    shutil.copytree(ranking.folder, tmp_path / "run")
    for name in ("5-scores/both", "5-scores/text"):
        shutil.rmtree(tmp_path / "run" / name)
    old = Run.open(tmp_path / "run", OPTIONS)
    with old.stages.scores("text").making() as folder:
        np.save(folder / "ranks.npy", np.load(ranking.folder / "5-scores/text/ranks.npy"))
    with pytest.raises(ArtefactError, match=r"5-scores/text has no score.npy: it is of an earlier version.* Move it away"):
        old.score()


def test_validation_samples_of_one_answer_fit_no_weights(run: Run, tmp_path: Path):
    shutil.copytree(run.folder, tmp_path / "run")
    blends = {"one": {"of": ["din", "popular"], "validation_samples": 1}}
    with pytest.raises(ConfigError, match=r"blends.one.validation_samples = 1: all 1 have the same answer"):
        Run(parse(CTR | {"blends": blends}, "here"), tmp_path / "run", OPTIONS).train()


def test_an_item_that_a_member_does_not_know_has_the_mean_of_its_list(ranking: Run):
    blend = ranking.scorers["both"]
    evidence_NC = blend.evidence(np.array([[1.0, 3.0, -np.inf, 8.0]]))
    np.testing.assert_allclose(evidence_NC, [[-3.0, -1.0, 0.0, 4.0]])  # the mean of 1, 3 and 8 is 4
    said = [np.array([[1.0, -np.inf]]), np.array([[2.0, -np.inf]])]
    assert blend.weighed(said)[0, 1] == -np.inf  # no member knows it


def test_scorers_that_know_ids_alone(run: Run):
    alone = {name: scorer.ids_alone for name, scorer in run.scorers.items()}
    assert alone == {"popular": True, "din": True, "lora": False, "both": False, "more": False, "ids": True}
    both: Scorer = run.scorers["both"]
    assert isinstance(both.retriever, ConventionalScorer)
    assert (both.retriever.name, both.shortlist, run.scorers["ids"].shortlist) == ("din", 100, None)
