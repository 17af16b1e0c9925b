"""Trees of questions about the next item, of questions with their answers, and of titles, against the prompts they stand for."""

from typing import get_args

import numpy as np
import pytest
import torch
from branches_world import branch, growing, left
from hypothesis import given, settings
from hypothesis import strategies as st

from lifelora.errors import ConfigError, LeakError
from lifelora.prompts.slots import USER
from lifelora.prompts.titles import TitleBuilder, title_branches
from lifelora.prompts.wording.titles import Form, TitleTemplate

C = 5
FORMS = get_args(Form)
AT = ("user", "behaviours", "target")


@pytest.fixture(scope="module")
def builder(dataset, fresh):
    return TitleBuilder.make(dataset, TitleTemplate(), fresh("sentencepiece-bpe"), 2048, 5, FORMS, AT)


def listed(targets, n_items):
    """Candidates of each sample, of which its item is one."""
    others_BC = (targets.item_B[:, None] + 1 + np.arange(C)) % n_items
    others_BC[np.arange(len(targets)), targets.item_B % C] = targets.item_B
    return others_BC


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 250), min_size=1, max_size=20),
    st.integers(1, 6),
    st.integers(0, 300),
    st.sampled_from(FORMS),
    st.booleans(),
    st.booleans(),
)
def test_a_branch_is_its_prompt_however_little_room_there_is(builder, rows, block, spare, form, lists, answered):
    """Its question, or its question and answer in the phrasing of its trunk; with candidates or without."""
    data = builder.dataset
    targets, chosen_BK, mask_BK, trunk_B, start_B = growing(data, [row % len(data) for row in rows], block)
    candidates_BC = listed(targets, data.n_items) if lists else None
    bare = builder.answered(targets, chosen_BK, np.zeros_like(mask_BK), candidates_BC, form, start_B).mask_BL.shape[1]
    bare = max(bare, int(builder.lengths(targets, chosen_BK, np.zeros_like(mask_BK), candidates_BC, form).max()))
    most = bare + builder.lines.longest_answer + spare
    tight = TitleBuilder(data, builder.lines, most, builder.seed)
    if answered:
        trees = tight.answered_trees(targets, chosen_BK, mask_BK, trunk_B, candidates_BC, form, start_B)
    else:
        trees = tight.trees(targets, chosen_BK, mask_BK, trunk_B, candidates_BC, form)
        lengths = tight.tree_lengths(targets, chosen_BK, mask_BK, trunk_B, candidates_BC, form)
        for length_N, made_N in zip(lengths, (trees.trunk_R, trees.branch_G, trees.tree_G), strict=True):
            assert length_N.tolist() == made_N.tolist()
    width = chosen_BK.shape[1]
    for number in range(len(trees)):
        one = np.array([number])
        asked = (
            targets.at(one),
            chosen_BK[one],
            left(trees, number, width),
            None if candidates_BC is None else candidates_BC[one],
            form,
        )
        whole = tight.answered(*asked, start_B[one]) if answered else tight.question(*asked)
        tokens, positions, soft = branch(trees, number)
        assert tokens == whole.tokens_BL[0].tolist()
        assert positions == list(range(len(tokens)))
        assert soft == ([-1] * len(tokens) if whole.soft_BL is None else whole.soft_BL[0].tolist())
        assert whole.shown_B.tolist() == [int(trees.shown_G[number])]
        assert len(tokens) <= most
        assert int(trees.branch_G[number]) == int(whole.question_B)
        if answered:
            assert int(trees.answer_G[number]) == int(whole.answer_BA.sum())
    if spare == 300:
        assert trees.shown_G.tolist() == mask_BK.sum(axis=1).tolist()


def test_answers_are_read_before_their_tokens(builder):
    targets, chosen_BK, mask_BK, trunk_B, start_B = growing(builder.dataset, range(30), 4)
    trees = builder.answered_trees(targets, chosen_BK, mask_BK, trunk_B, start_B=start_B)
    titles = builder.titles(targets.item_B[:, None])
    branch_E, token_E = trees.answers
    assert branch_E.bincount().tolist() == titles.mask_BCA.sum(dim=2)[:, 0].tolist()
    assert token_E.tolist() == titles.tokens_BCA[titles.mask_BCA].tolist()
    assert trees.tokens_L[trees.reads + 1].tolist() == token_E.tolist()  # the question stands before them


