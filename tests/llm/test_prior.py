"""A language model that adds its logit to a prior's: at the start it is the prior, and what is learnt is the sum."""

from dataclasses import replace

import pytest
import torch
from llm_world import plain_prompts, tiny_llama
from test_trees import adapted, check
from torch import Tensor
from trees_world import prompts, trees

from lifelora.errors import ConfigError
from lifelora.evaluation.metrics import auc, log_loss
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.yes_no import SPEED, Prior, YesNoLM
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Full, Identity
from lifelora.lora.inject import personalise
from lifelora.prompts.yes_no import Answers
from lifelora.seeds import torch_generator

VOCABULARY, B, D = 50, 6, 4
YES, NO = 7, 3
M = 0.2


def personal(alpha: float = 0.0, beta: float = 0.0) -> YesNoLM:
    """In double precision but for Llama's norms, with adapters that change much."""
    adaptation = Adaptation(coupling=Full.Config(rank=2), targets=("q_proj", "down_proj"), dropout=0.0)
    adapters = personalise(tiny_llama(VOCABULARY).double(), adaptation, user_width=D)
    torch.manual_seed(1)
    for parameter in adapters.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    lm = YesNoLM(adapters.model, adapters, Answers(YES, NO), prior=Prior())
    assert lm.prior is not None
    with torch.no_grad():
        lm.prior.a.fill_(alpha / SPEED)
        lm.prior.b.fill_(beta / SPEED)
        lm.prior.m.fill_(M)
    return lm.eval()


def batch() -> PersonalBatch:
    torch.manual_seed(2)
    tokens_BL = torch.randint(1, VOCABULARY, (B, 9))
    user_BD, prior_B = torch.randn(B, D, dtype=torch.float64), 3 * torch.randn(B, dtype=torch.float64)
    return PersonalBatch(plain_prompts(tokens_BL), user_BD, torch.tensor([1.0, 0, 0, 1, 1, 0]).double(), prior_B=prior_B)


def s_of(lm: YesNoLM, made: PersonalBatch) -> Tensor:
    """s_yes - s_no by an ordinary forward over whole prompts."""
    with lm.adapters.scope(made.user_BD):
        logit_BV = lm.model(input_ids=made.prompts.tokens_BL).logits[:, -1]
    return logit_BV[:, YES] - logit_BV[:, NO]


def test_at_the_start_it_is_the_prior_whatever_the_words_say():
    lm, made = personal(), batch()
    with torch.no_grad():
        assert s_of(lm, made).abs().max() > 0.1
        score_B = lm.score(made)
    torch.testing.assert_close(score_B, torch.sigmoid(made.prior_B), rtol=0, atol=1e-9)


