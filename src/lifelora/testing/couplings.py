"""The contract of a coupling: the laws of the layer, on a small model of linear layers. Knows no coupling."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch
from torch import Tensor, nn

from lifelora.errors import ConfigError
from lifelora.kinds import COUPLINGS
from lifelora.lora.adapters import Adaptation, Adapters
from lifelora.lora.coupling import Coupling
from lifelora.lora.inject import personalise
from lifelora.lora.saved import load, save
from lifelora.lora.structure import Gated, Routed, Structure
from lifelora.seeds import torch_generator
from lifelora.testing.recipes import comes_back

USERS, TOKENS, WORDS = 4, 5, 40


class Backbone(nn.Module):
    """Embedding and three linears, of which q and v carry an adapter."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.words, self.out = nn.Embedding(WORDS, 16), nn.Linear(16, WORDS)
            self.q, self.v = nn.Linear(16, 24), nn.Linear(24, 16)

    def forward(self, input_ids: Tensor) -> Tensor:
        """Logits of every token."""
        logits: Tensor = self.out(self.v(torch.tanh(self.q(self.words(input_ids)))))
        return logits


@final
@dataclass(frozen=True)
class Case:
    """A configuration of a rank that fits into 16 features, and how wide u is."""

    config: Coupling.Config
    width: int = 6

    def adapters(self, dtype: torch.dtype = torch.float32, *, stirred: bool = True, seed: int = 1) -> Adapters:
        """On a small model; ``stirred`` is as if trained: every parameter away from its start, B from zero."""
        adaptation = Adaptation(coupling=self.config, targets=("q", "v"), dropout=0.0)
        generator = torch_generator(seed, "testing")
        adapters = personalise(Backbone().to(dtype), adaptation, user_width=self.width, generator=generator)
        with torch.no_grad():
            for parameter in adapters.parameters() if stirred else ():
                parameter.add_(torch.empty(parameter.shape, dtype=parameter.dtype).normal_(std=0.3, generator=generator))
            for _ in range(10 if stirred else 0):  # statistics that a coupling keeps
                adapters.coupling.train()(torch.randn(32, self.width, generator=generator).to(_dtype(adapters)))
        adapters.coupling.eval()
        adapters.model.eval()
        return adapters

    def users(self, count: int = USERS) -> Tensor:
        """Their representations."""
        return torch.randn(count, self.width, generator=torch_generator(2, "testing"))


def tokens(count: int = USERS) -> Tensor:
    """A prompt for each of so many users."""
    return torch.randint(WORDS, (count, TOKENS), generator=torch_generator(3, "testing"))


def logits(adapters: Adapters, u_BD: Tensor | None, ids_BL: Tensor) -> Tensor:
    """Of the model with its users in scope."""
    with torch.no_grad(), adapters.scope(u_BD):
        found: Tensor = adapters.model(ids_BL)
    return found


def a_recipe_can_name_it(case: Case) -> None:
    """By its kind; and what is dumped comes back."""
    comes_back(COUPLINGS, case.config)


def b_zero_is_the_backbone(case: Case) -> None:
    """Before training nothing has changed, to the last bit; after it something has."""
    before = Backbone()(tokens())
    assert torch.equal(logits(case.adapters(stirred=False), case.users(), tokens()), before), "B = 0 is not the backbone"
    assert not torch.equal(logits(case.adapters(), case.users(), tokens()), before), "the adapters change nothing"


def c_has_the_size_that_the_configuration_says(case: Case) -> None:
    """``rows`` (P) and ``columns`` (Q), for each layer, and a row for each user."""
    C = _couplings(case.adapters(), case.users())
    if C is None:
        assert (case.config.rows, case.config.columns) == (case.config.rank,) * 2, "C = I is square, of the rank"
        return
    assert (C.rows, C.columns) == (case.config.rows, case.config.columns), f"C is {C.columns} x {C.rows}"
    assert C.layers == 2, f"C is of {C.layers} layers where there are 2"
    assert C.batch == (USERS if case.config.needs_user else None), f"C is of {C.batch} users where there are {USERS}"


