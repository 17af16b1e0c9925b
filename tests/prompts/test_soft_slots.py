"""Room for soft tokens in prompts: where they stand, whose they are, and how many are left when a prompt is cut."""

import numpy as np
import pytest
import torch

from lifelora.prompts.slots import ITEM, USER
from lifelora.prompts.wording.yes_no import Plain, Rella
from lifelora.prompts.yes_no import YesNoBuilder


@pytest.fixture(scope="module", params=[("sentencepiece-bpe", Plain()), ("byte-level", Rella())], ids=["plain", "rella"])
def builders(request, dataset, fresh):
    """The same prompts without soft tokens, with SPA's, and with one of the user besides."""
    family, template = request.param
    tokenizer = fresh(family)
    places = ((), ("behaviours", "target"), ("user", "behaviours", "target"))
    return [YesNoBuilder.make(dataset, template, tokenizer, 1024, soft) for soft in places]


def both(builders, rows, length, max_tokens=1024):
    for builder in builders:
        limited = YesNoBuilder(builder.dataset, builder.lines, builder.answers, max_tokens, builder.soft)
        targets = builder.dataset.targets(np.asarray(rows))
        yield limited.build(targets, *builder.dataset.history(targets, length))


def test_what_is_under_a_soft_token_and_in_the_padding(builders):
    words, *softs = both(builders, np.arange(60), 5)
    assert words.soft_BL is None
    for soft in softs:
        assert (soft.tokens_BL >= 0).all()
        assert (soft.tokens_BL[soft.soft_BL != -1] == 0).all()
        assert (soft.soft_BL[~soft.mask_BL] == -1).all()


@pytest.mark.parametrize("spare", [1000, 40, 12])
def test_there_is_one_for_every_behaviour_that_is_left_and_one_for_the_target(builders, spare):
    """ReLLaX's code crashes where a cut prompt and its list of vectors differ in number."""
    rows, data = np.arange(80), builders[1].dataset
    longest_question = max(int(both_.mask_BL.sum(1).max()) for both_ in both(builders, rows, 0))
    max_tokens = longest_question + spare
    _, batch, with_user = both(builders, rows, 8, max_tokens)
    targets = data.targets(rows)
    chosen_BK, mask_BK = data.history(targets, 8)
    for place in range(80):
        left = int(batch.shown_B[place])
        seen = chosen_BK[place][mask_BK[place]][len(chosen_BK[place][mask_BK[place]]) - left :]
        found = batch.soft_BL[place][batch.soft_BL[place] >= 0].tolist()
        assert found == [*data.item_N[seen].tolist(), int(targets.item_B[place])]
        assert int(batch.mask_BL[place].sum()) <= max_tokens
        found = with_user.soft_BL[place][with_user.soft_BL[place] != -1].tolist()
        left = int(with_user.shown_B[place])
        assert found == [*data.item_N[seen].tolist()[len(seen) - left :], USER, int(targets.item_B[place])]
        assert int(with_user.mask_BL[place].sum()) <= max_tokens
    if spare < 1000:
        assert (batch.shown_B.numpy() < mask_BK.sum(1)).any()


def test_a_batch_is_the_lines_put_together(builders):
    for builder in builders[1:]:
        segments, data = builder.lines, builder.dataset
        targets = data.targets(np.array([40, 3, 41]))
        rows_BK, mask_BK = data.history(targets, 3)
        batch = builder.build(targets, rows_BK, mask_BK)
        for row in range(3):
            rows = rows_BK[row, mask_BK[row]]
            prompt = segments.prompt(
                int(targets.user_B[row]), data.item_N[rows].tolist(), data.rating_N[rows].tolist(), int(targets.item_B[row])
            )
            soft = batch.soft_BL[row]
            ours = torch.where(soft >= 0, ITEM, torch.where(soft == USER, USER, batch.tokens_BL[row]))
            assert ours[batch.mask_BL[row]].tolist() == prompt


def test_collms_prompt_has_two_whatever_is_shown(dataset, fresh):
    """Behaviours are words alone there; what is cut off takes no soft token with it."""
    builder = YesNoBuilder.make(dataset, Plain(), fresh("byte-level"), 1024, ("target", "user"))
    targets = dataset.targets(np.arange(80))
    longest = int(builder.build(targets, *dataset.history(targets, 0)).mask_BL.sum(1).max())
    cut = YesNoBuilder(dataset, builder.lines, builder.answers, longest + 20, builder.soft)
    history = dataset.history(targets, 8)
    batch = cut.build(targets, *history)
    assert 0 < int(batch.shown_B.sum()) < int(history[1].sum())
    for row in range(80):
        assert batch.soft_BL[row][batch.soft_BL[row] != -1].tolist() == [USER, int(targets.item_B[row])]
