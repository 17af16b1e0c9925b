"""What u is made from, layer by layer, and the user's soft token (CoLLM), in a run of systems side by side."""

import html
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lifelora.errors import ConfigError
from lifelora.lora.saved import load, save, tensors
from lifelora.recipe.files import parse
from lifelora.run import Options, Run
from lifelora.run.export import export
from lifelora.run.scorers.start import ADAPTER, start
from lifelora.run.stages import Stages
from lifelora.seeds import torch_generator
from run_world import TRAINING, VALUES, judged_on, show

DIN = VALUES["conventional"]["din"]
CONVENTIONAL = {
    "din": DIN,
    "sim": DIN | {"behaviours": {"kind": "same-field", "field": "genre", "k": 6}},
    "sasrec": {
        "model": {"kind": "sasrec", "embedding": 4, "hidden": 8, "layers": 1, "heads": 1, "history_length": 6, "user_id": True},
        "training": TRAINING,
    },
}
SYSTEM = {
    "behaviours": {"kind": "most-recent", "k": 3},
    "train_samples": 32,
    "validation_samples": 20,
    "training": TRAINING,
    "dropout": 0.0,
}
LORA = SYSTEM | {"coupling": {"kind": "identity", "rank": 2}}
META = SYSTEM | {"coupling": {"kind": "meta", "rank": 2, "loras": 2}, "representation": {"model": "din"}}
COLLM = LORA | {"soft": {"model": "sasrec", "at": ["user", "target"]}, "init_from": "lora", "train": "coupling"}
SYSTEMS: dict[str, dict[str, Any]] = {
    "lora": LORA,
    "fields": META | {"representation": {"model": "din", "layer": "fields"}},
    "user": META | {"representation": {"model": "din", "layer": "user"}},
    "random": META | {"representation": {"kind": "random", "width": 12}},
    "of-sim": META | {"representation": {"model": "sim", "layer": "user"}},
    "token": META | {"coupling": {"kind": "meta", "rank": 2, "loras": 2, "gate": "token"}},
    "joint": META | {"representation": {"model": "sasrec", "layer": "user", "train": "joint"}},
    "residual": SYSTEM
    | {"coupling": {"kind": "experts", "rank": 2, "experts": 2, "router": "residual"}, "representation": {"model": "din"}},
    "dropped": META | {"representation": {"model": "sasrec", "train": "frozen-with-dropout"}},
    "collm": COLLM,
    "one-projector": COLLM | {"soft": {"model": "sasrec", "at": ["user", "target"], "projector": "collm"}, "loss": "yes"},
    "random-user": COLLM | {"soft": {"model": "sasrec", "at": ["user"], "layer": "random"}},
}


def recipe(**changed: Any) -> Any:
    return parse(VALUES | {"conventional": CONVENTIONAL, "systems": SYSTEMS | changed}, "the tests' recipe")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    run = Run(recipe(), tmp_path_factory.mktemp("runs") / "layers", Options(device="cpu", progress=False))
    run.all()
    return run


def u_of(run: Run, system: str, user_index: int = 5, items: int = 4) -> torch.Tensor:
    """u of one user in front of several candidates."""
    return show(run, system, run.context.dataset.candidates(user_index, np.arange(items, dtype=np.int64))).user_ND


@pytest.mark.parametrize(("system", "alike"), [("user", True), ("random", True), ("fields", False), ("token", False)])
def test_candidates_of_one_user_share_u_where_the_layer_knows_no_target(run: Run, system: str, alike: bool):
    u_ND = u_of(run, system)
    assert bool((u_ND == u_ND[:1]).all()) == alike
    assert run.scorers[system].u_sees_target != alike
    assert not torch.allclose(u_ND[0], u_of(run, system, user_index=6)[0])


def test_u_is_that_layer_of_that_model(run: Run):
    model, E = run.scorers["din"].recommender, DIN["model"]["embedding"]
    targets = judged_on(run)
    samples = run.scorers["din"].samples(targets)
    with torch.no_grad():
        for system, layer in (("fields", "fields"), ("user", "user"), ("token", "final")):
            u_ND = show(run, system, targets).user_ND
            torch.testing.assert_close(u_ND, model.representation(samples, layer))
            assert run.scorers[system].lm.coupling.user_width == u_ND.shape[1]
    assert show(run, "user", targets).user_ND.shape[1] == E
    assert show(run, "fields", targets).user_ND.shape[1] == (model.inputs.n_fields + 1) * E


