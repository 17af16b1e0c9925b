"""Recommendations out of small runs of both tasks: one user and many, filters, unknown users, typed histories, new items."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import torch

from lifelora.cli import main
from lifelora.data.extend import Event
from lifelora.errors import ConfigError, DataError
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.recommend import many, recommend
from lifelora.run.recommend.cold import newcomer
from lifelora.run.recommend.ranking import SHORTLISTED, Ranking
from lifelora.run.recommend.told import add_items, known_items, known_users, tell_items
from lifelora.vectors.base import Tools
from lifelora.vectors.encode import HiddenStates
from lifelora.vectors.texts import item_texts
from run_world import TRAINING, VALUES

QUIET = Options(device="cpu", progress=False)
SMALL = {"embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}


def model(kind: str, **more: Any) -> dict[str, Any]:
    return {"model": {"kind": kind, **SMALL, **more}, "training": TRAINING}


CTR = VALUES | {
    "conventional": {
        "popular": {"model": {"kind": "popularity"}},
        **{kind: model(kind) for kind in ("deepfm", "autoint", "dcnv2", "gru4rec", "caser")},
        # These read no profile: every value is one of too few users.
        "sasrec": model("sasrec", min_users=1000),
        "din": model("din", attention_hidden=4, min_users=1000) | {"validation_samples": 30},
        "similar": model("din") | {"behaviours": {"kind": "similar-and-recent", "similar": 3, "recent": 3}},
    },
}
TITLES = {"behaviours": {"kind": "most-recent", "k": 3}, "train_samples": 16, "validation_samples": 16, "training": TRAINING}
NEXT = {
    "name": "next",
    "task": "next-item",
    "evaluation": VALUES["evaluation"] | {"test_samples": 8, "written_tokens": 0},
    "backbone": VALUES["backbone"] | {"template": {"kind": "next-item"}},
    "data": VALUES["data"] | {"rules": {"min_history": 3, "split": {"kind": "leave-one-out"}, "candidates": {"count": 8}}},
    "conventional": {
        "popular": {"model": {"kind": "popularity"}},
        **{kind: model(kind) for kind in ("sasrec", "gru4rec", "caser")},
    },
    "systems": {
        "text": TITLES | {"shortlist": 12, "retriever": "sasrec"},
        "unlisted": TITLES | {"candidates_in_prompt": False, "shortlist": 20, "retriever": "popular"},
    },
}
NAMES = [("ctr", name) for name in (*CTR["conventional"], *CTR["systems"])]
NAMES += [("next-item", name) for name in (*NEXT["conventional"], *NEXT["systems"])]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    made = {}
    for recipe in (CTR, NEXT):
        task = recipe.get("task", "ctr")
        made[task] = tmp_path_factory.mktemp("recommend") / task
        Run(parse(recipe, "the tests' recipe"), made[task], QUIET).all()
    return made


@pytest.fixture(scope="module")
def runs(folders: dict[str, Path]) -> dict[str, Run]:
    """Whose logs do not grow."""
    return {task: Run.open(folder, QUIET) for task, folder in folders.items()}


def users_of(run: Run, count: int) -> list[str]:
    return run.context.dataset.users.outside(np.arange(count))


def lists(table: pa.Table) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for row in table.to_pylist():
        found.setdefault(row["user"], []).append(row["item"])
        assert row["rank"] == len(found[row["user"]])
    return found


def seen_by(run: Run, user: str) -> list[str]:
    dataset = run.context.dataset
    rows = dataset.log.rows_of(int(dataset.users.inside([user])[0]))
    return dataset.items.outside(np.asarray(dataset.item_N[rows]))


# A batch is what users get one by one, and a score made in one go is that of the pair alone.


@pytest.mark.parametrize(("task", "name"), NAMES)
def test_a_batch_gives_what_each_user_gets_alone(runs: dict[str, Run], task: str, name: str):
    run = runs[task]
    users = users_of(run, SHORTLISTED + 3 if name in run.recipe.systems else 24)[-6:]
    table = many(run, users, 7, system=name, where=["genre=mystery", "genre=romance"])
    alone = {user: recommend(run, user, None, 7, name, where=["genre=mystery", "genre=romance"]) for user in users}
    assert lists(table) == {user: [item.item for item in answer.items] for user, answer in alone.items()}
    scores = [item.score for answer in alone.values() for item in answer.items]
    np.testing.assert_allclose(table.column("score").to_numpy(), scores, rtol=1e-5)
    assert table.column("title").to_pylist() == [item.title for answer in alone.values() for item in answer.items]
    assert set(table.column("how").to_pylist()) == {"history"}


@pytest.mark.parametrize(("task", "name"), NAMES)
def test_a_list_is_that_of_scoring_candidates_one_by_one(runs: dict[str, Run], task: str, name: str):
    """Against requests of a single candidate each for what reads no list, and one plain sort."""
    run = runs[task]
    dataset, scorer, (user,) = run.context.dataset, run.scorers[name], users_of(run, 1)
    answer = recommend(run, user, None, 5, name)
    if scorer.retriever is not None or name in run.recipe.systems:
        retriever = Ranking(run, scorer, np.arange(dataset.n_items), 5).retriever
        assert task == "ctr" or retriever is not None
        if task == "next-item":
            # What the retriever chose, put to the model in one request.
            chosen = dataset.items.inside(list(lists(many(run, [user], scorer.shortlist, system=retriever.name))[user]))
            items = np.sort(chosen).astype(np.int64)
            scores = scorer.probabilities(run.task.now(0, items))[0]
        else:
            items = np.setdiff1d(np.arange(dataset.n_items), dataset.items.inside(seen_by(run, user)))
            scores = np.array([scorer.probabilities(run.task.now(0, np.array([item])))[0, 0] for item in items])
    else:
        items = np.setdiff1d(np.arange(dataset.n_items), dataset.items.inside(seen_by(run, user)))
        scores = np.array([scorer.probabilities(run.task.now(0, np.array([item])))[0, 0] for item in items])
    np.testing.assert_allclose([item.score for item in answer.items], np.sort(scores)[::-1][:5], rtol=1e-4)
    place = dict(zip(dataset.items.outside(items), scores, strict=True))
    np.testing.assert_allclose([place[item.item] for item in answer.items], np.sort(scores)[::-1][:5], rtol=1e-4)


@pytest.mark.parametrize(("task", "name"), [pair for pair in NAMES if pair[1] not in ("lora", "personal", "text", "unlisted")])
def test_scores_in_one_go_are_those_of_every_pair(runs: dict[str, Run], task: str, name: str):
    run = runs[task]
    dataset, scorer = run.context.dataset, run.scorers[name]
    user_B, items_P = np.arange(5), np.arange(3, 60, 2)
    made_BP = scorer.over(dataset.candidates(user_B, np.zeros(5, np.int64)), items_P)
    if name == "similar":  # what is read depends on the target
        assert made_BP is None
        return
    due_BP = scorer.probabilities(run.task.asked(user_B, np.tile(items_P, (5, 1)))).reshape(5, -1)
    np.testing.assert_allclose(made_BP, due_BP, rtol=1e-5)


def test_the_product_is_that_of_a_state_with_item_vectors(runs: dict[str, Run]):
    """softmax(<u, e_i>) over the catalogue, by NumPy, in float64."""
    run = runs["next-item"]
    scorer, dataset = run.scorers["sasrec"], run.context.dataset
    with torch.inference_mode():
        u_D = scorer.represent(dataset.candidates(np.array([4]), np.array([0])), "final")[0].double().numpy()
    logit_M = scorer.item_embeddings().double().numpy() @ u_D
    p_M = np.exp(logit_M - logit_M.max())
    p_M /= p_M.sum()
    p_M[dataset.items.inside(seen_by(run, users_of(run, 5)[4]))] = -1
    order = np.argsort(-p_M, kind="stable")[:6]
    table = many(run, [users_of(run, 5)[4]], 6, system="sasrec")
    assert table.column("item").to_pylist() == dataset.items.outside(order)
    np.testing.assert_allclose(table.column("score").to_numpy(), p_M[order], rtol=1e-5)


def test_all_users_come_in_the_order_of_the_run(runs: dict[str, Run]):
    run = runs["next-item"]
    table = many(run, k=3, system="sasrec")
    assert list(lists(table)) == users_of(run, run.context.dataset.n_users)
    assert table.schema.names == ["user", "rank", "item", "title", "score", "how"]
    with pytest.raises(ConfigError, match="named twice"):
        many(run, ["u00001", "u00001"], 3)
    with pytest.raises(ConfigError, match="no users"):
        many(run, [], 3)


# How many, and which.


@pytest.mark.parametrize(
    ("task", "name"), [("ctr", "sasrec"), ("ctr", "lora"), ("next-item", "sasrec"), ("next-item", "unlisted")]
)
def test_two_hundred_of_eighty_are_all_that_is_left(runs: dict[str, Run], task: str, name: str):
    """And never filled up; a language model's shortlist is as long as the list that is asked for."""
    run = runs[task]
    (user,) = users_of(run, 1)
    answer = recommend(run, user, None, 200, name)
    unseen = set(run.context.dataset.items.outside(np.arange(80))) - set(seen_by(run, user))
    assert {item.item for item in answer.items} == unseen
    assert len(answer.items) == len(unseen)
    assert answer.note == f"These are all {len(unseen)}: fewer than the 200 that were asked for."
    assert lists(many(run, [user], 200, system=name))[user] == [item.item for item in answer.items]


