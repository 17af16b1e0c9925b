"""The couplings: each against its formula written out densely, and its parameters counted by hand."""

import math

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from lifelora.errors import ConfigError
from lifelora.lora.coupling import AnyCoupling, Coupling, Full, Identity
from lifelora.seeds import torch_generator

ANY: TypeAdapter[Coupling.Config] = TypeAdapter(AnyCoupling)


def full(start: str = "identity", *, layers: int = 3, width: int = 10, rank: int = 3, seed: int = 0) -> Full:
    return Full.Config(rank=rank, start=start).build(layers, width, torch_generator(seed, "coupling"))


def moved(coupling: Full) -> Full:
    """Every parameter away from where it starts."""
    generator = torch_generator(1, "moved")
    with torch.no_grad():
        for parameter in coupling.parameters():
            parameter += torch.empty(parameter.shape).normal_(std=0.5, generator=generator)
    return coupling


@torch.no_grad()
def dense(coupling: Full, layer: int, u_D: Tensor) -> Tensor:
    """g = W2·GELU(W1·LayerNorm(u) + b1) + b2 of one layer and one person in float64, entry by entry; then C."""
    u = u_D.double()
    scale, shift = coupling.scale_SD[layer].double(), coupling.shift_SD[layer].double()
    normed = (u - u.mean()) / torch.sqrt(((u - u.mean()) ** 2).mean() + 1e-5) * scale + shift
    hidden = coupling.W1_SZD[layer].double() @ normed + coupling.b1_SZ[layer].double()
    hidden = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    g = coupling.W2_SXZ[layer].double() @ hidden + coupling.b2_SX[layer].double()
    R = coupling.config.rank
    G = torch.tensor([[g[i * R + j] for j in range(R)] for i in range(R)], dtype=torch.float64)
    return G.T + torch.eye(R, dtype=torch.float64) if coupling.config.start == "identity" else G.T


@pytest.mark.parametrize("start", ["identity", "random"])
def test_full_is_its_formula(start):
    coupling = moved(full(start))
    u_BD = torch.randn(4, 10)
    C_SBQP = coupling(u_BD)
    assert C_SBQP.shape == (3, 4, 3, 3)
    for layer in range(3):
        for row in range(4):
            expected = dense(coupling, layer, u_BD[row])
            torch.testing.assert_close(C_SBQP[layer, row].double(), expected, rtol=1e-4, atol=1e-4)


def test_identity_start_is_the_identity_exactly_and_still_learns():
    coupling = full("identity")
    u_BD = torch.randn(4, 10)
    C_SBQP = coupling(u_BD)
    assert torch.equal(C_SBQP, torch.eye(3).expand(3, 4, 3, 3))
    (C_SBQP * torch.randn(3, 4, 3, 3)).sum().backward()
    assert coupling.W2_SXZ.grad.abs().min(0).values.min() > 0  # zero weights, but the gradient is not


def test_random_start_has_the_published_spread():
    """Digest of the released code: for a standardised 256-d u and r = 8, entries of mean 0 and std about 0.2."""
    C_SBQP = full("random", layers=4, width=256, rank=8)(torch.randn(256, 256, generator=torch_generator(1)))
    assert abs(C_SBQP.std().item() - 0.2) < 0.03
    assert abs(C_SBQP.mean().item()) < 0.03


def test_released_code_orientation():
    """With W = 0 the reshaped bias is G, and the released (A x)·G is our C·(A x) only for C = Gᵀ."""
    coupling = full("random", layers=1, rank=2)
    with torch.no_grad():
        coupling.W2_SXZ.zero_()
        coupling.b2_SX.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    C_QP = coupling(torch.randn(1, 10))[0, 0]
    h_P = torch.tensor([10.0, 100.0])
    G = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert (C_QP @ h_P).tolist() == (h_P @ G).tolist() == [10 + 300, 20 + 400]


