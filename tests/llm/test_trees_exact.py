"""Trees of every shape against their prompts, and the ways in which a model may be run: dtypes, dropout, checkpointing."""

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from families_world import VOCABULARY, tiny
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from trees_world import prompt, prompts

from lifelora.llm.personal import CoupledOn, PersonalBatch
from lifelora.llm.trees import attention
from lifelora.llm.trees.attention import attend
from lifelora.llm.trees.layout import ends, everything
from lifelora.llm.trees.reading import read
from lifelora.llm.trees.ready import ready
from lifelora.llm.yes_no import YesNoLM
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Coupling, Experts, Full, Hydra, Meta
from lifelora.lora.inject import personalise
from lifelora.prompts.tree import PromptTrees
from lifelora.prompts.yes_no import Answers

SHAPES: dict[str, tuple[list[int], list[tuple[int, int, int]]]] = {  # trunks; of each branch: its trunk, place and tokens
    "one branch": ([9], [(0, 9, 4)]),
    "one branch of one token": ([9], [(0, 5, 1)]),
    "a trunk of one token": ([1], [(0, 1, 3), (0, 1, 2)]),
    "branches that see nothing": ([5, 4], [(0, 0, 3), (1, 0, 2), (0, 5, 3), (1, 2, 1)]),
    "every place": ([8], [(0, place, 1 + place % 3) for place in range(9)]),
    "trees of other sizes": ([30, 1, 3, 17], [(3, 17, 9), (0, 2, 1), (1, 1, 20), (0, 30, 2), (2, 3, 3)] + [(0, 9, 2)] * 7),
    "a trunk without branches": ([6, 5], [(1, 4, 3), (1, 5, 3)]),
    "500 branches": ([12], [(0, 1 + branch % 12, 1 + branch % 5) for branch in range(500)]),
}


def made(name: str) -> PromptTrees:
    trunks, branches = SHAPES[name]
    tree_G, place_G, branch_G = torch.tensor(branches).unbind(dim=1)
    count = sum(trunks) + int(branch_G.sum())
    tokens_L = torch.randint(5, VOCABULARY, (count,), generator=torch.Generator().manual_seed(1))
    return PromptTrees(tokens_L, torch.tensor(trunks), branch_G, tree_G, place_G, torch.zeros_like(place_G))


def alone(model: nn.Module, trees: PromptTrees) -> Tensor:
    return torch.stack([model(input_ids=prompt(trees, g)[None], use_cache=False).logits[0, -1] for g in range(len(trees))])


def asked(model: nn.Module, trees: PromptTrees, *, early: bool = True) -> Tensor:
    return read(model, trees, {"input_ids": trees.tokens_L[None]}, early=early)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("name", SHAPES)
