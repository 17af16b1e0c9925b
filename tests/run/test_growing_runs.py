"""Systems with a growing history: trained and scored on trees they say what they say of plain prompts, sample by sample."""

import re
from collections import Counter
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lifelora.llm.yes_no import YesNoLM
from lifelora.prompts.tree import PromptTrees
from lifelora.prompts.yes_no import YesNoBuilder
from lifelora.recipe.files import parse
from lifelora.recipe.recipe import Recipe
from lifelora.retrieval.growing import blocks
from lifelora.run import Options, Run
from lifelora.run.scorers.base import MODEL, Requests
from lifelora.run.scorers.language import LanguageScorer
from lifelora.run.scorers.seen import seen
from lifelora.run.scorers.sharing import why_never
from lifelora.tensors import read_tensors
from lifelora.training import TrainingConfig
from lifelora.training.curve import History
from run_world import TRAINING, VALUES

GROWING: dict[str, Any] = {
    "behaviours": {"kind": "most-recent", "k": 2},
    "history": "growing",
    "block": 4,
    "train_samples": 32,
    "validation_samples": 20,
    "training": TRAINING | {"batch_size": 12, "learning_rate": 5e-2},
}
SASREC = {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "history_length": 6}
OPTIONS = Options(device="cpu", progress=False)
U, QUESTION = {"representation": {"model": "sasrec"}}, {"coupling_on": "question"}
SYSTEMS: dict[str, dict[str, Any]] = {
    "identity": {"coupling": {"kind": "identity", "rank": 2}},
    "static": {"coupling": {"kind": "static", "rank": 2}},
    "experts": U | {"coupling": {"kind": "experts", "rank": 2, "experts": 2}},
    "meta": U | {"coupling": {"kind": "meta", "rank": 2}},
    "hydra": U | {"coupling": {"kind": "hydra", "rank": 2}},
    "full": U | {"coupling": {"kind": "full", "rank": 2}},
    "random": {"coupling": {"kind": "full", "rank": 2}, "representation": {"kind": "random", "width": 4}},
    "joint": {"coupling": {"kind": "full", "rank": 2}, "representation": {"model": "sasrec", "train": "joint"}},
    "experts-question": U | QUESTION | {"coupling": {"kind": "experts", "rank": 2, "experts": 2}},
    "meta-question": U | QUESTION | {"coupling": {"kind": "meta", "rank": 2}},
    "full-question": U | QUESTION | {"coupling": {"kind": "full", "rank": 2}},
    "din-question": QUESTION | {"coupling": {"kind": "full", "rank": 2}, "representation": {"model": "din"}},
    "joint-din-question": QUESTION
    | {"coupling": {"kind": "hydra", "rank": 2}, "representation": {"model": "din", "train": "joint"}},
    "din-prompt": {"coupling": {"kind": "full", "rank": 2}, "representation": {"model": "din"}},
    "yes": U | {"coupling": {"kind": "full", "rank": 2}, "loss": "yes"},
    "soft": U | {"coupling": {"kind": "full", "rank": 2}, "soft": {"model": "sasrec", "at": ["behaviours", "target", "user"]}},
    "cut": U | {"coupling": {"kind": "full", "rank": 2}, "max_tokens": 60},
}
OWN = VALUES["systems"]["lora"] | {"coupling": {"kind": "full", "rank": 2}}
OWN_SYSTEMS: dict[str, dict[str, Any]] = {
    "own": OWN | U,
    "own-din": OWN | {"representation": {"model": "din"}},
    "own-din-question": OWN | QUESTION | {"representation": {"model": "din"}},
    "own-similar": OWN | U | {"behaviours": {"kind": "most-similar", "k": 3}},
}


def recipe() -> Recipe:
    """All of them beside one another."""
    systems = {name: GROWING | {"dropout": 0.0} | system for name, system in SYSTEMS.items()} | OWN_SYSTEMS
    conventional = {"din": VALUES["conventional"]["din"], "sasrec": {"model": SASREC, "training": TRAINING}}
    values = VALUES | {"conventional": conventional, "systems": systems, "backbone": VALUES["backbone"] | {"layers": 2}}
    return parse(values, "the tests' recipe")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Where all but the systems is trained."""
    run = Run(recipe(), tmp_path_factory.mktemp("runs") / "growing", OPTIONS)
    run.prepare()
    run.embed()
    run.fit()
    return run


def shaken(run: Run, name: str) -> LanguageScorer[Any]:
    """A system with drawn numbers in its adapters, so that its answers depend on all that it reads and on u."""
    scorer = run.scorers[name]
    assert isinstance(scorer, LanguageScorer)
    if "lm" not in vars(scorer):
        scorer.lm = scorer.untrained()
        torch.manual_seed(1)
        for parameter in [*scorer.lm.adapters.parameters(), *(scorer.lm.soft.parameters() if scorer.lm.soft else ())]:
            torch.nn.init.normal_(parameter, std=0.7)
    return scorer


def everything(run: Run) -> Requests:
    """All events as requests: left and right neighbours in whole blocks, users' first events, with nothing to show."""
    return Requests(run.context.dataset.targets(np.random.default_rng(1).permutation(len(run.context.dataset))))


