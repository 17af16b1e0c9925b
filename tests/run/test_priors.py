"""Systems that add to a conventional model: at the start they are it; trained, scored, opened, told and refused as any other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import expit, logit
from test_growing_runs import GROWING, QUESTION, SASREC, U, everything, trained

from lifelora.errors import ConfigError
from lifelora.llm.yes_no import SPEED, YesNoLM
from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.run import Options, Run
from lifelora.run.export import export
from lifelora.run.prompts import prompt
from lifelora.run.recommend import recommend
from lifelora.run.scorers.base import MODEL
from lifelora.run.scorers.yes_no import YesNo
from lifelora.tensors import read_tensors
from run_world import TRAINING, VALUES

OPTIONS = Options(device="cpu", progress=False)
LORA = VALUES["systems"]["lora"] | {"dropout": 0.0, "prior": "din"}
SYSTEMS: dict[str, dict[str, Any]] = {
    "identity": LORA,
    "reit": LORA | {"mix_with": {"kind": "most-recent", "k": 1}},
    "counted": LORA | {"prior": "popular"},
    "experts": LORA | U | {"coupling": {"kind": "experts", "rank": 2, "experts": 2}},
    "meta": LORA | U | {"coupling": {"kind": "meta", "rank": 2}},
    "hydra": LORA | U | {"coupling": {"kind": "hydra", "rank": 2}},
    "static": LORA | {"coupling": {"kind": "static", "rank": 2}},
    "full": LORA | {"representation": {"model": "din"}, "coupling": {"kind": "full", "rank": 2}},
    "joint": LORA
    | {"representation": {"model": "din", "train": "joint"}, "coupling": {"kind": "full", "rank": 2}, "init_from": "identity"}
    | {"training": TRAINING | {"batch_size": 4}},
    "soft": LORA | {"soft": {"model": "sasrec", "at": ["behaviours", "target", "user"]}},
    "growing": GROWING | U | {"dropout": 0.0, "prior": "din", "coupling": {"kind": "full", "rank": 2}},
    "growing-question": GROWING | U | QUESTION | {"dropout": 0.0, "prior": "din", "coupling": {"kind": "full", "rank": 2}},
}


def recipe(*names: str) -> Recipe:
    conventional = VALUES["conventional"] | {"sasrec": {"model": SASREC, "training": TRAINING}}
    systems = {name: system for name, system in SYSTEMS.items() if name in (names or SYSTEMS)}
    return parse(VALUES | {"conventional": conventional, "systems": systems}, "the tests' recipe")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Where all but the systems is trained."""
    run = Run(recipe(), tmp_path_factory.mktemp("runs") / "priors", OPTIONS)
    run.prepare()
    run.embed()
    run.fit()
    return run


def untrained(run: Run, name: str) -> YesNo:
    scorer = run.scorers[name]
    assert isinstance(scorer, YesNo)
    scorer.lm = scorer.untrained()
    return scorer


@pytest.mark.parametrize("name", SYSTEMS)
def test_before_the_first_step_it_is_the_conventional_model(run: Run, name: str):
    scorer, requests = untrained(run, name), run.task.requests("test", run.context.test_samples)
    prior = run.scorers["popular" if name == "counted" else "din"]
    np.testing.assert_allclose(scorer.score(requests), prior.score(requests), rtol=0, atol=1e-6)
    assert run.task.metrics(scorer, requests)["auc"] == pytest.approx(run.task.metrics(prior, requests)["auc"], abs=1e-9)


@pytest.mark.parametrize("name", ["full", "soft", "growing", "growing-question"])
def test_what_it_says_is_added(run: Run, name: str):
    """Of every event, on trees where there are: the prior's logit + α times its own without a prior, + β."""
    scorer, requests = untrained(run, name), everything(run)
    torch.manual_seed(1)
    for parameter in [*scorer.lm.adapters.parameters(), *(scorer.lm.soft.parameters() if scorer.lm.soft else ())]:
        torch.nn.init.normal_(parameter, std=0.5)
    added, scorer.lm.prior = scorer.lm.prior, None
    own_N = logit(scorer.score(requests)[:, 0])
    scorer.lm.prior = added
    assert added is not None
    torch.nn.init.constant_(added.a, 0.5 / SPEED)
    torch.nn.init.constant_(added.b, -0.25 / SPEED)
    torch.nn.init.constant_(added.m, 0.3)
    z_N = logit(run.scorers["din"].score(requests)[:, 0]) + 0.5 * (own_N - 0.3) - 0.25
    np.testing.assert_allclose(scorer.score(requests)[:, 0], expit(z_N), rtol=0, atol=2e-5)
    assert own_N.std() > 0.005
    assert (scorer.asked(requests).trunk_N is not None) == name.startswith("growing")


def test_mixed_samples_have_the_prior_of_their_own(run: Run):
    """ReiT: every sample twice, each with what DIN says of it."""
    scorer = untrained(run, "reit")
    drawn = scorer.requests_of_training()
    shown = scorer.show(drawn).mixed(scorer.show(drawn, scorer.system.mix_with))
    din_N = logit(run.scorers["din"].score(drawn)[:, 0])
    batch = scorer.batch(shown, np.array([3, 3 + len(drawn), 5]))
    np.testing.assert_allclose(batch.prior_B, din_N[[3, 3, 5]], rtol=0, atol=1e-4)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(recipe("identity", "joint"), tmp_path_factory.mktemp("runs") / "finished", OPTIONS)
    run.all()
    return run