def a_batch_is_each_user_alone(case: Case) -> None:
    """No user's C(u) reaches another user."""
    adapters, u_BD, ids_BL = case.adapters(torch.float64), case.users().double(), tokens()
    together = logits(adapters, u_BD, ids_BL)
    for row in range(USERS):
        alone = logits(adapters, u_BD[row : row + 1], ids_BL[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, msg=lambda why: f"a user is another one in a batch: {why}")


def users_differ_where_a_user_is_needed(case: Case) -> None:
    """The same prompt by different users gives different answers, or the same ones where ``needs_user`` is false."""
    found = logits(case.adapters(torch.float64), case.users().double(), tokens(1).expand(USERS, -1))
    same = torch.allclose(found[0], found[1], atol=1e-12)
    assert same is not case.config.needs_user, f"needs_user = {case.config.needs_user} is not so"


def a_user_is_asked_for_where_one_is_needed(case: Case) -> None:
    """``build`` without a representation is a ConfigError there, and there alone."""
    try:
        case.config.build((16, 24), None, torch_generator(0, "testing"))
    except ConfigError:
        assert case.config.needs_user, "needs_user is false, but build asks for a representation"
        return
    assert not case.config.needs_user, "needs_user is true, but build goes without a representation; ask self.users(user_width)"


def it_is_the_dense_weights_of_each_user(case: Case) -> None:
    """W + s·B·C(u)·A written into the weights, user by user; a coupling by token has no such weights, and says so."""
    adapters, u_BD = case.adapters(torch.float64), case.users().double()
    ours, C = logits(adapters, u_BD, tokens()), _couplings(adapters, u_BD)
    if isinstance(C, Routed | Gated):
        try:
            C.dense(0, 0)
        except ConfigError:
            return
        raise AssertionError("C is another one for every token, but there is one matrix of it")
    for row in range(USERS):
        merged = Backbone().double()
        with torch.no_grad():
            for index, (name, layer) in enumerate(adapters.layers):
                C_QP = torch.eye(case.config.rank) if C is None else C.dense(index, row)
                assert C_QP.isfinite().all(), "C is not finite"
                update = case.config.scaling * layer.B_OQ.double() @ C_QP.double() @ layer.A_PI.double()
                merged.get_submodule(name).weight += update  # type: ignore[operator]
        torch.testing.assert_close(
            ours[row : row + 1],
            merged(tokens()[row : row + 1]),
            rtol=1e-6,
            atol=1e-6,
            msg=lambda why: f"the layer is not W + s·B·C(u)·A: {why}",
        )


def everything_that_trains_gets_a_gradient(case: Case) -> None:
    """A, B and the coupling; u, where it is needed; and nothing of the backbone."""
    adapters, u_BD = case.adapters(), case.users().requires_grad_()
    with adapters.scope(u_BD):
        adapters.model(tokens()).logsumexp(dim=-1).sum().backward()
    assert len(adapters.parameters()) >= 4
    assert all(p.grad is not None and p.grad.any() for p in adapters.parameters()), "a parameter gets no gradient"
    assert (u_BD.grad is not None and bool(u_BD.grad.any())) == case.config.needs_user, "u gets a gradient otherwise than needed"
    frozen = [p for name, p in adapters.model.named_parameters() if not name.endswith(("A_PI", "B_OQ"))]
    assert len(frozen) == 7
    assert not any(p.requires_grad for p in frozen), "the backbone trains"


def saving_and_loading_changes_no_score(case: Case) -> None:
    """Not even by a bit."""
    adapters = case.adapters()
    with tempfile.TemporaryDirectory() as folder:
        save(adapters, Path(folder) / "saved")
        again = load(Backbone().eval(), Path(folder) / "saved")
    again.coupling.eval()
    assert again.adaptation.coupling == case.config, f"{case.config!r} is loaded as {again.adaptation.coupling!r}"
    expected = logits(adapters, case.users(), tokens())
    assert torch.equal(logits(again, case.users(), tokens()), expected), "what was saved gives other scores"


def chance_comes_from_the_generator_alone(case: Case) -> None:
    """The same one gives the same start, whatever torch's own is at."""
    states = []
    for noise in (1, 2):
        torch.manual_seed(noise)
        states.append(case.adapters(stirred=False).state())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0]), "one generator gives two starts"


def _couplings(adapters: Adapters, u_BD: Tensor) -> Structure | None:
    coupling: Any = adapters.coupling
    found: Structure | None = adapters.couplings(u_BD) if coupling.config.needs_user else coupling()
    return found


def _dtype(adapters: Adapters) -> torch.dtype:
    return next((p.dtype for p in adapters.coupling.parameters()), torch.float32)


CHECKS: tuple[Callable[[Case], None], ...] = (
    a_recipe_can_name_it,
    b_zero_is_the_backbone,
    c_has_the_size_that_the_configuration_says,
    a_batch_is_each_user_alone,
    users_differ_where_a_user_is_needed,
    a_user_is_asked_for_where_one_is_needed,
    it_is_the_dense_weights_of_each_user,
    everything_that_trains_gets_a_gradient,
    saving_and_loading_changes_no_score,
    chance_comes_from_the_generator_alone,
)