def test_what_was_seen_comes_again_only_where_it_is_allowed(runs: dict[str, Run]):
    for run in runs.values():
        (user,) = users_of(run, 1)
        seen = set(seen_by(run, user))
        without, all_of_them = (recommend(run, user, None, 80, "sasrec", allow_seen=allowed) for allowed in (False, True))
        assert not {item.item for item in without.items} & seen
        assert len(all_of_them.items) == 80
        assert "not seen yet" in without.how
        assert "not seen yet" not in all_of_them.how


def test_filters_by_fields(runs: dict[str, Run]):
    """Values of one field are alternatives, whatever their case; a second field narrows them down."""
    run = runs["ctr"]
    rows = run.context.dataset.catalogue.to_pylist()
    field, other = run.context.dataset.item_field_names[:2] if len(run.context.dataset.item_field_names) > 1 else ("genre", None)
    values = sorted({row[field] for row in rows})[:2]
    due = {row["item"] for row in rows if row[field] in values}
    answer = recommend(run, "u00003", None, 80, "din", allow_seen=True, where=[f"{field}={value.upper()}" for value in values])
    assert {item.item for item in answer.items} == due
    if other:
        value = next(row[other] for row in rows if row["item"] in due)
        answer = recommend(
            run, "u00003", None, 80, "din", allow_seen=True, where=[*(f"{field}={v}" for v in values), f"{other}={value}"]
        )
        assert {item.item for item in answer.items} == {row["item"] for row in rows if row["item"] in due and row[other] == value}


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("gnre=mystery", "items have no field 'gnre'; they have: genre"),
        ("genre=mistery", "no item has this value. Did you mean 'mystery'"),
        ("genre=xyz", "There are: .*mystery"),
        ("genre", "write FIELD=VALUE"),
        ("genre=\udcff", "write FIELD=VALUE"),
    ],
)
def test_a_wrong_filter_is_told_what_there_is(runs: dict[str, Run], condition: str, said: str):
    with pytest.raises(ConfigError, match=said):
        recommend(runs["ctr"], "u00003", None, 5, "din", where=[condition])


