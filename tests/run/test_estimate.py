"""What a run says it will take: arithmetic by hand, counts against what was read, a clock that is not real, what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from kills_world import asked_next

from lifelora.cli import main
from lifelora.errors import ConfigError
from lifelora.llm.nano import Nano
from lifelora.recipe.files import dump
from lifelora.run import Options, Run, estimate
from lifelora.run import run as story
from lifelora.run.forecast import GIB, Forecast, Part, Step, gib
from lifelora.run.scorers.base import Requests
from lifelora.run.scorers.language import LanguageScorer
from lifelora.run.scorers.yes_no import YesNo
from run_world import tiny

OPTIONS = Options(device="cpu", progress=False)


def part(**values: object) -> Part:
    told: dict[str, object] = {"system": "lora", "way": "training", "samples": 100, "tokens": 20_000.0, "memory": 2 * GIB}
    told |= {"steps": [Step(1000, 2.0), Step(500, 2.0)], "fewest": GIB // 2, "accumulation": 4}
    return Part(**told | values)  # type: ignore[arg-type]


def test_the_arithmetic_by_hand():
    """1,500 tokens took 4 s, so 20,000 take 53.3 s; at 500 tokens a second 40 s, at 250 a second 80 s, and a quarter more."""
    found = part()
    assert found.seconds == pytest.approx(20_000 * 4 / 1500)
    assert found.span == pytest.approx((40 / 1.25, 80 * 1.25))
    both = Forecast([found, part(way="scoring", tokens=7500.0)], "cpu (1 thread)", GIB, 3 * GIB)
    assert both.seconds == pytest.approx(53.333333 + 20)
    lines = str(both).splitlines()
    assert lines[0] == "Language models on cpu (1 thread): weights 1.0 GiB, 3.0 GiB free beside them"
    assert " ".join(lines[2].split()) == "lora, training 100 200 375 53 s 32 s 1 min 40 s 2.0 GiB"
    assert " ".join(lines[4].split()) == "in all 1 min 13 s 44 s 2 min 18 s 2.0 GiB"


def test_nothing_is_left_to_do():
    assert str(Forecast([], "cpu", GIB, GIB)) == "There is nothing left for language models to do."


def test_what_does_not_fit_is_refused_with_the_mend():
    """Four micro-batches of 2 GiB are eight of 1 GiB, where 1 GiB is free; nine where 0.9 GiB is."""
    Forecast([part()], "cpu", GIB, 2 * GIB).refuse(checkpointing=False)
    Forecast([part()], "cpu", GIB, None).refuse(checkpointing=False)
    with pytest.raises(ConfigError) as refused:
        Forecast([part()], "cpu", GIB, GIB * 9 // 10).refuse(checkpointing=False)
    told = str(refused.value)
    assert told.startswith("systems.lora needs about 2.0 GiB for its training, beside 1.0 GiB of the language model, and 0.9 GiB")
    assert "set systems.lora.training.accumulation = 9 (it is 4); give --checkpointing; lower systems.lora.max_tokens" in told
    assert "set backbone.layers; set backbone.quantization" in told
    with pytest.raises(ConfigError) as refused:  # not even one sample fits
        Forecast([part()], "cpu", GIB, GIB // 3).refuse(checkpointing=True)
    assert "accumulation" not in str(refused.value)
    assert "checkpointing" not in str(refused.value)


def test_bytes_in_words():
    assert (gib(1.5 * GIB), gib(GIB / 20)) == ("1.5 GiB", "51 MiB")


def ahead_of(run: Run) -> dict[tuple[str, str], Part]:
    return {(found.system, found.way): found for found in run.estimate().parts}


@pytest.mark.parametrize("growing", [{}, {"history": "growing", "block": 4}], ids=["own", "growing"])
def test_the_counts_are_what_is_read(growing: dict[str, object], tmp_path: Path):
    """To the token, in training and in scoring, of prompts and of trees; and afterwards nothing is left to do."""
    run = Run(tiny(**growing), tmp_path / "run", OPTIONS)
    ahead = ahead_of(run)
    assert [way for name, way in ahead if name == "lora"] == ["training", "validation", "scoring"]
    assert not (run.folder / "3-conventional").exists()
    assert not (run.folder / "4-systems").exists()
    assert not (run.folder / "2-vectors").exists()
    run.all()
    costs = run.task.costs("lora")
    for way, samples in (("training", 32), ("scoring", 24)):
        found = ahead["lora", way]
        assert found.samples == samples
        assert found.tokens == pytest.approx(costs[way].tokens * samples)
    assert ahead["lora", "validation"].samples == 20
    # Item vectors, which choose what 'personal' is shown, were not there yet: as many of the latest behaviours stood for them.
    assert ahead["personal", "scoring"].tokens == pytest.approx(run.task.costs("personal")["scoring"].tokens * 24, rel=0.2)
    again = Run.open(run.folder, OPTIONS)
    assert again.estimate().parts == []
    assert "loaded_backbone" not in vars(again.context)  # a finished run does not load its model for it


def test_what_all_are_compared_by_is_counted_where_nothing_has_kept_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An LM as it is has no training that kept its AUC; the other chose by 20 validation samples, and is compared by 12."""
    recipe = tiny(train_samples=0, training={}, validation_samples=12)
    run = Run(recipe, tmp_path / "run", OPTIONS)
    ahead = ahead_of(run)
    assert [way for name, way in ahead if name == "lora"] == ["comparison", "scoring"]
    assert [way for name, way in ahead if name == "personal"] == ["training", "validation", "comparison", "scoring"]
    asked = list[tuple[str, int]]()
    score = YesNo.score

    def counted(scorer: YesNo, requests: Requests, said: str | None = None) -> np.ndarray:
        asked.append((scorer.name, len(requests)))
        return score(scorer, requests, said)

    monkeypatch.setattr(YesNo, "score", counted)
    run.all()
    assert [count for name, count in asked if name == "lora"] == [24, 12]
    assert [count for name, count in asked if name == "personal"] == [20, 24, 12]
    assert ahead["lora", "comparison"].samples == ahead["personal", "comparison"].samples == 12