@pytest.mark.parametrize("name", SYSTEMS)
def test_scores_of_trees_are_those_of_their_prompts(run: Run, name: str):
    requests, again = everything(run), Run.open(run.stages.folder, replace(OPTIONS, trees=False))
    scorer, plain = shaken(run, name), shaken(again, name)
    assert (scorer.asked(requests).trunk_N is None) == (name == "din-prompt")
    assert plain.asked(requests).trunk_N is None
    scores_N, plain_N = scorer.score(requests), plain.score(requests)
    assert scores_N.std() > 0.005
    np.testing.assert_allclose(scores_N, plain_N, rtol=1e-4, atol=1e-5)
    some = np.arange(0, len(requests), 37)
    alone = np.concatenate([scorer.score(requests.at(np.array([one]))) for one in some])
    np.testing.assert_allclose(scores_N[some], alone, rtol=1e-4, atol=1e-5)


def u_of(scorer: LanguageScorer[Any], requests: Requests) -> torch.Tensor:
    """u of each request, or all that it is made from."""
    shown = seen(scorer.context, scorer.system, scorer.parents.representation, scorer.parents.soft, requests)
    if shown.gather is None:
        return shown.user_ND
    samples = shown.gather(shown.known or requests.targets)
    return torch.cat([samples.history_BH, samples.rating_BH, samples.mask_BH.long()], dim=1)


