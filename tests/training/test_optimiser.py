"""The learning rate at every step and what the optimiser does with it, against Hugging Face's, PyTorch's and formulas."""

import math
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from training_world import Deep, Logistic, Scoped, gather, run, weights
from transformers import get_cosine_schedule_with_warmup, get_linear_schedule_with_warmup

from lifelora.errors import ConfigError
from lifelora.seeds import torch_generator
from lifelora.training.checkpoint import Learnt
from lifelora.training.optimiser import Optimisation, learning_rate, make_optimiser


def quiet(net: Deep) -> Deep:
    """Without noise; and before a norm the gradient of a bias is nothing but rounding."""
    net.net[1] = net.net[3] = nn.Identity()
    return net


def rising() -> Callable[[], dict[str, float]]:
    """A validation that finds every evaluation better than the last, so that the last weights are kept."""
    values = iter(range(1, 100))
    return lambda: {"auc": next(values) / 100}


def rates(span: int, **config) -> list[float]:
    settings = Optimisation.model_validate({"learning_rate": 1.0, **config})
    return [learning_rate(settings, step, span) for step in range(span)]


# -- the learning rate --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [0.5, 1.0, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
    ],
)
def test_learning_rate(schedule, expected):
    config = Optimisation(learning_rate=1.0, schedule=schedule, warmup=1 / 3)
    assert [learning_rate(config, step, 6) for step in range(6)] == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
@pytest.mark.parametrize("warm", [1, 20, 70])
def test_warm_up_in_steps_equals_hugging_faces(schedule, warm):
    """Theirs begins at 0, which ``warmup_from`` says."""
    make = {"linear": get_linear_schedule_with_warmup, "cosine": get_cosine_schedule_with_warmup}[schedule]
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = make(optimizer, warm, 200)
    expected = []
    for _ in range(200):
        expected += theirs.get_last_lr()
        optimizer.step()
        theirs.step()
    assert rates(200, schedule=schedule, warmup_steps=warm, warmup_from=0.0) == pytest.approx(expected)
    if warm == 20:
        assert rates(200, schedule=schedule, warmup=0.1, warmup_from=0.0) == pytest.approx(expected)


@pytest.mark.parametrize(("peak", "low", "start", "warm"), [(8e-4, 8e-6, 8e-6, 50), (1e-3, 8e-5, 1e-5, 200)])
def test_lavis_cosine(peak, low, start, warm):
    """LLaRA's and iLoRA's, then CoLLM's: warm-up covers the head of a cosine that falls from the first step to a floor."""
    expected = [
        start + (peak - start) * step / warm if step < warm else low + (peak - low) * (1 + math.cos(math.pi * step / 1000)) / 2
        for step in range(1000)
    ]
    config = Optimisation(
        learning_rate=peak,
        schedule="cosine",
        fall_from="start",
        warmup_steps=warm,
        warmup_from=start / peak,
        final_rate=low / peak,
    )
    assert [learning_rate(config, step, 1000) for step in range(1000)] == pytest.approx(expected)


def test_a_linear_schedule_ends_at_a_floor_as_pytorchs(tmp_path):
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs = torch.optim.lr_scheduler.LinearLR(optimizer, start_factor=1.0, end_factor=0.25, total_iters=40)
    expected = []
    for _ in range(40):
        expected += theirs.get_last_lr()
        optimizer.step()
        theirs.step()
    assert rates(40, final_rate=0.25) == pytest.approx(expected)


@pytest.mark.parametrize("limit", [None, 3])
def test_a_schedule_that_training_ends_early(tmp_path, limit):
    """RecLoRA's: five epochs of a linear fall, of which the first is trained: 1e-3 falls to 8e-4 and not to 0."""
    history = run(Logistic(), tmp_path, rows_N=np.arange(64), epochs=1, schedule_epochs=5, learning_rate=1e-3, max_steps=limit)
    assert (history.planned, history.steps) == (limit or 4, limit or 4)
    assert [point.learning_rate for point in history.training] == pytest.approx([1e-3 * (1 - s / 20) for s in range(limit or 4)])


# -- groups -------------------------------------------------------------------------------------------------------------


