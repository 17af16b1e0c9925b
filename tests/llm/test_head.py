"""The head in full precision: against the models' own logits, and against fp64 where the models are rounded."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from families_world import RIGHT, VOCABULARY, tiny
from llm_world import plain_prompts, tiny_llama
from torch import Tensor, nn

from lifelora.llm.head import full_precision
from lifelora.llm.likelihoods import likelihoods
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.titles import TitleLM
from lifelora.llm.trees.ready import ready
from lifelora.llm.yes_no import YesNoLM
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Full, Identity
from lifelora.lora.inject import personalise
from lifelora.prompts.titles import Titles
from lifelora.prompts.yes_no import Answers

YES, NO = 7, 3
HALVES = pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])


def ids(batch: int, length: int) -> Tensor:
    return torch.randint(4, 60, (batch, length), generator=torch.Generator().manual_seed(1))


def asked(model: nn.Module, targets: tuple[str, ...] = ("all-linear",), **options: object) -> YesNoLM:
    adapters = personalise(model, Adaptation(coupling=Identity.Config(rank=2), targets=targets, dropout=0.0))
    return YesNoLM(model, adapters, Answers(YES, NO), **options).eval()


def batch_of(tokens_BL: Tensor) -> PersonalBatch:
    B = len(tokens_BL)
    return PersonalBatch(plain_prompts(tokens_BL), torch.zeros(B, 0), torch.zeros(B))


@pytest.mark.parametrize("family", RIGHT)
@torch.no_grad()
def test_a_few_rows_are_the_models_own_logits(family):
    """With its bias (Phi, GPT-J), scale (Cohere, Granite) and soft-cap (Gemma 2), which its own code goes on adding.

    Sums of 32 products in another order: within a few hundred roundings of the largest logit.
    """
    model, tokens_BL = tiny(family), ids(3, 9)
    own_BLV = model(input_ids=tokens_BL).logits
    with full_precision(model, [YES, NO]):
        few_BL2 = model(input_ids=tokens_BL).logits
    assert few_BL2.shape == (3, 9, 2)
    torch.testing.assert_close(few_BL2, own_BLV[..., [YES, NO]], rtol=0, atol=3e-5 * max(1.0, own_BLV.abs().max().item()))
    with full_precision(model):  # nothing to do in fp32
        assert torch.equal(model(input_ids=tokens_BL).logits, own_BLV)
    assert torch.equal(model(input_ids=tokens_BL).logits, own_BLV)  # and it is over


@HALVES
@pytest.mark.parametrize("family", ["llama", "phi", "cohere", "granite", "gemma2", "mixtral", "lfm2"])
@torch.no_grad()
def test_a_rounded_models_logits_are_those_of_its_last_state_in_fp64(family, dtype):
    """Its last state is rounded; all after it is not. The reference casts head and state to fp64 and scales and caps by hand."""
    model, tokens_BL = tiny(family, dtype), ids(3, 9)
    head, seen = model.get_output_embeddings(), []
    handle = head.register_forward_hook(lambda _, args, out: seen.append(args[0]))
    own_BLV = model(input_ids=tokens_BL).logits
    handle.remove()
    exact_BLV = seen[0].double() @ head.weight.double().T + (0 if head.bias is None else head.bias.double())
    exact_BLV = {"cohere": lambda x: x * 0.0625, "granite": lambda x: x / 8, "gemma2": lambda x: 3 * torch.tanh(x / 3)}.get(
        family, lambda x: x
    )(exact_BLV)
    with full_precision(model, [YES, NO]):
        few_BL2 = model(input_ids=tokens_BL).logits
    with full_precision(model):
        every_BLV = model(input_ids=tokens_BL).logits
    assert few_BL2.dtype == every_BLV.dtype == torch.float32
    scale = exact_BLV.abs().max().item()
    torch.testing.assert_close(few_BL2.double(), exact_BLV[..., [YES, NO]], rtol=0, atol=1e-5 * scale)
    torch.testing.assert_close(every_BLV.double(), exact_BLV, rtol=0, atol=1e-5 * scale)
    assert (own_BLV.double() - exact_BLV).abs().max() > 1e-4 * scale  # what is mended


def near_18(dtype: torch.dtype) -> tuple[nn.Module, nn.Module]:
    """A Llama whose yes and no lie near 18, as those of trained LMs do, and differ by little; in fp32 and rounded."""
    model = tiny_llama(VOCABULARY)
    with torch.no_grad():
        W = model.lm_head.weight
        state_D = model.model(ids(400, 12)).last_hidden_state[:, -1].mean(0)
        base_D, between_D = 0.1 * torch.randn(2, 32, generator=torch.Generator().manual_seed(2))
        up_D = (18 - base_D @ state_D) * state_D / state_D.norm() ** 2
        W[YES], W[NO] = base_D + up_D + 0.3 * between_D, base_D + up_D - 0.3 * between_D
    rounded = tiny_llama(VOCABULARY)
    rounded.load_state_dict(model.state_dict())
    return model, rounded.to(dtype)


@torch.no_grad()
def test_in_bf16_prompts_keep_scores_of_their_own():
    """400 prompts: yes - no of logits that are rounded to eighths has few values; of the two rows in fp32, nearly one each."""
    model, rounded = near_18(torch.bfloat16)
    tokens_BL = ids(400, 12)
    assert len({tuple(row) for row in tokens_BL.tolist()}) == 400
    exact_B = torch.sigmoid((lambda z: z[:, YES] - z[:, NO])(model.double()(tokens_BL).logits[:, -1]))
    lm = asked(rounded, ("q_proj",))
    score_B = lm.score(batch_of(tokens_BL))
    logits_BV = lm.logits(batch_of(tokens_BL))  # whole and rounded, as the loss reads them
    rounded_B = torch.sigmoid(logits_BV[:, YES] - logits_BV[:, NO])
    distinct, tied = (len(np.unique(values.numpy())) for values in (score_B, rounded_B))
    assert distinct >= 390
    assert tied < 100
    assert (score_B - exact_B).abs().mean() < 0.7 * (rounded_B - exact_B).abs().mean()  # what is left is the body's rounding


@torch.no_grad()
def test_in_bf16_titles_are_scored_in_full_precision():
    """Against log-softmax in fp64 over the whole vocabulary, of the states that the rounded model hands to its head."""
    _, model = near_18(torch.bfloat16)
    adapters = personalise(model, Adaptation(coupling=Full.Config(rank=2), dropout=0.0), user_width=3)
    ready(model)
    lm = TitleLM(model, adapters).eval()
    B, C = 6, 40
    tokens_BL, user_BD = ids(B, 8), torch.randn(B, 3)
    titles_BCA = torch.arange(4, 4 + C)[None, :, None].expand(B, -1, -1)  # of one token each, so that only the head is looked at
    prompts = plain_prompts(tokens_BL)
    titles = Titles(titles_BCA, torch.ones_like(titles_BCA, dtype=torch.bool))
    score_BC = likelihoods(lm, PersonalBatch(prompts, user_BD), titles).score_BC
    with adapters.scope(user_BD):
        state_BD = model.model(input_ids=tokens_BL).last_hidden_state[:, -1]
        rounded_BV = model(input_ids=tokens_BL).logits[:, -1].float().log_softmax(-1)
    exact_BV = (state_BD.double() @ model.lm_head.weight.double().T).log_softmax(-1)
    torch.testing.assert_close(score_BC.double(), exact_BV[:, 4 : 4 + C], rtol=0, atol=1e-4)
    assert (rounded_BV[:, 4 : 4 + C] - exact_BV[:, 4 : 4 + C]).abs().max() > 1e-2
    # And of titles of more tokens, read from what is kept of the prompt.
    two_BCA = torch.cat([titles_BCA, titles_BCA.flip(1)], dim=2)
    longer = likelihoods(
        lm,
        PersonalBatch(prompts, user_BD),
        replace(titles, tokens_BCA=two_BCA, mask_BCA=torch.ones_like(two_BCA, dtype=torch.bool)),
    )
    assert longer.score_BC.unique().numel() > 0.95 * B * C


@torch.no_grad()
def test_under_autocast_the_rows_stay_in_full_precision():
    model = tiny_llama(VOCABULARY)
    lm, batch = asked(model, ("q_proj",)), batch_of(ids(4, 9))
    with torch.autocast("cpu", torch.bfloat16), lm.scope(batch):
        assert lm.answer_logits(batch).dtype == torch.float32


@pytest.mark.parametrize("why", ["adapter", "hook", "no head", "told so"])
@torch.no_grad()
def test_a_head_that_cannot_be_read_is_asked_as_it_is(why):
    """Its whole logits are right, if rounded."""
    model = tiny_llama(VOCABULARY)
    lm = asked(model, ("q_proj", "lm_head") if why == "adapter" else ("q_proj",), head=why != "told so")
    batch = batch_of(ids(4, 9))
    expected_BV = lm.logits(batch)
    if why == "adapter":
        layer = dict(lm.adapters.layers)["lm_head"]
        nn.init.normal_(layer.B_OQ)
        before_BV, expected_BV = expected_BV, lm.logits(batch)
        assert not torch.allclose(before_BV, expected_BV)
    if why == "hook":
        model.lm_head.register_forward_hook(lambda _, args, out: out * 2)
        expected_BV = 2 * expected_BV
    if why == "no head":
        model.get_output_embeddings = lambda: None
    expected_B = torch.sigmoid(expected_BV[:, YES] - expected_BV[:, NO])
    torch.testing.assert_close(lm.score(batch), expected_B, rtol=0, atol=1e-6)