@pytest.mark.parametrize("name", ["full", "joint", "full-question"])
def test_u_of_a_block_knows_nothing_of_the_block(run: Run, name: str, monkeypatch: pytest.MonkeyPatch):
    scorer, dataset, requests = run.scorers[name], run.context.dataset, everything(run)
    assert isinstance(scorer, LanguageScorer)
    before_ND = u_of(scorer, requests)
    user = int(dataset.log.count(np.arange(dataset.n_users)).argmax())
    rows = dataset.log.rows(np.full(4, user), np.arange(8, 12))  # one of the user's blocks
    altered = copy(dataset)
    altered.item_N, altered.rating_N, altered.label_N = (
        np.array(column) for column in (dataset.item_N, dataset.rating_N, dataset.label_N)
    )
    altered.item_N[rows] = (altered.item_N[rows] + 7) % dataset.n_items
    altered.rating_N[rows] = (altered.rating_N[rows] + 1) % len(dataset.rating_levels)
    altered.label_N[rows] = 1 - altered.label_N[rows]
    monkeypatch.setitem(vars(run.context), "dataset", altered)
    same_N = (u_of(scorer, requests) == before_ND).all(dim=1).numpy()
    user_N, position_N = requests.targets.user_B, requests.targets.position_B
    block_N, next_N = ((user_N == user) & (position_N // 4 == block) for block in (2, 3))
    assert same_N[block_N].all() == (name != "full-question")
    assert next_N.any()
    assert not same_N[next_N].any()
    assert same_N[user_N != user].all()


def test_training_samples_are_whole_blocks_and_fewer_are_the_first_of_more(run: Run):
    context = run.context
    train = np.asarray(context.dataset.samples["train"])
    number = dict(zip(train.tolist(), blocks(context.dataset.targets(train), 4).tolist(), strict=True))
    whole = Counter(number.values())
    before: set[int] = set()
    for count in (1, 10, 33, 50):
        rows = context.training_samples(count, 4).tolist()
        assert len(rows) == count
        assert rows == [row for row in train.tolist() if row in {*rows}], "in the order of the part"
        cut = [block for block, found in Counter(number[row] for row in rows).items() if found < whole[block]]
        assert len(cut) <= 1
        assert before <= {*rows}
        before = {*rows}
    assert context.training_samples(None, 4).tolist() == train.tolist()


def trained(run: Run, name: str, folder: Path) -> tuple[History, dict[str, torch.Tensor]]:
    """A system, trained in a folder."""
    scorer = run.scorers[name]
    folder.mkdir(exist_ok=True)
    scorer.train(folder, run.task.validation(scorer))
    return History.model_validate_json((folder / "history.json").read_text()), read_tensors(folder / MODEL)[0]


@pytest.mark.parametrize("name", ["full", "soft", "joint-din-question"])
def test_training_on_trees_is_training_on_their_prompts(run: Run, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    sizes: list[tuple[int, int]] = []
    build = YesNoBuilder.trees

    def counted(builder: YesNoBuilder, *given: Any) -> PromptTrees:
        made = build(builder, *given)
        sizes.append((len(made), len(made.trunk_R)))
        return made

    monkeypatch.setattr(YesNoBuilder, "trees", counted)
    on_trees = Run.open(run.stages.folder, OPTIONS)
    history, weights = trained(on_trees, name, tmp_path / "trees")
    assert [count for count, _ in sizes if count == 12] == [12, 12]  # 32 samples in steps of 12
    assert all(trunks < count for count, trunks in sizes[:2])
    sizes.clear()
    plain_history, plain = trained(Run.open(run.stages.folder, replace(OPTIONS, trees=False)), name, tmp_path / "plain")
    assert not sizes
    losses, plain_losses = ([point.loss for point in one.training] for one in (history, plain_history))
    assert losses == pytest.approx(plain_losses, rel=1e-4)
    assert weights.keys() == plain.keys()
    for tensor, found in weights.items():
        assert (found - plain[tensor]).abs().max() <= 1e-2 * plain[tensor].abs().max(), tensor


def test_interrupted_on_trees_it_goes_on_to_the_same_bits(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    training = TrainingConfig(batch_size=12, epochs=2, learning_rate=5e-2, evaluations_per_epoch=3, accumulation=2)

    def learn(folder: Path) -> None:
        once = Run.open(run.stages.folder, OPTIONS)
        scorer = once.scorers["full"]
        assert isinstance(scorer, LanguageScorer)
        scorer.system = scorer.system.model_copy(update={"training": training, "dropout": 0.1})
        trained(once, "full", folder)

    learn(tmp_path / "whole")
    calls, loss = 0, YesNoLM.loss

    def killed(lm: YesNoLM, batch: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 8:
            raise KeyboardInterrupt
        return loss(lm, batch)

    with monkeypatch.context() as patched:
        patched.setattr(YesNoLM, "loss", killed)
        with pytest.raises(KeyboardInterrupt):
            learn(tmp_path / "killed")
    learn(tmp_path / "killed")
    assert (tmp_path / "killed" / MODEL).read_bytes() == (tmp_path / "whole" / MODEL).read_bytes()


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("own", ""),
        ("own-din-question", ""),
        ("own-din", "C(u) depends on the target and acts on the behaviours, too"),
        ("own-similar", "each target has behaviours of its own"),
    ],
)
def test_candidates_of_one_request_are_branches_where_nothing_before_them_knows_the_target(run: Run, name: str, why: str):
    scorer, request = shaken(run, name), run.task.asked(np.array([2, 5]), np.arange(20).reshape(2, 10))
    one_by_one = Requests(request.targets)
    assert scorer.asked(one_by_one).trunk_N is None, "own histories of samples are prompts, as ever"
    plain_N = scorer.score(one_by_one)
    trunk_N = scorer.asked(request).trunk_N
    assert scorer.apart == why
    assert (trunk_N is None) if why else (trunk_N.tolist() == [0] * 10 + [1] * 10)
    assert why_never(scorer.system, scorer.u_sees_target) == why
    np.testing.assert_allclose(scorer.score(request), plain_N, rtol=1e-4, atol=1e-5)
    assert scorer.asked(request.at(slice(3, 4))).trunk_N is None, "a single candidate is a prompt"


def test_the_report_says_what_was_shared(run: Run, tmp_path: Path):
    names = ("full", "din-prompt", "full-question")
    some = run.recipe.model_copy(update={"systems": {name: run.recipe.systems[name] for name in names}})
    whole = Run(some, tmp_path / "run", OPTIONS)
    whole.all()
    page = (whole.stages.report.require() / "report.html").read_text()
    assert "from the 2 before its block of 4 events on" in page
    assert re.search(r"\b(8|9|1\d) histories were read for all of them", page)  # of 32 samples, in blocks of 4 or what is left
    assert "every prompt was read by itself: C(u) depends on the target and acts on the behaviours, too" in page
    assert "C(u) acts on the question alone" in page


def test_a_language_model_as_it_is_reads_growing_histories(tmp_path: Path):
    """Without training samples there is nothing to share in training; it is scored on trees all the same."""
    as_it_is = {"behaviours": {"kind": "most-recent", "k": 2}, "history": "growing", "train_samples": 0}
    run = Run(parse(VALUES | {"conventional": {}, "systems": {"as-it-is": as_it_is}}, "the tests' recipe"), tmp_path, OPTIONS)
    run.all()
    assert "as-it-is" in run.table()
    scorer = run.scorers["as-it-is"]
    assert isinstance(scorer, LanguageScorer)
    assert scorer.asked(run.task.requests("test", run.context.test_samples)).trunk_N is not None
