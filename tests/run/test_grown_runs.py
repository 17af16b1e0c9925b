"""A run whose log grew: its scorers say of it what they say of a log that was prepared with everything."""

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pyarrow.csv as csv
import pytest
import torch

from lifelora.data.dataset import Targets
from lifelora.data.extend import Event
from lifelora.data.prepare import prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.sources import parse_source
from lifelora.data.sources.simulated import Simulated
from lifelora.errors import ConfigError
from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.run import Options, Run
from lifelora.run.recommend import recommend
from lifelora.run.scorers.base import Requests
from run_world import TRAINING, VALUES

pytestmark = pytest.mark.slow  # two runs are made
QUIET = Options(device="cpu", progress=False)
SYSTEMS = {
    "personal": VALUES["systems"]["personal"],
    "drawn": VALUES["systems"]["lora"]
    | {"coupling": {"kind": "full", "rank": 2}, "train_samples": 16, "representation": {"kind": "random", "width": 3}},
    "soft": VALUES["systems"]["lora"]
    | {"train_samples": 16, "soft": {"model": "sasrec", "at": ["behaviours", "target", "user"]}},
}
SASREC = {"model": {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}, "training": TRAINING}


def tables(raw: RawTables, folder: Path) -> Path:
    """The tables as files of a user's own."""
    folder.mkdir()
    for name, table in (("interactions", raw.interactions), ("items", raw.catalogue), ("users", raw.profiles)):
        csv.write_csv(table, folder / f"{name}.csv")
    return folder


def recipe(source: Path, task: str) -> Recipe:
    """One for each task: conventional models, and systems that read their u and soft tokens."""
    source_values = parse_source(f"tables:{source}").model_dump(mode="json", exclude_none=True)
    shared = {"name": "grown", "task": task, "backbone": VALUES["backbone"], "evaluation": VALUES["evaluation"]}
    if task == "ctr":
        models = VALUES["conventional"] | {"sasrec": SASREC}
        return parse(shared | {"data": {"source": source_values}, "conventional": models, "systems": SYSTEMS}, "the test")
    rules = {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 6}}
    titles = {
        "behaviours": {"kind": "most-recent", "k": 3},
        "coupling": {"kind": "full", "rank": 2},
        "train_samples": 16,
        "representation": {"model": "sasrec"},
    }
    return parse(
        shared
        | {
            "data": {"source": source_values, "rules": rules},
            "systems": {"titles": titles},
            "conventional": {"popular": {"model": {"kind": "popularity"}}, "sasrec": SASREC},
        },
        "the test",
    )


@pytest.fixture(scope="module", params=["ctr", "next-item"])
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, RawTables, int]:
    """The folder of a run on the first part of a log, the whole log (of users who are in that part), and where it is cut."""
    folder, raw = tmp_path_factory.mktemp("grown"), Simulated(users=24, items=80, events_per_user=16).read()
    time = raw.interactions.column("time")
    cut = int(np.quantile(time.to_numpy(), 0.85))
    first = raw.interactions.filter(pc.less(time, cut))
    users = pc.unique(first.column("user"))
    whole = RawTables(
        raw.interactions.filter(pc.is_in(raw.interactions.column("user"), value_set=users)),
        raw.catalogue,
        raw.profiles.filter(pc.is_in(raw.profiles.column("user"), value_set=users)),
        Words(),
    )
    source = tables(RawTables(first, raw.catalogue, whole.profiles, raw.words), folder / "source")
    Run(recipe(source, request.param), folder / "run", QUIET).all()
    return folder / "run", whole, cut


def events(raw: RawTables, cut: int) -> list[Event]:
    """What happened from the cut on."""
    return [Event(**row) for row in raw.interactions.to_pylist() if row["time"] >= cut]


def test_every_scorer_says_the_same_of_both(world: tuple[Path, RawTables, int], tmp_path: Path):
    folder, raw, cut = world
    run, other = Run.open(folder, QUIET), Run.open(folder, QUIET)
    base, later = run.context.dataset, events(raw, cut)
    assert 20 < len(later) < len(base)
    whole = prepare(raw, run.recipe.data.rules, tmp_path / "whole", base.name)
    assert whole.rating_levels == base.rating_levels
    vars(other.context)["dataset"] = whole
    early = base.targets(base.samples["test"][:3])

    def requests(targets: Targets) -> Requests:
        listed_NC = (targets.item_B[:, None] + np.arange(4)) % base.n_items
        return Requests(targets, listed_NC if run.recipe.task == "next-item" else None)

    # Asked before, so that all that is kept was made for the first part.
    before = {name: scorer.score(requests(early)) for name, scorer in run.scorers.items()}
    half = sorted(event.time for event in later)[len(later) // 2]
    run.context.extend([event for event in later if event.time < half])
    run.context.extend([event for event in later if event.time >= half])
    grown = run.context.dataset
    assert len(grown) == len(whole)
    rows = np.flatnonzero(np.asarray(whole.time_N) >= cut)[::2]
    asked = whole.targets(rows)
    ours = grown.targets(grown.log.rows(asked.user_B, asked.position_B))
    assert np.array_equal(ours.item_B, asked.item_B)
    for name, scorer in run.scorers.items():
        mine, theirs = requests(ours), requests(asked)
        np.testing.assert_array_equal(scorer.score(mine), other.scorers[name].score(theirs), name)
        shown, due = scorer.shown(mine), other.scorers[name].shown(theirs)
        assert [grown.time_N[row_K].tolist() for row_K in shown] == [whole.time_N[row_K].tolist() for row_K in due]
        np.testing.assert_array_equal(scorer.score(requests(early)), before[name])  # what was asked before says the same after


def test_a_new_user_is_recommended_a_new_item(world: tuple[Path, RawTables, int]):
    folder, _, _ = world
    run = Run.open(folder, QUIET)
    kept = {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}
    items = run.context.dataset.items.outside(np.arange(3))
    levels, time = run.context.dataset.rating_levels, int(np.asarray(run.context.dataset.time_N).max())
    width = run.context.vectors.vectors_NE.shape[1] if run.stages.need_vectors else None
    given = [Event("new user", item, levels[-1], time + number) for number, item in enumerate([*items, "new item"])]
    run.context.extend(
        given,
        [{"item": "new item", "title": "Quite New"}],
        [{"user": "new user", "gender": "female"}],
        None if width is None else torch.ones(1, width),
    )
    for name in run.scorers:
        answer = recommend(run, "new user", None, 4, name)
        assert len(answer.items) == 4
        assert not {item.item for item in answer.items} & {*items, "new item"}  # all of these have been seen
        if answer.items[0].shown:
            assert answer.items[0].shown[-1].title == "Quite New" or name == "personal"
        asked = recommend(run, "new user", [*items, "new item"], 4, name)
        assert {item.title for item in asked.items} >= {"Quite New"}
        scores = {item.item: item.score for item in asked.items}
        if name in run.recipe.conventional:  # it has learnt nothing of the new item, which stands last
            assert [item.item for item in asked.items if item.score is None] == ["new item"] == [asked.items[-1].item]
            scores.pop("new item")
        assert all(np.isfinite(score) for score in scores.values())
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()} == kept


def test_vectors_are_for_the_items_that_are_new(world: tuple[Path, RawTables, int]):
    run = Run.open(world[0], QUIET)
    with pytest.raises(ConfigError, match="vectors of 2 new items and 1 are new"):
        run.context.extend([], [{"item": "new item"}], vectors_NE=torch.zeros(2, 3))
