import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from lifelora.errors import ConfigError
from lifelora.prompts.lines.yes_no import YesNoLines
from lifelora.prompts.wording.yes_no import Plain, Rella
from lifelora.prompts.yes_no import Answers, YesNoBuilder, find_answers
from lifelora.tokens import LineTokenizer


@pytest.fixture(scope="module")
def builder(dataset, fresh):
    return YesNoBuilder.make(dataset, Plain(), fresh("sentencepiece-bpe"), max_tokens=1024)


def limited(builder, max_tokens):
    return YesNoBuilder(builder.dataset, builder.lines, builder.answers, max_tokens)


def asked(builder, rows, length):
    targets = builder.dataset.targets(np.asarray(rows))
    return targets, *builder.dataset.history(targets, length)


def real(batch, place):
    return batch.tokens_BL[place][batch.mask_BL[place]].tolist()


def test_a_batch_is_the_lines_put_together(builder):
    """Also with holes in the mask, as a selector may leave them anywhere."""
    rng = np.random.default_rng(0)
    rows = rng.choice(len(builder.dataset), 50, replace=False)
    targets, rows_BK, mask_BK = asked(builder, rows, 9)
    mask_BK &= rng.random(mask_BK.shape) < 0.8
    batch = builder.build(targets, rows_BK, mask_BK)
    data = builder.dataset
    for place in range(50):
        seen = rows_BK[place, mask_BK[place]]
        expected = builder.lines.prompt(
            int(targets.user_B[place]),
            data.item_N[seen].tolist(),
            data.rating_N[seen].tolist(),
            int(targets.item_B[place]),
        )
        assert real(batch, place) == expected
    assert batch.shown_B.tolist() == mask_BK.sum(axis=1).tolist()
    assert builder.lengths(targets, rows_BK, mask_BK).tolist() == batch.mask_BL.sum(dim=1).tolist()
    assert (batch.tokens_BL.dtype, batch.mask_BL.dtype) == (torch.int64, torch.bool)


def test_a_batch_is_its_rows(builder):
    targets, rows_BK, mask_BK = asked(builder, [3, 90, 17, 200], 6)
    batch = builder.build(targets, rows_BK, mask_BK)
    for place, row in enumerate([3, 90, 17, 200]):
        alone = builder.build(*asked(builder, [row], 6))
        assert real(batch, place) == alone.tokens_BL[0].tolist()
        assert alone.mask_BL.all()


def test_padding_is_at_the_left(builder):
    batch = builder.build(*asked(builder, np.arange(40), 6))
    steps = batch.mask_BL.int().diff(dim=1)
    assert (steps >= 0).all()
    assert batch.mask_BL[:, -1].all()
    assert batch.mask_BL[:, 0].any()
    assert (batch.tokens_BL[~batch.mask_BL] == 0).all()
    assert (~batch.mask_BL).any()


def test_truncation_drops_the_oldest_and_counts(builder):
    """For every limit from the bare question to the whole prompt, the longest run of recent behaviours that fits."""
    row = int(builder.dataset.log.offsets[3]) + 10
    targets, rows_BK, mask_BK = asked(builder, [row], 8)
    data, segments = builder.dataset, builder.lines
    user, item = int(targets.user_B[0]), int(targets.item_B[0])
    fitting = {}
    for shown in range(9):
        seen = rows_BK[0, 8 - shown :]
        ids = segments.prompt(user, data.item_N[seen].tolist(), data.rating_N[seen].tolist(), item)
        fitting[shown] = ids
    assert len(fitting[8]) > len(fitting[1]) > 0
    for limit in range(len(fitting[0]), len(fitting[8]) + 2):
        expected = max((shown for shown in range(1, 9) if len(fitting[shown]) <= limit), default=0)
        batch = limited(builder, limit).build(targets, rows_BK, mask_BK)
        assert batch.shown_B.tolist() == [expected]
        assert real(batch, 0) == fitting[expected]


