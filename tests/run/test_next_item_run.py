"""The task next-item from end to end: places against plain Python, answers, the report, a recommendation, what is refused."""

import html
import json
import math
import shutil
import tomllib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM

from lifelora.cli import main
from lifelora.errors import ConfigError
from lifelora.evaluation.ranking_report import measure
from lifelora.evaluation.significance import paired_test
from lifelora.llm.nano import Nano
from lifelora.llm.reading import Reader, contained, exact
from lifelora.llm.search import choose
from lifelora.llm.write import write
from lifelora.recipe.files import dump, load, parse
from lifelora.run import Options, Run
from lifelora.run.estimate import forecast
from lifelora.run.export import export
from lifelora.run.scorers.base import Requests
from lifelora.run.scorers.titles import Titles, candidates_of
from lifelora.run.tasks.next_item import ANSWERS, RANKS, TOP
from run_world import TRAINING, VALUES

SMALL = {"embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}
SYSTEM = {
    "behaviours": {"kind": "most-recent", "k": 4},
    "train_samples": 32,
    "validation_samples": 16,
    "training": TRAINING,
    "dropout": 0.0,
}
EXPERTS = {"coupling": {"kind": "experts", "rank": 4, "experts": 2}, "representation": {"model": "sasrec"}}
RATES = {"coupling": {"learning_rate": 6e-4, "weight_decay": 1e-5}}
RECIPE: dict[str, Any] = {
    "name": "next",
    "task": "next-item",
    "evaluation": VALUES["evaluation"] | {"test_samples": 16, "written_tokens": 12, "beams": 2},
    "backbone": VALUES["backbone"] | {"template": {"kind": "next-item"}},
    "data": VALUES["data"] | {"rules": {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 8}}},
    "conventional": {
        "popularity": {"model": {"kind": "popularity"}},
        "sasrec": {"model": {"kind": "sasrec"} | SMALL, "training": TRAINING | {"epochs": 2}},
    },
    "systems": {
        "zero-shot": SYSTEM | {"train_samples": 0},
        "text": SYSTEM | EXPERTS | {"shortlist": 12, "training": TRAINING | {"groups": RATES}},
        "unlisted": SYSTEM
        | {"candidates_in_prompt": False, "length_normalised": True, "retriever": "popularity", "shortlist": 30},
        "hybrid": SYSTEM
        | EXPERTS
        | {
            "soft": {"model": "sasrec"},
            "item_form": "text-to-hybrid",
            "training": TRAINING | {"groups": {**RATES, "soft": {"weight_decay": 1e-5}}},
        },
        "ids": SYSTEM | {"soft": {"model": "sasrec"}, "item_form": "ids"},
        "token": SYSTEM | {"coupling": {"kind": "experts", "rank": 4, "experts": 2, "gate": "token"}},
    },
}
SYSTEMS = tuple(RECIPE["systems"])
CONVENTIONAL = RECIPE | {"systems": {}}
OPTIONS = Options(device="cpu", progress=False)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(parse(RECIPE, "the tests' recipe"), tmp_path_factory.mktemp("next") / "run", OPTIONS)
    run.all()
    return run


@pytest.mark.parametrize("name", ["popularity", "sasrec"])
def test_places_are_those_that_counting_gives(run: Run, name: str):
    dataset, scorer = run.context.dataset, run.scorers[name]
    kept = np.load(run.stages.scores(name).folder / RANKS)
    assert kept.shape == (16, 4)
    model, samples = scorer.model, dataset.samples["test"].tolist()
    for row, (better, tied, whole_better, whole_tied) in zip(run.context.test_samples.tolist(), kept.tolist(), strict=True):
        target = dataset.targets(np.array([row]))
        with torch.inference_mode():
            score = model.scores(scorer.samples(target))[0].tolist()
        own = score[int(dataset.item_N[row])]
        among = [score[item] for item in dataset.lists["test"][samples.index(row)].tolist()]
        assert (better, tied) == (sum(s > own for s in among), among.count(own))
        seen = set(dataset.item_N[dataset.log.offsets[dataset.user_N[row]] : row].tolist()) - {int(dataset.item_N[row])}
        others = [s for item, s in enumerate(score) if item not in seen]
        assert (whole_better, whole_tied) == (sum(s > own for s in others), others.count(own))