def test_a_trunk_has_one_phrasing(builder):
    """That of the event where its block starts; without it, samples of a block would begin in different words."""
    targets, chosen_BK, mask_BK, trunk_B, start_B = growing(builder.dataset, range(60), 4)
    trees = builder.answered_trees(targets, chosen_BK, mask_BK, trunk_B, start_B=start_B)
    drawn_B = builder._phrasing_N[builder.dataset.log.rows(targets.user_B, start_B)]
    assert {0, 1, 2} == set(drawn_B.tolist())
    heads = {segment: phrasing for phrasing, pair in enumerate(builder.lines.head_W2) for segment in pair.tolist()}
    start_R = (trees.trunk_R.cumsum(0) - trees.trunk_R).tolist()
    for number, tree in enumerate(trees.tree_G.tolist()):
        said = [
            phrasing
            for segment, phrasing in heads.items()
            if trees.tokens_L[start_R[tree] :][: builder.lines.lengths[segment]].tolist() == builder.lines.plain([segment])
        ]
        assert said == [drawn_B[number]]
    with pytest.raises(LeakError, match="in another phrasing"):
        builder.answered_trees(targets, chosen_BK, mask_BK, trunk_B)


@pytest.mark.parametrize("form", FORMS)
def test_titles_are_branches_of_their_question(builder, form):
    data = builder.dataset
    targets, chosen_BK, mask_BK, _, _ = growing(data, [0, 9, 40, 41], 5)
    items_BC = listed(targets, data.n_items)
    asked, titles = builder.question(targets, chosen_BK, mask_BK, items_BC, form), builder.titles(items_BC)
    trees = title_branches(asked, titles)
    assert (len(trees.trunk_R), len(trees)) == (4, 4 * C)
    for number in range(len(trees)):
        row, column = divmod(number, C)
        title = titles.tokens_BCA[row, column][titles.mask_BCA[row, column]].tolist()
        tokens, positions, soft = branch(trees, number)
        assert tokens == asked.tokens_BL[row][asked.mask_BL[row]].tolist() + title
        assert positions == list(range(len(tokens)))
        own = [] if asked.soft_BL is None else asked.soft_BL[row][asked.mask_BL[row]].tolist()
        assert soft[: len(own)] == own
        assert set(soft[len(own) :]) == {-1}
        assert trees.shown_G[number] == asked.shown_B[row]
        # Its first token is read after the cue, the trunk's last token, and each other one after the one before it.
        ends, start = int(trees.trunk_R[: row + 1].sum()) - 1, int(trees.starts[number])
        assert trees.reads[trees.answers[0] == number].tolist() == [ends, *range(start, start + len(title) - 1)]
        assert trees.answers[1][trees.answers[0] == number].tolist() == title
    assert trees.asked_R is not None
    assert trees.asked_R.tolist() == asked.question_B.tolist()
    if form != "text":
        assert (trees.soft_L == USER).sum() == 4


def test_questions_with_their_answers_have_no_titles_as_branches(builder):
    targets, chosen_BK, mask_BK, _, _ = growing(builder.dataset, [9, 40], 5)
    with pytest.raises(ConfigError, match="already have their answers"):
        title_branches(builder.answered(targets, chosen_BK, mask_BK), builder.titles(listed(targets, 30)))


def test_whose_question_a_token_belongs_to(builder):
    """Of a tree of questions the branch's; of a tree of titles all tokens from the question on."""
    data = builder.dataset
    targets, chosen_BK, mask_BK, trunk_B, _ = growing(data, range(12), 4)
    trees = builder.trees(targets, chosen_BK, mask_BK, trunk_B)
    T, L = int(trees.trunk_R.sum()), len(trees.tokens_L)
    assert trees.asking[:T].tolist() == [L] * T
    assert trees.asking[T:].tolist() == torch.arange(12).repeat_interleave(trees.branch_G).tolist()
    asked = builder.question(targets, chosen_BK, mask_BK)
    titles = title_branches(asked, builder.titles(listed(targets, data.n_items)))
    L, expected = len(titles.tokens_L), list[int]()
    for row, (length, count) in enumerate(zip(titles.trunk_R.tolist(), asked.question_B.tolist(), strict=True)):
        expected += [L] * (length - count) + [row] * count
    assert titles.asking.tolist() == expected + titles.tree_G.repeat_interleave(titles.branch_G).tolist()