def test_a_random_u_is_the_users_at_all_times_and_says_nothing_else(run: Run):
    train, test = (run.context.dataset.targets(np.asarray(run.context.dataset.samples[part])) for part in ("train", "test"))
    found: dict[int, torch.Tensor] = {}
    for targets in (train, test):
        for user, u_D in zip(targets.user_B.tolist(), show(run, "random", targets).user_ND, strict=True):
            assert torch.equal(found.setdefault(user, u_D), u_D)
    u_UD = torch.stack(list(found.values()))
    assert u_UD.shape[1] == 12
    drawn = torch.randn(run.context.dataset.n_users, 12, generator=torch_generator(0, "random representation"))
    assert all(torch.equal(u_D, drawn[user]) for user, u_D in found.items())
    assert len(u_UD.unique(dim=0)) == len(found) > 1
    assert abs(u_UD.mean().item()) < 0.3
    assert u_UD.std().item() == pytest.approx(1, abs=0.3)


def test_a_learning_representation_learns_in_its_layer(run: Run):
    trained, joint = run.scorers["sasrec"].recommender, run.scorers["joint"].lm
    assert joint.layer == "user"
    moved = {
        name
        for (name, a), b in zip(trained.named_parameters(), joint.representer.parameters(), strict=True)
        if not torch.equal(a.cpu(), b)
    }
    assert moved == {"inputs.table.weight", "inputs.join.weight", "inputs.join.bias"}


def test_a_frozen_representation_can_keep_its_dropout_while_the_lm_learns(run: Run):
    """Nothing of it learns; asked, u is what it is without; while the LM learns it is another one at every pass."""
    scorer = run.scorers["dropped"]
    lm = scorer.lm
    assert not any(name.startswith("representer.") for name, p in lm.named_parameters() if p.requires_grad)
    targets = judged_on(run)
    asked = show(run, "dropped", targets)
    batch = scorer.batch(asked, np.arange(len(targets)))
    asis_ND = run.scorers["sasrec"].represent(targets, "final")
    with torch.no_grad():
        torch.testing.assert_close(lm.eval().represented(batch), asis_ND)
        lm.representer.inputs.drop.p = 0.5  # of what SASRec reads; the recipe's .1 is inside its block
        seen = torch.stack([lm.train().represented(batch) for _ in range(20)])
    assert (seen[0] - seen[1]).abs().max() > 0.1
    assert show(run, "random", targets).gather is None


def test_behaviours_like_the_target_make_any_u_depend_on_it(run: Run, tmp_path: Path):
    assert run.scorers["of-sim"].u_sees_target
    with pytest.raises(ConfigError, match="depends on the target as well as on the user"):
        export(run, tmp_path / "a", system="of-sim", users=["u00003"], item=None)
    assert export(run, tmp_path / "b", system="user", users=["u00003"], item=None) == {"u00003": tmp_path / "b"}
    with pytest.raises(ConfigError, match="differs from token to token"):
        export(run, tmp_path / "c", system="token", users=["u00003"], item="b00003")


def test_in_collms_second_stage_only_the_projectors_learn(run: Run):
    before, after = run.scorers["collm"].untrained(), run.scorers["collm"].lm
    start(before.adapters, run.scorers["collm"].system, run.scorers["collm"].parents.init_from)
    for name, tensor in tensors(run.stages.system("lora").require() / ADAPTER).items():
        assert torch.equal(after.adapters.state()[name], tensor)
        assert torch.equal(before.adapters.state()[name], tensor)
    assert {name for name, p in after.named_parameters() if p.requires_grad} == {
        f"soft.{whose}.{part}.{kind}" for whose in ("user", "item") for part in ("into", "out") for kind in ("weight", "bias")
    }
    for (name, a), b in zip(before.soft.named_parameters(), after.soft.parameters(), strict=True):
        assert not torch.equal(a, b), name
    learnt = {name for name, p in run.scorers["one-projector"].lm.named_parameters() if p.requires_grad}
    assert learnt == {f"soft.item.{part}.{kind}" for part in ("into", "out") for kind in ("weight", "bias")}
    alone = run.scorers["random-user"].lm.soft
    assert alone.item is None
    assert alone.vectors_ME is None


def test_the_users_soft_token_is_the_users(run: Run):
    """One for each prompt, made from SASRec's u, which no candidate changes; with the target's it is all there is."""
    asked = show(run, "collm", run.context.dataset.candidates(5, np.arange(4, dtype=np.int64)))
    batch = run.scorers["collm"].batch(asked, np.arange(4))
    assert torch.equal(batch.soft_user_BX, batch.soft_user_BX[:1].expand(4, -1))
    assert [row[row != -1].tolist() for row in batch.prompts.soft_BL] == [[-2, item] for item in range(4)]
    targets = judged_on(run)
    model = run.scorers["sasrec"].recommender
    with torch.no_grad():
        u_ND = model.represent(run.scorers["sasrec"].samples(targets))
    torch.testing.assert_close(show(run, "collm", targets).soft_user_NX, u_ND)
    mixed = show(run, "collm", targets).mixed(show(run, "collm", targets))
    torch.testing.assert_close(mixed.soft_user_NX, u_ND.repeat(2, 1))