def test_parameters_of_the_published_size():
    """H = 256, r = 8, per layer: LayerNorm 2·256, then 256·128 + 128, then 128·64 + 64."""
    per_layer = 2 * 256 + (256 * 128 + 128) + (128 * 64 + 64)
    assert per_layer == 41_664
    assert full(layers=1, width=256, rank=8).number_of_parameters == per_layer
    assert full(layers=64, width=256, rank=8).number_of_parameters == 64 * per_layer
    assert Identity.Config().build(64, None, torch_generator(0)).number_of_parameters == 0


def test_each_layer_has_its_own_parameters():
    coupling = moved(full())
    u_BD = torch.randn(2, 10)
    before = coupling(u_BD)
    assert not torch.allclose(before[0], before[1])
    with torch.no_grad():
        coupling.W1_SZD[1] += 1
    after = coupling(u_BD)
    assert torch.equal(after[[0, 2]], before[[0, 2]])
    assert not torch.allclose(after[1], before[1])


def test_each_row_has_its_own_person():
    coupling = moved(full())
    u_BD = torch.randn(4, 10)
    C_SBQP, order = coupling(u_BD), [2, 0, 3, 1]
    torch.testing.assert_close(coupling(u_BD[order]), C_SBQP[:, order])
    torch.testing.assert_close(coupling(u_BD[1:2]), C_SBQP[:, 1:2])
    assert (C_SBQP[:, 0] - C_SBQP[:, 1]).abs().max() > 0.1


def test_gradients_against_finite_differences():
    coupling = moved(full(layers=2, width=4, rank=2)).double()
    assert torch.autograd.gradcheck(coupling, (torch.randn(2, 4, dtype=torch.float64, requires_grad=True),))


def test_same_seed_same_coupling():
    one, two, other = full("random"), full("random"), full("random", seed=1)
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not torch.equal(one.W1_SZD, other.W1_SZD)


def test_full_precision_under_autocast():
    coupling = moved(full())
    u_BD = torch.randn(4, 10)
    with torch.autocast("cpu", torch.bfloat16):
        C_SBQP = coupling(u_BD)
    assert torch.equal(C_SBQP, coupling(u_BD))


def test_identity_has_no_couplings():
    identity = Identity.Config(rank=4, alpha=6).build(3, None, torch_generator(0))
    assert identity(torch.randn(2, 5)) is None
    assert (identity.needs_user, identity.rows, identity.columns, identity.scaling) == (False, 4, 4, 1.5)
    assert identity.state_dict() == {}
    coupling = full()
    assert (coupling.needs_user, coupling.rows, coupling.columns, coupling.scaling) == (True, 3, 3, 16 / 3)


class TestConfig:
    def test_kinds(self):
        assert ANY.validate_python({"kind": "identity"}) == Identity.Config(rank=8, alpha=16)
        assert ANY.validate_python({"kind": "full", "rank": 4}) == Full.Config(rank=4, start="identity", expansion=2)

    @pytest.mark.parametrize(("wrong", "message"), [
        ({"kind": "ful"}, "'identity', 'full'"),
        ({"kind": "full", "start": "zero"}, "'identity' or 'random'"),
        ({"kind": "full", "rank": 0}, "greater than 0"),
        ({"kind": "full", "alpha": -1}, "greater than 0"),
        ({"kind": "identity", "start": "random"}, "Extra inputs are not permitted"),
    ])
    def test_wrong_words_are_answered_with_the_right_ones(self, wrong, message):
        with pytest.raises(ValidationError, match=message):
            ANY.validate_python(wrong)

    def test_full_needs_a_representation(self):
        with pytest.raises(ConfigError, match="coupling 'full' makes C\\(u\\) from a representation"):
            Full.Config().build(3, None, torch_generator(0))

    def test_u_of_another_model(self):
        with pytest.raises(ConfigError, match="width 7, but this coupling was made for 10"):
            full()(torch.randn(2, 7))
