"""Prompt trees against the prompts that they stand for: token by token, place by place, soft token by soft token."""

from copy import copy
from dataclasses import replace

import numpy as np
import pytest
from branches_world import K, branch, growing, left
from hypothesis import given, settings
from hypothesis import strategies as st

from lifelora.data.dataset import Targets
from lifelora.data.negatives import Drawn
from lifelora.errors import ConfigError, LeakError
from lifelora.prompts.tree import PromptTrees
from lifelora.prompts.wording.yes_no import Plain
from lifelora.prompts.yes_no import YesNoBuilder


@pytest.fixture(scope="module", params=[(), ("user", "behaviours", "target")], ids=["words", "soft"])
def builder(request, dataset, fresh):
    return YesNoBuilder.make(dataset, Plain(), fresh("sentencepiece-bpe"), 1024, request.param)


def limited(builder: YesNoBuilder, max_tokens: int) -> YesNoBuilder:
    return YesNoBuilder(builder.dataset, builder.lines, builder.answers, max_tokens, builder.soft)


def check(builder: YesNoBuilder, trees: PromptTrees, targets: Targets, chosen_BK: np.ndarray) -> None:
    """Every branch is the prompt that ``build`` writes of the behaviours that the tree has left to it."""
    width = chosen_BK.shape[1]
    for number in range(len(trees)):
        whole = builder.build(targets.at(np.array([number])), chosen_BK[[number]], left(trees, number, width))
        tokens, positions, soft = branch(trees, number)
        assert tokens == whole.tokens_BL[0].tolist()
        assert positions == list(range(len(tokens)))
        assert soft == ([-1] * len(tokens) if whole.soft_BL is None else whole.soft_BL[0].tolist())
        assert whole.shown_B.tolist() == [int(trees.shown_G[number])]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 250), min_size=1, max_size=30), st.integers(1, 6), st.integers(0, 400))
def test_a_branch_is_its_prompt_however_little_room_there_is(builder, rows, block, spare):
    """Also the same sample twice, samples without a past, and trees of which nothing is left but questions."""
    rows = [row % len(builder.dataset) for row in rows]
    targets, chosen_BK, mask_BK, trunk_B, _ = growing(builder.dataset, rows, block)
    bare = int(builder.lengths(targets, chosen_BK, np.zeros_like(mask_BK)).max())
    tight = limited(builder, bare + spare)
    trees = tight.trees(targets, chosen_BK, mask_BK, trunk_B)
    check(tight, trees, targets, chosen_BK)
    assert int((trees.place_G + trees.branch_G).max()) <= bare + spare
    lengths_R, lengths_G, tree_G = tight.tree_lengths(targets, chosen_BK, mask_BK, trunk_B)
    assert (lengths_R.tolist(), lengths_G.tolist()) == (trees.trunk_R.tolist(), trees.branch_G.tolist())
    assert tree_G.tolist() == trees.tree_G.tolist()
    assert len(trees.tokens_L) == lengths_R.sum() + lengths_G.sum()
    # What is cut is the oldest, as many for all of a tree: those that are left begin with the same event.
    gone_B = mask_BK.sum(axis=1) - trees.shown_G.numpy()
    some_B = trees.shown_G.numpy() > 0
    for tree in range(len(trees.trunk_R)):
        assert len(set(gone_B[(trees.tree_G.numpy() == tree) & some_B])) <= 1
    if spare == 400:
        assert gone_B.sum() == 0


def test_as_little_as_can_be_is_cut(builder):
    """One behaviour more, and some branch of the tree has no room."""
    targets, chosen_BK, mask_BK, trunk_B, _ = growing(builder.dataset, range(40), 5)
    whole = builder.trees(targets, chosen_BK, mask_BK, trunk_B)
    room = int((whole.place_G + whole.branch_G).max()) - 1
    cut = limited(builder, room).trees(targets, chosen_BK, mask_BK, trunk_B)
    gone_B = (whole.shown_G - cut.shown_G).numpy()
    assert set(gone_B) == {0, 1}  # a line of a behaviour is longer than the one token that is missing
    full_B = (whole.place_G + whole.branch_G).numpy() > room
    for trunk in np.unique(trunk_B[gone_B == 1]):
        assert full_B[trunk_B == trunk].any()


def test_the_trunk_is_read_once_for_a_block(builder):
    targets, chosen_BK, mask_BK, trunk_B, _ = growing(builder.dataset, range(60), 4)
    trees = builder.trees(targets, chosen_BK, mask_BK, trunk_B)
    some = trees.shown_G > 0
    assert len(np.unique(trees.tree_G[some])) == len(np.unique(trunk_B[some.numpy()]))
    assert 2 * int(trees.trunk_R.sum()) < int(trees.place_G.sum())  # which full prompts would read


def test_candidates_of_one_moment_hang_on_one_trunk(builder):
    one = builder.dataset.targets(np.array([20]))
    items = np.arange(builder.dataset.n_items)
    targets = Targets(one.user_B.repeat(len(items)), items, one.position_B.repeat(len(items)), one.label_B.repeat(len(items)))
    chosen_BK, mask_BK = builder.dataset.history(targets, K)
    trees = builder.trees(targets, chosen_BK, mask_BK, np.zeros(len(items), np.int64))
    assert len(trees.trunk_R) == 1
    assert set(trees.place_G.tolist()) == set(trees.trunk_R.tolist())
    check(builder, trees, targets, chosen_BK)