def test_a_question_without_room_names_its_item(builder):
    targets, rows_BK, mask_BK = asked(builder, [30], 4)
    needed = len(builder.lines.prompt(int(targets.user_B[0]), [], [], int(targets.item_B[0])))
    assert limited(builder, needed).build(targets, rows_BK, mask_BK).tokens_BL.shape == (1, needed)
    name = builder.dataset.items.outside(targets.item_B)[0]
    with pytest.raises(ConfigError, match=rf"item '{name}' .* needs {needed} tokens .* max_tokens = {needed - 1}"):
        limited(builder, needed - 1).build(targets, rows_BK, mask_BK)


def test_nobody_shown_and_no_targets(builder):
    targets, rows_BK, mask_BK = asked(builder, [0, 1], 4)
    batch = builder.build(targets, rows_BK, np.zeros_like(mask_BK))
    assert real(batch, 0) == builder.lines.prompt(int(targets.user_B[0]), [], [], int(targets.item_B[0]))
    assert builder.build(*asked(builder, np.zeros(0, np.int64), 4)).tokens_BL.shape[0] == 0


def test_candidates_that_are_not_in_the_log(builder):
    targets = builder.dataset.candidates(2, np.arange(builder.dataset.n_items))
    batch = builder.build(targets, *builder.dataset.history(targets, 5))
    assert batch.shown_B.tolist() == [5] * builder.dataset.n_items


@pytest.mark.parametrize("template", [Plain(), Rella(), Plain(yes=" like", no=" dislike")])
def test_answers_come_where_they_are_said(dataset, tokenizer, template):
    """prompt + answer token is how the tokenizer begins the whole text with the answer said."""
    answers = find_answers(tokenizer, template)
    builder = YesNoBuilder(dataset, YesNoLines.build(dataset, template, tokenizer), answers, 1024)
    targets = dataset.targets(np.array([40]))
    prompt = builder.build(targets, np.zeros((1, 0), np.int64), np.zeros((1, 0), np.bool_)).tokens_BL[0].tolist()
    user, item = (dataset.profiles.slice(int(targets.user_B[0]), 1), dataset.catalogue.slice(int(targets.item_B[0]), 1))
    text = template.render(dataset.words.model_dump(), user.to_pylist()[0], [], item.to_pylist()[0])
    for word, token in ((template.yes, answers.yes), (template.no, answers.no)):
        assert LineTokenizer(tokenizer).whole(text + word)[: len(prompt) + 1] == [*prompt, token]
    assert answers.yes != answers.no


def characters() -> Tokenizer:
    """One token a character: both answers begin with the token of a space."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def test_what_both_answers_begin_with_belongs_to_the_prompt(dataset):
    tokenizer = characters()
    space, y, n = (tokenizer.token_to_id(c) for c in "ĠYN")
    assert find_answers(tokenizer, Plain()) == Answers(yes=y, no=n, shared=(space,))
    builder = YesNoBuilder.make(dataset, Plain(), tokenizer, 4000)
    targets, rows_BK, mask_BK = asked(builder, [0, 9, 70], 3)
    batch = builder.build(targets, rows_BK, mask_BK)
    assert (batch.tokens_BL[:, -1] == space).all()
    assert batch.mask_BL[:, -1].all()
    assert tokenizer.decode(real(batch, 1)).endswith("?\nAnswer: ")
    # The shared token counts: with room for all but it, a behaviour goes.
    full = len(real(batch, 1))
    shown = [limited(builder, limit).build(*asked(builder, [9], 3)).shown_B.item() for limit in (full, full - 1)]
    assert shown == [3, 2]


def test_answers_that_cannot_be_told_apart():
    tokenizer = Tokenizer(models.WordLevel(vocab={"<unk>": 0, "A": 1, "Answer": 2, ":": 3}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ConfigError, match=r"' Yes' and \[0\] for ' No': no token tells them apart"):
        find_answers(tokenizer, Plain())


def test_an_answer_that_melts_into_the_cue(fresh):
    tokenizer = fresh("byte-level")
    trainer = trainers.BpeTrainer(initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False)
    tokenizer.train_from_iterator(["Answers"] * 3, trainer)
    with pytest.raises(ConfigError, match="joins the answer 's' to the end of the cue 'Answer'"):
        find_answers(tokenizer, Plain(answer="Answer", yes="s", no=" No"))
