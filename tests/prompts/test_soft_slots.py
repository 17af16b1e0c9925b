"""Room for soft tokens in prompts: where they stand, whose they are, and how many are left when a prompt is cut."""

import numpy as np
import pytest
import torch

from lifelora.prompts.batch import USER, PromptBuilder
from lifelora.prompts.template import Plain, Rella


@pytest.fixture(scope="module", params=[("sentencepiece-bpe", Plain()), ("byte-level", Rella())], ids=["plain", "rella"])
def builders(request, dataset, fresh):
    """The same prompts without soft tokens, with SPA's, and with one of the user besides."""
    family, template = request.param
    tokenizer = fresh(family)
    places = ((), ("behaviours", "target"), ("user", "behaviours", "target"))
    return [PromptBuilder.make(dataset, template, tokenizer, 1024, soft) for soft in places]


def both(builders, rows, length, max_tokens=1024):
    for builder in builders:
        limited = PromptBuilder(builder.dataset, builder.segments, builder.answers, max_tokens, builder.soft)
        targets = builder.dataset.targets(np.asarray(rows))
        yield limited.build(targets, *builder.dataset.history(targets, length))


def test_without_them_it_is_the_same_prompt(builders):
    words, *softs = both(builders, np.arange(60), 5)
    assert words.soft_BL is None
    for soft in softs:
        for place in range(60):
            kept = soft.mask_BL[place] & (soft.soft_BL[place] == -1)
            assert soft.tokens_BL[place][kept].tolist() == words.tokens_BL[place][words.mask_BL[place]].tolist()
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
        seen = chosen_BK[place][mask_BK[place]][len(chosen_BK[place][mask_BK[place]]) - left:]
        found = batch.soft_BL[place][batch.soft_BL[place] >= 0].tolist()
        assert found == [*data.item_N[seen].tolist(), int(targets.item_B[place])]
        assert int(batch.mask_BL[place].sum()) <= max_tokens
        found = with_user.soft_BL[place][with_user.soft_BL[place] != -1].tolist()
        left = int(with_user.shown_B[place])
        assert found == [USER, *data.item_N[seen].tolist()[len(seen) - left :], int(targets.item_B[place])]
        assert int(with_user.mask_BL[place].sum()) <= max_tokens
    if spare < 1000:
        assert (batch.shown_B.numpy() < mask_BK.sum(1)).any()


def test_each_stands_after_the_line_that_names_its_item(builders):
    _, batch, _ = both(builders, [40], 3)
    segments, data = builders[1].segments, builders[1].dataset
    targets = data.targets(np.array([40]))
    rows_BK, mask_BK = data.history(targets, 3)
    prompt = segments.prompt(int(targets.user_B[0]), data.item_N[rows_BK[mask_BK]].tolist(),
                             data.rating_N[rows_BK[mask_BK]].tolist(), int(targets.item_B[0]))
    ours = torch.where(batch.soft_BL[0] >= 0, -1, batch.tokens_BL[0])
    assert ours.tolist() == prompt
    lines = np.split(np.array(prompt), np.flatnonzero(np.array(prompt) == -1) + 1)
    item, rating = data.item_N[rows_BK[0, -1]], data.rating_N[rows_BK[0, -1]]
    start, end = segments.offsets_N[segments.behaviour_MR[item, rating]:][:2]
    assert lines[-3].tolist() == segments.tokens_T[start:end].tolist()


@pytest.mark.parametrize("shown", [0, 3])
def test_the_users_stands_at_the_end_of_the_head(builders, shown):
    _, _, batch = both(builders, [40, 3], shown)
    segments, data = builders[2].segments, builders[2].dataset
    for row, user in enumerate(data.targets(np.array([40, 3])).user_B):
        start, end = segments.offsets_N[segments.head_U2[user, int(batch.shown_B[row] > 0)] :][:2]
        head = batch.tokens_BL[row][batch.mask_BL[row]][: end - start].tolist()
        assert head == [*segments.tokens_T[start : end - 1].tolist(), 0]
        assert batch.soft_BL[row][batch.mask_BL[row]][: end - start].tolist() == [-1] * (end - start - 1) + [USER]


def test_collms_prompt_has_two_whatever_is_shown(dataset, fresh):
    """Behaviours are words alone there; what is cut off takes no soft token with it."""
    builder = PromptBuilder.make(dataset, Plain(), fresh("byte-level"), 1024, ("target", "user"))
    targets = dataset.targets(np.arange(80))
    longest = int(builder.build(targets, *dataset.history(targets, 0)).mask_BL.sum(1).max())
    cut = PromptBuilder(dataset, builder.segments, builder.answers, longest + 20, builder.soft)
    history = dataset.history(targets, 8)
    batch = cut.build(targets, *history)
    assert 0 < int(batch.shown_B.sum()) < int(history[1].sum())
    for row in range(80):
        assert batch.soft_BL[row][batch.soft_BL[row] != -1].tolist() == [USER, int(targets.item_B[row])]
