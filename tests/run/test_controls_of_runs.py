"""Controls of systems and models in a run: what is shown, token by token, in both tasks; what is refused; what is reported."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lifelora.cli import main
from lifelora.data.dataset import Dataset
from lifelora.errors import ConfigError
from lifelora.evaluation.measured import CONTROL
from lifelora.prompts.lines.base import table_texts
from lifelora.prompts.slots import SlotTokenizer
from lifelora.prompts.unnamed import unnamed
from lifelora.prompts.wording.fields import marked
from lifelora.recipe.files import dump, parse
from lifelora.recipe.recipe import Recipe
from lifelora.run import Options, Run
from lifelora.run.prompts import prompt
from lifelora.run.scorers.base import Requests
from lifelora.run.scorers.conventional import ConventionalScorer
from lifelora.run.scorers.language import LanguageScorer
from lifelora.run.stages import Stages
from lifelora.study.compare import minus
from lifelora.tokens import LineTokenizer
from run_world import TRAINING, VALUES

OPTIONS = Options(device="cpu", progress=False)
SASREC = {"model": {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}, "training": TRAINING}
LORA = VALUES["systems"]["lora"] | {"behaviours": {"kind": "most-recent", "k": 5}}
SHUFFLED, IDS = {"control": "shuffled-history"}, {"control": "titles-as-ids"}
SYSTEMS: dict[str, dict[str, Any]] = {
    "lora": LORA,
    "order": LORA | SHUFFLED,
    "words": LORA | IDS,
    "tight": LORA | {"max_tokens": 75},
    "tight-order": LORA | {"max_tokens": 75} | SHUFFLED,
    "similar-order": LORA | {"behaviours": {"kind": "most-similar", "k": 5, "order": "high"}} | SHUFFLED,
    "soft-words": LORA | {"soft": {"model": "sasrec", "at": ["behaviours", "target", "user"]}} | IDS,
    "growing-words": LORA | {"history": "growing", "block": 4} | IDS,
}
NEXT: dict[str, dict[str, Any]] = {
    "lora": LORA,
    "order": LORA | SHUFFLED,
    "words": LORA | IDS,
    "tight": LORA | {"max_tokens": 140},
    "tight-order": LORA | {"max_tokens": 140} | SHUFFLED,
    "growing-words": LORA | {"history": "growing", "block": 4} | IDS,
}


def recipe(task: str, systems: dict[str, Any], conventional: dict[str, Any] | None = None) -> Recipe:
    rules: dict[str, Any] = {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 5}}
    more = {"task": task, "data": VALUES["data"] | {"rules": rules}} if task == "next-item" else {}
    backbone = VALUES["backbone"] | ({"template": {"kind": "next-item"}} if task == "next-item" else {})
    models = {"sasrec": SASREC, "sasrec-order": SASREC | SHUFFLED}
    return parse(VALUES | {"backbone": backbone, "conventional": conventional or models, "systems": systems} | more, "the test")


def ready(task: str, folder: Path) -> Run:
    """A run whose prompts can be made; nothing has learnt."""
    run = Run(recipe(task, SYSTEMS if task == "ctr" else NEXT), folder / "run", OPTIONS)
    run.prepare()
    run.embed()
    run.fit()
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    return {task: ready(task, tmp_path_factory.mktemp(task)) for task in ("ctr", "next-item")}


def asked_of(run: Run) -> Requests:
    return run.task.requests("test", run.context.test_samples)


def scorer(run: Run, name: str) -> LanguageScorer[Any]:
    found = run.scorers[name]
    assert isinstance(found, LanguageScorer)
    return found


def rows(run: Run, name: str, requests: Requests) -> list[list[int]]:
    return [row_K.tolist() for row_K in scorer(run, name).shown(requests)]


def written(run: Run, name: str, requests: Requests, shown: Sequence[int], dataset: Dataset) -> list[int]:
    """The tokens of a whole prompt, of the template's text about the texts of ``dataset``."""
    system, words, items = run.recipe.systems[name], dataset.words.model_dump(), table_texts(dataset.catalogue)
    tokenizer, targets = run.context.backbone.tokenizer, requests.targets
    by = SlotTokenizer(tokenizer) if system.soft else LineTokenizer(tokenizer)
    events = [(items[dataset.item_N[row]], dataset.levels[dataset.rating_N[row]]) for row in shown]
    if run.recipe.task == "ctr":
        template = system.template.leaving_out(dataset.left_out).slotted(system.soft.at if system.soft else ())
        user = table_texts(dataset.profiles)[targets.user_B[0]]
        text = marked(template, by.marked).render(words, user, events, items[targets.item_B[0]])
    else:
        phrasing = marked(system.phrasings[0].leaving_out(dataset.left_out), by.marked)
        text = phrasing.render(words, [item for item, _ in events], [items[item] for item in requests.candidates[0]])
    return [max(token, 0) for token in by.whole(text)]


