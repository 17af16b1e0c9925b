"""Soft tokens against embeddings put together by hand, and people beside one another."""

from dataclasses import replace

import torch
from llm_world import tiny_llama

from lifelora.llm.personal import PersonalBatch, PersonalLM
from lifelora.llm.soft import SoftTokens
from lifelora.lora.coupling import Full
from lifelora.lora.inject import Adaptation, personalise
from lifelora.prompts.batch import Answers

VOCABULARY, D, E, M = 50, 6, 5, 9


def personal() -> PersonalLM:
    torch.manual_seed(0)
    adaptation = Adaptation(coupling=Full.Config(rank=4), targets=("q_proj", "v_proj"), dropout=0.0)
    adapters = personalise(tiny_llama(VOCABULARY), adaptation, user_width=D)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return PersonalLM(adapters.model, adapters, Answers(7, 3), soft=SoftTokens(torch.randn(M, E), 32)).eval()


def batch() -> PersonalBatch:
    torch.manual_seed(1)
    soft_BL = torch.tensor([[-1, -1, -1, 4, -1, 8, -1], [-1, 0, -1, 3, 3, 1, -1]])
    mask_BL = torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1]]).bool()
    return PersonalBatch(torch.randint(1, VOCABULARY, (2, 7)), mask_BL, torch.tensor([1.0, 0.0]), torch.randn(2, D), soft_BL)


def test_the_projector_is_its_formula_and_stands_in_its_places():
    lm, one = personal(), batch()
    soft = lm.soft
    table = lm.embedding().weight
    embedded = soft.embed(lm.embedding(), one.tokens_BL, one.soft_BL)
    for row in range(2):
        for place in range(7):
            item = int(one.soft_BL[row, place])
            c = soft.vectors_ME[item].double()
            hidden = soft.into.weight.double() @ c + soft.into.bias
            gelu = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
            by_hand = soft.out.weight.double() @ gelu + soft.out.bias
            expected = by_hand if item >= 0 else table[one.tokens_BL[row, place]].double()
            torch.testing.assert_close(embedded[row, place].double(), expected, rtol=1e-5, atol=1e-6)


def test_a_batch_is_each_alone():
    lm, both = personal(), batch()
    together = lm.score(both)
    for row in range(2):
        real = both.mask_BL[row]
        alone = PersonalBatch(both.tokens_BL[row, real][None], real[real][None], both.label_B[row][None],
                              both.user_BD[row][None], both.soft_BL[row, real][None])
        torch.testing.assert_close(lm.score(alone)[0], together[row], rtol=1e-4, atol=1e-5)


def test_items_matter_and_what_stands_under_a_soft_token_does_not():
    lm, one = personal(), batch()
    score = lm.score(one)
    assert torch.equal(lm.score(replace(one, tokens_BL=torch.where(one.soft_BL >= 0, 9, one.tokens_BL))), score)
    other = torch.where(one.soft_BL >= 0, (one.soft_BL + 1) % M, one.soft_BL)
    assert (lm.score(replace(one, soft_BL=other)) - score).abs().min() > 1e-5


def test_the_projector_learns_and_words_and_vectors_do_not():
    lm, one = personal(), batch()
    with lm.scope(one):
        lm.loss(one).backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in lm.soft.parameters())
    assert lm.embedding().weight.grad is None
    assert "vectors_ME" not in dict(lm.soft.named_parameters())
    assert not any("vectors_ME" in name for name in lm.state_dict())
    assert all(linear.bias.eq(0).all() for linear in (lm.soft.into, lm.soft.out))
