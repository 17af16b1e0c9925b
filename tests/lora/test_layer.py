"""The layer by itself: its formula, its slot, and the errors that keep one user's weights from another."""

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from lifelora.errors import ConfigError, ScopeError
from lifelora.lora.layer import PersonalLoRALinear, features, kaiming_uniform
from lifelora.lora.slot import Slot
from lifelora.lora.structure import Column, Dense, Diagonal, RankOne, Shared
from lifelora.seeds import torch_generator


def made(base: nn.Module, P: int = 3, Q: int = 3, *, slot: Slot | None = None, **options: object) -> PersonalLoRALinear:
    """A layer whose B is not zero."""
    generator = torch_generator(0, "layer")
    layer = PersonalLoRALinear(base, P, Q, 2.0, slot=slot, generator=generator, name="here", **options)
    with torch.no_grad():
        layer.B_OQ.normal_(generator=torch_generator(1, "B"))
    return layer


def dense(layer: PersonalLoRALinear, W_OI: Tensor, bias_O: Tensor, C_BQP: Tensor, x: Tensor) -> Tensor:
    """W x + bias + s·B·C·A x in float64, with the O x I matrix built for each row in turn."""
    A_PI, B_OQ = layer.A_PI.double(), layer.B_OQ.double()
    return torch.stack(
        [
            row @ (W_OI.double() + layer.scaling * B_OQ @ C_QP.double() @ A_PI).T + bias_O.double()
            for row, C_QP in zip(x.double(), C_BQP, strict=True)
        ]
    )


sizes = st.integers(1, 5)


@settings(max_examples=60)
@given(B=sizes, L=st.integers(0, 4), I=sizes, O=sizes, P=sizes, Q=sizes, tokens=st.booleans(), conv=st.booleans())
def test_formula_on_any_shape(B, L, I, O, P, Q, tokens, conv):  # noqa: E741
    torch.manual_seed(B + 7 * L + 31 * I)
    base = Conv1D(O, I) if conv else nn.Linear(I, O)
    slot = Slot(2, Q, P)
    layer = made(base, P, Q, slot=slot, index=1)
    x = torch.randn(B, L, I) if tokens else torch.randn(B, I)
    C_SBQP = torch.randn(2, B, Q, P)
    with slot.holding(Dense(C_SBQP)):
        y = layer(x)
    W_OI = base.weight.T if conv else base.weight
    assert y.shape == (*x.shape[:-1], O)
    torch.testing.assert_close(y.double(), dense(layer, W_OI, base.bias, C_SBQP[1], x), rtol=1e-5, atol=1e-5)


STRUCTURES = {
    "dense": lambda B, N, block: Dense(torch.randn(2, B, N * block, block)),
    "shared": lambda B, N, block: Shared(torch.randn(2, N * block, block)),
    "diagonal": lambda B, N, block: Diagonal(torch.randn(2, B, N), block=block),
    "rank one": lambda B, N, block: RankOne(torch.randn(2, B, N), block=block),
    "column": lambda B, N, block: Column(torch.randn(2, B, N), block=block),
}