@pytest.mark.parametrize("ending", ["txt", "csv", "parquet"])
def test_only_what_is_in_stock(runs: dict[str, Run], tmp_path: Path, ending: str):
    """Ids that the catalogue lacks are left out and named; a file with no known id is refused."""
    run, path = runs["ctr"], tmp_path / f"stock.{ending}"
    wanted = run.context.dataset.items.outside(np.arange(0, 40, 2))

    def write(ids: list[str]) -> None:
        table = pa.table({"price": [1.5] * len(ids), "item": ids})
        if ending == "txt":
            path.write_text("\n".join(["", *ids, ""]))
        elif ending == "csv":
            pacsv.write_csv(table, path)
        else:
            pq.write_table(table, path)

    write([*wanted, "gone-1", "gone-2"])
    among, notes = known_items(run.context.dataset, path, "--items-from")
    assert among == wanted
    assert notes == [f"{path}: 2 of 22 items are not in the catalogue and were left out: gone-1, gone-2."]
    found = lists(many(run, ["u00003"], 40, system="sasrec", among=among))["u00003"]
    assert set(found) == set(wanted) - set(seen_by(run, "u00003"))
    write(["gone-1"])
    with pytest.raises(DataError, match="gone-1"):
        known_items(run.context.dataset, path, "--items-from")