def test_the_score_is_of_the_sum():
    lm, made = personal(0.7, -0.4), batch()
    with torch.no_grad():
        z_B = made.prior_B + 0.7 * (s_of(lm, made) - M) - 0.4
        torch.testing.assert_close(lm.score(made), 1 / (1 + torch.exp(-z_B)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(("alpha", "beta"), [(0.0, 0.0), (0.7, -0.4), (-0.2, 0.1)])
def test_gradients_by_hand(alpha: float, beta: float):
    """Of L = -mean(y log p + (1 - y) log(1 - p)), p = σ(z): dL/dz = (p - y) / B, dz/dα = s - m, dz/dβ = 1; and A and B have the
    gradient of p = σ(prior + s - m), whatever α is."""
    lm, made = personal(alpha, beta), batch()
    assert lm.prior is not None
    with lm.scope(made):
        loss = lm.loss(made)
        loss.backward()
    s_B = s_of(lm, made)
    p_B = torch.sigmoid(made.prior_B + alpha * (s_B - M) + beta).detach()
    y_B = made.label_B
    expected = -(y_B * p_B.log() + (1 - y_B) * (1 - p_B).log()).mean()
    torch.testing.assert_close(loss.detach(), expected, rtol=0, atol=1e-6)
    of_z_B = (p_B - y_B) / B
    assert lm.prior.a.grad.item() == pytest.approx(SPEED * (of_z_B * (s_B - M)).sum().item(), abs=1e-6)
    assert lm.prior.b.grad.item() == pytest.approx(SPEED * of_z_B.sum().item(), abs=1e-6)
    learnt = [p for p in lm.adapters.parameters() if p.requires_grad]
    of_s_B = (torch.sigmoid(made.prior_B + s_B - M).detach() - y_B) / B
    by_hand = torch.autograd.grad((of_s_B * s_B).sum(), learnt)
    for parameter, gradient in zip(learnt, by_hand, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-7)
        assert parameter.grad.abs().max() > 0


def test_two_steps_move_everything():
    """B and C at the first, A too as soon as B is not zero, each at its full rate, small as α is."""
    lm, made = personal(), batch()
    lm.train()
    before = {name: p.detach().clone() for name, p in lm.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW([p for p in lm.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.0)
    for step in (1, 2):
        optimizer.zero_grad()
        with lm.scope(made):
            lm.loss(made).backward()
        optimizer.step()
        moved = {name: (p.detach() - before[name]).abs().max().item() for name, p in lm.named_parameters() if name in before}
        adapters = [moved[name] for name in moved if not name.startswith("prior.")]
        assert moved["prior.a"] > 0
        assert (max(adapters) if step == 1 else min(adapters)) > 1e-4


@pytest.mark.parametrize("coupling", ["identity", "experts", "full"])
def test_a_tree_equals_its_prompts(coupling: str):
    """Each branch has a prior of its own, whichever trunk it hangs on."""
    made, lm = trees(VOCABULARY), adapted(coupling, lambda *parts: YesNoLM(*parts, Answers(7, 8), prior=Prior()))
    assert isinstance(lm, YesNoLM)
    assert lm.prior is not None
    torch.nn.init.constant_(lm.prior.a, 0.8 / SPEED)
    user_RD = torch.randn(2, 6)
    whole = PersonalBatch(
        prompts(made), user_RD[made.tree_G], torch.tensor([1.0, 0.0, 1.0, 1.0, 0.0]), prior_B=3 * torch.randn(len(made))
    )
    check(lm, whole, replace(whole, prompts=made, user_BD=user_RD))


def test_a_batch_without_its_prior_is_refused():
    lm, made = personal(), batch()
    with pytest.raises(ConfigError, match="give it one with prior_B"):
        lm.score(replace(made, prior_B=None))


def world(count: int, seed: int) -> tuple[PersonalBatch, Tensor]:
    """Log-odds of a like are 1.5 times (the user's number + the word's), each -1 or 1. The prior knows the user's alone, and of
    the text one token is the word."""
    generator = torch.Generator().manual_seed(seed)
    user_N, word_N = (2.0 * torch.randint(0, 2, (count,), generator=generator) - 1 for _ in range(2))
    tokens_NL = torch.randint(20, VOCABULARY, (count, 6), generator=generator)
    tokens_NL[:, 3] = torch.where(word_N > 0, 11, 12)
    true_N = torch.sigmoid(1.5 * (user_N + word_N))
    label_N = (torch.rand(count, generator=generator) < true_N).float()
    return PersonalBatch(plain_prompts(tokens_NL), torch.zeros(count, 0), label_N, prior_B=1.5 * user_N), true_N


def rows(made: PersonalBatch, index: Tensor) -> PersonalBatch:
    return PersonalBatch(
        plain_prompts(made.prompts.tokens_BL[index]), made.user_BD[index], made.label_B[index], prior_B=made.prior_B[index]
    )


def test_words_are_added_to_what_the_prior_knows():
    """After 80 steps, on other samples each, it beats the prior, and the LM that learnt without one, and nears the truth."""
    made, test = world(80 * 48, 1)[0], world(2000, 2)
    scores = {"prior": torch.sigmoid(test[0].prior_B)}
    for name, prior in (("both", Prior()), ("words", None)):
        adaptation = Adaptation(coupling=Identity.Config(rank=8), targets=("all-linear",), dropout=0.0)
        adapters = personalise(tiny_llama(VOCABULARY), adaptation, generator=torch_generator(1, "adapters"))
        lm = YesNoLM(adapters.model, adapters, Answers(YES, NO), prior=prior)
        optimizer = torch.optim.AdamW([p for p in lm.parameters() if p.requires_grad], lr=4e-3, weight_decay=0.0)
        for step in range(80):
            some = rows(made, torch.arange(48) + 48 * step)
            optimizer.zero_grad()
            with lm.scope(some):
                lm.loss(some).backward()
            optimizer.step()
        with torch.no_grad():
            scores[name] = lm.eval().score(test[0])
    label_N = test[0].label_B.numpy() > 0.5
    found = {name: auc(label_N, score_N.numpy()) for name, score_N in scores.items()}
    best = auc(label_N, test[1].numpy())
    assert found["both"] > max(found["prior"], found["words"]) + 0.05, found
    assert found["both"] > best - 0.03, (found, best)
    loss = {name: log_loss(label_N, score_N.numpy()) for name, score_N in scores.items()}
    assert loss["both"] < min(loss["prior"], loss["words"]) - 0.05, loss