@settings(max_examples=150)
@given(
    kind=st.sampled_from(list(STRUCTURES)),
    B=st.integers(1, 4),
    L=st.integers(0, 4),
    I=sizes,
    O=sizes,
    N=st.integers(1, 3),
    block=st.integers(1, 3),
    tokens=st.booleans(),
    how=st.sampled_from(["linear", "no bias", "conv1d", "hooked", "strided"]),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]),
)
def test_every_structure_on_any_shape_and_dtype(kind, B, L, I, O, N, block, tokens, how, dtype):  # noqa: E741
    """Against W x + s·B·C·A x with everything written out in float64, for every row in turn; its gradients as well."""
    torch.manual_seed(B + 7 * L + 31 * I + 101 * O + 211 * N)
    base = (Conv1D(O, I) if how == "conv1d" else nn.Linear(I, O, bias=how != "no bias")).to(dtype)
    if how == "hooked":
        base.register_forward_hook(lambda *_: None)
    C = STRUCTURES[kind](B, N, block)
    slot = Slot(2, C.columns, C.rows, standing=(lambda: C) if C.batch is None else None)
    layer = made(base, C.rows, C.columns, slot=slot, index=1)
    shape = (B, L, I) if tokens else (B, I)
    x = torch.randn(*shape[:-1], 2 * I)[..., ::2] if how == "strided" else torch.randn(shape)
    x = x.to(dtype).requires_grad_()
    if C.batch is None:
        y = layer(x)
    else:
        with slot.holding(C):
            y = layer(x)
    assert (y.shape, y.dtype) == ((*x.shape[:-1], O), dtype)
    W_OI, bias_O = base.weight.T if how == "conv1d" else base.weight, base.bias if how != "no bias" else torch.zeros(O)
    C_BQP = torch.stack([C.dense(1, row) for row in range(B)])
    exact_x = x.detach().double().requires_grad_()
    exact = dense(layer, W_OI, bias_O, C_BQP, exact_x)
    # Of half precision a few roundings of numbers as large as the sum's terms remain.
    tolerance = {torch.float64: 1e-5, torch.float32: 1e-4, torch.bfloat16: 0.2, torch.float16: 0.03}[dtype]
    scale = 1 + exact.abs().max().item() if exact.numel() else 1.0
    torch.testing.assert_close(y.double() / scale, exact / scale, rtol=tolerance, atol=tolerance)
    ours = torch.autograd.grad(y.double().sum(), [x, layer.A_PI, layer.B_OQ])
    theirs = torch.autograd.grad(exact.sum(), [exact_x, layer.A_PI, layer.B_OQ])
    for one, other in zip(ours, theirs, strict=True):
        scale = 1 + other.abs().max().item() if other.numel() else 1.0
        torch.testing.assert_close(one.double() / scale, other.double() / scale, rtol=tolerance, atol=tolerance)


def test_one_number_at_a_time():
    """I = O = P = Q = 1: y = w·x + s·b·c·a·x = 3·5 + 2·7·11·13·5 = 15 + 10010, and with c = 0 just 15."""
    base = nn.Linear(1, 1, bias=False)
    slot = Slot(1, 1, 1)
    layer = made(base, 1, 1, slot=slot)
    with torch.no_grad():
        base.weight.fill_(3)
        layer.B_OQ.fill_(7)
        layer.A_PI.fill_(13)
    with slot.holding(Dense(torch.tensor([11.0, 0.0]).reshape(1, 2, 1, 1))):
        assert layer(torch.tensor([[5.0], [5.0]])).tolist() == [[10025.0], [15.0]]


def test_gradients_against_finite_differences():
    torch.manual_seed(0)
    slot = Slot(1, 2, 3)
    layer = made(nn.Linear(4, 3).double(), 3, 2, slot=slot)
    assert layer.A_PI.dtype == torch.float64

    def run(x: Tensor, C_SBQP: Tensor, A_PI: Tensor, B_OQ: Tensor) -> Tensor:
        with slot.holding(Dense(C_SBQP)):
            return torch.func.functional_call(layer, {"A_PI": A_PI, "B_OQ": B_OQ}, (x,))

    shapes = ((2, 2, 4), (1, 2, 2, 3), (3, 4), (3, 2))
    inputs = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    assert torch.autograd.gradcheck(run, inputs)
    assert torch.autograd.gradgradcheck(run, inputs)  # the fused backward has a backward, too


def test_start_is_the_base_exactly():
    base = nn.Linear(6, 5)
    layer = PersonalLoRALinear(base, 3, 3, 2.0, generator=torch_generator(0))
    x = torch.randn(4, 6)
    assert torch.equal(layer(x), base(x))
    assert layer.A_PI.abs().max() > 0.1
    assert not layer.B_OQ.any()
    assert [name for name, p in layer.named_parameters() if p.requires_grad] == ["A_PI", "B_OQ"]