def test_files_that_name_nothing(runs: dict[str, Run], tmp_path: Path):
    dataset = runs["ctr"].context.dataset
    (tmp_path / "empty.txt").write_text("\n \n")
    (tmp_path / "other.csv").write_text("sku,price\nA,1\n")
    with pytest.raises(ConfigError, match="names no item; give one id a line"):
        known_items(dataset, tmp_path / "empty.txt", "--items-from")
    with pytest.raises(DataError, match="no such column; the file has: sku, price"):
        known_items(dataset, tmp_path / "other.csv", "--items-from")
    with pytest.raises(ConfigError, match="cannot be read"):
        known_items(dataset, tmp_path / "absent.txt", "--items-from")


# Users whom the log lacks.


def test_unknown_users_get_what_is_popular_and_it_is_said(runs: dict[str, Run]):
    """The most frequent items of the training events, by plain counting; of equal ones the first."""
    run = runs["ctr"]
    dataset = run.context.dataset
    items = [int(item) for item in dataset.item_N[dataset.training_events()]]
    due = sorted(range(80), key=lambda item: (-items.count(item), item))[:4]
    table = many(run, ["u00003", "stranger", "u00004"], 4, system="din")
    rows = [row for row in table.to_pylist() if row["user"] == "stranger"]
    assert [row["item"] for row in rows] == dataset.items.outside(due)
    assert [row["score"] for row in rows] == [items.count(item) / len(items) for item in due]
    assert {row["user"]: row["how"] for row in table.to_pylist()} == {
        "u00003": "history",
        "stranger": "popularity",
        "u00004": "history",
    }
    assert lists(table)["u00004"] == [item.item for item in recommend(run, "u00004", None, 4, "din").items]
    answer = recommend(run, "stranger", None, 4, "din", cold="popularity")
    assert [item.item for item in answer.items] == dataset.items.outside(due)
    assert answer.system == "popularity"
    assert "the log has no such user" in answer.how
    for call in (lambda: recommend(run, "u0003", None, 4, "din"), lambda: many(run, ["u0003"], 4, system="din", cold="refuse")):
        with pytest.raises(DataError, match="u00003"):
            call()