def test_logits_and_gradients_of_every_shape(name: str, early: bool):
    model, trees = tiny("opt").double(), made(name)  # its norms keep to float64
    ready(model)
    found = []
    for logits_EV in (alone(model, trees), asked(model, trees, early=early)):
        weight_EV = torch.randn(logits_EV.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
        found.append((logits_EV, torch.autograd.grad((logits_EV * weight_EV).sum(), list(model.parameters()))))
    (theirs, their_grads), (ours, our_grads) = found
    assert (ours - theirs).abs().max() < 1e-10
    scale = max(grad.abs().max() for grad in their_grads)
    for one, other in zip(our_grads, their_grads, strict=True):
        assert (one - other).abs().max() < 1e-10 * scale


@pytest.mark.parametrize("name", SHAPES)
def test_in_full_precision(name: str):
    model, trees = tiny("llama"), made(name)
    ready(model)
    found = []
    for logits_EV in (alone(model, trees), asked(model, trees)):
        found.append((logits_EV, torch.autograd.grad(logits_EV.logsumexp(dim=-1).sum(), list(model.parameters()))))
    (theirs, their_grads), (ours, our_grads) = found
    assert (ours - theirs).abs().max() < 1e-4 * max(1.0, theirs.abs().max().item())
    for one, other in zip(our_grads, their_grads, strict=True):
        assert (one - other).norm() < 1e-3 * other.norm()


def part(trees: PromptTrees, tree: int) -> PromptTrees:
    """One tree of several."""
    mine_L, mine_G = trees.trees == tree, trees.tree_G == tree
    zero_G = torch.zeros_like(trees.tree_G[mine_G])
    return PromptTrees(
        trees.tokens_L[mine_L], trees.trunk_R[tree : tree + 1], trees.branch_G[mine_G], zero_G, trees.place_G[mine_G], zero_G
    )


@torch.no_grad()
def test_a_batch_of_trees_equals_each_alone():
    model, trees = tiny("llama"), made("trees of other sizes")
    ready(model)
    together_GV = asked(model, trees)
    for tree in range(len(trees.trunk_R)):
        assert (asked(model, part(trees, tree)) - together_GV[trees.tree_G == tree]).abs().max() < 1e-5


@torch.no_grad()
def test_a_leak_is_seen():
    """What stands in a trunk at a branch's place or after it is nothing to the branch; what stands before is."""
    model, trees = tiny("llama"), made("every place")
    ready(model)
    before_GV = asked(model, trees)
    changed_L = trees.tokens_L.clone()
    changed_L[4] = 5 + (changed_L[4] - 4) % (VOCABULARY - 5)
    moved_G = (
        (
            asked(model, PromptTrees(changed_L, trees.trunk_R, trees.branch_G, trees.tree_G, trees.place_G, trees.shown_G))
            - before_GV
        )
        .abs()
        .amax(dim=1)
    )
    assert (moved_G[trees.place_G <= 4] == 0).all()
    assert (moved_G[trees.place_G > 4] > 1e-3).all()


@torch.no_grad()
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_in_bf16_as_near_as_its_own_prompts(family: str):
    exact, model, trees = tiny(family), tiny(family, torch.bfloat16), made("trees of other sizes")
    ready(model)
    exact_GV = alone(exact, trees)
    off, own = (
        ((x.float() - exact_GV).square().mean().sqrt() / exact_GV.std()).item()
        for x in (asked(model, trees), alone(model, trees))
    )
    assert off < 1.5 * own + 1e-3


COUPLINGS: list[Coupling.Config] = [
    Meta.Config(rank=2, loras=3, gate="token"),
    Hydra.Config(rank=2, heads=3, gate="token"),
    Experts.Config(rank=4, experts=2, gate="token"),
    Full.Config(rank=4),
]


def personal(
    model: nn.Module, config: Coupling.Config, coupling_on: CoupledOn, dropout: float = 0.0
) -> tuple[YesNoLM, PersonalBatch, Any]:
    torch.manual_seed(0)
    adapters = personalise(model, Adaptation(coupling=config, targets=("all-linear",), dropout=dropout), user_width=6)
    for parameter in adapters.parameters():
        nn.init.normal_(parameter, std=0.2)
    trees = made("trees of other sizes")
    u_RD, label_G = torch.randn(4, 6), (torch.arange(len(trees)) % 2).float()
    u = u_RD if coupling_on == "prompt" else u_RD[trees.tree_G]
    return YesNoLM(model, adapters, Answers(7, 8), coupling_on=coupling_on), PersonalBatch(trees, u, label_G), adapters


def gradients(lm: YesNoLM, batch: PersonalBatch, adapters: Any, *, late: bool = False) -> tuple[float, list[Tensor]]:
    with lm.scope(batch):
        loss = lm.loss(batch)
        if not late:
            loss.backward()
    if late:
        loss.backward()
    grads = [parameter.grad.clone() for parameter in adapters.parameters() if parameter.grad is not None]
    for parameter in adapters.parameters():
        parameter.grad = None
    return loss.item(), grads


def near(ours: Sequence[Tensor], theirs: Sequence[Tensor], share: float) -> None:
    assert len(ours) == len(theirs) > 0
    scale = max(grad.abs().max() for grad in theirs)
    for one, other in zip(ours, theirs, strict=True):
        assert (one - other).abs().max() <= share * scale, (one - other).abs().max() / scale


@pytest.mark.parametrize("coupling_on", ["prompt", "question"])
@pytest.mark.parametrize("family", ["llama", "opt", "gpt2"])  # OPT's layers get all tokens in one flat row
@pytest.mark.parametrize("config", COUPLINGS, ids=lambda config: config.kind)
def test_couplings_by_token_and_flat_layers(config: Coupling.Config, family: str, coupling_on: CoupledOn):
    """Against a prompt for each branch, each under its user's C(u)."""
    model = tiny(family)
    ready(model)
    if coupling_on == "question" and not config.needs_user:
        pytest.skip("a coupling that needs no user acts everywhere")
    lm, batch, adapters = personal(model, config, coupling_on)
    trees = batch.prompts
    assert isinstance(trees, PromptTrees)
    user_GD = batch.user_BD[trees.tree_G] if coupling_on == "prompt" else batch.user_BD
    loss, theirs = gradients(lm, PersonalBatch(prompts(trees), user_GD, batch.label_B), adapters)
    again, ours = gradients(lm, batch, adapters)
    assert again == pytest.approx(loss, rel=1e-5)
    near(ours, theirs, 1e-4)


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("coupling_on", ["prompt", "question"])
@pytest.mark.parametrize("family", ["llama", "gpt2"])
def test_gradient_checkpointing(family: str, coupling_on: CoupledOn, late: bool):
    """Backward in the scope and after it."""
    found = []
    for checkpointing in (False, True):
        model = tiny(family)
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0
            if isinstance(getattr(module, "attn_dropout", None), float):
                module.attn_dropout = 0.0
        ready(model)
        lm, batch, adapters = personal(model, Full.Config(rank=4), coupling_on)
        if checkpointing:
            adapters.enable_checkpointing()
        lm.train()
        runs: list[int] = []
        handle = model.get_submodule("model.layers.0" if family == "llama" else "transformer.h.0")
        norm = next(m for m in handle.modules() if "norm" in type(m).__name__.lower())
        norm.register_forward_hook(lambda *_, runs=runs: runs.append(1))
        found.append((*gradients(lm, batch, adapters, late=late and checkpointing), len(runs)))
    (loss, theirs, once), (again, ours, twice) = found
    assert (once, twice) == (1, 2)
    assert again == pytest.approx(loss, rel=1e-6)
    near(ours, theirs, 1e-5)


@pytest.mark.parametrize("early", [True, False])
def test_dropout_of_attention_in_training(early: bool):
    """As many probabilities as it should are left out, in all parts, and the mean stays."""
    torch.manual_seed(0)
    parts = (torch.tensor([40]), torch.tensor([30, 25]), torch.tensor([0, 0]), torch.tensor([40, 20]))
    L = 95
    layout = ends(*parts, torch.arange(L)) if early else everything(*parts)
    q, k = torch.zeros(2, L, 64), torch.zeros(1, L, 64)
    v = torch.ones(1, L, 64)
    drawn = torch.stack([attend(layout, q, k, v, 1.0, 0.3)[:, 30:, 0] for _ in range(200)])
    assert drawn.mean().item() == pytest.approx(1.0, abs=0.02)
    assert (drawn.std(dim=0) > 0.03).all()
    assert torch.equal(attend(layout, q, k, v, 1.0)[..., 0], torch.ones(2, L))


def test_gpt2_trains_with_its_dropout():
    model = tiny("gpt2")
    ready(model)
    lm, batch, adapters = personal(model, Full.Config(rank=4), "prompt")
    lm.train()
    (one, grads), (other, _) = gradients(lm, batch, adapters), gradients(lm, batch, adapters)
    assert one != other
    assert all(grad.isfinite().all() for grad in grads)


@pytest.mark.parametrize("early", [True, False])
def test_products_give_what_the_kernel_gives(early: bool):
    """What other devices than a CPU do."""
    generator = torch.Generator().manual_seed(0)
    parts = (torch.tensor([7, 4]), torch.tensor([3, 5, 1]), torch.tensor([0, 1, 0]), torch.tensor([7, 0, 2]))
    layout = ends(*parts, torch.tensor([13, 18, 19, 6, 6])) if early else everything(*parts)
    q, k, v = (torch.randn(heads, 20, 8, generator=generator).requires_grad_() for heads in (4, 2, 2))
    asks = q[:, : layout.asking]
    by_products = attention.merged(
        layout, {name: attention._plain(part, 0.3, 0.0) for name, part in attention.parts(layout, asks, k, v, None).items()}, asks
    )[0]
    by_kernel = attend(layout, asks, k, v, 0.3)
    assert (by_products - by_kernel).abs().max() < 1e-5
    weight = torch.randn(by_kernel.shape, generator=generator)
    ours, theirs = (torch.autograd.grad((o * weight).sum(), (q, k, v)) for o in (by_products, by_kernel))
    near(ours, theirs, 1e-5)


class Largest(TorchDispatchMode):
    """The most numbers that any operation gives."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else (out,):
            if isinstance(tensor, Tensor):
                self.numbers = max(self.numbers, tensor.numel())
        return out


def test_a_trunk_of_8000_tokens_without_a_table_of_all_by_all():
    """Nothing that is made in forward or backward is as large as T x T, whatever its dtype."""
    T = 8000
    parts = (torch.tensor([T]), torch.full((20,), 5), torch.zeros(20, dtype=torch.int64), torch.arange(20) * 400)
    L = T + 100
    q, k, v = (torch.randn(heads, L, 8).requires_grad_() for heads in (2, 1, 1))
    with Largest() as largest:
        layout, at_ends = everything(*parts), ends(*parts, torch.arange(T + 4, L, 5))
        out = attend(layout, q, k, v, 0.3).sum() + attend(at_ends, q[:, :20], k, v, 0.3).sum()
        out.backward()
    assert L * 2 * 8 <= largest.numbers <= 2 * 100 * T  # the branches by their trunk
    assert q.grad is not None
    assert q.grad.isfinite().all()
