"""`lifelora prompt`: the run's own prompts, of both tasks, and before there is a run; and what no prompt says."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lifelora.cli import main
from lifelora.data.sources import parse_source
from lifelora.errors import ConfigError, DataError
from lifelora.prompts.told import Prompt
from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.retrieval.growing import Growing
from lifelora.run import Options, Run
from lifelora.run.prompts import prompt
from lifelora.run.unsaid import notes
from run_world import VALUES, next_items

QUIET = Options(device="cpu", progress=False)
SASREC = next_items().model_dump(mode="json", exclude_none=True)["conventional"]["sasrec"]
LORA = VALUES["systems"]["lora"]


@pytest.fixture
def shop(tmp_path: Path) -> str:
    """Kettles and kites with a brand, an empty column and a description; users with a city."""
    rows = [
        f"c{c},A-{(c * 5 + e) % 20},{(c * 7 + e * 3) % 5 + 1},{1_700_000_000 + 86_400 * e + c}"
        for c in range(10)
        for e in range(12)
    ]
    (tmp_path / "interactions.csv").write_text("\n".join(["user,item,rating,time", *rows]))
    goods = [f'A-{i},{("Kettle", "Kite")[i % 2]} {i},"{"for tea, loud " * 40}",{("Argo", "")[i % 3 == 0]},' for i in range(20)]
    (tmp_path / "items.csv").write_text("\n".join(["item,title,description,brand,ean", *goods]))
    (tmp_path / "users.csv").write_text("\n".join(["user,city", *(f"c{c},Graz" for c in range(10))]))
    return f"tables:{tmp_path}"


def recipe(shop: str, task: str, **systems: Any) -> Recipe:
    rules = {"min_history": 3, "split": {"kind": "leave-one-out"}}
    if task == "next-item":
        rules |= {"candidates": {"count": 5}}
    source = parse_source(shop).model_dump(mode="json", exclude_none=True)
    values = {
        "name": "shop",
        "task": task,
        "data": {"source": source, "rules": rules},
        "backbone": VALUES["backbone"] | ({"template": {"kind": "next-item"}} if task == "next-item" else {}),
        "conventional": {"sasrec": SASREC},
        "systems": systems,
    }
    return parse(values, "the test")


def tokens(found: Prompt) -> list[int]:
    return [max(token, 0) for piece in found.texts["prompt"].pieces for token in piece.ids]


GROWING = {"history": "growing", "block": 4, "behaviours": {"kind": "most-recent", "k": 2}}
CTR = {
    "lora": LORA,
    "tight": LORA | {"max_tokens": 120, "behaviours": {"kind": "most-recent", "k": 9}},
    "soft": LORA | {"template": {"kind": "rella"}, "soft": {"model": "sasrec", "at": ["behaviours", "target", "user"]}},
    "growing": LORA | GROWING,
}
NEXT = {
    "words": LORA,
    "tight": LORA | {"max_tokens": 160, "behaviours": {"kind": "most-recent", "k": 9}},
    "soft": LORA | {"soft": {"model": "sasrec"}, "item_form": "text-to-hybrid"},
    "ids": LORA | {"soft": {"model": "sasrec", "at": ["behaviours", "user"]}, "item_form": "ids", "candidates_in_prompt": False},
    "growing": LORA | GROWING,
}


@pytest.mark.parametrize("task", ["ctr", "next-item"])
def test_tokens_are_the_runs_own(shop: str, tmp_path: Path, task: str):
    """Before there is a language model the recipe's prompts have the tokens that the run's will have."""
    run = Run(recipe(shop, task, **(CTR if task == "ctr" else NEXT)), tmp_path / "run", QUIET)
    run.prepare()
    before = {name: prompt(run, name) for name in run.recipe.systems}
    run._ready_backbone()  # the stage alone: nothing else is asked for a prompt
    dataset, cut = run.context.dataset, 0
    for name, system in run.recipe.systems.items():
        again = prompt(run, name)
        assert tokens(again) == tokens(before[name])
        assert again.exact
        assert again.tokenizer == run.context.backbone_label
        for user in ("c1", "c7"):
            found = prompt(run, name, user)
            assert (found.user, found.sample) == (user, "their last sample, of part 'test'")
            rows = np.asarray(dataset.samples["test"])
            row = rows[dataset.users.inside([user])[0] == dataset.user_N[rows]][-1:]
            requests = run.task.requests("test", row)
            selector = Growing(2, 4) if system.block else run.context.selector(system.behaviours)
            chosen = selector.select(dataset, requests.targets)
            builder: Any = run.scorers[name].builder
            if task == "ctr":
                due = builder.build(requests.targets, *chosen)
            else:
                form = {"text-to-hybrid": "hybrid"}.get(system.item_form, system.item_form)
                listed = requests.candidates if system.candidates_in_prompt else None
                due = builder.question(requests.targets, *chosen, listed, form)
            assert tokens(found) == due.tokens_BL[0].tolist()
            assert found.texts["prompt"].shown == int(due.shown_B[0])
            if system.block:  # the last of a user's 12 events is the 4th of its block: 2 before the block and 3 of it
                assert found.texts["prompt"].chosen == 5
            cut += found.texts["prompt"].shown < found.texts["prompt"].chosen
    assert cut


def test_the_answer_is_what_the_run_learns(shop: str, tmp_path: Path):
    run = Run(recipe(shop, "next-item", words=LORA), tmp_path / "run", QUIET)
    run.prepare()
    found = prompt(run, "words", "c1", "A-7")
    assert found.answers == (" Kite 7\n",)
    assert "Kite 7 (brand: Argo; for tea, loud for tea, loud for tea, loud for)\n" in [
        p.text for p in found.texts["prompt"].pieces
    ]
    assert sum(piece.item is not None and piece.what == "candidate" for piece in found.texts["prompt"].pieces) == 5


def test_printed(shop: str, capsys: pytest.CaptureFixture[str]):
    """The whole page, by hand but for the counts of tokens, which are the tokenizer's."""
    settings = ["systems.lora.behaviours.k=2", "data.rules.min_history=3", "systems.lora.template.description_words=4"]
    words = ["prompt", "demo", "--data", shop, *(word for setting in settings for word in ("--set", setting))]
    assert main([*words, "--user", "c3", "--item", "A-7"]) == 0
    printed = capsys.readouterr()
    lines = [line[8:] if line[:6].strip().isdecimal() or not line[:8].strip() else line for line in printed.out.splitlines()]
    assert lines[:9] == [
        "What 'lora' reads: Kite 7 [A-7] for user c3, asked now, after all that they did.",
        "tokens",
        "city: Graz",
        "They rated these items, oldest first:",
        "Kite 5 (2 stars)",
        "Kettle 6 (5 stars)",
        "Would they like Kite 7 (brand: Argo; for tea, loud for)?",
        "Answer:",
        lines[8],
    ]
    assert lines[9:] == [
        "behaviours: the 2 behaviours before the target: 2 chosen, 2 shown",
        "cut: description of item A-7: 4 of 120 words",
        "answer: ' Yes' or ' No'",
        "tokenizer: the nano language model's, 2,048 tokens at most, made from these texts as a run makes it",
        "other systems, for --system: personal",
    ]
    assert "leave out" not in printed.err
    assert main([*words, "--user", "c3", "--item", "A-7", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    page = told["texts"]["prompt"]
    assert page["text"].splitlines() == lines[2:8]
    assert page["tokens"]["all"] == sum(piece["tokens"] for piece in page["pieces"]) == sum(list(page["tokens"].values())[:-1])
    assert f"in all: head {page['tokens']['head']}, " in lines[8]
    assert page["pieces"][-1]["cut"] == [{"field": "description", "words": 4, "of": 120}]
    assert (told["user"], told["item"], told["answers"]) == ("c3", "A-7", [" Yes", " No"])


def test_a_growing_history_is_printed_as_it_is_shown(shop: str, capsys: pytest.CaptureFixture[str]):
    """An item asked about now, after 12 events, begins a block; the last test sample ends one."""
    settings = ["behaviours.kind=most-recent", "behaviours.k=2", "history=growing", "block=4"]
    words = ["prompt", "demo", "--data", shop, "--set", "data.rules.min_history=3"]
    settings = [f"systems.{name}.{setting}" for name in ("lora", "personal") for setting in settings]
    words += [word for setting in settings for word in ("--set", setting)]
    how = "behaviours: the behaviours before the target from the 2 before its block of 4 events on"
    for asked, count in ((["--user", "c3", "--item", "A-7"], 2), (["--user", "c3"], 5)):
        assert main([*words, *asked]) == 0
        assert f"{how}: {count} chosen, {count} shown\n" in capsys.readouterr().out


def test_a_tokenizer_that_is_not_here_is_stood_in_for(shop: str, capsys: pytest.CaptureFixture[str]):
    words = [
        "prompt",
        "rella",
        "--data",
        shop,
        "--set",
        "data.rules.min_history=3",
        "--set",
        "backbone.path=no-such-owner/no-such-model",
    ]
    assert main([*words, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert not told["tokenizer"]["exact"]
    assert "approximate" in told["tokenizer"]["label"]
    assert (
        "the 15 latest, in place of the 15 behaviours most like" in told["behaviours"]
        or "before the target" in told["behaviours"]
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["demo", "--system", "nobody"], "'nobody' is no system of this recipe; those that read one are lora, personal."),
        (["demo", "--system", "din"], "'din' is a conventional model, which reads no prompt"),
        (["demo", "--user", "c99"], "unknown id"),
        (["demo", "--item", "A-99"], "unknown id"),
        (["conventional"], "has no system that reads a prompt"),
        (["nowhere"], "there is no recipe 'nowhere'"),
    ],
)
def test_what_cannot_be_asked_is_said(shop: str, capsys: pytest.CaptureFixture[str], words: list[str], message: str):
    status = main(["prompt", words[0], "--data", shop, "--set", "data.rules.min_history=3", *words[1:]])
    said = capsys.readouterr().err
    assert "Traceback" not in said
    assert status == 1
    assert message in said


def test_a_run_has_its_own_recipe(shop: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = Run(recipe(shop, "ctr", lora=LORA), tmp_path / "run", QUIET)
    run.prepare()
    assert main(["prompt", str(run.folder), "--data", shop]) == 1
    assert "is a run, which has its own recipe" in capsys.readouterr().err
    assert main(["prompt", str(run.folder), "--user", "c2"]) == 0
    assert "for user c2, their last sample, of part 'test'" in capsys.readouterr().out
    with pytest.raises(DataError, match="unknown id"):
        prompt(run, user="c99")
    with pytest.raises(ConfigError, match="'x' is no system"):
        prompt(run, "x")


def test_fields_that_no_prompt_says_are_named(shop: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    """By default all are said, and the empty one is no fault of a prompt; with lines of one's own, what they name."""
    asking = {"question": ["Would they like {title}[[ by {bran}]]?"], "profile": ""}
    cramped = {"other_words": 2, "question": ["Would they like {title}[[ ({others})]]?"]}
    run = Run(recipe(shop, "ctr", lora=LORA), tmp_path / "run", Options(device="cpu"))
    run.prepare()
    data = run.context.dataset
    assert "no prompt says" not in capsys.readouterr().err
    assert notes(run.recipe, data) == []
    assert notes(recipe(shop, "ctr", lora=LORA | {"template": asking}), data) == [
        "no prompt says these fields of the catalogue: description, brand, ean; name them in a line, or put {others} into it "
        "(systems.lora.template).",
        "no prompt says these fields of the profiles: city; name them in a line, or put {others} into it "
        "(systems.lora.template).",
        "systems.lora.template.question names {bran} in [[ … ]], and this data set has no such field there: the words are always "
        "left out.",
    ]
    # What one system says is said.
    assert len(notes(recipe(shop, "ctr", lora=LORA | {"template": asking}, other=LORA), data)) == 1
    # "brand: Argo" are 2 words, so nothing is left for a description where there is a brand, and 2 where there is none.
    assert notes(recipe(shop, "ctr", lora=LORA | {"template": cramped}), data) == []
    assert notes(recipe(shop, "ctr", lora=LORA | {"template": cramped | {"other_words": 1}}), data) == [
        "{others} has no room for these fields of the catalogue: brand; raise systems.lora.template.other_words, name them in a "
        "line, or map fewer.",
        "{others} has no room for these fields of the profiles: city; raise systems.lora.template.other_words, name them in a "
        "line, or map fewer.",
    ]
    assert notes(recipe(shop, "next-item", lora=LORA), data) == [
        "no prompt says these fields of the profiles: city; those of next items tell of no user."
    ]
    titles = recipe(shop, "next-item", lora=LORA | {"candidates_in_prompt": False})
    assert notes(titles, data)[0].startswith("no prompt says these fields of the catalogue: description, brand, ean; ")
    assert notes(recipe(shop, "ctr"), data) == []


def test_what_a_data_set_leaves_out_is_said_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    run = Run(parse(VALUES, "the test"), tmp_path / "run", Options(device="cpu"))
    run.prepare()
    due = "prompts of this data set leave out description of the catalogue, unless a line names it (systems.lora.template)."
    assert f"prepare: {due}" in capsys.readouterr().err
    assert run.task.about_prompts() == [due]