def test_a_profile_is_read_of_a_user_without_a_past(folders: dict[str, Path], tmp_path: Path):
    run = Run.open(folders["ctr"], QUIET)
    field = run.context.dataset.user_field_names[0]
    value = run.context.dataset.profiles.column(field)[0].as_py()
    (tmp_path / "users.csv").write_text(f"user,{field},x\nu00003,,1\nnew-1,{value},2\nnew-2,,3\nu00003,,4\n")
    users, notes = known_users(run.context, tmp_path / "users.csv")
    assert users == ["u00003", "new-1", "new-2"]
    assert notes == [f"{tmp_path / 'users.csv'}: 1 repeated users were left out."]
    table = many(run, users, 3, system="lora")
    assert dict(zip(table.column("user").to_pylist(), table.column("how").to_pylist(), strict=True)) == {
        "u00003": "history",
        "new-1": "profile",
        "new-2": "popularity",
    }
    # A conventional model has learnt no profile of a user who came later.
    assert many(run, ["new-1"], 3, system="din").column("how").to_pylist() == ["popularity"] * 3


@pytest.mark.parametrize(
    ("task", "name"), [("ctr", "sasrec"), ("ctr", "din"), ("ctr", "lora"), ("next-item", "sasrec"), ("next-item", "text")]
)
def test_a_typed_history_counts_as_one_in_the_log(folders: dict[str, Path], task: str, name: str):
    run = Run.open(folders[task], QUIET)
    dataset, user = run.context.dataset, 5
    rows = np.asarray(dataset.log.rows(np.array([user]), np.arange(int(dataset.log.count(np.array([user]))[0]))))
    ids, levels = dataset.items.outside(dataset.item_N[rows]), dataset.rating_levels
    history = [f"{item}:{levels[code]:g}" for item, code in zip(ids, dataset.rating_N[rows].tolist(), strict=True)]
    profile = [f"{field}={value}" for field, value in dataset.profiles.slice(user, 1).to_pylist()[0].items() if field != "user"]
    due = recommend(run, dataset.users.outside([user])[0], None, 8, name)
    made = recommend(run, newcomer(run.context, history, profile), None, 8, name)
    assert [item.item for item in made.items] == [item.item for item in due.items]
    np.testing.assert_allclose([i.score for i in made.items], [i.score for i in due.items], rtol=1e-5)
    assert [item.shown for item in made.items] == [item.shown for item in due.items]
    assert ("reads no profile of a user who came after training" in made.note) == (name not in run.recipe.systems)


def test_what_is_typed_is_an_id_or_a_title_of_one_item(folders: dict[str, Path]):
    run = Run.open(folders["ctr"], QUIET)
    run.context.extend(
        [],
        [
            {"item": "x:3", "title": "Alpha: Part 2"},
            {"item": "y1", "title": "Twice There"},
            {"item": "y2", "title": "Twice There"},
        ],
    )
    dataset = run.context.dataset
    title = dataset.titles[3]
    user = newcomer(run.context, ["x:3", "x:3:2", "alpha: part 2:4", title, "y2:1"])
    dataset, index = run.context.dataset, int(run.context.dataset.users.inside([user])[0])
    rows = dataset.log.rows(np.full(5, index), np.arange(5))
    assert dataset.items.outside(dataset.item_N[rows]) == ["x:3", "x:3", "x:3", dataset.items.outside([3])[0], "y2"]
    assert [dataset.rating_levels[code] for code in dataset.rating_N[rows]] == [5, 2, 4, 5, 1]
    assert newcomer(run.context, ["y1"]) != user
    with pytest.raises(ConfigError, match=r"'Twice There' is the title of 2 items; .* Twice There \[y1\]; Twice There \[y2\]"):
        newcomer(run.context, ["Twice There:3"])
    with pytest.raises(ConfigError, match=r"no item has this id or title. Near ones: Alpha: Part 2 \[x:3\]"):
        newcomer(run.context, ["Alpha Part 2"])
    with pytest.raises(DataError, match="no such rating; its ratings are 1, 2, 3, 4, 5"):
        newcomer(run.context, ["y1:9"])
    with pytest.raises(DataError, match="no such field"):
        newcomer(run.context, ["y1"], ["town=Graz"])


# Items that came later.


