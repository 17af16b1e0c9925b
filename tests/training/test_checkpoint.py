"""The checkpoint file: what goes in comes out, bit for bit."""

import copy

import torch
from training_world import Deep, gather, train_N

from lifelora.training.checkpoint import Checkpoint, Learnt


def steps(net, optimizer, scaler, count):
    for _ in range(count):
        optimizer.zero_grad()
        scaler.scale(net.loss(gather(train_N))).backward()
        scaler.step(optimizer)
        scaler.update()


def test_round_trip_with_moments_and_gradient_scaler(tmp_path):
    """Restored, two more steps give exactly what they give without the interruption."""
    net = Deep().eval()  # no dropout: the loop, not the file, answers for noise
    optimizer, scaler = torch.optim.AdamW(net.parameters()), torch.amp.GradScaler("cpu", growth_interval=2)
    steps(net, optimizer, scaler, 3)
    checkpoint = Checkpoint(tmp_path / "c.safetensors", Learnt(net), optimizer, scaler)
    checkpoint.best = {"net.4.bias": torch.tensor([7.0])}
    checkpoint.write("three steps", [torch.tensor(0.25), torch.tensor(0.5)])

    other = Deep().eval()
    fresh, fresh_scaler = torch.optim.AdamW(other.parameters()), torch.amp.GradScaler("cpu", growth_interval=2)
    restored = Checkpoint(tmp_path / "c.safetensors", Learnt(other), fresh, fresh_scaler)
    assert restored.progress() == "three steps"
    assert [loss.item() for loss in restored.restore()] == [0.25, 0.5]
    assert restored.best == {"net.4.bias": torch.tensor([7.0])}
    assert fresh_scaler.state_dict() == scaler.state_dict()
    assert scaler.get_scale() == 2 * torch.amp.GradScaler("cpu").get_scale()  # grew once, after two good steps
    steps(net, optimizer, scaler, 2)
    steps(other, fresh, fresh_scaler, 2)
    assert all(torch.equal(a, b) for a, b in zip(net.parameters(), other.parameters(), strict=True))


def test_before_the_first_step_and_for_parameters_without_gradient(tmp_path):
    net = Deep()
    optimizer = torch.optim.AdamW(net.parameters())
    checkpoint = Checkpoint(tmp_path / "c.safetensors", Learnt(net), optimizer, None)
    before = copy.deepcopy(net.state_dict())
    checkpoint.write("", [])
    with torch.no_grad():
        net.net[4].weight.zero_()
    assert checkpoint.restore() == []
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())
    assert not optimizer.state