def test_what_a_residual_router_has_seen_comes_back_with_it(run: Run, tmp_path: Path):
    """Its statistics are buffers, neither parameters nor rows of a batch: kept by the run, and by an adapter's own files."""
    before, after = run.scorers["residual"].untrained().coupling, run.scorers["residual"].lm.coupling
    moved = [not torch.equal(a, b) for (_, a), (_, b) in zip(before.named_buffers(), after.named_buffers(), strict=True)]
    assert len(moved) == 3 * (1 + 2 * 9)
    assert all(moved)
    counted = [int(coupling.gate.networks[0][1].num_batches_tracked) for coupling in (before, after)]
    assert counted == [0, 2]  # 32 rows in batches of 16; neither validation nor the account of adapters counts
    u_ND = u_of(run, "residual")
    adapters = run.scorers["residual"].lm.adapters
    save(adapters, tmp_path / "adapter", "nano")
    again = load(run.context.backbone.model, tmp_path / "adapter")
    assert torch.equal(again.couplings(u_ND).tensor, adapters.couplings(u_ND).tensor)


@pytest.mark.parametrize("system", ["collm", "one-projector", "residual", "random-user", "token", "random"])
def test_a_score_does_not_depend_on_the_batch(run: Run, system: str):
    stored = np.load(run.stages.scores(system).require() / "score.npy")
    targets = judged_on(run)
    scorer = run.scorers[system]
    asked = show(run, system, targets)
    with torch.no_grad(), scorer.lm.adapters.loaded():
        alone = [scorer.lm.eval().score(scorer.batch(asked, np.array([row])))[0].item() for row in range(4)]
    np.testing.assert_allclose(alone, stored[:4], rtol=1e-4)


def test_what_decides_the_result_is_in_the_key(run: Run):
    def key(name: str, **changes: Any) -> str:
        return Stages(recipe(**{name: SYSTEMS[name] | changes}), run.folder).system(name).key

    def soft(**changes: Any) -> dict[str, Any]:
        return COLLM["soft"] | changes

    keys = [
        key("collm"),
        key("collm", soft=soft(at=["target"])),
        key("collm", soft=soft(layer="user")),
        key("collm", soft=soft(layer="random")),
        key("one-projector"),
        key("one-projector", loss="answer"),
        key("user"),
        key("user", representation={"model": "din", "layer": "fields"}),
        key("user", representation={"model": "din"}),
        key("user", representation={"kind": "random"}),
        key("user", representation={"kind": "random", "width": 8}),
    ]
    assert len(set(keys)) == len(keys)
    assert key("user") == run.stages.system("user").key


def test_the_report_says_what_was_read(run: Run):
    page = (run.stages.report.require() / "report.html").read_text()
    for said in (
        "u from layer 'user' of din, trained on all",
        "u from din, trained on all",
        "u of 12 numbers drawn at random for each user",
        "soft tokens of user and target from sasrec, trained on all",
        "soft tokens of user drawn at random",
    ):
        assert said in html.unescape(page), said


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"representation": {"layer": "user"}}, r"systems\.user\.representation\.model: Field required"),
        (
            {"representation": {"kind": "random", "train": "joint"}},
            r"systems\.user\.representation\.train: there is no such key; allowed here: kind, width\.",
        ),
        (
            {"representation": {"kind": "random", "model": "din"}},
            r"representation\.model: there is no such key; allowed here: kind, width",
        ),
        ({"representation": {"kind": "drawn"}}, r"systems\.user\.representation: .*'model', 'random'"),
        (
            {"coupling": {"kind": "static"}, "representation": {"model": "din", "train": "frozen-with-dropout"}},
            "takes no representation",
        ),
        ({"representation": {"model": "din", "layer": "middle"}}, r"representation\.layer: .*'final', 'fields' or 'user'"),
        ({"soft": {"at": ["user"]}}, r"systems\.user\.soft\.model: Field required"),
        (
            {"coupling": {"kind": "identity"}, "representation": None, "train_samples": 0, "loss": "yes"},
            "with train_samples = 0 nothing is trained",
        ),
        ({"soft": {"model": "din", "at": []}}, "at least 1"),
        ({"soft": {"model": "din", "at": ["title"]}}, "'user', 'behaviours' or 'target'"),
        ({"soft": {"model": "din", "layer": "user"}}, r'systems\.user\.soft: layer = \'user\' .* add "user" to at'),
    ],
)
def test_what_cannot_be_is_answered_at_the_door(changes: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        recipe(user=META | changes)
