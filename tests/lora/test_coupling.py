"""The couplings: each against its formula written out densely in float64, its parameters counted by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from lifelora.errors import ConfigError
from lifelora.lora.coupling import AnyCoupling, Coupling, Experts, Full, Hydra, Identity, Meta, Static
from lifelora.lora.coupling.base import LinearGate, MLPGate, NormGate
from lifelora.lora.coupling.residual import ResidualGate
from lifelora.seeds import torch_generator

ANY: TypeAdapter[Coupling.Config] = TypeAdapter(AnyCoupling)
D = 10
EVERY = [
    Identity.Config(rank=4),
    Static.Config(rank=3),
    Experts.Config(rank=6, experts=3),
    Experts.Config(rank=4, experts=2, router="mlp", hidden=5, routers="per-layer", temperature=0.5, scale_by="rank"),
    Experts.Config(rank=6, experts=3, router="residual"),
    Experts.Config(rank=6, experts=2, router="residual", routers="per-layer", temperature=0.5),
    Experts.Config(rank=6, experts=3, gate="token"),
    Meta.Config(rank=2, loras=3, hidden=7),
    Meta.Config(rank=3, loras=2, merge="outputs", temperature=1.0),
    Hydra.Config(rank=3, heads=2),
    Hydra.Config(rank=2, heads=3, gate="token"),
    Full.Config(rank=3),
    Full.Config(rank=2, start="random", expansion=1),
]
PERSONAL = [config for config in EVERY if config.needs_user]


def name(config: Coupling.Config) -> str:
    told = [str(v) for k, v in config.model_dump().items() if isinstance(v, str) and k != "kind"]
    return "-".join([config.kind, *told])


every, personal = (pytest.mark.parametrize("config", c, ids=name) for c in (EVERY, PERSONAL))


def made(config: Coupling.Config, layers: int = 3, width: int = D, seed: int = 0) -> Coupling:
    """Every parameter away from where it starts."""
    coupling = config.build((12,) * layers, width, torch_generator(seed, "coupling"))
    generator, deep = torch_generator(1, "moved"), getattr(config, "router", "") == "residual"
    with torch.no_grad():
        for parameter in coupling.parameters():
            parameter += torch.empty(parameter.shape).normal_(std=0.1 if deep else 0.5, generator=generator)
        for _ in range(30 if deep else 0):  # until the statistics that it keeps are of what it sees
            coupling.train()(torch.randn(32, width, generator=generator))
    return coupling.eval()


def some_users(batch: int = 4) -> Tensor:
    return torch.randn(batch, D, generator=torch_generator(2, "people"))


def gate(module: LinearGate | MLPGate | NormGate | ResidualGate, layer: int, u_D: Tensor) -> Tensor:
    """What a gate says of one layer and user, entry by entry from its formula."""
    u = u_D.double()
    if isinstance(module, LinearGate):
        return module.W_SXD[layer].double() @ u
    if isinstance(module, ResidualGate):
        return resnet_20(module.networks[layer].state_dict(), u)
    normed = (u - u.mean()) / torch.sqrt(((u - u.mean()) ** 2).mean() + 1e-5)
    if isinstance(module, NormGate):
        return module.W_XD.double() @ (normed * module.scale_D + module.shift_D) + module.b_X
    hidden = module.W1_SZD[layer].double() @ (normed * module.scale_SD[layer] + module.shift_SD[layer]) + module.b1_SZ[layer]
    gelu = hidden * 0.5 * (1 + torch.erf(hidden / math.sqrt(2)))
    return (
        module.W2_SXZ[layer].double() @ (gelu if module.activation is torch.nn.functional.gelu else hidden.clamp(min=0))
        + module.b2_SX[layer]
    )


def resnet_20(weights: dict[str, Tensor], u_D: Tensor) -> Tensor:
    """iLoRA's released router, written out for one u: convolutions as sums over three neighbours, kept statistics."""
    w = {name: tensor.double() for name, tensor in weights.items()}

    def convolve(x_CL: Tensor, name: str, stride: int = 1) -> Tensor:
        padded = torch.nn.functional.pad(x_CL, (1, 1))
        whole = sum(w[f"{name}.weight"][:, :, k] @ padded[:, k : k + x_CL.shape[1]] for k in range(3))
        return whole[:, ::stride]

    def normalise(x_CL: Tensor, name: str) -> Tensor:
        scale = w[f"{name}.weight"] / torch.sqrt(w[f"{name}.running_var"] + 1e-5)
        return (x_CL - w[f"{name}.running_mean"][:, None]) * scale[:, None] + w[f"{name}.bias"][:, None]

    x = normalise(convolve(u_D[None], "0"), "1").clamp(min=0)
    for block, channels in enumerate([16] * 3 + [32] * 3 + [64] * 3, start=3):
        stride = 1 if len(x) == channels else 2
        h = normalise(convolve(x, f"{block}.first", stride), f"{block}.norm_first").clamp(min=0)
        h = normalise(convolve(h, f"{block}.second"), f"{block}.norm_second")
        past = torch.cat([x[:, ::stride], torch.zeros(channels - len(x), h.shape[1], dtype=torch.float64)])
        x = (h + past).clamp(min=0)
    return w["14.weight"] @ x.mean(dim=1) + w["14.bias"]


