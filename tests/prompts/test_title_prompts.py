"""Prompts that ask which item comes next: their tokens, their soft tokens, what is cut, and what is refused."""

from typing import get_args

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import ByteLevel

from lifelora.errors import ConfigError
from lifelora.prompts.lines.titles import TitleLines
from lifelora.prompts.titles import TitleBuilder
from lifelora.prompts.wording.titles import PHRASINGS, Form, Phrasing, TitleTemplate
from lifelora.tokens import LineTokenizer

C = 7
FORMS = get_args(Form)


@pytest.fixture(scope="module")
def pieces(fresh):
    return fresh("sentencepiece-bpe")


@pytest.fixture(scope="module")
def builder(dataset, pieces):
    return TitleBuilder.make(dataset, TitleTemplate(), pieces, max_tokens=1024, seed=5, forms=FORMS)


def asked(dataset, rows, length):
    """Targets, their last behaviours, and lists in which the target stands at a place of its own."""
    targets = dataset.targets(np.asarray(rows))
    others_BC = (targets.item_B[:, None] + 1 + np.arange(C)) % dataset.n_items
    place_B = np.asarray(rows) % C
    others_BC[np.arange(len(rows)), place_B] = targets.item_B
    return targets, *dataset.history(targets, length), others_BC


def real(batch, place):
    return batch.tokens_BL[place][batch.mask_BL[place]].tolist()


def texts_of(dataset, items):
    return dataset.catalogue.take(np.asarray(items, np.int64)).to_pylist()


def test_prompts_are_the_tokens_of_their_text(dataset, tokenizer):
    """Every family, every phrasing, with and without behaviours, candidates and answer."""
    lines, line_tokenizer = TitleLines.build(dataset, PHRASINGS, tokenizer), LineTokenizer(tokenizer)
    words, rng = dataset.words.model_dump(), np.random.default_rng(3)
    for number in range(60):
        seen = rng.integers(0, dataset.n_items, number % 5).tolist()
        candidates = None if number % 4 == 0 else rng.integers(0, dataset.n_items, number % 9).tolist()
        target = None if number % 2 else int(rng.integers(dataset.n_items))
        listed = None if candidates is None else texts_of(dataset, candidates)
        told = None if target is None else texts_of(dataset, [target])[0]
        text = PHRASINGS[number % 3].render(words, texts_of(dataset, seen), listed, told)
        assert lines.prompt(number % 3, seen, candidates, target) == line_tokenizer.whole(text)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("answered", [False, True])
def test_a_batch_is_the_lines_put_together(builder, form, answered):
    dataset, rng = builder.dataset, np.random.default_rng(0)
    rows = rng.choice(len(dataset), 40, replace=False)
    targets, chosen_BK, mask_BK, candidates_BC = asked(dataset, rows, 6)
    mask_BK &= rng.random(mask_BK.shape) < 0.8  # as a selector may leave holes
    make = builder.answered if answered else builder.question
    for listed_BC in (candidates_BC, None):
        batch = make(targets, chosen_BK, mask_BK, listed_BC, form)
        for place in range(40):
            phrasing = int(builder._phrasing_N[rows[place]]) if answered else 0
            seen = dataset.item_N[chosen_BK[place, mask_BK[place]]].tolist()
            listed = None if listed_BC is None else listed_BC[place].tolist()
            target = int(targets.item_B[place])
            ids = builder.lines.prompt(phrasing, seen, listed, target if answered else None, form)
            if form == "text":
                assert real(batch, place) == ids
                assert batch.soft_BL is None
                continue
            real_soft = batch.soft_BL[place][batch.mask_BL[place]]
            assert real_soft[real_soft != -1].tolist() == [*seen, *(listed or [])]
            assert [
                -1 if item != -1 else token for token, item in zip(real(batch, place), real_soft.tolist(), strict=True)
            ] == ids
        if answered:
            lengths = [
                len(builder.lines.prompt(0, [], None, int(item))) - len(builder.lines.prompt(0, [], None))
                for item in targets.item_B
            ]
            assert batch.answer_BA.sum(1).tolist() == lengths
            assert batch.answer_BA[:, -1].all()
        else:
            assert batch.answer_BA is None
        assert batch.mask_BL[:, -1].all()
        assert (batch.mask_BL.int().diff(dim=1) >= 0).all()
        assert (batch.tokens_BL[~batch.mask_BL] == 0).all()