def test_a_groups_rate_scales_its_first_step(tmp_path):
    """Without decay AdamW's first step is -lr · sign(gradient): a rate of its own three times as high goes three times as far."""
    net = Logistic()
    run(
        net,
        tmp_path,
        rows_N=np.arange(61),
        batch_size=61,
        max_steps=1,
        learning_rate=0.125,
        schedule="constant",
        groups={"net.weight": {"learning_rate": 0.375}},
    )
    torch.testing.assert_close(net.net.weight.abs(), torch.full((1, 4), 0.375), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(net.net.bias.abs(), torch.full((1,), 0.125), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["adamw", "adam"])
@pytest.mark.parametrize("vectors", [False, True])
@pytest.mark.parametrize("decay", [0.0, 0.3])
def test_groups_equal_pytorchs_own(tmp_path, kind, vectors, decay):
    """A rate and a decay for the last layer, against a loop written out over PyTorch's optimiser of that kind; without
    ``decay_vectors`` the biases get the rate alone."""
    net, plain = quiet(Deep()), quiet(Deep())
    first, last = plain.net[0], plain.net[4]
    run(
        net,
        tmp_path,
        rows_N=np.arange(64),
        epochs=3,
        optimiser=kind,
        learning_rate=0.05,
        weight_decay=decay,
        decay_vectors=vectors,
        clip=None,
        validate=rising(),
        groups={"net.4": {"learning_rate": 0.1, "weight_decay": 0.5}},
    )
    optimizer = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}[kind](
        [
            {"params": [last.weight], "weight_decay": 0.5, "own": 0.1},
            {"params": [last.bias], "weight_decay": 0.5 * vectors, "own": 0.1},
            {"params": [first.weight], "weight_decay": decay, "own": 0.05},
            {"params": [first.bias], "weight_decay": decay * vectors, "own": 0.05},
        ]
    )
    for step in range(12):
        if step % 4 == 0:
            order = torch.randperm(64, generator=torch_generator(0, "order", step // 4)).numpy()
        optimizer.zero_grad()
        plain.loss(gather(order[step % 4 * 16 :][:16])).backward()
        for group in optimizer.param_groups:
            group["lr"] = group["own"] * (1 - step / 12)
        optimizer.step()
    torch.testing.assert_close(weights(net), weights(plain), rtol=1e-5, atol=1e-6)


def test_where_weight_decay_acts_by_hand(tmp_path):
    """The first step of Adam goes by the sign of what it is given. Decoupled: w - lr·d·w - lr·sign(g). As an L2 penalty the
    decay is part of what is given: w - lr·sign(g + d·w), which a decay that outweighs every gradient turns round."""
    rate, decay = 0.01, 30.0
    gathered = gather(np.arange(64))
    plain = quiet(Deep())
    plain.loss(gathered).backward()
    w, g = plain.net[4].weight.detach(), plain.net[4].weight.grad
    assert (g.sign() != (g + decay * w).sign()).any()
    expected = {"adamw": w - rate * decay * w - rate * g.sign(), "adam": w - rate * (g + decay * w).sign()}
    for kind, right in expected.items():
        net = quiet(Deep())
        run(
            net,
            tmp_path / kind,
            batch_size=64,
            max_steps=1,
            optimiser=kind,
            learning_rate=rate,
            weight_decay=decay,
            schedule="constant",
            clip=None,
        )
        torch.testing.assert_close(net.net[4].weight.detach(), right, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("groups", [{"net": 3.0, "net.4": 1.0}, {"net.4": 1.0, "net": 3.0}], ids=str)
def test_the_longest_key_counts_and_nothing_of_a_shorter_one(tmp_path, groups):
    net = Deep()
    before = weights(net)
    run(
        net,
        tmp_path,
        batch_size=64,
        max_steps=1,
        learning_rate=0.01,
        schedule="constant",
        groups={key: {"learning_rate": 0.01 * times, "weight_decay": 0.0} for key, times in groups.items()},
    )
    moved = {name: (value - before[name]).abs().max().item() for name, value in weights(net).items() if "." in name}
    assert moved["net.0.weight"] == pytest.approx(0.03, rel=1e-3)
    assert moved["net.4.weight"] == pytest.approx(0.01, rel=1e-3)


def grouped(net: nn.Module, **config) -> list[tuple[list[str], float, float]]:
    """(names, decay, share of the rate) of every group of the optimiser."""
    learnt = Learnt(net)
    names = {id(p): name for name, p in learnt.parameters.items()}
    return [
        ([names[id(p)] for p in group["params"]], group["weight_decay"], group["factor"])
        for group in make_optimiser(learnt, Optimisation.model_validate(config), fused=True).param_groups
    ]


def test_as_few_groups_as_there_are_settings():
    everything = [name for name, _ in Deep().named_parameters()]
    matrices = ["net.0.weight", "net.4.weight"]
    vectors = [name for name in everything if name not in matrices]
    assert grouped(Deep()) == [(everything, 0.0, 1.0)]
    assert grouped(Deep(), weight_decay=0.1) == [(matrices, 0.1, 1.0), (vectors, 0.0, 1.0)]
    assert grouped(
        Deep(), weight_decay=0.1, groups={"net.0": {"weight_decay": 0.1}, "net.4": {"learning_rate": 1e-3}}
    ) == grouped(Deep(), weight_decay=0.1)
    assert grouped(Deep(), groups={"net.4": {"weight_decay": 0.1}}) == [
        (["net.4.weight"], 0.1, 1.0),
        ([name for name in everything if name != "net.4.weight"], 0.0, 1.0),
    ]


@pytest.mark.parametrize("key", ["coupling", "ne", "net.", "net.40", ""])
def test_a_group_of_nothing(tmp_path, key):
    """A key ends at a dot: 'ne' is no first part of 'net.weight'."""
    with pytest.raises(ConfigError, match=rf"groups: '{re.escape(key)}' fits no trained parameter; .* begin with gain, net\."):
        run(Scoped(), tmp_path, groups={"net": {}, key: {"learning_rate": 0.1}})


def test_a_group_of_what_is_frozen(tmp_path):
    net = Deep()
    net.net[0].requires_grad_(False)
    with pytest.raises(ConfigError, match="groups: 'net.0' fits no trained parameter"):
        run(net, tmp_path, groups={"net.0": {"learning_rate": 0.1}})