@torch.no_grad()
def formula(coupling: Coupling, layer: int, u_D: Tensor) -> Tensor:
    """C(u) of one layer and user: the table of design, in float64, with every matrix written out."""
    config = coupling.config
    r = config.rank
    if isinstance(coupling, Identity):
        return torch.eye(r, dtype=torch.float64)
    if isinstance(coupling, Static):
        return coupling.C_SQP[layer].double()
    if isinstance(coupling, Full):
        g = gate(coupling.gate, layer, u_D)
        G = torch.tensor([[g[i * r + j] for j in range(r)] for i in range(r)], dtype=torch.float64)
        return G.T + torch.eye(r, dtype=torch.float64) if config.start == "identity" else G.T
    one_for_all = isinstance(coupling, Experts) and config.routers == "one"
    z = gate(coupling.gate, 0 if one_for_all else layer, u_D) / config.temperature
    w = torch.exp(z) / torch.exp(z).sum()
    eye = torch.eye(r, dtype=torch.float64)
    if isinstance(coupling, Experts):
        return torch.kron(torch.diag(w), torch.eye(r // config.experts, dtype=torch.float64))
    if isinstance(coupling, Meta):
        return torch.kron(torch.outer(w, w) if config.merge == "weights" else torch.diag(w), eye)
    return torch.kron(w[:, None], eye)


@personal
def test_every_coupling_is_its_formula(config: Coupling.Config):
    coupling, u_BD = made(config), some_users()
    C = coupling(u_BD)
    assert (C.layers, C.batch, C.columns, C.rows) == (3, 4, config.columns, config.rows)
    for layer in range(3):
        for row in range(4):
            expected = formula(coupling, layer, u_BD[row])
            assert expected.shape == (config.columns, config.rows)
            torch.testing.assert_close(C.dense(layer, row).double(), expected, rtol=1e-4, atol=1e-4)


def test_static_is_its_matrix_and_starts_as_plain_lora():
    assert torch.equal(Static.Config(rank=3).build((5,) * 2, None, torch_generator(0))().tensor, torch.eye(3).expand(2, 3, 3))
    coupling = made(Static.Config(rank=3))
    C = coupling()
    assert (C.layers, C.batch, C.columns, C.rows) == (3, None, 3, 3)
    torch.testing.assert_close(C.dense(1).double(), formula(coupling, 1, some_users()[0]))


@personal
def test_coupling_h_is_multiplying_by_the_dense_matrix(config: Coupling.Config):
    """What is computed by structure is C(u) h with C(u) written out, for every token of every row."""
    C, h_BLP = made(config)(some_users()), torch.randn(4, 5, config.rows)
    t_BLQ = C.couple(2, h_BLP.mT, torch.empty(4, 5, 0)).mT
    assert t_BLQ.shape == (4, 5, config.columns)
    for row in range(4):
        torch.testing.assert_close(t_BLQ[row], h_BLP[row] @ C.dense(2, row).T, rtol=1e-5, atol=1e-6)


def test_by_token_every_token_has_its_own_weights():
    coupling = made(Hydra.Config(rank=2, heads=3, gate="token", temperature=0.5))
    h_BLP, x_BLI = torch.randn(4, 5, 2), torch.randn(4, 5, 12)
    t_BLQ = coupling().couple(1, h_BLP.mT, x_BLI).mT
    for row in range(4):
        for token in range(5):
            z = coupling.routers[1].double() @ x_BLI[row, token].double() / 0.5
            w = torch.exp(z) / torch.exp(z).sum()
            expected = torch.kron(w[:, None], torch.eye(2, dtype=torch.float64)) @ h_BLP[row, token].double()
            torch.testing.assert_close(t_BLQ[row, token].double(), expected, rtol=1e-5, atol=1e-6)


@torch.no_grad()
def test_experts_by_token_weigh_every_token_by_its_own_router():
    """diag(w) ⊗ I(r/K) of every token alone, w = softmax(W_l x / τ); layers of any width, each with its router."""
    config = Experts.Config(rank=6, experts=3, gate="token", temperature=0.5)
    coupling = config.build((7, 12), None, torch_generator(0))
    assert coupling.number_of_parameters == 3 * 7 + 3 * 12  # without biases
    C = coupling()
    assert (C.layers, C.batch, C.columns, C.rows, C.bytes_per_row) == (2, None, 6, 6, 0)
    for layer, width in enumerate((7, 12)):
        h_BLP, x_BLI = torch.randn(4, 5, 6), torch.randn(4, 5, width)
        t_BLQ = C.couple(layer, h_BLP.mT, x_BLI).mT
        for row in range(4):
            for token in range(5):
                z = [
                    sum(a * b for a, b in zip(W, x_BLI[row, token].tolist(), strict=True)) / 0.5
                    for W in coupling.routers[layer].tolist()
                ]
                w = [math.exp(a) / sum(map(math.exp, z)) for a in z]
                expected = [w[p // 2] * h for p, h in enumerate(h_BLP[row, token].tolist())]
                assert t_BLQ[row, token].tolist() == pytest.approx(expected, rel=1e-4, abs=1e-5)


def test_experts_by_token_have_a_router_for_each_layer_whatever_is_said():
    one, each = (
        Experts.Config(gate="token", routers=routers).build((7, 7), None, torch_generator(0)) for routers in ("one", "per-layer")
    )
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), each.parameters(), strict=True))
    assert [W.shape for W in one.routers] == [(4, 7)] * 2
    assert not torch.equal(*one.routers)


def test_uniform_experts_by_token_are_plain_lora():
    """W = 0: w = 1/K, and s = alpha/(r/K) leaves alpha/r for every token."""
    coupling = made(Experts.Config(rank=6, experts=3, alpha=12, gate="token"))
    with torch.no_grad():
        for W_NI in coupling.routers:
            W_NI.zero_()
    h_BPL = torch.randn(2, 6, 5)
    t_BQL = coupling.config.scaling * coupling().couple(1, h_BPL, torch.randn(2, 5, 12))
    torch.testing.assert_close(t_BQL, 12 / 6 * h_BPL)


@pytest.mark.parametrize(
    "config", [Hydra.Config(rank=2, heads=3, gate="token"), Experts.Config(rank=6, experts=3, gate="token")], ids=name
)
def test_gradients_by_token_against_finite_differences(config: Coupling.Config):
    coupling = made(config, layers=2).double()
    h_BPL = torch.randn(2, config.rows, 3, dtype=torch.float64, requires_grad=True)
    x_BLI = torch.randn(2, 3, 12, dtype=torch.float64, requires_grad=True)
    W_NI = coupling.routers[1]
    assert torch.autograd.gradcheck(lambda h, x, W: coupling().couple(1, h, x), (h_BPL, x_BLI, W_NI))


@pytest.mark.parametrize("config", [Hydra.Config(gate="token"), Experts.Config(gate="token")], ids=name)
def test_nobodys_update_is_one_matrix_by_token(config: Coupling.Config):
    C = made(config)()
    assert C.batch is None
    with pytest.raises(ConfigError, match="differs from token to token.*gate = 'instance'"):
        C.dense(0)


class TestMetaByToken:
    """RecLoRA's gate over [x ; u], LayerNorm and one linear layer: every token alone."""

    @staticmethod
    def made(merge: str, layers: int = 2) -> Coupling:
        return made(Meta.Config(rank=2, loras=3, gate="token", merge=merge, temperature=0.5), layers)

    @pytest.mark.parametrize("merge", ["weights", "outputs"])
    def test_it_is_its_formula(self, merge: str):
        coupling, u_BD = self.made(merge), some_users()
        h_BLP, x_BLI = torch.randn(4, 5, 6), torch.randn(4, 5, 12)
        C = coupling(u_BD)
        assert (C.layers, C.batch, C.columns, C.rows) == (2, 4, 6, 6)
        t_BLQ = C.couple(1, h_BLP.mT, x_BLI).mT
        for row in range(4):
            for token in range(5):
                with torch.no_grad():
                    z = gate(coupling.gates[1], 1, torch.cat([x_BLI[row, token], u_BD[row]])) / 0.5
                w = torch.exp(z) / torch.exp(z).sum()
                C_QP = torch.kron(torch.outer(w, w) if merge == "weights" else torch.diag(w), torch.eye(2).double())
                expected = C_QP @ h_BLP[row, token].double()
                torch.testing.assert_close(t_BLQ[row, token].double(), expected, rtol=1e-4, atol=1e-4)

    def test_both_the_token_and_the_user_count(self):
        coupling, u_BD, h_BPL = self.made("outputs"), some_users(2), torch.ones(2, 6, 3)
        same_BLI = torch.randn(1, 3, 12, generator=torch_generator(5)).expand(2, -1, -1)
        t_BQL = coupling(u_BD).couple(0, h_BPL, same_BLI)
        assert (t_BQL[0] - t_BQL[1]).abs().max() > 1e-2
        assert (t_BQL[:, :, 0] - t_BQL[:, :, 1]).abs().max() > 1e-2
        # Weights on the simplex: of N blocks that are all ones, the first rows add up to one.
        torch.testing.assert_close(t_BQL[:, ::2].sum(dim=1), torch.ones(2, 3))

    @pytest.mark.parametrize("merge", ["weights", "outputs"])
    def test_gradients_against_finite_differences(self, merge: str):
        coupling = self.made(merge).double()
        u_BD = torch.randn(2, D, dtype=torch.float64, requires_grad=True)
        h_BPL = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
        x_BLI = torch.randn(2, 3, 12, dtype=torch.float64, requires_grad=True)
        assert torch.autograd.gradcheck(lambda u, h, x: coupling(u).couple(1, h, x), (u_BD, h_BPL, x_BLI))

    def test_layers_of_any_width_and_what_is_kept_of_a_user(self):
        """Per layer: LayerNorm 2(I + D), then N(I + D) + N. Kept of a user is u, once."""
        coupling = Meta.Config(rank=2, loras=3, gate="token").build((7, 12), D, torch_generator(0))
        assert coupling.number_of_parameters == sum(2 * (width + D) + 3 * (width + D) + 3 for width in (7, 12))
        C = coupling(some_users())
        assert C.bytes_per_row == 4 * D
        assert [C.couple(s, torch.randn(4, 6, 3), torch.randn(4, 3, width)).shape for s, width in enumerate((7, 12))] == [
            (4, 6, 3)
        ] * 2
        assert C.repeated(2).batch == 8

    def test_a_coupling_that_depends_on_users_needs_one(self):
        with pytest.raises(ConfigError, match=r"coupling 'meta' makes C\(u\) from a representation"):
            Meta.Config(gate="token").build((12,), None, torch_generator(0))


class TestIdentities:
    """One coupling inside another, as in the frame of papers.md: equal functions, computed along different paths."""

    def test_one_hot_meta_is_that_lora(self):
        """w = e_1: (w wᵀ) ⊗ I and diag(w) ⊗ I both keep the block (1, 1) alone."""
        for merge in ("weights", "outputs"):
            coupling = made(Meta.Config(rank=2, loras=3, merge=merge, temperature=1.0))
            with torch.no_grad():
                coupling.gate.W2_SXZ.zero_()
                coupling.gate.b2_SX.copy_(torch.tensor([0.0, 200.0, 0.0]))
            expected = torch.zeros(6, 6)
            expected[2:4, 2:4] = torch.eye(2)
            assert torch.equal(coupling(some_users(1)).dense(1), expected)

    def test_uniform_experts_are_plain_lora(self):
        """w = 1/K and s = alpha/(r/K) give alpha/r · I."""
        coupling = made(Experts.Config(rank=6, experts=3, alpha=12))
        with torch.no_grad():
            coupling.gate.W_SXD.zero_()
        C_QP = coupling.config.scaling * coupling(some_users(1)).dense(0)
        torch.testing.assert_close(C_QP, 12 / 6 * torch.eye(6))

    def test_experts_expressed_as_full(self):
        """Without a hidden path, full's bias is G: put diag(w) ⊗ I there."""
        experts = made(Experts.Config(rank=4, experts=2))
        full = made(Full.Config(rank=4, start="random"))
        u_1D = some_users(1)
        with torch.no_grad():
            full.gate.W2_SXZ.zero_()
            full.gate.b2_SX.copy_(torch.stack([experts(u_1D).dense(s).T.flatten() for s in range(3)]))
        h_BPL, x = torch.randn(1, 4, 3), torch.empty(1, 3, 0)
        torch.testing.assert_close(full(u_1D).couple(1, h_BPL, x), experts(u_1D).couple(1, h_BPL, x))

    def test_merged_weights_are_all_pairs_of_loras(self):
        """(Σ w_k B_k)(Σ w_l A_l) = Σ w_k w_l B_k A_l = B ((w wᵀ) ⊗ I) A, by two ways of summing."""
        coupling = made(Meta.Config(rank=2, loras=3))
        C = coupling(some_users(1))
        w, A, B = C.tensor[0, 0].double(), torch.randn(3, 2, 7).double(), torch.randn(3, 5, 2).double()
        merged = torch.einsum("k,kor->or", w, B) @ torch.einsum("l,lri->ri", w, A)
        pairs = sum(w[k] * w[m] * B[k] @ A[m] for k in range(3) for m in range(3))
        ours = torch.cat(list(B), dim=1) @ C.dense(0).double() @ torch.cat(list(A))
        torch.testing.assert_close(ours, merged)
        torch.testing.assert_close(ours, pairs)

    def test_hydra_is_meta_on_one_a(self):
        """With all A_l = A the meta-LoRAs merged by weights are Hydra's heads: Σ w_k B_k A, since Σ w_l = 1."""
        w = torch.tensor([0.2, 0.5, 0.3]).double()
        A, B = torch.randn(2, 7).double(), torch.randn(5, 6).double()
        of_meta = B @ torch.kron(torch.outer(w, w), torch.eye(2).double()) @ A.repeat(3, 1)
        of_hydra = B @ torch.kron(w[:, None], torch.eye(2).double()) @ A
        torch.testing.assert_close(of_meta, of_hydra)


class TestRank:
    @personal
    def test_nobodys_update_has_a_higher_rank_than_promised(self, config: Coupling.Config):
        """rank(B C A) for wide random A and B is rank(C): r for all but mixed outputs, which reach N·r."""
        C_QP = made(config).double()(some_users(1)).dense(0)
        assert torch.linalg.matrix_rank(C_QP) == config.max_rank

    @personal
    def test_the_split_is_as_narrow_as_the_rank(self, config: Coupling.Config):
        left_QR, right_RP = made(config)(some_users(1)).split(0, 0)
        assert min(left_QR.shape) == config.max_rank
        assert right_RP is None or right_RP.shape == (config.max_rank, config.rows)

    def test_numbers_kept_of_a_user(self):
        """4 bytes times layers times numbers: 3 layers of 3x3; 3 of N = 3; one router for all layers counts once."""
        assert made(Full.Config(rank=3))(some_users()).bytes_per_row == 4 * 3 * 9
        assert made(Meta.Config(rank=2, loras=3))(some_users()).bytes_per_row == 4 * 3 * 3
        assert made(Experts.Config(rank=6, experts=3))(some_users()).bytes_per_row == 4 * 3
        assert made(Experts.Config(rank=6, experts=3, routers="per-layer"))(some_users()).bytes_per_row == 4 * 3 * 3
        assert made(Static.Config(rank=3))().bytes_per_row == 0


def full(start: str, *, layers: int = 3, width: int = D, rank: int = 3, seed: int = 0) -> Full:
    return Full.Config(rank=rank, start=start).build((12,) * layers, width, torch_generator(seed, "coupling"))


def test_full_starts_as_the_identity_exactly_and_still_learns():
    coupling = full("identity")
    C_SBQP = coupling(some_users()).tensor
    assert torch.equal(C_SBQP, torch.eye(3).expand(3, 4, 3, 3))
    (C_SBQP * torch.randn(3, 4, 3, 3)).sum().backward()
    assert coupling.gate.W2_SXZ.grad.abs().min(0).values.min() > 0  # zero weights, but the gradient is not


def test_random_start_has_the_published_spread():
    """Digest of the released code: for a standardised 256-d u and r = 8, entries of mean 0 and std about 0.2."""
    C_SBQP = full("random", layers=4, width=256, rank=8)(torch.randn(256, 256, generator=torch_generator(1))).tensor
    assert abs(C_SBQP.std().item() - 0.2) < 0.03
    assert abs(C_SBQP.mean().item()) < 0.03


def test_released_code_orientation():
    """With W = 0 the reshaped bias is G, and the released (A x)·G is our C·(A x) only for C = Gᵀ."""
    coupling = full("random", layers=1, rank=2)
    with torch.no_grad():
        coupling.gate.W2_SXZ.zero_()
        coupling.gate.b2_SX.copy_(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    C_QP = coupling(torch.randn(1, D)).dense(0)
    h_P = torch.tensor([10.0, 100.0])
    G = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    assert (C_QP @ h_P).tolist() == (h_P @ G).tolist() == [10 + 300, 20 + 400]


def test_parameters_of_the_published_sizes():
    """H = 256, r = 8, per layer: LayerNorm 2·256, then 256·128 + 128, then 128·64 + 64. Others by the same arithmetic."""

    def count(config: Coupling.Config, layers: int) -> int:
        return config.build((4096,) * layers, 256, torch_generator(0)).number_of_parameters

    per_layer = 2 * 256 + (256 * 128 + 128) + (128 * 64 + 64)
    assert per_layer == 41_664
    assert count(Full.Config(rank=8), 1) == per_layer
    assert count(Full.Config(rank=8), 64) == 64 * per_layer
    assert count(Identity.Config(), 64) == 0
    assert count(Static.Config(rank=8), 64) == 64 * 8 * 8
    assert count(Experts.Config(experts=4), 64) == 256 * 4  # one router
    assert count(Experts.Config(experts=4, routers="per-layer"), 64) == 64 * 256 * 4
    assert count(Meta.Config(loras=8), 64) == 64 * (2 * 256 + (256 * 60 + 60) + (60 * 8 + 8))
    # By token [x ; u] has 4096 + 256 entries: 2·4352 of LayerNorm, then 16·4352 + 16.
    assert count(Meta.Config(loras=16, gate="token"), 1) == 2 * 4352 + (16 * 4352 + 16) == 78_352
    assert count(Hydra.Config(heads=4), 64) == 64 * 256 * 4
    assert count(Hydra.Config(heads=4, gate="token"), 2) == 2 * 4096 * 4


def test_parameters_of_ilora_s_released_router():
    """Convolutions of three without bias, batch normalisation of 2 per channel, shortcuts without parameters."""

    def block(ins: int, outs: int) -> int:
        return 3 * ins * outs + 2 * outs + 3 * outs * outs + 2 * outs

    first, last = 3 * 1 * 16 + 2 * 16, 64 * 4 + 4
    stages = 3 * block(16, 16), block(16, 32) + 2 * block(32, 32), block(32, 64) + 2 * block(64, 64)
    assert first + sum(stages) + last == 90_772
    for config, routers in ((Experts.Config(router="residual"), 1), (Experts.Config(router="residual", routers="per-layer"), 3)):
        coupling = config.build((4096,) * 3, 64, torch_generator(0))
        assert coupling.number_of_parameters == routers * 90_772


class TestResidualRouter:
    CONFIG = Experts.Config(rank=6, experts=3, router="residual")

    def test_in_training_it_normalises_by_the_batch_and_keeps_what_it_saw(self):
        """The first of its norms: mean and unbiased variance over users and places, kept by a tenth each time."""
        coupling, u_BD = self.CONFIG.build((12,), D, torch_generator(0)), some_users()
        alone = coupling.eval()(u_BD).tensor
        torch.testing.assert_close(coupling(u_BD[:1]).tensor, alone[:, :1])  # some processors add up a row alone in another order
        convolution, norm = coupling.gate.networks[0][0], coupling.gate.networks[0][1]
        coupling.train()(u_BD)
        seen_BCL = convolution(u_BD[:, None]).detach()
        torch.testing.assert_close(norm.running_mean, 0.1 * seen_BCL.mean(dim=(0, 2)))
        torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * seen_BCL.var(dim=(0, 2)))
        assert not torch.allclose(coupling.eval()(u_BD).tensor, alone)
        assert coupling.train()(u_BD[:1]).tensor.isfinite().all()  # the last batch of an epoch may be one alone

    def test_it_starts_by_its_generator_and_leaves_the_global_one_alone(self):
        torch.manual_seed(3)
        first, drawn = self.CONFIG.build((12,), D, torch_generator(1)), torch.rand(2)
        torch.manual_seed(3)
        again, other = (self.CONFIG.build((12,), D, torch_generator(seed)) for seed in (1, 2))
        assert torch.equal(torch.rand(2), drawn)
        torch.manual_seed(3)
        assert torch.equal(torch.rand(2), drawn)
        pairs = list(zip(first.parameters(), again.parameters(), other.parameters(), strict=True))
        assert all(torch.equal(a, b) for a, b, _ in pairs)
        assert not all(torch.equal(a, c) for a, _, c in pairs)

    def test_a_line_too_short_for_it(self):
        assert self.CONFIG.build((12,), 5, torch_generator(0)).train()(torch.randn(1, 5)).tensor.isfinite().all()
        with pytest.raises(ConfigError, match="u has 4; it takes at least 5"):
            self.CONFIG.build((12,), 4, torch_generator(0))


def test_each_layer_has_its_own_gate():
    for config in (Full.Config(rank=3), Meta.Config(rank=2, loras=3), Experts.Config(router="mlp", routers="per-layer")):
        coupling, u_BD = made(config), some_users(2)
        before = coupling(u_BD).tensor
        assert not torch.allclose(before[0], before[1])
        with torch.no_grad():
            coupling.gate.W1_SZD[1] += torch.randn(coupling.gate.W1_SZD[1].shape)
        after = coupling(u_BD).tensor
        assert torch.equal(after[[0, 2]], before[[0, 2]])
        assert not torch.allclose(after[1], before[1])


@personal
def test_each_row_has_its_own_user(config: Coupling.Config):
    coupling, u_BD, order = made(config), some_users(), [2, 0, 3, 1]
    C = coupling(u_BD).tensor
    torch.testing.assert_close(coupling(u_BD[order]).tensor, C[:, order])
    torch.testing.assert_close(coupling(u_BD[1:2]).tensor, C[:, 1:2])
    assert (C[:, 0] - C[:, 1]).abs().max() > 0.01
    assert torch.equal(coupling(u_BD).repeated(2).tensor, C[:, [0, 0, 1, 1, 2, 2, 3, 3]])


@settings(max_examples=40)
@given(which=st.sampled_from(PERSONAL), layers=st.integers(1, 4), batch=st.integers(1, 5), seed=st.integers(0, 9))
def test_mixtures_stay_on_the_simplex_on_any_shape(which: Coupling.Config, layers: int, batch: int, seed: int):
    C = made(which, layers, seed=seed)(torch.randn(batch, D, generator=torch_generator(seed)))
    assert (C.layers, C.batch) == (layers, batch)
    if which.kind != "full":
        assert (C.tensor >= 0).all()
        torch.testing.assert_close(C.tensor.sum(-1), torch.ones(layers, batch))


def test_temperature_evens_out():
    weights = [made(Meta.Config(loras=4, temperature=t))(some_users()).tensor.amax(-1).mean().item() for t in (0.5, 1, 5, 500)]
    assert weights == sorted(weights, reverse=True)
    assert weights[-1] == pytest.approx(1 / 4, abs=0.01)


def test_the_gates_dropout_is_for_training_only():
    coupling = made(Meta.Config(loras=4, gate_dropout=0.5))
    u_BD = some_users()
    assert torch.equal(coupling(u_BD).tensor, coupling(u_BD).tensor)
    coupling.train()
    assert not torch.equal(coupling(u_BD).tensor, coupling(u_BD).tensor)


@personal
def test_gradients_against_finite_differences(config: Coupling.Config):
    coupling = made(config, layers=2).double()
    u_BD = torch.randn(2, D, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda u: coupling(u).tensor, (u_BD,))
    for layer in (0, 1):
        h_BPL = torch.randn(2, config.rows, 3, dtype=torch.float64, requires_grad=True)
        x = torch.empty(2, 3, 0)
        assert torch.autograd.gradcheck(lambda u, h, s=layer, x=x: coupling(u).couple(s, h, x), (u_BD, h_BPL))


@personal
def test_same_seed_same_coupling(config: Coupling.Config):
    one, two, other = (config.build((12,) * 3, D, torch_generator(seed)) for seed in (0, 0, 1))
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(one.parameters(), other.parameters(), strict=True))


