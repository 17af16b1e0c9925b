"""Streams: named, independent, the same everywhere."""

import hashlib

import torch

from lifelora.seeds import derive, generator, torch_generator, torch_seeded


def test_a_stream_is_sha256_of_its_names() -> None:
    assert derive(3, "order", 1) == int.from_bytes(hashlib.sha256(b"3/order/1").digest()[:8], "big") >> 1


def test_streams_are_reproducible_and_differ() -> None:
    assert generator(0, "a").random(5).tolist() == generator(0, "a").random(5).tolist()
    assert generator(0, "a").random() != generator(0, "b").random() != generator(1, "b").random()
    assert torch.equal(torch.rand(3, generator=torch_generator(0, "a")), torch.rand(3, generator=torch_generator(0, "a")))


def test_torch_seeded_puts_the_global_stream_back() -> None:
    before = torch.random.get_rng_state()
    with torch_seeded(0, "x"):
        first = torch.rand(2)
    assert torch.equal(torch.random.get_rng_state(), before)
    with torch_seeded(0, "x"):
        assert torch.equal(torch.rand(2), first)
