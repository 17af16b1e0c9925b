"""The personal LM: its numbers are those of an ordinary forward, whoever stands beside whom in a batch."""

import pytest
import torch
from llm_world import plain_prompts, tiny_llama
from torch import Tensor

from lifelora.errors import ScopeError
from lifelora.llm.personal import PersonalBatch
from lifelora.llm.yes_no import Loss, YesNoLM
from lifelora.lora.adapters import Adaptation
from lifelora.lora.coupling import Coupling, Full, Identity
from lifelora.lora.inject import personalise
from lifelora.prompts.yes_no import Answers
from lifelora.seeds import torch_generator

VOCABULARY, D = 50, 6
ANSWERS = Answers(yes=7, no=3)
LENGTHS = (9, 4, 6, 1)
FULL, PLAIN = Full.Config(rank=4, alpha=8), Identity.Config(rank=4, alpha=8)
both = pytest.mark.parametrize("config", [FULL, PLAIN], ids=lambda config: config.kind)


def personal(config: Coupling.Config, *, learnt: bool = True, loss: Loss = "answer") -> YesNoLM:
    adaptation = Adaptation(coupling=config, targets=("q_proj", "v_proj", "down_proj"), dropout=0.0)
    adapters = personalise(tiny_llama(VOCABULARY), adaptation, user_width=D, generator=torch_generator(1, "adapters"))
    generator = torch_generator(2, "learnt")
    with torch.no_grad():
        for parameter in adapters.parameters() if learnt else []:  # as if trained, so that nothing holds by accident
            parameter += torch.empty(parameter.shape).normal_(std=0.3, generator=generator)
    return YesNoLM(adapters.model, adapters, ANSWERS, loss=loss).eval()


def texts() -> list[Tensor]:
    generator = torch_generator(3, "tokens")
    return [torch.randint(1, VOCABULARY, (length,), generator=generator) for length in LENGTHS]


def padded(rows: list[Tensor], user_BD: Tensor | None = None) -> PersonalBatch:
    longest = max(map(len, rows))
    tokens_BL = torch.zeros(len(rows), longest, dtype=torch.int64)
    mask_BL = torch.zeros(len(rows), longest, dtype=torch.bool)
    for row, tokens_L in enumerate(rows):
        tokens_BL[row, longest - len(tokens_L) :] = tokens_L
        mask_BL[row, longest - len(tokens_L) :] = True
    user_BD = torch.randn(len(rows), D, generator=torch_generator(4, "people")) if user_BD is None else user_BD
    return PersonalBatch(plain_prompts(tokens_BL, mask_BL), user_BD, torch.tensor([1.0, 0.0] * len(rows))[: len(rows)])


def row_of(batch: PersonalBatch, row: int) -> PersonalBatch:
    """One prompt alone, without padding."""
    tokens_BL = batch.prompts.tokens_BL[row, batch.prompts.mask_BL[row]][None]
    return PersonalBatch(plain_prompts(tokens_BL), batch.user_BD[[row]], batch.label_B[[row]])


@torch.no_grad()
def last_logits(lm: YesNoLM, batch: PersonalBatch, row: int) -> Tensor:
    """By transformers' ordinary forward over one unpadded prompt, all positions, then the last."""
    alone = row_of(batch, row)
    with lm.adapters.scope(alone.user_BD):
        return lm.model(input_ids=alone.prompts.tokens_BL).logits[0, -1]


@both
def test_p_yes_is_the_softmax_over_the_two_answers(config: Coupling.Config):
    lm, batch = personal(config), padded(texts())
    with torch.inference_mode():
        score_B = lm.score(batch)
    for row in range(len(LENGTHS)):
        logit_V = last_logits(lm, batch, row)
        expected = logit_V[[ANSWERS.yes, ANSWERS.no]].softmax(dim=0)[0]  # exp(s_yes) / (exp(s_yes) + exp(s_no))
        torch.testing.assert_close(score_B[row], expected, atol=1e-5, rtol=0)


@both
def test_the_loss_is_of_the_answer_over_the_whole_vocabulary(config: Coupling.Config):
    lm, batch = personal(config), padded(texts())
    with torch.no_grad(), lm.scope(batch):
        loss = lm.loss(batch)
    wanted = [ANSWERS.yes if label else ANSWERS.no for label in batch.label_B.tolist()]
    by_hand = [-last_logits(lm, batch, row).softmax(dim=0)[token].log() for row, token in enumerate(wanted)]
    torch.testing.assert_close(loss, torch.stack(by_hand).mean(), atol=1e-5, rtol=0)