def test_two_numbers_are_learnt_kept_and_told(finished: Run):
    kept, _ = read_tensors(finished.stages.system("identity").require() / MODEL)
    alpha, beta = (f"{SPEED * float(kept[f'prior.{which}']):.3g}".replace("-", "\N{MINUS SIGN}") for which in ("a", "b"))
    assert float(kept["prior.a"]) != 0 != float(kept["prior.b"])
    page = (finished.stages.report.require() / "report.html").read_text()
    assert f"prior: din, fitted on 32 of them; α = {alpha}, β = {beta}" in page
    assert "The prior of identity was fitted on 32 of the 32 samples" in page
    assert ("identity", "din") in finished.task.pairs
    assert "identity minus din" in finished.table()


def test_opened_again_it_says_the_same(finished: Run):
    again = Run.open(finished.folder, OPTIONS)
    for name in ("identity", "joint"):
        requests = again.task.requests("test", again.context.test_samples)
        np.testing.assert_array_equal(again.scorers[name].score(requests)[:, 0], again.task.scores(name))  # type: ignore[attr-defined]


def test_the_prior_stays_as_it_was_trained(finished: Run):
    """While a copy of the same model learns to make u."""
    kept, _ = read_tensors(finished.stages.system("joint").require() / MODEL)
    din, _ = read_tensors(finished.stages.conventional("din").require() / MODEL)
    moved = [name for name, tensor in din.items() if not torch.equal(kept.get(f"representer.{name}", tensor), tensor)]
    assert moved
    requests = finished.task.requests("test", finished.context.test_samples)
    scorer = untrained(Run.open(finished.folder, OPTIONS), "joint")
    np.testing.assert_allclose(scorer.score(requests)[:, 0], finished.task.scores("din"), rtol=0, atol=1e-6)  # type: ignore[attr-defined]


def test_it_recommends_is_asked_and_is_not_exported(finished: Run, tmp_path: Path):
    user = finished.task.example_user()
    answer = recommend(finished, user, k=3, system="identity")
    items = finished.context.dataset.items.inside([one.item for one in answer.items]).astype(np.int64)
    asked = finished.task.now(int(finished.context.dataset.users.inside([user])[0]), items)
    scores = finished.scorers["identity"].score(asked)[:, 0]
    assert [one.score for one in answer.items] == pytest.approx(scores.tolist(), abs=1e-5)
    made = prompt(finished, "identity")
    assert "prior: the language model's logit is added to that of 'din'" in str(made)
    assert made.as_json()["prior"] == "din"
    with pytest.raises(ConfigError, match="'identity' adds α .* to the logit of 'din'.*export a system without `prior`"):
        export(finished, tmp_path, system="identity", users=None, item=None)


def test_interrupted_it_goes_on_to_the_same_bits(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def learn(folder: Path) -> None:
        trained(Run.open(run.stages.folder, OPTIONS), "growing", folder)

    learn(tmp_path / "whole")
    calls, loss = 0, YesNoLM.loss

    def killed(lm: YesNoLM, batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise KeyboardInterrupt
        return loss(lm, batch)

    with monkeypatch.context() as patched:
        patched.setattr(YesNoLM, "loss", killed)
        with pytest.raises(KeyboardInterrupt):
            learn(tmp_path / "killed")
    learn(tmp_path / "killed")
    assert (tmp_path / "killed" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"systems": {"one": LORA | {"prior": "dim"}}}, r"systems.one.prior = 'dim' is none of .*\(popular, din\)"),
        ({"systems": {"one": LORA | {"loss": "yes"}}}, "systems.one: loss = 'yes' learns .* remove loss or prior"),
        (
            {"systems": {"one": LORA | {"train_samples": 0}}},
            "systems.one: with train_samples = 0 .* it is its prior|a system is its prior",
        ),
        (
            {
                "task": "next-item",
                "data": VALUES["data"] | {"rules": {"split": {"kind": "leave-one-out"}, "candidates": {"count": 6}}},
                "systems": {"one": LORA | {"prior": "popular"}},
                "conventional": {"popular": {"model": {"kind": "popularity"}}},
            },
            r'systems.one.prior = .*next-item.*\[blends.NAME\] with of = \["popular", "one"\]',
        ),
    ],
)
def test_what_does_not_fit_is_said(values: dict[str, Any], said: str):
    with pytest.raises(ConfigError, match=said):
        parse(VALUES | values, "here")


def test_without_a_prior_a_system_is_the_stage_that_it_was(run: Run):
    recipe = run.recipe
    plain = recipe.systems["identity"].model_copy(update={"prior": None})
    without = Run(recipe.model_copy(update={"systems": {"identity": plain}}), run.folder, OPTIONS).stages.system("identity")
    assert "prior" not in without.config
    assert "prior" not in without.inputs
    assert run.stages.system("identity").config["prior"] == "din"
    assert run.stages.system("identity").inputs["prior"] == run.stages.conventional("din").key