NEW = "item,title,genre,price\nn1,The Quiet Harbour,mystery,3\nn2,Loud Hills,romance,4\n"


@pytest.mark.parametrize(
    ("task", "name", "reads"),
    [
        ("ctr", "lora", "words"),
        ("ctr", "personal", "words"),
        ("ctr", "sasrec", "ids"),
        ("ctr", "similar", "ids"),
        ("next-item", "sasrec", "ids"),
        ("next-item", "popular", "ids"),
        ("next-item", "text", "words"),
        ("next-item", "unlisted", "words"),
    ],
)
def test_new_items_by_their_words(folders: dict[str, Path], tmp_path: Path, task: str, name: str, reads: str):
    run = Run.open(folders[task], QUIET)
    (tmp_path / "new.csv").write_text(NEW)
    notes = add_items(run.context, tmp_path / "new.csv")
    assert notes == [f"{tmp_path / 'new.csv'}: columns that this catalogue does not have were not read: price."]
    dataset = run.context.dataset
    assert dataset.titles[80:] == ["The Quiet Harbour", "Loud Hills"]
    (user,) = users_of(run, 1)
    answer = recommend(run, user, None, 100, name)
    assert lists(many(run, [user], 100, system=name))[user] == [item.item for item in answer.items]
    scores = {item.item: item.score for item in answer.items}
    if reads == "ids":
        assert [item.item for item in answer.items][-2:] == ["n1", "n2"]
        assert scores["n1"] is None
        assert scores["n2"] is None
        assert "2 new items stand last and have no score" in answer.note
    else:
        assert 0 < scores["n1"] < 1
        assert scores["n1"] != scores["n2"]
        assert answer.note.count("new items") == 0
    if reads == "words":  # a shortlist has the new items beside those that the retriever chose
        short = recommend(run, user, None, 3, name)
        if "chose" in short.how:
            assert "beside 2 new ones" in short.how
        only = recommend(run, user, None, 5, name, among=["n1", "n2"])
        assert {item.item for item in only.items} == {"n1", "n2"}