def test_epochs_and_evaluations_are_counted(tmp_path: Path):
    """32 samples in steps of 16: 5 steps are 2.5 epochs, and 2 evaluations an epoch are 5."""
    training = {"batch_size": 16, "epochs": 3, "max_steps": 5, "evaluations_per_epoch": 2, "learning_rate": 2e-3}
    run = Run(tiny(training=training), tmp_path / "run", OPTIONS)
    ahead = ahead_of(run)
    assert ahead["lora", "training"].samples == 80
    assert ahead["lora", "validation"].samples == 5 * 20


def test_titles_are_counted_in_all_their_ways(tmp_path: Path):
    run = Run(asked_next(), tmp_path / "run", OPTIONS)
    ahead = ahead_of(run)
    run.all()
    scorer = run.scorers["text"]
    assert isinstance(scorer, LanguageScorer)
    costs = run.task.costs("text")
    count = len(run.context.test_samples)
    assert ahead["text", "training"].tokens == pytest.approx(costs["training"].tokens * ahead["text", "training"].samples)
    listed = next(cost for way, cost in costs.items() if way.startswith("likelihoods"))
    assert ahead["text", "scoring"].tokens == pytest.approx(listed.tokens * count, rel=0.15)
    assert ahead["text", "answering"].tokens == pytest.approx(
        (costs["chosen"].tokens + costs["written"].tokens) * count if "written" in costs else costs["chosen"].tokens * count,
        rel=0.3,
    )


def test_time_is_by_the_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """By a clock that goes on by half a second whenever it is looked at: each timed piece takes that, whatever it reads."""
    seen = [0.0]

    def clock() -> float:
        seen[0] += 0.5
        return seen[0]

    run = Run(tiny(), tmp_path / "run", OPTIONS)
    run.prepare()
    run.embed()
    monkeypatch.setattr("lifelora.llm.cost.time.perf_counter", clock)
    for found in ahead_of(run).values():
        assert [step.seconds for step in found.steps] == [0.5] * 3
        assert found.seconds == pytest.approx(found.tokens * 1.5 / sum(step.tokens for step in found.steps))


def test_an_estimate_leaves_the_model_and_the_random_numbers_as_they_were(tmp_path: Path):
    run = Run(tiny(dropout=0.5), tmp_path / "run", OPTIONS)
    run.prepare()
    run.embed()
    model = run.context.backbone.model
    before = {name: p.clone() for name, p in model.named_parameters()}
    torch.manual_seed(3)
    run.estimate()
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1))
    after = dict(model.named_parameters())
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) and after[name].grad is None for name, value in before.items())


@pytest.fixture
def not_nano(monkeypatch: pytest.MonkeyPatch) -> None:
    """The nano LM counts as one that was not made here, before which a run estimates."""
    monkeypatch.setattr(story, "foretold", lambda recipe: True)


@pytest.mark.usefixtures("not_nano")
def test_a_run_without_room_is_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(estimate, "free_memory", lambda device: 100_000)
    run = Run(tiny(), tmp_path / "run", OPTIONS)
    with pytest.raises(ConfigError, match=r"systems\.lora needs about .* for its training.*systems\.lora\.max_tokens"):
        run.all()
    assert not (run.folder / "3-conventional").exists()
    assert not (run.folder / "4-systems").exists()


@pytest.mark.usefixtures("not_nano")
def test_a_run_says_what_takes_long_and_only_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    run = Run(tiny(), tmp_path / "run", Options(device="cpu"))
    run.prepare()
    run._ready_backbone()
    run._foretell()
    assert "Tokens a second" not in capsys.readouterr().err
    monkeypatch.setattr(story, "WORTH", 0.0)
    run._foretell()
    told = capsys.readouterr().err
    assert "Language models on cpu" in told
    assert "lora, training" in told


def test_a_nano_run_is_not_held_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(story, "forecast", lambda task: pytest.fail("it was estimated"))
    assert Nano.made
    Run(tiny(), tmp_path / "run", OPTIONS).all()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "tiny.toml").write_text(dump(tiny()))
    assert main(["run", str(tmp_path / "tiny.toml"), "--estimate", "--device", "cpu", "--out", str(tmp_path / "run")]) == 0
    told = capsys.readouterr().out
    assert "lora, training" in told
    assert "in all" in told
    assert sorted(path.name for path in (tmp_path / "run").iterdir() if path.is_dir()) == ["1-data", "2-backbone"]