@both
def test_the_logit_of_yes_alone(config: Coupling.Config):
    """CoLLM's: p = 1 / (1 + exp(-s_yes)), loss -log p where liked and -log(1 - p) where not, whatever the logit of no is."""
    lm, batch = personal(config, loss="yes"), padded(texts())
    with torch.no_grad():
        score_B = lm.score(batch)
        with lm.scope(batch):
            loss = lm.loss(batch)
    p_B = torch.stack([1 / (1 + (-last_logits(lm, batch, row)[ANSWERS.yes].double()).exp()) for row in range(len(LENGTHS))])
    torch.testing.assert_close(score_B.double(), p_B, atol=1e-5, rtol=0)
    by_hand = [-(p if label else 1 - p).log() for p, label in zip(p_B, batch.label_B.tolist(), strict=True)]
    torch.testing.assert_close(loss.double(), torch.stack(by_hand).mean(), atol=1e-5, rtol=0)


@both
def test_a_batch_gives_what_each_gives_alone(config: Coupling.Config):
    lm, batch = personal(config), padded(texts())
    with torch.inference_mode():
        together = lm.score(batch)
        alone = torch.cat([lm.score(row_of(batch, row)) for row in range(len(LENGTHS))])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=0)
    assert together.unique().numel() == len(LENGTHS)


@both
def test_another_order_gives_the_same_scores_in_that_order(config: Coupling.Config):
    lm, batch = personal(config), padded(texts())
    order = torch.tensor([2, 0, 3, 1])
    prompts = plain_prompts(batch.prompts.tokens_BL[order], batch.prompts.mask_BL[order])
    moved = PersonalBatch(prompts, batch.user_BD[order], batch.label_B[order])
    with torch.inference_mode():
        torch.testing.assert_close(lm.score(moved), lm.score(batch)[order], atol=1e-6, rtol=0)


def test_two_users_get_two_scores_for_one_text():
    text = texts()[0]
    batch = padded([text, text])
    with torch.inference_mode():
        one, other = personal(FULL).score(batch).tolist()
        plain_one, plain_other = personal(PLAIN).score(batch).tolist()
    assert abs(one - other) > 1e-3
    assert plain_one == pytest.approx(plain_other, abs=1e-6)  # plain LoRA does not see who asks


def test_untrained_adapters_change_nothing():
    batch = padded(texts())
    lm = personal(FULL, learnt=False)
    model = tiny_llama(VOCABULARY)
    with torch.inference_mode():
        score_B = lm.score(batch)
        for row in range(len(LENGTHS)):
            logit_V = model(input_ids=row_of(batch, row).prompts.tokens_BL).logits[0, -1]
            expected = logit_V[[ANSWERS.yes, ANSWERS.no]].softmax(dim=0)[0]
            torch.testing.assert_close(score_B[row], expected, atol=1e-5, rtol=0)


def test_nobody_in_scope():
    lm, batch = personal(FULL), padded(texts())
    with pytest.raises(ScopeError):
        lm.logits(batch)
    with pytest.raises(ScopeError):
        lm.loss(batch)
    with torch.inference_mode():
        lm.score(batch)
    with pytest.raises(ScopeError):  # score left nobody behind
        lm.logits(batch)
    assert personal(PLAIN).logits(batch).shape == (len(LENGTHS), VOCABULARY)


@both
def test_training_changes_adapters_and_coupling_only(config: Coupling.Config):
    lm, batch = personal(config), padded(texts())
    lm.train()
    mine = {id(p) for p in lm.adapters.parameters()}
    trainable = {name for name, p in lm.named_parameters() if p.requires_grad}
    assert {id(p) for p in lm.parameters() if p.requires_grad} == mine
    before = {name: p.detach().clone() for name, p in lm.named_parameters()}
    optimizer = torch.optim.AdamW([p for p in lm.parameters() if p.requires_grad], lr=1e-2, weight_decay=0.1)
    losses = []
    for _ in range(5):
        with lm.scope(batch):
            loss = lm.loss(batch)
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    changed = {name for name, p in lm.named_parameters() if not torch.equal(p, before[name])}
    assert changed == trainable
    assert len(changed) < len(before)