def test_the_report_says_what_was_asked(run: Run, capsys: pytest.CaptureFixture[str]):
    assert main(["show", str(run.folder)]) == 0
    shown = capsys.readouterr().out
    assert "16 test samples of 16 users, 8 candidates each" in shown
    assert "catalogue HR@10" in shown
    assert "ValidRatio" in shown
    assert "after sasrec: likelihoods of 12 titles" in shown
    assert "Which of 8 comes next?" in (run.stages.report.folder / "report.html").read_text()


def test_with_0_beams_titles_are_ranked_and_none_is_asked_for(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """What was trained stays; the ranks are the same, and what was asked for before is gone from the report and the estimate."""
    shutil.copytree(run.folder, tmp_path / "run")
    values = RECIPE | {"evaluation": RECIPE["evaluation"] | {"beams": 0}}
    asked = Run(parse(values, "the tests' recipe"), tmp_path / "run", OPTIONS)
    assert [asked.scorers[name].stage.complete() for name in SYSTEMS] == [True] * len(SYSTEMS)
    assert {part.way for part in forecast(asked.task).parts} == {"comparison", "scoring", "catalogue"}
    asked.all()
    for name in SYSTEMS:
        ours, before = (one.stages.scores(name).folder for one in (asked, run))
        assert np.array_equal(np.load(ours / RANKS), np.load(before / RANKS)), name
        assert not (ours / ANSWERS).exists()
        assert (before / ANSWERS).exists()
    main(["show", str(asked.folder)])
    shown = capsys.readouterr().out
    assert "after sasrec: likelihoods of 12 titles" in shown
    assert "ValidRatio" not in shown
    assert "chosen" not in shown


def test_what_comes_next_for_one_user(run: Run, capsys: pytest.CaptureFixture[str]):
    user = run.context.dataset.users.outside(np.array([0]))[0]
    assert main(["recommend", str(run.folder), "--user", user, "-k", "3", "--system", "sasrec"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"For user {user}, by 'sasrec'")
    probabilities = [float(line.split()[1]) for line in lines[1:4]]
    assert probabilities == sorted(probabilities, reverse=True)


def test_training_that_was_stopped_is_gone_on_with(run: Run, tmp_path: Path):
    again = Run(parse(CONVENTIONAL, "the tests' recipe"), tmp_path / "again", OPTIONS)
    again.all()
    for name in ("popularity", "sasrec"):
        ours, theirs = (np.load(one.stages.scores(name).folder / RANKS) for one in (run, again))
        assert np.array_equal(ours, theirs)


def naive(scorer: Titles, row: int, candidates: list[int]) -> list[float]:
    """The log-likelihood of each title by an ordinary forward over the whole text, one candidate at a time."""
    target = scorer.context.dataset.targets(np.array([row]))
    shown = scorer.show(candidates_of(target, np.array([candidates])))
    found = []
    for place in range(len(candidates)):
        batch = scorer.batch(shown, np.zeros(1, np.int64))
        titles = scorer.builder.titles(np.array([[candidates[place]]]))
        ids = titles.tokens_BCA[0, 0][titles.mask_BCA[0, 0]]
        prompts, A = batch.prompts, len(ids)
        embedding = scorer.lm.model.get_input_embeddings()
        embedded = embedding(torch.cat([prompts.tokens_BL[0], ids])[None])
        if prompts.soft_BL is not None:
            for at, item in enumerate(prompts.soft_BL[0].tolist()):
                if item >= 0:
                    embedded[0, at] = scorer.lm.soft.item(scorer.lm.soft.vectors_ME[[item]])[0]
        with torch.no_grad(), scorer.lm.adapters.loaded(), scorer.lm.scope(batch):
            logp_LV = scorer.lm.model(inputs_embeds=embedded).logits[0, -A - 1 : -1].double().log_softmax(-1)
        own_A = logp_LV.gather(1, ids[:, None])[:, 0]
        found.append(float(own_A.mean() if scorer.system.length_normalised else own_A.sum()))
    return found


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_system_puts_targets_where_whole_texts_put_them(run: Run, name: str):
    """Scores by one plain forward for each candidate, in lists and in what the first stage chose, for every fourth row."""
    dataset, samples = run.context.dataset, run.context.dataset.samples["test"].tolist()
    kept = np.load(run.stages.scores(name).folder / RANKS)
    scorer, retriever = run.scorers[name], run.scorers[name].retriever
    for place in range(0, 16, 4):
        row = int(run.context.test_samples[place])
        item = int(dataset.item_N[row])
        listed = dataset.lists["test"][samples.index(row)].tolist()
        score = dict(zip(listed, naive(scorer, row, listed), strict=True))
        assert kept[place, 0] == sum(s > score[item] + 1e-5 for s in score.values())
        assert kept[place, 1] == sum(abs(s - score[item]) <= 1e-5 for s in score.values())
        if retriever is None:
            assert kept[place, 2:].tolist() == [-1, -1]
            continue
        target = dataset.targets(np.array([row]))
        with torch.inference_mode():
            of_first = retriever.model.scores(retriever.samples(target))[0].tolist()
        seen = set(dataset.item_N[dataset.log.offsets[dataset.user_N[row]] : row].tolist()) - {item}
        unseen = sorted((i for i in range(dataset.n_items) if i not in seen), key=lambda i: (-of_first[i], i))
        short, rest = sorted(unseen[: scorer.system.shortlist]), unseen[scorer.system.shortlist :]
        if item in short:
            score = dict(zip(short, naive(scorer, row, short), strict=True))
            assert kept[place, 2] == sum(s > score[item] + 1e-5 for s in score.values())
        else:
            assert kept[place, 2] == len(short) + sum(of_first[i] > of_first[item] for i in rest)
            assert kept[place, 3] == sum(of_first[i] == of_first[item] for i in rest)


def test_what_was_met_is_never_ahead_of_a_target(run: Run):
    """Not even where the shortlist is as long as the catalogue."""
    run = Run.open(run.folder, OPTIONS)
    dataset, scorer = run.context.dataset, run.scorers["unlisted"]
    scorer.system = scorer.system.model_copy(update={"shortlist": dataset.n_items})
    rows, every = run.context.test_samples[:4], np.arange(dataset.n_items)[None]
    found = run.task.in_catalogue(scorer, dataset.targets(rows)).ranks
    for place, row in enumerate(rows.tolist()):
        target = dataset.targets(np.array([row]))
        score = scorer.score(candidates_of(target, every))[0].tolist()
        own = score[int(target.item_B[0])]
        seen = set(dataset.item_N[dataset.log.offsets[target.user_B[0]] : row].tolist())
        assert found.better_N[place] == sum(s > own + 1e-5 for item, s in enumerate(score) if item not in seen)


def test_the_deciding_number_is_of_the_best_on_the_same_validation_samples(run: Run):
    """Sixteen, which the systems had; SASRec had all of them, and popularity none. And that is what page, table and JSON say."""
    requests = run.task.requests("valid", run.context.validation_samples(16))
    auc = {name: run.task.metrics(scorer, requests)["auc"] for name, scorer in run.scorers.items()}
    system, model = (max(names, key=lambda name: auc[name]) for names in (SYSTEMS, RECIPE["conventional"]))
    folder = run.stages.report.folder
    told = json.loads((folder / "evaluation.json").read_text())["deciding"]
    assert (told["system"], told["conventional"], told["validation_samples"]) == (system, model, 16)
    assert told["validation_auc"] == pytest.approx(auc)
    expected = paired_test(run.task.judged(system), run.task.judged(model))["hr@1"]
    assert told["differences"]["hr@1"]["value"] == pytest.approx(expected.value)
    sentence = " ".join(run.table().split("\n\n")[0].split())
    assert sentence.startswith("The best language-model system ")
    assert f"{system} minus {model} is " in sentence
    assert sentence in html.unescape((folder / "report.html").read_text())


@pytest.mark.parametrize("name", ["popularity", "sasrec", "unlisted"])
def test_the_first_ten_are_kept_and_what_they_cover(run: Run, name: str):
    """By hand: sorted scores of what the user had not seen; a right item is among them exactly where HR@10 is 1."""
    dataset, rows = run.context.dataset, run.context.test_samples
    top_NK = np.load(run.stages.scores(name).folder / TOP)
    system = run.task.ranked(name)
    targets = dataset.targets(rows)
    ((_, score_NM),) = run.scorers[name].catalogue(targets)
    for top_K, score_M, row in zip(top_NK, score_NM, rows.tolist(), strict=True):
        first = dataset.log.offsets[dataset.user_N[row]]
        seen = {*dataset.item_N[first:row].tolist()} - {int(dataset.item_N[row])}
        expected = sorted((item for item in range(dataset.n_items) if item not in seen), key=lambda item: -score_M[item])
        assert top_K.tolist() == expected[:10]
    hit_N = (top_NK == targets.item_B[:, None]).any(axis=1)
    alone_N = system.catalogue.tied_N == 1
    assert (hit_N == system.catalogue.hit(10))[alone_N].all()
    figures = measure(run.task.gather({})).systems[name]
    assert figures["coverage@10"].value == len(np.unique(top_NK)) / dataset.n_items
    users = {item: set[int]() for item in range(dataset.n_items)}
    for event in dataset.training_events():
        users[int(dataset.item_N[event])].add(int(dataset.user_N[event]))
    everybody = len(set().union(*users.values()))
    novelty = np.mean([[math.log2(everybody / max(len(users[item]), 1)) for item in top_K] for top_K in top_NK.tolist()])
    assert figures["novelty@10"].value == pytest.approx(novelty)


@pytest.mark.parametrize("name", ["text", "hybrid"])
def test_answers_are_those_of_each_row_alone(run: Run, name: str):
    """And HR@1 is over all rows: one without a valid answer counts as wrong."""
    scorer, system = run.scorers[name], run.task.ranked(name)
    requests = run.task.requests("test", run.context.test_samples)
    shown, reader = scorer.show(requests), Reader(run.context.backbone.tokenizer)
    scorer.lm.adapters.load()
    for row in range(len(requests)):
        index = np.array([row])
        batch = scorer.batch(shown, index)
        titles = scorer.builder.titles(requests.listed_NC[index])
        target = int((requests.listed_NC[row] == requests.targets.item_B[row]).argmax())
        chosen = choose(scorer.lm, batch, titles, beams=2).named_BC[0]
        assert chosen.any()
        assert system.answers["chosen hr@1"][row] == pytest.approx(float(chosen[target] / chosen.sum()))
        line = write(scorer.lm, batch, reader, beams=2, limit=12).lines
        for rule, prefix, hit in ((contained, "", "written hr@1"), (exact, "exact ", "exact hr@1")):
            named = rule(line, reader.titles(titles))[0]
            assert system.answers[f"{prefix}valid ratio"][row] == float(named.any())
            assert system.answers[hit][row] == pytest.approx(float(named[target] / max(1, int(named.sum()))))
    scorer.lm.adapters.unload()
    assert set(system.costs) - {"training"} == {
        "likelihoods of 8 titles",
        "chosen",
        "written",
        f"after sasrec: likelihoods of {scorer.system.shortlist} titles",
    }
    assert all(cost.tokens > 0 and cost.seconds > 0 for cost in system.costs.values())


def test_two_stages_for_one_user(run: Run, capsys: pytest.CaptureFixture[str]):
    user = run.context.dataset.users.outside(np.array([3]))[0]
    assert main(["recommend", str(run.folder), "--user", user, "--system", "text", "-k", "12", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert "of which 'sasrec' chose 12" in answer["how"]
    assert sum(item["score"] for item in answer["items"]) == pytest.approx(1)
    scorer, dataset = run.scorers["text"], run.context.dataset
    items = dataset.items.inside(sorted(item["item"] for item in answer["items"])).tolist()
    target = dataset.candidates(3, np.array(items[:1]))
    by_title = dict(zip(items, scorer.score(Requests(target, np.array([items])))[0], strict=True))
    order = dataset.items.inside([item["item"] for item in answer["items"]]).tolist()
    assert [by_title[item] for item in order] == sorted(by_title.values(), reverse=True)
    assert len(answer["items"][0]["shown"]) == 4
    asked_for = dataset.items.outside(np.arange(5))
    assert main(["recommend", str(run.folder), "--user", user, "--system", "text", "--items", *asked_for]) == 0
    assert "5 items that were asked for" in capsys.readouterr().out


def test_without_a_first_stage_items_must_be_named(tmp_path: Path):
    values = RECIPE | {"conventional": {}, "systems": {"zero-shot": SYSTEM | {"train_samples": 0}}}
    run = Run(parse(values, "the tests' recipe"), tmp_path / "run", OPTIONS)
    run.all()
    user = run.context.dataset.users.outside(np.array([0]))[0]
    assert main(["recommend", str(run.folder), "--user", user]) == 1
    assert "catalogue" not in run.table().partition("\n\nn = ")[0]


def test_only_what_changes_a_system_makes_it_anew(run: Run, tmp_path: Path):
    shutil.copytree(run.folder, tmp_path / "run")

    def ready(**changes: Any) -> tuple[bool, bool]:
        systems = RECIPE["systems"] | {"hybrid": RECIPE["systems"]["hybrid"] | changes}
        stages = Run(parse(RECIPE | {"systems": systems}, "x"), tmp_path / "run", OPTIONS).stages
        return stages.system("hybrid").complete(), stages.scores("hybrid").complete()

    assert ready() == (True, True)
    assert ready(shortlist=9) == (True, False)
    assert ready(item_form="hybrid") == (False, False)
    assert ready(length_normalised=True) == (False, False)


def test_the_expanded_recipe_is_the_recipe():
    recipe = parse(RECIPE, "the tests' recipe")
    assert parse(tomllib.loads(dump(recipe)), "its dump") == recipe


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_stock_peft_gives_a_users_scores(run: Run, tmp_path: Path):
    context, scorer = run.context, run.scorers["text"]
    user = context.dataset.users.outside(np.array([5]))[0]
    export(run, tmp_path / "out", system="text", users=[user], item=None)
    base = AutoModelForCausalLM.from_pretrained(context.base_model)
    theirs = PeftModel.from_pretrained(base, str(tmp_path / "out")).eval()
    listed = np.arange(8)[None]
    batch = scorer.batch(scorer.show(run.task.now(5, listed[0])), np.zeros(1, np.int64))
    with torch.no_grad(), scorer.lm.adapters.loaded(), scorer.lm.scope(batch):
        ours_LV = scorer.lm.run(batch).logits[0]
    with torch.no_grad():
        torch.testing.assert_close(theirs(input_ids=batch.prompts.tokens_BL).logits[0], ours_LV, atol=1e-5, rtol=1e-5)
    with pytest.raises(ConfigError, match="reads soft tokens"):
        export(run, tmp_path / "soft", system="hybrid", users=[user], item=None)


def test_a_list_too_long_for_the_prompt_is_said(run: Run):
    run = Run.open(run.folder, OPTIONS)
    scorer = run.scorers["text"]
    scorer.builder.max_tokens = 60
    with pytest.raises(ConfigError, match="list fewer candidates"):
        scorer.score(run.task.now(0, np.arange(40)))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"conventional": {"din": {"model": {"kind": "din"}}}}, "cannot say what comes next; choose one of popularity"),
        ({"conventional": {"sasrec": {"behaviours": {"kind": "most-similar"}}}}, "chooses by the target, which task = "),
        ({"two_towers": {"bert": {"path": "x"}}}, r"cannot answer task = \'next-item\'; remove \[two_towers\]"),
        ({"systems": {"lora": {"behaviours": {"kind": "most-similar"}}}}, "chooses by the target, which task = "),
        (
            {"systems": {"lora": SYSTEM | EXPERTS | {"representation": {"model": "sasrec", "layer": "fields"}}}},
            "'fields' holds the target",
        ),
        ({"systems": {"lora": {"soft": {"model": "sasrec"}}}}, "shows no soft tokens; choose 'hybrid'"),
        ({"systems": {"lora": {"item_form": "ids"}}}, r"say which model makes them: soft = { model = NAME }"),
        ({"systems": {"lora": {"retriever": "din"}}}, r"none of this recipe's conventional models \(popularity, sasrec\)"),
        ({"systems": {"lora": {"template": {"kind": "rella"}}}}, "template has no meaning where task = 'next-item'"),
        ({"systems": {"lora": {"representation": {"model": "popularity"}}}}, "conventional models with vectors"),
        ({"task": "ctr", "systems": {"lora": {"candidates_in_prompt": False}}}, "candidates_in_prompt has no meaning where"),
        (
            {"systems": {"lora": {"train_samples": 0, "coupling": {"kind": "experts", "gate": "token"}}}},
            "coupling must be 'identity'",
        ),
        ({"data": VALUES["data"]}, "ranks candidates, and there are none"),
    ],
)
def test_what_cannot_be_asked(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        parse(RECIPE | changes, "the tests' recipe")


def test_without_lists_there_is_the_catalogue(tmp_path: Path):
    values = CONVENTIONAL | {"data": VALUES["data"] | {"rules": {"min_history": 3, "split": {"kind": "leave-one-out"}}}}
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


def test_a_backbone_that_cannot_write_titles_is_refused_before_anything_is_trained(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Before the conventional models are trained, too."""
    why = "MambaForCausalLM keeps nothing of a prompt that its titles could share."
    load = Nano.load
    monkeypatch.setattr(Nano, "load", lambda *words, **named: replace(load(*words, **named), titles=why))
    new = Run(run.recipe.model_copy(update={"seed": 5}), tmp_path / "new", OPTIONS)
    refused = r"systems\.zero-shot is to write titles, and MambaForCausalLM keeps nothing.*written_tokens = 0.*another backbone"
    with pytest.raises(ConfigError, match=refused):
        new.all()
    assert not new.stages.conventional("sasrec").complete()
