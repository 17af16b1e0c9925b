"""The account of adapters: counts by hand, ranks of updates that were built out."""

import pytest
import torch
from lora_world import EVERY, adapt, called, learnt, some_users, tiny_llama

from lifelora.lora.coupling import Coupling, Experts, Full, Identity
from lifelora.lora.summary import summarise


def test_counts_by_hand():
    """2 blocks of q (32 -> 32) and v (32 -> 16): A 4 x 32 each, B 32 x 4 and 16 x 4; the gates as in test_coupling."""
    found = summarise(adapt(tiny_llama(), config=Full.Config(rank=4)))
    gates = 4 * (2 * 6 + (6 * 32 + 32) + (32 * 16 + 16))
    shared = 2 * (2 * 4 * 32 + (32 + 16) * 4)
    assert (found.layers, found.shared, found.coupling, found.learning) == (4, shared, gates, shared + gates)
    assert (found.bytes_per_user, found.max_rank, found.effective_rank) == (4 * 4 * 16, 4, None)
    assert "A and B 896 parameters" in str(found)
    assert summarise(adapt(tiny_llama(), config=Identity.Config(rank=4))).bytes_per_user == 0


@pytest.mark.parametrize("config", [c for c in EVERY if getattr(c, "gate", "") != "token"], ids=called)
def test_effective_rank_is_that_of_the_built_update(config: Coupling.Config):
    adapters, u_BD = learnt(adapt(tiny_llama(), config=config)), some_users()
    C = adapters.coupling(u_BD)
    expected = []
    for index, (_, layer) in enumerate(adapters.layers):
        for row in range(4):
            middle = torch.eye(4) if C is None else C.dense(index, row)
            sigma = torch.linalg.svdvals((layer.B_OQ @ middle @ layer.A_PI).detach().double())
            p = sigma[sigma > 1e-12] / sigma.sum()
            expected.append(torch.exp(-(p * p.log()).sum()).item())
    found = summarise(adapters, u_BD)
    assert found.effective_rank == pytest.approx(sum(expected) / len(expected), rel=1e-4)
    assert 1 <= found.effective_rank <= found.max_rank == config.max_rank


def test_at_the_start_nothing_is_updated():
    assert summarise(adapt(tiny_llama()), some_users()).effective_rank == 0


def test_one_expert_alone_has_the_rank_of_an_expert():
    adapters = learnt(adapt(tiny_llama(), config=Experts.Config(rank=4, experts=4, router="mlp")))
    with torch.no_grad():
        adapters.coupling.gate.W2_SXZ.zero_()
        adapters.coupling.gate.b2_SX.copy_(torch.tensor([0.0, 300.0, 0.0, 0.0]))
    assert summarise(adapters, some_users()).effective_rank == pytest.approx(1)