@personal
def test_full_precision_under_autocast(config: Coupling.Config):
    coupling, u_BD = made(config), some_users()
    with torch.autocast("cpu", torch.bfloat16):
        C = coupling(u_BD)
    assert torch.equal(C.tensor, coupling(u_BD).tensor)
    assert coupling(u_BD.bfloat16()).tensor.dtype == torch.float32


class TestConfig:
    def test_kinds_and_the_papers_defaults(self):
        assert ANY.validate_python({"kind": "identity"}) == Identity.Config(rank=8, alpha=16)
        assert ANY.validate_python({"kind": "full", "rank": 4}) == Full.Config(rank=4, start="identity", expansion=2)
        # iLoRA: r 8, alpha 32, K 4, s = 32/(8/4) = 16. MOELoRA: alpha/r. RecLoRA: alpha/r = 2. HydraLoRA: r 4, alpha 32.
        assert (Experts.Config().scaling, Experts.Config(scale_by="rank").scaling) == (16, 4)
        assert (Meta.Config().scaling, Meta.Config().rows, Meta.Config().columns) == (2, 64, 64)
        assert (Hydra.Config().scaling, Hydra.Config().rows, Hydra.Config().columns) == (8, 4, 16)

    @pytest.mark.parametrize(
        ("wrong", "message"),
        [
            ({"kind": "ful"}, "'identity', 'static', 'experts', 'meta', 'hydra', 'full'"),
            ({"kind": "full", "start": "zero"}, "'identity' or 'random'"),
            ({"kind": "full", "rank": 0}, "greater than 0"),
            ({"kind": "full", "alpha": -1}, "greater than 0"),
            ({"kind": "meta", "merge": "both"}, "'weights' or 'outputs'"),
            ({"kind": "meta", "temperature": 0}, "greater than 0"),
            ({"kind": "experts", "rank": 8, "experts": 3}, r"rank = 8 cannot be cut into experts = 3.*multiple of 3"),
            ({"kind": "hydra", "gate": "user"}, "'instance' or 'token'"),
            ({"kind": "experts", "gate": "token", "router": "mlp"}, r"router = 'mlp' reads u, but with gate = 'token'"),
            ({"kind": "experts", "gate": "token", "router": "residual"}, r"router = 'residual' reads u, but with gate = 'token'"),
            ({"kind": "meta", "gate": "token", "hidden": 30}, "hidden is about a gate's hidden layer, and with gate = 'token'"),
            ({"kind": "meta", "gate": "token", "gate_dropout": 0}, "gate_dropout is about a gate's hidden layer"),
            ({"kind": "identity", "start": "random"}, "Extra inputs are not permitted"),
        ],
    )
    def test_wrong_words_are_answered_with_the_right_ones(self, wrong, message):
        with pytest.raises(ValidationError, match=message):
            ANY.validate_python(wrong)

    @personal
    def test_personal_couplings_need_a_representation(self, config: Coupling.Config):
        with pytest.raises(ConfigError, match=rf"coupling '{config.kind}' makes C\(u\) from a representation"):
            config.build((12,), None, torch_generator(0))

    @personal
    def test_u_of_another_model(self, config: Coupling.Config):
        with pytest.raises(ConfigError, match="width 7, but this coupling was made for width 10"):
            made(config)(torch.randn(2, 7))
        with pytest.raises(ConfigError, match="none was given"):
            made(config)()

    @every
    def test_only_what_depends_on_a_user_needs_a_user(self, config: Coupling.Config):
        assert config.needs_user == (config.kind not in ("identity", "static") and getattr(config, "gate", "") != "token")
        if not config.needs_user:
            coupling = config.build((12,), None, torch_generator(0))
            assert coupling() is None or not coupling().personal
