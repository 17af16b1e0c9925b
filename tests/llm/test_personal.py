"""What holds of the personal LM whatever it is asked: a representer beside the adapters, its gradients, and its u."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from llm_world import plain_prompts, tiny_llama
from titles_world import ROWS, TITLES, D, prompts_of, titles_of
from torch import Tensor, nn

from lifelora.data.dataset import Samples
from lifelora.errors import ConfigError
from lifelora.llm.likelihoods import likelihoods
from lifelora.llm.personal import PersonalBatch, PersonalLM, Representer
from lifelora.llm.search import choose
from lifelora.llm.titles import TitleLM
from lifelora.llm.yes_no import YesNoLM
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Full, Identity
from lifelora.lora.inject import personalise
from lifelora.prompts.yes_no import Answers
from lifelora.seeds import torch_generator
from lifelora.types import Layer

VOCABULARY, B, ITEMS = 50, len(ROWS), 11
ANSWERS = [row[place] for row, place in zip(TITLES, (1, 2, 5, 4), strict=True)]


class Bag(nn.Module):
    """u = W · dropout(mean of the past items' vectors), in double precision."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.items, self.out, self.calls = nn.Embedding(ITEMS, 7).double(), nn.Linear(7, D).double(), 0
        self.drop = nn.Dropout(dropout)

    def representation(self, batch: Samples, layer: Layer) -> Tensor:
        self.calls += 1
        assert layer == "final"
        return self.out(self.drop(self.items(batch.history_BH).mean(dim=1)))


def samples() -> Samples:
    generator = torch_generator(6, "samples")
    history_BH = torch.randint(ITEMS, (B, 5), generator=generator)
    rows = torch.arange(B)
    return Samples(
        rows,
        rows,
        torch.ones(B),
        history_BH,
        torch.zeros_like(history_BH),
        torch.ones(B, 5, dtype=torch.bool),
        torch.full((B,), 5),
    )


def lm_of(task: str, representer: Representer | None = None) -> PersonalLM:
    """As if it had learnt, in double precision, so that differences can be taken."""
    adaptation = Adaptation(coupling=Full.Config(rank=4), targets=("q_proj", "down_proj"), dropout=0.0)
    adapters = personalise(tiny_llama(VOCABULARY).double(), adaptation, user_width=D, generator=torch_generator(1, "adapters"))
    generator = torch_generator(2, "learnt")
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter += torch.empty(parameter.shape).normal_(std=0.3, generator=generator)
    if task == "titles":
        return TitleLM(adapters.model, adapters, representer=representer).eval()
    return YesNoLM(adapters.model, adapters, Answers(7, 3), representer=representer).eval()


def batch_of(task: str, u_BD: Tensor | None = None) -> PersonalBatch:
    """What is learnt from; u is made from samples where none is given."""
    whole = prompts_of(ROWS, ANSWERS if task == "titles" else None)
    label_B = None if task == "titles" else torch.tensor([1.0, 0.0] * 2)
    if u_BD is None:
        return PersonalBatch(whole, torch.zeros(B, 0), label_B, samples())
    return PersonalBatch(whole, u_BD, label_B)


def loss_of(lm: PersonalLM, batch: PersonalBatch) -> Tensor:
    with lm.scope(batch):
        return lm.loss(batch)


tasks = pytest.mark.parametrize("task", ["yes/no", "titles"])


@tasks
def test_a_representer_beside_the_adapters_is_its_u_in_the_batch(task):
    bag = Bag()
    u_BD = bag.representation(samples(), "final").detach()
    assert torch.equal(loss_of(lm_of(task, bag), batch_of(task)), loss_of(lm_of(task), batch_of(task, u_BD)))
    other = loss_of(lm_of(task), batch_of(task, u_BD.flip(0)))
    assert (other - loss_of(lm_of(task), batch_of(task, u_BD))).abs() > 1e-4


@tasks
def test_its_gradient_is_that_of_u_through_it(task):
    """The chain rule by hand: dL/dw = (du/dw)ᵀ dL/du."""
    lm = lm_of(task, Bag())
    with lm.scope(batch := batch_of(task)):
        lm.loss(batch).backward()
    bag = Bag()
    u_BD = bag.representation(samples(), "final")
    given_BD = u_BD.detach().requires_grad_()
    plain = lm_of(task)
    with plain.scope(batch := batch_of(task, given_BD)):
        plain.loss(batch).backward()
    u_BD.backward(given_BD.grad)
    for ours, by_hand in zip(lm.representer.parameters(), bag.parameters(), strict=True):
        assert ours.grad.any()
        torch.testing.assert_close(ours.grad, by_hand.grad, rtol=1e-9, atol=1e-12)
    for ours, theirs in zip(lm.adapters.parameters(), plain.adapters.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-9, atol=1e-12)


@tasks
@torch.no_grad()
def test_its_gradient_is_the_slope_of_the_loss(task):
    lm = lm_of(task, Bag())
    with torch.enable_grad(), lm.scope(batch := batch_of(task)):
        lm.loss(batch).backward()
    for weight, place in (
        (lm.representer.out.weight, (2, 3)),
        (lm.representer.out.bias, (1,)),
        (lm.representer.items.weight, (int(samples().history_BH[0, 0]), 4)),
    ):
        losses = []
        for step in (3e-3, -6e-3):  # wide, for the loss itself is in fp32
            weight[place] += step
            losses.append(loss_of(lm, batch).item())
        weight[place] += 3e-3
        assert (losses[0] - losses[1]) / 6e-3 == pytest.approx(weight.grad[place].item(), rel=1e-2, abs=1e-3)


@tasks
def test_joint_training_at_rate_0_is_training_on_a_frozen_u(task):
    """And at another rate it is not."""

    def trained(lm: PersonalLM, batch: PersonalBatch, rate: float) -> list[Tensor]:
        groups = [{"params": lm.adapters.parameters(), "lr": 1e-2}]
        if lm.representer is not None:
            groups.append({"params": lm.representer.parameters(), "lr": rate})
        optimizer = torch.optim.AdamW(groups, weight_decay=0.1)
        for _ in range(4):
            with lm.scope(batch):
                lm.loss(batch).backward()
            optimizer.step()
            optimizer.zero_grad()
        return [p.detach().clone() for p in lm.adapters.parameters()]

    bag = Bag()
    frozen = trained(lm_of(task), batch_of(task, bag.representation(samples(), "final").detach()), 0.0)
    assert all(torch.equal(a, b) for a, b in zip(trained(lm_of(task, bag), batch_of(task), 0.0), frozen, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(trained(lm_of(task, Bag()), batch_of(task), 1e-2), frozen, strict=True))


@tasks
def test_a_frozen_representer_has_its_dropout_while_the_lm_learns(task):
    """As in the code of ReLLaX and RecLoRA: noise in u, and nothing of it learns."""
    lm, batch = lm_of(task, Bag(0.5).requires_grad_(False)), batch_of(task)
    torch.manual_seed(0)
    quiet = [loss_of(lm, batch).item() for _ in range(2)]
    noisy = [loss_of(lm.train(), batch).item() for _ in range(2)]
    assert quiet[0] == quiet[1]
    assert len({*quiet, *noisy}) == 3
    with lm.scope(batch):
        lm.loss(batch).backward()
    assert all(p.grad is None for p in lm.representer.parameters())
    assert all(p.grad is not None for p in lm.adapters.parameters())


@pytest.mark.parametrize(
    "ask",
    [likelihoods, choose, lambda lm, batch, titles: choose(lm, batch, titles, beams=3)],
    ids=["likelihoods", "greedy", "beams"],
)
def test_titles_share_one_u_for_each_row(ask: Callable[..., object]):
    """However many titles and beams a row has, the representer is asked once; and the answers are those of u in the batch."""
    bag, titles = Bag(), titles_of(TITLES)
    question = replace(batch_of("titles"), prompts=prompts_of(ROWS))
    given = replace(question, samples=None, user_BD=bag.representation(samples(), "final").detach())
    bag.calls = 0
    ours, theirs = ask(lm_of("titles", bag), question, titles), ask(lm_of("titles"), given, titles)
    assert bag.calls == 1
    for name in ("score_BC", "named_BC"):
        if hasattr(ours, name):
            assert torch.equal(getattr(ours, name), getattr(theirs, name))


@tasks
def test_a_coupling_without_users_asks_no_representer(task):
    bag = Bag()
    adapters = personalise(tiny_llama(VOCABULARY), Adaptation(coupling=Identity.Config(rank=4), dropout=0.0))
    lm = (
        TitleLM(adapters.model, adapters, representer=bag)
        if task == "titles"
        else YesNoLM(adapters.model, adapters, Answers(7, 3), representer=bag)
    )
    assert loss_of(lm, batch_of(task)).isfinite()
    assert bag.calls == 0


def test_yes_or_no_is_learnt_from_labels():
    lm, batch = lm_of("yes/no"), replace(batch_of("yes/no", torch.zeros(B, D).double()), label_B=None)
    with lm.scope(batch), pytest.raises(ConfigError, match="give it a batch with label_B"):
        lm.loss(batch)
    with torch.inference_mode():
        assert lm.score(replace(batch, prompts=plain_prompts(batch.prompts.tokens_BL))).shape == (B,)