@pytest.mark.parametrize("dimensions", [None, 5])
def test_vectors_of_new_items_are_those_of_a_catalogue_that_had_them(
    folders: dict[str, Path], tmp_path: Path, dimensions: int | None
):
    run = Run.open(folders["ctr"], QUIET)
    vectors = run.recipe.vectors.model_copy(update={"dimensions": dimensions})
    run.context.recipe = run.recipe.model_copy(update={"vectors": vectors})
    (tmp_path / "new.csv").write_text(NEW)
    tools = run.context.tools(vectors.needs_backbone)
    vars(run.context)["vectors"] = vectors.of_items(run.context.dataset, tools)
    before = run.context.vectors.vectors_NE
    add_items(run.context, tmp_path / "new.csv")
    (made_NE,) = run.context._later_vectors
    if dimensions is None:
        due_NE = vectors.of_items(run.context.dataset, tools).vectors_NE
        torch.testing.assert_close(made_NE, due_NE[80:], rtol=1e-4, atol=1e-6)
    else:  # in the directions of the prepared items
        raw = vectors.model_copy(update={"dimensions": None}).of_items(run.context.dataset, tools).vectors_NE.double()
        known = raw[:80] - raw[:80].mean(dim=0)
        directions = torch.linalg.lstsq(known, before.double()).solution
        torch.testing.assert_close((raw[80:] - raw[:80].mean(dim=0)) @ directions, made_NE.double(), rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize("kept", [True, False])
def test_for_a_new_item_its_own_text_alone_is_read(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch, kept: bool):
    """What PCA has learnt of the prepared items is kept with their vectors; a run of an earlier version reads them once more."""
    run = Run.open(folders["ctr"], QUIET)
    assert run.recipe.vectors.dimensions is not None
    directions = run.context.vectors.pca
    assert directions is not None
    if not kept:
        run.context.vectors = replace(run.context.vectors, pca=None)
    read, reads = HiddenStates.read, list[int]()

    def reading(self: HiddenStates, texts: Sequence[str], tools: Tools) -> torch.Tensor:
        reads.append(len(texts))
        return read(self, texts, tools)

    monkeypatch.setattr(HiddenStates, "read", reading)
    for number in range(2):
        tell_items(run.context, [{"item": f"told-{number}", "title": f"Quiet Harbour {number}"}])
    assert reads == ([] if kept else [len(set(item_texts(run.context.dataset.catalogue.slice(0, 80), "book")))]) + [1, 1]
    assert run.context.vectors.pca is not None
    torch.testing.assert_close(run.context.vectors.pca.directions_DE, directions.directions_DE)
    assert tell_items(run.context, [{"item": "bare"}]) == ["no new item has a word, so each is like no other."]
    assert len(reads) == (2 if kept else 3), "there is nothing to read"
    assert [bool(made.any()) for made in run.context._later_vectors] == [True, True, False]


# The command line.


def test_the_command_line_says_what_it_did(folders: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = str(folders["ctr"])
    before = {path: path.stat().st_mtime_ns for path in folders["ctr"].rglob("*") if path.is_file()}
    (tmp_path / "users.txt").write_text("u00003\nstranger\n")
    (tmp_path / "new.csv").write_text(NEW)
    common = ["--quiet", "--device", "cpu", "-k", "3", "--system", "din"]
    out = tmp_path / "recs.csv"
    words = ["recommend", folder, "--users", str(tmp_path / "users.txt"), *common]
    assert main([*words, "--out", str(out)]) == 0
    said = capsys.readouterr()
    assert said.out == f"recommend: {out}\n"
    assert "1 users are unknown: they get the most popular items, and 'how' says so." in said.err
    assert pacsv.read_csv(out).column("user").to_pylist() == ["u00003"] * 3 + ["stranger"] * 3
    assert main([*words, "--json", "--cold", "refuse"]) == 1
    assert "unknown id" in capsys.readouterr().err
    assert main([*words, "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["how"] for row in rows] == ["history"] * 3 + ["popularity"] * 3
    assert main(words) == 0
    assert capsys.readouterr().out.splitlines()[3].split("\t")[0] == "stranger"
    title = Run.open(folders["ctr"], QUIET).context.dataset.titles[3]
    typed = ["recommend", folder, "--history", "b00001:5", title, *common]
    assert main([*typed, "--profile", "gender=female", "--new-items", str(tmp_path / "new.csv")]) == 0
    assert "For user new user, by 'din' (80 items not seen yet)" in capsys.readouterr().out
    for wrong, said_of in (
        (["--user", "u00003", "--profile", "gender=female"], "--profile belongs to --history"),
        (["--user", "u00003", "--out", "x.csv"], "--out belongs to --users"),
        (["--all-users", "--items", "b00001"], "--items belongs to one user"),
        (["--all-users", "--out", "x.txt"], "give one of .parquet, .csv, .jsonl"),
    ):
        assert main(["recommend", folder, *wrong, *common]) == 1
        assert said_of in capsys.readouterr().err
    assert {path: path.stat().st_mtime_ns for path in folders["ctr"].rglob("*") if path.is_file()} == before


def test_events_since_count_in_a_batch(folders: dict[str, Path]):
    run = Run.open(folders["next-item"], QUIET)
    dataset = run.context.dataset
    first = lists(many(run, ["u00003"], 3, system="sasrec"))["u00003"]
    run.context.extend([Event("u00003", first[0], 5, int(np.asarray(dataset.time_N).max()) + 1)])
    assert first[0] not in lists(many(run, ["u00003"], 80, system="sasrec"))["u00003"]
    assert pc.all(pc.equal(many(run, ["u00003"], 3, system="sasrec").column("how"), "history")).as_py()