def test_a_form_without_lines_is_refused(builder, dataset, pieces):
    words = TitleBuilder.make(dataset, TitleTemplate(), pieces, max_tokens=1024, seed=5)
    with pytest.raises(ConfigError, match="no lines for prompts of form 'ids', only of text"):
        words.question(*asked(dataset, [50], 4), "ids")


@pytest.mark.parametrize("form", FORMS)
def test_a_batch_is_its_rows(builder, form):
    rows = [3, 90, 17, 200]
    for make in (builder.question, builder.answered):
        together = make(*asked(builder.dataset, rows, 6), form)
        for place, row in enumerate(rows):
            alone = make(*asked(builder.dataset, [row], 6), form)
            assert alone.tokens_BL[0].tolist() == real(together, place)
            assert alone.mask_BL.all()
            if form != "text":
                assert alone.soft_BL[0].tolist() == together.soft_BL[place][together.mask_BL[place]].tolist()


def test_the_phrasing_is_drawn_by_seed_and_row(builder):
    dataset = builder.dataset
    rows = np.arange(len(dataset))
    drawn = builder._phrasing_N[rows]
    assert {int(n) for n in drawn} == {0, 1, 2}
    assert (np.bincount(drawn) > len(rows) / 5).all()
    again = TitleBuilder(dataset, builder.lines, 1024, builder.seed)
    np.testing.assert_array_equal(again._phrasing_N, drawn)
    assert (TitleBuilder(dataset, builder.lines, 1024, 6)._phrasing_N != drawn).any()
    words = dataset.words.model_dump()
    first = builder.question(*asked(dataset, rows[:30], 3))  # an evaluation has the first, whatever the row
    question = builder.lines.question_W[0]
    end = builder.lines.tokens_T[builder.lines.offsets_N[question] : builder.lines.offsets_N[question + 1]].tolist()
    assert all(real(first, place)[-len(end) :] == end for place in range(30))
    assert len({phrasing.render(words, [], None) for phrasing in PHRASINGS}) == 3


@pytest.mark.parametrize("form", FORMS)
def test_what_is_too_long_loses_its_oldest_behaviours_only(builder, form):
    """For every limit, the longest run of recent behaviours that leaves room for the longest answer."""
    dataset = builder.dataset
    row = int(dataset.log.offsets[3]) + 10
    targets, chosen_BK, mask_BK, candidates_BC = asked(dataset, [row], 8)
    longest = int(builder.titles(candidates_BC).mask_BCA.sum(-1).max())
    fitting = {}
    for shown in range(9):
        some_BK = mask_BK & (np.arange(8) >= 8 - shown)
        fitting[shown] = real(builder.question(targets, chosen_BK, some_BK, candidates_BC, form), 0)
    for limit in range(len(fitting[0]) + longest, len(fitting[8]) + longest + 2):
        small = TitleBuilder(dataset, builder.lines, limit, builder.seed)
        expected = max((n for n in range(1, 9) if len(fitting[n]) + longest <= limit), default=0)
        batch = small.question(targets, chosen_BK, mask_BK, candidates_BC, form)
        assert batch.shown_B.tolist() == [expected]
        assert real(batch, 0) == fitting[expected]
        if limit > len(fitting[0]) + longest + 30:  # the phrasing that was drawn may be longer
            answered = small.answered(targets, chosen_BK, mask_BK, candidates_BC, form)
            assert int(answered.mask_BL.sum()) <= limit
    needed = len(fitting[0]) + longest
    name = dataset.items.outside(targets.item_B)[0]
    with pytest.raises(ConfigError, match=rf"item '{name}' .* needs {needed} tokens with {C} candidates.*= {needed - 1};"):
        TitleBuilder(dataset, builder.lines, needed - 1, 0).question(targets, chosen_BK, mask_BK, candidates_BC, form)


def test_an_answer_that_is_no_candidate_is_refused(builder):
    """The released LastFM set of iLoRA lists one drawn item, so that nothing can be right."""
    targets, chosen_BK, mask_BK, candidates_BC = asked(builder.dataset, [40, 41, 42], 3)
    candidates_BC[1] = np.where(candidates_BC[1] == targets.item_B[1], (targets.item_B[1] + 20) % 32, candidates_BC[1])
    for make in (builder.question, builder.answered):
        with pytest.raises(ConfigError, match=r"row 1 of the batch: item 'i\d\d' .* none of its 7 candidates"):
            make(targets, chosen_BK, mask_BK, candidates_BC)