def tokens(run: Run, name: str, requests: Requests) -> list[int]:
    one = scorer(run, name)
    prompts = one.prompts(one.show(requests), np.arange(1))
    return prompts.tokens_BL[0].tolist()


@pytest.mark.parametrize("task", ["ctr", "next-item"])
def test_a_shuffled_prompt_is_the_systems_own_with_its_lines_in_another_order(runs: dict[str, Run], task: str) -> None:
    run, moved = runs[task], 0
    for name in ("", "tight-"):
        every = asked_of(run)
        own, drawn = (rows(run, one, every) for one in (name.removesuffix("-") or "lora", f"{name}order"))
        for place in range(len(every)):
            # The same events, each with its own rating; where some found no room, these are the same, too.
            assert sorted(drawn[place]) == own[place]
            asked = every.at(np.array([place]))
            assert tokens(run, f"{name}order", asked) == written(run, f"{name}order", asked, drawn[place], run.context.dataset)
            moved += drawn[place] != own[place]
    assert moved > 30
    assert any(len(row) < 5 for row in rows(run, "tight", asked_of(run)))


def test_behaviours_that_were_not_in_order_of_time_are_shuffled_too(runs: dict[str, Run]) -> None:
    run = runs["ctr"]
    every, one = asked_of(run), scorer(run, "similar-order")
    chosen, mask = run.context.selector(one.system.behaviours).select(run.context.dataset, every.targets)
    drawn = rows(run, "similar-order", every)
    assert [sorted(row) for row in drawn] == [sorted(c[m].tolist()) for c, m in zip(chosen, mask, strict=True)]
    assert drawn != [c[m].tolist() for c, m in zip(chosen, mask, strict=True)]


@pytest.mark.parametrize("task", ["ctr", "next-item"])
def test_a_sample_has_one_order_whoever_asks(runs: dict[str, Run], task: str) -> None:
    """Alone and in a batch, in training and as a test sample, and for all that a user is asked about now."""
    run, one = runs[task], scorer(runs[task], "order")
    dataset = run.context.dataset
    learnt = one.show(one.requests_of_training())
    again = one.show(learnt.requests.at(np.array([7, 3])))
    assert np.array_equal(learnt.chosen_NK[[7, 3]], again.chosen_NK)
    now = run.task.asked(np.array([2]), np.arange(4)[None])
    assert len(set(map(tuple, rows(run, "order", now)))) == 1
    if task == "ctr":  # one trunk for all candidates, as the system itself has
        trunk_N = one.show(now).trunk_N
        assert trunk_N is not None
        assert len(set(trunk_N.tolist())) == 1
    other = Run(run.recipe.model_copy(update={"seed": 1}), run.folder.parent / "other", OPTIONS)
    assert other.stages.system("order").key != run.stages.system("order").key
    assert dataset is run.context.in_prompts("shuffled-history")


@pytest.mark.parametrize("task", ["ctr", "next-item"])
def test_prompts_of_ids_have_no_word_of_any_item(runs: dict[str, Run], task: str) -> None:
    run = runs[task]
    dataset, names = run.context.dataset, [name for name in run.recipe.systems if name.endswith("words")]
    told, every = unnamed(run.context.dataset, run.recipe.seed), asked_of(run)
    said = {word.lower() for title in dataset.titles for word in title.split()} - {"of"}
    said |= {str(genre).lower() for genre in dataset.catalogue.column("genre").to_pylist()}
    for name in names:
        own = rows(run, name, every)
        if name == "words":
            assert own == rows(run, "lora", every), "the behaviours are the system's own"
        for place in range(len(every)):
            asked = every.at(np.array([place]))
            ids = tokens(run, name, asked)
            assert ids == written(run, name, asked, own[place], told)
            text = run.context.backbone.tokenizer.decode(ids)
            assert not said & set(text.replace("?", " ").lower().split())
            age = dataset.profiles.column("age").to_pylist()[asked.targets.user_B[0]]
            assert task == "next-item" or str(age) in text, "the profile stays"
    if task == "next-item":  # and titles as answers
        titles = scorer(run, "words").builder.titles(every.candidates)  # type: ignore[attr-defined]
        first = titles.tokens_BCA[0, 0][titles.mask_BCA[0, 0]].tolist()
        assert run.context.backbone.tokenizer.decode(first).strip() == told.titles[every.candidates[0, 0]]


