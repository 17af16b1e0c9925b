"""Logs of clicks, of kinds of events and of play counts, from a user's files to the report, by both tasks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lifelora.errors import ConfigError
from lifelora.prompts.yes_no import YesNoBuilder
from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.run import Options, Run
from lifelora.run.recommend import recommend
from run_world import TRAINING, VALUES

OPTIONS = Options(device="cpu", progress=False)
SMALL = {"embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}
MODELS: dict[str, dict[str, Any]] = {
    "popularity": {"kind": "popularity"},
    "deepfm": {"kind": "deepfm", **SMALL},
    "autoint": {"kind": "autoint", "embedding": 4, "history_length": 6},
    "sasrec": {"kind": "sasrec", **SMALL},
    "din": {"kind": "din", **SMALL, "attention_hidden": 4},
}


def shop(folder: Path, users: int = 24, each: int = 10, **columns: list[str]) -> dict[str, Any]:
    """Two tribes: users with an even number click even items; as a table of our own names, with a title for each."""
    rng = np.random.default_rng(0)
    names, more = [*columns], list(columns.values())
    rows = [
        ",".join([f"u{u:02}", f"i{item:02}", str(10**9 + 40 * t + u), *(column[(u + t) % len(column)] for column in more)])
        for u in range(users)
        for t, item in enumerate(rng.permutation(20)[:each] * 2 + u % 2)
    ]
    folder.mkdir()
    (folder / "log.csv").write_text("\n".join([",".join(["user", "item", "time", *names]), *rows]))
    titles = [f"i{i:02},{('Kettle', 'Kite')[i % 2]} number {i}" for i in range(40)]
    (folder / "goods.csv").write_text("\n".join(["item,title", *titles]))
    return {
        "kind": "tables",
        "interactions": str(folder / "log.csv"),
        "catalogue": str(folder / "goods.csv"),
        "columns": {"time": "time"},
        "words": {"item": "article", "items": "articles", "did": "bought"},
    }


def recipe(source: dict[str, Any], task: str, *models: str, systems: dict[str, Any] | None = None, **rules: Any) -> Recipe:
    steps = {
        name: {"model": MODELS[name]} | ({} if name == "popularity" else {"training": TRAINING}) for name in models or MODELS
    }
    return parse(
        {
            "name": "clicks",
            "task": task,
            "data": {"source": source, "rules": {"min_history": 3, "split": {"kind": "leave-one-out"}} | rules},
            "conventional": steps,
            "backbone": VALUES["backbone"],
            "systems": systems or {},
            "evaluation": {"resamples": 100},
        },
        "the tests' recipe",
    )


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("clicks")
    made = recipe(shop(folder / "shop"), "ctr", systems={"lora": VALUES["systems"]["lora"]}, negatives={"count": 1})
    run = Run(made, folder / "run", OPTIONS)
    run.all()
    return run


def test_clicks_with_negatives_are_judged_by_every_kind_of_model(clicks: Run):
    figures = json.loads((clicks.stages.report.require() / "evaluation.json").read_text())
    assert {*figures["systems"]} == {*MODELS, "lora"}
    assert all(0 <= system["auc"]["value"] <= 1 for system in figures["systems"].values())
    targets = clicks.context.dataset.targets(clicks.context.test_samples)
    assert targets.label_B.mean() == 0.5
    page = (clicks.stages.report.require() / "report.html").read_text()
    assert "AUC tells likes from these, not from dislikes" in page
    assert "every event of the log is a like; 1 drawn beside each like, by uniform" in page
    assert "star" not in clicks.table()


def test_what_only_counts_counts_likes_and_negatives_alike(clicks: Run):
    # The share of likes among an item's samples, drawn by 10 imaginary ones towards the share of all, which is a half.
    train = clicks.context.dataset.targets(clicks.context.dataset.samples["train"])
    rate_M = clicks.scorers["popularity"].model.rate_M.numpy()
    for item in range(40):
        of_item = train.label_B[train.item_B == item]
        assert rate_M[item] == pytest.approx((of_item.sum() + 5) / (len(of_item) + 10), abs=1e-6)


def test_a_prompt_of_clicks_says_no_stars(clicks: Run):
    dataset, scorer = clicks.context.dataset, clicks.scorers["lora"]
    request = clicks.task.requests("test", clicks.context.test_samples[1:2])  # the negative behind the first like
    shown = scorer.show(request)
    prompts = scorer.prompts(shown, np.arange(1))
    text = clicks.context.backbone.tokenizer.decode(prompts.tokens_BL[0][prompts.mask_BL[0]])
    title = dataset.titles[int(request.targets.item_B[0])].lower()
    assert f"would they like {title}?" in text
    assert "star" not in text
    assert "(" not in text


def test_the_nano_lm_has_read_both_answers(clicks: Run):
    from lifelora.llm.nano import _histories, train_tokenizer

    config, dataset = clicks.recipe.backbone, clicks.context.dataset
    tokenizer = train_tokenizer(config, dataset)
    last = [tokenizer.decode(document[-1:]).strip() for document in _histories(config, dataset, tokenizer, 0)]
    assert {*last} == {"yes", "no"}
    assert last.count("no") > 5


def test_clicks_give_recommendations(clicks: Run):
    answer = recommend(clicks, "u00", None, 3, "lora")
    assert len(answer.items) == 3
    assert "()" not in str(answer)
    assert "star" not in str(answer)


def test_clicks_need_negatives_for_ctr_and_nothing_for_next_item(tmp_path: Path):
    source = shop(tmp_path / "shop")
    run = Run(recipe(source, "ctr", "popularity"), tmp_path / "run", OPTIONS)
    with pytest.raises(ConfigError, match=r"the log has no ratings\. .*data\.rules\.negatives = \{ count = 1 \}.*next-item"):
        run.prepare()
    assert not run.stages.data.complete()
    next_item = recipe(source, "next-item", "popularity", "sasrec", keep_from=3, candidates={"count": 8})
    run = Run(next_item, tmp_path / "next", OPTIONS)
    run.all()
    assert "keep_from = 3 leaves nothing out" in " ".join(run.context.dataset.notes)
    assert {*json.loads((run.stages.report.require() / "evaluation.json").read_text())["systems"]} == {"popularity", "sasrec"}
    with pytest.raises(ConfigError, match=r"data\.rules\.negatives never came next"):
        recipe(source, "next-item", "popularity", negatives={"count": 1})


def test_kinds_of_events_are_named_in_prompts(tmp_path: Path):
    source = shop(tmp_path / "shop", event=["view", "purchase", "view"])
    source["columns"] |= {"event": "event"}
    source["events"] = {"view": 1, "purchase": 2}
    run = Run(recipe(source, "ctr", "din", label_above=1.5), tmp_path / "run", OPTIONS)
    run.all()
    dataset = run.context.dataset
    targets = dataset.targets(np.asarray(dataset.samples["test"][:1]))
    from lifelora.llm.nano import Nano, train_tokenizer

    builder = YesNoBuilder.make(dataset, Nano().template, train_tokenizer(Nano(vocabulary=500), dataset), 1000)
    rows_BK, mask_BK = dataset.history(targets, 3)
    segments = builder.build(targets, rows_BK, mask_BK)
    text = train_tokenizer(Nano(vocabulary=500), dataset).decode(segments.tokens_BL[0])
    assert "(purchase)" in text
    assert "(view)" in text
    assert "star" not in text


@pytest.mark.parametrize(
    ("label_above", "said"),
    [
        (2.5, r"none of the .* train samples are likes: .* are 1 \(view\), 2 \(purchase\)\. Choose one from 1 to below 2\."),
        (0.5, r"all of the .* train samples are likes: .*Choose one from 1 to below 2\. Or: Draw items"),
    ],
)
def test_a_label_that_leaves_one_class_is_refused_before_anything_is_trained(tmp_path: Path, label_above: float, said: str):
    source = shop(tmp_path / "shop", event=["view", "purchase", "view"])
    source |= {"columns": {"time": "time", "event": "event"}, "events": {"view": 1, "purchase": 2}}
    with pytest.raises(ConfigError, match=said):
        Run(recipe(source, "ctr", "din", label_above=label_above), tmp_path / "run", OPTIONS).prepare()


def test_play_counts_are_rated_by_their_levels(tmp_path: Path):
    source = shop(tmp_path / "shop", plays=["1", "5000", "20"])
    source |= {"columns": {"time": "time", "count": "plays"}, "counts": {"rule": "log"}}
    run = Run(recipe(source, "ctr", "deepfm", label_above=2), tmp_path / "run", OPTIONS)
    run.all()
    assert run.context.dataset.levels == ("1 to 9 times", "10 to 99 times", "1000 to 9999 times")
