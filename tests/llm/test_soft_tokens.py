"""Soft tokens against embeddings put together by hand, and users beside one another."""

from dataclasses import replace

import pytest
import torch
from llm_world import plain_prompts, tiny_llama

from lifelora.errors import ConfigError
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.soft import SoftTokens
from lifelora.llm.yes_no import YesNoLM
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Full
from lifelora.lora.inject import personalise
from lifelora.prompts.slots import USER
from lifelora.prompts.yes_no import Answers

VOCABULARY, D, E, M, X = 50, 6, 5, 9, 4


def personal() -> YesNoLM:
    torch.manual_seed(0)
    adaptation = Adaptation(coupling=Full.Config(rank=4), targets=("q_proj", "v_proj"), dropout=0.0)
    adapters = personalise(tiny_llama(VOCABULARY), adaptation, user_width=D)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return YesNoLM(adapters.model, adapters, Answers(7, 3), soft=SoftTokens(32, torch.randn(M, E), X)).eval()


def batch() -> PersonalBatch:
    torch.manual_seed(1)
    soft_BL = torch.tensor([[-1, -1, -1, 4, USER, 8, -1], [-1, USER, 0, 3, 3, 1, -1]])
    mask_BL = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]]).bool()
    tokens_BL, label_B = torch.randint(1, VOCABULARY, (2, 7)), torch.tensor([1.0, 0.0])
    return PersonalBatch(plain_prompts(tokens_BL, mask_BL, soft_BL), torch.randn(2, D), label_B, soft_user_BX=torch.randn(2, X))


def test_the_projectors_are_their_formula_and_stand_in_their_places():
    lm, one = personal(), batch()
    soft = lm.soft
    table = lm.model.get_input_embeddings().weight
    prompts = one.prompts
    embedded = soft.embed(lm.model.get_input_embeddings(), prompts.tokens_BL, prompts.soft_BL, one.soft_user_BX)
    for row in range(2):
        for place in range(7):
            item = int(prompts.soft_BL[row, place])
            projector = soft.user if item == USER else soft.item
            c = (one.soft_user_BX[row] if item == USER else soft.vectors_ME[item]).double()
            hidden = projector.into.weight.double() @ c + projector.into.bias
            gelu = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
            by_hand = projector.out.weight.double() @ gelu + projector.out.bias
            expected = table[prompts.tokens_BL[row, place]].double() if item == -1 else by_hand
            torch.testing.assert_close(embedded[row, place].double(), expected, rtol=1e-5, atol=1e-6)


def test_a_batch_is_each_alone():
    lm, both = personal(), batch()
    together = lm.score(both)
    for row in range(2):
        prompts, real = both.prompts, both.prompts.mask_BL[row]
        one = plain_prompts(prompts.tokens_BL[row, real][None], soft_BL=prompts.soft_BL[row, real][None])
        alone = PersonalBatch(one, both.user_BD[row][None], both.label_B[row][None], soft_user_BX=both.soft_user_BX[row][None])
        torch.testing.assert_close(lm.score(alone)[0], together[row], rtol=1e-4, atol=1e-5)


def test_items_matter_and_what_stands_under_a_soft_token_does_not():
    lm, one = personal(), batch()
    score, prompts = lm.score(one), one.prompts
    under = replace(prompts, tokens_BL=torch.where(prompts.soft_BL != -1, 9, prompts.tokens_BL))
    assert torch.equal(lm.score(replace(one, prompts=under)), score)
    other = replace(prompts, soft_BL=torch.where(prompts.soft_BL >= 0, (prompts.soft_BL + 1) % M, prompts.soft_BL))
    assert (lm.score(replace(one, prompts=other)) - score).abs().min() > 1e-5
    assert (lm.score(replace(one, soft_user_BX=one.soft_user_BX.flip(0))) - score).abs().min() > 1e-5


def test_the_projector_learns_and_words_and_vectors_do_not():
    lm, one = personal(), batch()
    with lm.scope(one):
        lm.loss(one).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in lm.soft.parameters())
    assert lm.model.get_input_embeddings().weight.grad is None
    assert "vectors_ME" not in dict(lm.soft.named_parameters())
    assert not any("vectors_ME" in name for name in lm.state_dict())


def test_the_projectors_start_as_linear_layers_do():
    """Uniform in ±1/√inputs, weights and biases, so of variance 1/(3·inputs): the default of nn.Linear (He et al., a = √5)."""
    torch.manual_seed(0)
    soft = SoftTokens(512, torch.randn(M, 64), 100)
    for linear, inputs in ((soft.item.into, 64), (soft.item.out, 512), (soft.user.into, 100), (soft.user.out, 512)):
        for parameter in (linear.weight, linear.bias):
            assert parameter.abs().max() <= inputs**-0.5
            assert parameter.std().item() == pytest.approx((3 * inputs) ** -0.5, rel=0.1)


def test_collms_projector_is_one_for_users_and_items():
    """Linear(E, 10E), ReLU, Linear(10E, D), in double precision by hand; (10E·E + 10E) + (D·10E + D) parameters."""
    torch.manual_seed(0)
    soft, embedding = SoftTokens(32, torch.randn(M, E), E, form="collm"), torch.nn.Embedding(VOCABULARY, 32)
    assert sum(p.numel() for p in soft.parameters()) == (10 * E * E + 10 * E) + (32 * 10 * E + 32) == 1932
    soft_BL, user_BX = torch.tensor([[USER, -1, 4]]), torch.randn(1, E)
    embedded_LD = soft.embed(embedding, torch.tensor([[1, 2, 3]]), soft_BL, user_BX)[0]
    W1, b1, W2, b2 = (p.double() for p in (soft.item.into.weight, soft.item.into.bias, soft.item.out.weight, soft.item.out.bias))
    for place, c in ((0, user_BX[0]), (2, soft.vectors_ME[4])):
        by_hand = W2 @ (W1 @ c.double() + b1).clamp(min=0) + b2
        torch.testing.assert_close(embedded_LD[place].double(), by_hand, rtol=1e-5, atol=1e-6)
    assert torch.equal(embedded_LD[1], embedding.weight[2])
    assert SoftTokens(32, None, X, "collm").user.into.out_features == 10 * X
    with pytest.raises(ConfigError, match="users are 4 wide and its items 5"):
        SoftTokens(32, torch.randn(M, E), X, "collm")


def test_what_stands_nowhere_has_no_projector():
    assert SoftTokens(32, torch.randn(M, E)).user is None
    only_users = SoftTokens(32, None, X)
    assert (only_users.item, only_users.vectors_ME) == (None, None)
    one = batch().prompts
    words, vectors = torch.nn.Embedding(VOCABULARY, 32), torch.randn(2, X)
    embedded = only_users.embed(words, one.tokens_BL, one.soft_BL.clamp(max=-1), vectors)
    torch.testing.assert_close(embedded[one.soft_BL == USER], only_users.user(vectors))
    assert torch.equal(embedded[one.soft_BL != USER], words(one.tokens_BL)[one.soft_BL != USER])