def test_a_planted_leak_is_caught_and_a_changed_rating_reaches_no_branch_at_or_before_it(builder):
    data = builder.dataset
    rows = np.arange(int(data.log.offsets[4]), int(data.log.offsets[4]) + 8)
    targets, chosen_BK, mask_BK, trunk_B, _ = growing(builder.dataset, rows, 8)
    before = builder.trees(targets, chosen_BK, mask_BK, trunk_B)
    for changed in range(8):
        # The line of the event in question as another event wrote it, with another rating.
        other = builder.lines.behaviour_MR[data.item_N[rows[changed]]]
        data_rating = int(data.rating_N[rows[changed]])
        swapped = YesNoBuilder(data, _reworded(builder, int(other[data_rating])), builder.answers, 1024, builder.soft)
        after = swapped.trees(targets, chosen_BK, mask_BK, trunk_B)
        for number in range(8):
            same = branch(before, number)[0] == branch(after, number)[0]
            assert same == (number <= changed)
    # A sample that is shown one event too many, its own, is shown no beginning of what its block is shown.
    leaking_BK, wrong_BK = chosen_BK.copy(), mask_BK.copy()
    leaking_BK[3] = np.roll(chosen_BK[3], -1)
    leaking_BK[3, -1], wrong_BK[3, -1 - int(mask_BK[3].sum())] = rows[5], True
    with pytest.raises(LeakError, match="sample 3 of the batch is shown events that are no beginning"):
        builder.trees(targets, leaking_BK, wrong_BK, trunk_B)


def _reworded(builder: YesNoBuilder, segment: int):
    """The lines with other tokens in one segment."""
    tokens_T = np.array(builder.lines.tokens_T)
    start, end = builder.lines.offsets_N[segment : segment + 2]
    words_T = tokens_T[start:end] >= 0
    tokens_T[start:end][words_T] = (tokens_T[start:end][words_T] + 1) % 400
    return replace(builder.lines, tokens_T=tokens_T)


def test_a_question_without_room_is_refused_by_the_name_of_its_item(builder):
    targets, chosen_BK, mask_BK, trunk_B, _ = growing(builder.dataset, range(30), 4)
    with pytest.raises(ConfigError, match="the question about item 'i.*raise max_tokens"):
        limited(builder, 5).trees(targets, chosen_BK, mask_BK, trunk_B)


def test_a_history_may_have_holes(builder):
    """As a selector may leave them: what counts is which events are shown, not in which cells they stand."""
    targets, chosen_BK, mask_BK, trunk_B, _ = growing(builder.dataset, range(40), 5)
    width = chosen_BK.shape[1]
    holes = np.sort(np.random.default_rng(0).permuted(np.tile(np.arange(2 * width), (40, 1)), axis=1)[:, :width], axis=1)
    spread_BK, real_BK = np.zeros((40, 2 * width), np.int64), np.zeros((40, 2 * width), np.bool_)
    np.put_along_axis(spread_BK, holes, chosen_BK, axis=1)
    np.put_along_axis(real_BK, holes, mask_BK, axis=1)
    one, other = builder.trees(targets, chosen_BK, mask_BK, trunk_B), builder.trees(targets, spread_BK, real_BK, trunk_B)
    for field in ("tokens_L", "place_G", "tree_G", "shown_G", *(("soft_L",) if builder.soft else ())):
        assert getattr(one, field).tolist() == getattr(other, field).tolist()


def test_negatives_hang_where_their_like_does(builder):
    """A sample below zero stands at the time of its like: both hang at one place, before the like's own line."""
    data = copy(builder.dataset)
    rows = int(data.log.offsets[5]) + np.arange(3, 9)
    data.negatives = Drawn(rows, (data.item_N[rows] + 1) % data.n_items)
    negative = YesNoBuilder(data, builder.lines, builder.answers, 1024, builder.soft)
    targets, chosen_BK, mask_BK, trunk_B, _ = growing(data, [*rows, *(-1 - np.arange(6))], 5)
    trees = negative.trees(targets, chosen_BK, mask_BK, trunk_B)
    check(negative, trees, targets, chosen_BK)
    assert trees.place_G[:6].tolist() == trees.place_G[6:].tolist()
    assert trees.tree_G[:6].tolist() == trees.tree_G[6:].tolist()
    assert branch(trees, 0)[0] != branch(trees, 6)[0]


def test_two_users_on_one_trunk_are_refused(builder):
    """Also where neither is shown anything: what their prompts begin with differs."""
    data = builder.dataset
    firsts = data.log.offsets[[4, 5]]
    targets, chosen_BK, mask_BK, _, _ = growing(data, firsts, 4)
    with pytest.raises(LeakError, match="sample 1 of the batch begins otherwise than its trunk"):
        builder.trees(targets, chosen_BK, mask_BK, np.zeros(2, np.int64))


def test_no_samples(builder):
    targets, chosen_BK, mask_BK, trunk_B, _ = growing(builder.dataset, [], 4)
    trees = builder.trees(targets, chosen_BK, mask_BK, trunk_B)
    assert (len(trees), len(trees.trunk_R), len(trees.tokens_L)) == (0, 0, 0)