def test_titles_are_the_answers(dataset, pieces, builder):
    items_BC = np.array([[0, 21, 4], [31, 8, 8]])
    titles, line_tokenizer, words = builder.titles(items_BC), LineTokenizer(pieces), dataset.words.model_dump()
    prompt = PHRASINGS[0].render(words, [], None)
    for row in range(2):
        for column, item in enumerate(items_BC[row]):
            ids = titles.tokens_BCA[row, column][titles.mask_BCA[row, column]].tolist()
            whole = prompt + PHRASINGS[0].answer_line(words, texts_of(dataset, [item])[0])
            assert line_tokenizer.whole(prompt) + ids == line_tokenizer.whole(whole)
    assert (titles.tokens_BCA[~titles.mask_BCA] == 0).all()
    assert titles.tokens_BCA.dtype == torch.int64


def test_lines_that_are_alike_are_tokenised_once(builder):
    """Items stand in the same form in all phrasings: one segment for each different line, in the three tables of each kind; and
    where nothing is known of an item but its title, a behaviour's line is a candidate's."""
    lines = builder.lines
    bare_M = np.array([not (row["genre"] or row["description"]) for row in builder.dataset.catalogue.to_pylist()])
    assert 0 < bare_M.sum() < len(bare_M)
    for form in FORMS:
        for tables in (lines.behaviour_MW[form].T, lines.candidate_MW[form].T):
            assert all(np.array_equal(tables[0], table) for table in tables)
        assert np.array_equal(lines.behaviour_MW[form][bare_M], lines.candidate_MW[form][bare_M])
    assert len(np.unique(lines.behaviour_MW["ids"])) == 1


def characters(newline: bool) -> Tokenizer:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {c: i for i, c in enumerate(alphabet) if newline or c != "Ċ"}
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(vocab)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevel()
    return tokenizer


def test_a_tokenizer_without_newline_is_refused(dataset):
    """ "A" would begin "A Space Odyssey", and nobody could tell when an answer is over."""
    TitleLines.build(dataset, PHRASINGS, characters(newline=True))
    with pytest.raises(ConfigError, match="writes no end of a line"):
        TitleLines.build(dataset, PHRASINGS, characters(newline=False))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"candidate": "a film"}, "candidate must show what the answer is"),
        ({"candidate": "{soft} {title} {soft}"}, "candidate has {soft} 2 times"),
        ({"behaviour": "{title}[[ ({genre}) {soft}]]"}, "behaviour has {soft} in \\[\\[ … \\]\\]"),
        ({"answer": "Answer: "}, "cannot end with a space"),
        ({"question": ()}, None),
        ({"question": ("",)}, "cannot be blank"),
        ({"history": "two\nlines"}, "must be one line"),
        ({"announcement": "{items"}, "has no partner"),
    ],
)
def test_phrasings_that_cannot_be_asked(change, message):
    given = PHRASINGS[0].model_dump() | change
    if message is None:
        assert Phrasing(**given).question == ()
    else:
        with pytest.raises(ValueError, match=message):
            Phrasing(**given)


def test_unknown_fields_stop_the_build(dataset, fresh):
    ask = PHRASINGS[0].model_copy(update={"candidate": "{title} by {director}"})
    with pytest.raises(ConfigError, match=r"template\.candidate uses \{director\}"):
        TitleLines.build(dataset, (ask,), fresh("byte-level"))
    with pytest.raises(ConfigError, match=r"template\.question uses \{title\}"):
        TitleLines.build(dataset, (PHRASINGS[0].model_copy(update={"question": ("Is it {title}?",)}),), fresh("byte-level"))


def test_no_rows(builder):
    targets, chosen_BK, mask_BK, candidates_BC = asked(builder.dataset, np.zeros(0, np.int64), 4)
    assert builder.question(targets, chosen_BK, mask_BK, candidates_BC).tokens_BL.shape[0] == 0
    assert builder.titles(candidates_BC).tokens_BCA.shape[0] == 0