def test_kaiming_uniform_is_torchs():
    """Same bound as nn.init with a = sqrt(5) on one matrix; on stacked ones, the bound of each matrix."""
    ours = kaiming_uniform(400, 64, generator=torch_generator(0))
    theirs = nn.init.kaiming_uniform_(torch.empty(400, 64), a=5**0.5)
    assert ours.abs().max() <= 1 / 64**0.5
    torch.testing.assert_close(ours.std(), theirs.std(), rtol=0.02, atol=0)
    stacked = kaiming_uniform(7, 40, 64, generator=torch_generator(0))
    torch.testing.assert_close(stacked.std(), theirs.std(), rtol=0.02, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_base_keeps_a_float32_adapter(dtype):
    torch.manual_seed(0)
    base = nn.Linear(8, 8).to(dtype)
    slot = Slot(1, 3, 3)
    layer = made(base, slot=slot)
    x, C_SBQP = torch.randn(2, 5, 8, dtype=dtype), torch.randn(1, 2, 3, 3, requires_grad=True)
    with slot.holding(Dense(C_SBQP)):
        y = layer(x)
        y.float().sum().backward()
    assert y.dtype == dtype
    assert layer.A_PI.dtype == layer.B_OQ.dtype == layer.B_OQ.grad.dtype == C_SBQP.grad.dtype == torch.float32
    torch.testing.assert_close(y.double(), dense(layer, base.weight, base.bias, C_SBQP[0], x), rtol=2e-2, atol=3e-2)


def test_autocast_does_not_round_the_user_away():
    """C = (1 + 2⁻⁹)·I is I in bf16, whose spacing above 1 is 2⁻⁷. Powers of two elsewhere keep the rest exact."""
    base = nn.Linear(1, 1, bias=False)
    slot = Slot(1, 1, 1)
    layer = made(base, 1, 1, slot=slot)
    with torch.no_grad():
        layer.A_PI.fill_(1)
    h = torch.tensor([[1.0]])
    with torch.autocast("cpu", torch.bfloat16):
        with slot.holding(Dense(torch.full((1, 1, 1, 1), 1 + 2**-9))):
            coupled = layer._couple(h.bfloat16().T, h[:, None])
        with slot.holding(Dense(torch.ones(1, 1, 1, 1))):
            assert layer(h).dtype == torch.bfloat16
    assert coupled.item() == 1 + 2**-9


def test_dropout_is_on_the_adapters_input_only():
    base = nn.Linear(64, 4)
    layer = made(base, dropout=0.5)
    x = torch.randn(3, 64)
    torch.manual_seed(0)
    trained = layer.train()(x)
    torch.manual_seed(0)
    dropped = nn.functional.dropout(x, 0.5)
    expected = base(x) + 2 * dropped @ layer.A_PI.T @ layer.B_OQ.T
    torch.testing.assert_close(trained, expected)
    torch.testing.assert_close(layer.eval()(x), base(x) + 2 * x @ layer.A_PI.T @ layer.B_OQ.T)


class TestSlot:
    def layer(self) -> tuple[Slot, PersonalLoRALinear]:
        slot = Slot(1, 3, 3)
        return slot, made(nn.Linear(5, 4), slot=slot)

    def test_nobody_in_scope(self):
        slot, layer = self.layer()
        with pytest.raises(ScopeError, match=r"layer 'here' is personal, but no user is in scope.*module\.scope"):
            layer(torch.randn(2, 5))
        with slot.holding(Dense(torch.randn(1, 2, 3, 3))):
            assert layer(torch.randn(2, 5)).shape == (2, 4)
        with pytest.raises(ScopeError, match="no user is in scope"):
            layer(torch.randn(2, 5))

    @pytest.mark.parametrize(("couplings", "rows"), [(1, 4), (4, 1), (3, 4), (4, 3), (2, 4)])
    @pytest.mark.parametrize("tokens", [(), (6,)])
    def test_another_number_of_users_is_never_broadcast(self, couplings, rows, tokens):
        slot, layer = self.layer()
        with (
            slot.holding(Dense(torch.randn(1, couplings, 3, 3))),
            pytest.raises(ScopeError, match=f"got {rows} rows while C\\(u\\) of {couplings} is in scope"),
        ):
            layer(torch.randn(rows, *tokens, 5))

    def test_scopes_do_not_nest(self):
        slot, layer = self.layer()
        C_SBQP = torch.randn(1, 2, 3, 3)
        with slot.holding(Dense(C_SBQP)):
            inside = layer(torch.ones(2, 5))
            with pytest.raises(ScopeError, match="do not nest"), slot.holding(Dense(torch.randn(1, 2, 3, 3))):
                pytest.fail("a second scope was opened")
            assert torch.equal(layer(torch.ones(2, 5)), inside)  # the first user's scope is untouched

    def test_a_scope_ends_with_an_error_and_lets_it_through(self):
        slot, layer = self.layer()
        with pytest.raises(ZeroDivisionError), slot.holding(Dense(torch.randn(1, 2, 3, 3))):
            _ = 1 / 0
        with pytest.raises(ScopeError, match="no user"):
            layer(torch.randn(2, 5))

    @pytest.mark.parametrize("shape", [(2, 2, 3, 3), (1, 2, 4, 3), (1, 2, 3, 4)])
    def test_couplings_of_another_model(self, shape):
        slot, _ = self.layer()
        with pytest.raises(ScopeError, match="adapted layers"), slot.holding(Dense(torch.randn(shape))):
            pytest.fail("a wrong C(u) was let in")

    def test_a_copy_of_the_model_has_a_slot_of_its_own(self):
        slot, layer = self.layer()
        twin = copy.deepcopy(layer)
        with slot.holding(Dense(torch.randn(1, 2, 3, 3))), pytest.raises(ScopeError, match="no user"):
            twin(torch.randn(2, 5))


class Broken(nn.Linear):
    def forward(self, input: Tensor) -> Tensor:
        raise MemoryError("no memory in the base")


def test_an_error_inside_forward_is_never_swallowed():
    with pytest.raises(MemoryError, match="no memory in the base"):
        made(Broken(5, 4))(torch.randn(2, 5))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        made(nn.Linear(5, 4))(torch.randn(2, 6))


def test_what_counts_as_linear():
    assert features(nn.Linear(5, 4)) == (5, 4)
    assert features(Conv1D(4, 5)) == (5, 4)
    assert [features(m) for m in (nn.Embedding(5, 4), nn.LayerNorm(5), nn.Conv1d(5, 4, 1), nn.Bilinear(5, 5, 4))] == [None] * 4
    with pytest.raises(ConfigError, match="LayerNorm; only a linear layer"):
        made(nn.LayerNorm(5))
    with pytest.raises(ConfigError, match="3 rows of A cannot meet 2 columns of B"):
        made(nn.Linear(5, 4), 3, 2)


def test_a_quantised_base_is_only_asked_for_its_forward():
    """Shaped like bitsandbytes' 8-bit linear: integer weight, scales, and an output in the dtype of x."""

    class Linear8(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.in_features, self.out_features = 5, 4
            self.weight = nn.Parameter(torch.randint(-127, 127, (4, 5), dtype=torch.int8), requires_grad=False)

        def forward(self, x: Tensor) -> Tensor:
            return x @ (self.weight.to(x.dtype) / 127).T

    base = Linear8()
    layer = made(base)
    x = torch.randn(2, 5)
    assert layer.A_PI.dtype == torch.float32
    expected = dense(layer, base.weight / 127, torch.zeros(4), torch.eye(3).expand(2, 3, 3), x)
    torch.testing.assert_close(layer(x).double(), expected, rtol=1e-5, atol=1e-5)


class Remembers(nn.Linear):
    """Its backward needs what it put out, and it hands out the same tensor again: neither may be written into."""

    def forward(self, input: Tensor) -> Tensor:
        self.kept = torch.tanh(super().forward(input))
        return self.kept


def test_what_another_base_gives_is_never_written_into():
    """RecLoRA's hooks copy into the base's output; here only nn.Linear's and Conv1D's own fresh output is added to."""
    torch.manual_seed(0)
    base = Remembers(5, 4)
    layer, x = made(base), torch.randn(2, 5, requires_grad=True)
    y = layer(x)
    expected = torch.tanh(F.linear(x.detach(), base.weight, base.bias))
    torch.testing.assert_close(base.kept.detach(), expected)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    adapter = layer.scaling * layer.B_OQ.detach() @ layer.A_PI.detach()
    by_hand = (1 - expected**2) @ base.weight + adapter.sum(0)
    torch.testing.assert_close(gradient, by_hand)


def test_a_trainable_base_gets_its_gradient():
    """Whoever unfreezes W after all is not passed by: the fused way is for frozen ones."""
    base = nn.Linear(5, 4)
    layer, x = made(base), torch.randn(2, 5)
    base.requires_grad_(True)
    layer(x).sum().backward()
    torch.testing.assert_close(base.weight.grad, x.sum(0).expand(4, 5))
    torch.testing.assert_close(base.bias.grad, torch.full((4,), 2.0))