@pytest.mark.parametrize("task", ["ctr", "next-item"])
def test_the_prompt_that_is_printed_is_the_one_that_is_read(runs: dict[str, Run], task: str) -> None:
    run = runs[task]
    example = run.task.requests("test", np.array([run.task.example_sample()]))
    for name in run.recipe.systems:
        found = prompt(run, name)
        printed = [max(token, 0) for piece in found.texts["prompt"].pieces for token in piece.ids]
        assert printed == tokens(run, name, example), name
        assert ("in an order drawn by seed" in str(found)) == (run.recipe.systems[name].control == "shuffled-history")
    assert "item " in str(prompt(run, "words"))


def test_a_model_reads_its_past_in_a_drawn_order_and_ratings_go_with_items(runs: dict[str, Run]) -> None:
    run = runs["ctr"]
    plain, drawn = run.scorers["sasrec"], run.scorers["sasrec-order"]
    assert isinstance(plain, ConventionalScorer)
    assert isinstance(drawn, ConventionalScorer)
    targets = asked_of(run).targets
    own, other = plain.samples(targets), drawn.samples(targets)
    pairs = [(s.history_BH * 10 + s.rating_BH).where(s.mask_BH, -1) for s in (own, other)]
    assert torch.equal(*(p.sort(dim=1).values for p in pairs))
    assert not torch.equal(*pairs)
    assert torch.equal(own.mask_BH, other.mask_BH)
    assert drawn.reads().startswith("ids; the last 6 behaviours, in an order drawn by seed")


@pytest.mark.parametrize(
    ("systems", "conventional", "said"),
    [
        (
            {"one": LORA | {"history": "growing"} | SHUFFLED},
            None,
            "systems.one: control = 'shuffled-history' draws an order for each sample, and history = 'growing' .* remove control",
        ),
        ({"one": LORA | {"control": "shuffled"}}, None, "systems.one.control.*'shuffled-history' or 'titles-as-ids'"),
        ({}, {"one": {"model": {"kind": "popularity"}} | SHUFFLED}, "conventional.one: popularity counts, and reads no order"),
        ({}, {"one": SASREC | IDS}, "conventional.one.control.*'shuffled-history'"),
    ],
)
def test_what_does_not_fit_is_said(systems: dict[str, Any], conventional: dict[str, Any] | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        recipe("ctr", systems, conventional)


def test_a_system_without_control_is_the_stage_that_it_was(tmp_path: Path) -> None:
    made = recipe("ctr", SYSTEMS)
    stages = Stages(made, tmp_path, "source")
    assert "control" not in json.dumps(stages.system("lora").config)
    assert "control" not in json.dumps(stages.conventional("sasrec").config)
    assert len({stages.system(name).key for name in ("lora", "order", "words")}) == 3
    assert stages.conventional("sasrec").key != stages.conventional("sasrec-order").key
    assert parse(VALUES | json.loads(made.model_dump_json()), "again") == made
    assert 'control = "null"' in dump(made)


@pytest.mark.parametrize("task", ["ctr", "next-item"])
def test_the_report_says_what_order_and_words_are_worth(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    systems = {"lora": LORA, "order": LORA | SHUFFLED, "words": LORA | IDS, "else": LORA | IDS | {"max_tokens": 400}}
    run = Run(recipe(task, systems), tmp_path / "run", OPTIONS)
    run.all()
    made = json.loads((run.folder / "6-report/evaluation.json").read_text())
    told = [(one["system"], one["control"], one["lacks"]) for one in made["worth"]]
    # 'else' differs from lora by more than its control, so it is the control of nothing.
    assert told == [("sasrec", "sasrec-order", "order"), ("lora", "order", "order"), ("lora", "words", "words")]
    by_minus = minus(run, "words").as_json()
    metric = "auc" if task == "ctr" else "ndcg@10"
    assert made["worth"][2]["differences"][metric]["value"] == by_minus["systems"]["lora"][metric]["value"]
    assert made["deciding"] is None or made["deciding"]["system"] == "lora"
    for name, family in (("lora", "language model"), ("order", CONTROL), ("sasrec-order", CONTROL), ("sasrec", "conventional")):
        assert run.task.family(name) == family
    table = (run.folder / "6-report/table.txt").read_text()
    assert "What order and words are worth:" in table
    assert "words: lora minus words" in table
    page = (run.folder / "6-report/report.html").read_text()
    assert "<h2>What order and words are worth</h2>" in page
    assert "ids for titles" in page
    assert main(["recommend", str(run.folder), "--user", run.task.example_user(), "-k", "2", "--system", "order"]) == 0
    assert main(["prompt", str(run.folder), "--system", "words"]) == 0
    assert "item " in capsys.readouterr().out
