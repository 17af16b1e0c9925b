"""Scores of titles against one full prompt each; greedy and beam search against going through all titles."""

import itertools
from dataclasses import replace
from functools import partial

import pytest
import torch
from titles_world import (
    COUPLINGS,
    END,
    FAMILIES,
    LENGTHS,
    ROWS,
    TITLES,
    VOCABULARY,
    M,
    X,
    asked_lm,
    batch_of,
    prompts_of,
    row_of,
    surprise,
    titles_at,
    titles_of,
)
from tokenizers import Tokenizer, models, pre_tokenizers
from tokenizers.decoders import Fuse

from lifelora.errors import ConfigError, ScopeError
from lifelora.evaluation.ranks import Ranks
from lifelora.llm.likelihoods import likelihoods
from lifelora.llm.reading import Reader, contained, exact, hits
from lifelora.llm.search import choose, chosen
from lifelora.llm.trees.room import Room
from lifelora.llm.write import write
from lifelora.prompts.slots import USER
from lifelora.scoring.budget import token_bytes
from lifelora.seeds import torch_generator

B = len(LENGTHS)
everywhere = pytest.mark.parametrize(("family", "coupling"), list(itertools.product(FAMILIES, COUPLINGS)))


@everywhere
@pytest.mark.parametrize("length_normalised", [False, True])
def test_scores_are_those_of_full_prompts(family, coupling, length_normalised):
    """Each row has a user, a length and titles of its own; one of them as long as the positions reach."""
    lm, batch, titles = asked_lm(family, COUPLINGS[coupling]), batch_of(prompts_of(ROWS)), titles_of(TITLES)
    score_BC = likelihoods(lm, batch, titles, length_normalised=length_normalised).score_BC
    assert score_BC.dtype == torch.float32
    for row, titles_of_row in enumerate(TITLES):
        for column, title in enumerate(titles_of_row):
            logp = surprise(lm, batch, row, title)
            torch.testing.assert_close(
                score_BC[row, column].double(), logp.mean() if length_normalised else logp.sum(), atol=1e-5, rtol=1e-5
            )
    assert torch.equal(score_BC[:, 0], score_BC[:, 3])  # the same title twice


@everywhere
def test_a_batch_is_its_rows_and_chunks_do_not_matter(family, coupling):
    lm, batch, titles = asked_lm(family, COUPLINGS[coupling]), batch_of(prompts_of(ROWS)), titles_of(TITLES)
    score_BC = likelihoods(lm, batch, titles).score_BC
    for row in range(B):
        alone = likelihoods(lm, row_of(batch, row), titles_at(titles, row)).score_BC[0]
        torch.testing.assert_close(score_BC[row], alone, atol=1e-5, rtol=1e-5)
    for memory in (1, 20_000, 60_000, 200_000, 1 << 30):
        chunked_BC = likelihoods(lm, batch, titles, memory=memory).score_BC
        torch.testing.assert_close(chunked_BC, score_BC, atol=1e-5, rtol=1e-5)
        assert torch.equal(chunked_BC[:, 0], chunked_BC[:, 3])  # the same title, in another chunk


def test_users_differ():
    batch, titles = batch_of(prompts_of([ROWS[0]] * 4)), titles_of([TITLES[0]] * 4)
    for name, coupling in COUPLINGS.items():
        score_BC = likelihoods(asked_lm(coupling=coupling), batch, titles).score_BC
        apart = (score_BC[:1] - score_BC[1:]).abs().amax(dim=1)
        assert (apart.max() < 1e-5) if name == "identity" else (apart.min() > 1e-3)


def test_soft_tokens_are_read_in_the_prompt():
    lm, titles = asked_lm(soft=True), titles_of(TITLES)
    prompts = prompts_of(ROWS)
    soft_BL = torch.full_like(prompts.tokens_BL, -1)
    soft_BL[:, -1], soft_BL[2, -9], soft_BL[0, -3] = torch.tensor([0, 4, 8, 2]), 3, 3
    batch = batch_of(replace(prompts, soft_BL=soft_BL))
    score_BC = likelihoods(lm, batch, titles).score_BC
    for row, column in itertools.product(range(B), range(len(TITLES[0]))):
        expected = surprise(lm, batch, row, TITLES[row][column]).sum()
        torch.testing.assert_close(score_BC[row, column].double(), expected, atol=1e-5, rtol=1e-5)
    other = batch_of(replace(prompts, soft_BL=torch.where(soft_BL >= 0, (soft_BL + 1) % M, soft_BL)))
    assert (likelihoods(lm, other, titles).score_BC - score_BC).abs().amax(dim=1).min() > 1e-4
    with pytest.raises(ConfigError, match="no vectors came"):
        likelihoods(asked_lm(), batch, titles)


def test_equal_titles_share_their_rank():
    """By expectation: the target's twin has the first place as often as the target."""
    score_BC = likelihoods(asked_lm(), batch_of(prompts_of(ROWS)), titles_of([[row[0], row[3]] for row in TITLES])).score_BC
    assert Ranks.of(score_BC.double().numpy(), torch.zeros(B, dtype=torch.int64).numpy()).hit(1).tolist() == [0.5] * B


def test_titles_of_one_token_need_the_prompt_only():
    titles = titles_of([[[token] for token in range(2, 8)]] * B)
    lm, batch = asked_lm(), batch_of(prompts_of(ROWS))
    result = likelihoods(lm, batch, titles)
    assert result.cost.tokens == sum(LENGTHS)
    torch.testing.assert_close(result.score_BC[1, 2].double(), surprise(lm, batch, 1, [4])[0], atol=1e-5, rtol=1e-5)


def test_the_cost_is_what_went_through_the_model():
    lm, batch, titles = asked_lm(), batch_of(prompts_of(ROWS)), titles_of(TITLES)
    seen = []
    handle = lm.model.get_input_embeddings().register_forward_hook(lambda _, args, out: seen.append(args[0].numel()))
    for answer in (partial(likelihoods, memory=60_000), partial(choose, beams=3)):
        cost = answer(lm, batch, titles).cost
        assert cost.tokens == sum(seen)
        assert cost.seconds > 0
        seen.clear()
    handle.remove()
    # No padding; and of each title all tokens but the last, which says nothing.
    said = sum(len(title) - 1 for titles_of_row in TITLES for title in titles_of_row)
    assert likelihoods(lm, batch, titles).cost.tokens == sum(LENGTHS) + said


@pytest.mark.parametrize("memory", [1, 20_000, 60_000, 200_000])
@pytest.mark.parametrize("family", FAMILIES)
def test_titles_that_are_read_together_have_room(family, memory):
    """By what ``Room`` counts, or, where each has its own prompt, by tokens and logits; one at a time where there is none."""
    lm, batch, titles = asked_lm(family), batch_of(prompts_of(ROWS)), titles_of(TITLES)
    shapes: list[tuple[int, int]] = []
    whole = likelihoods(lm, batch, titles).score_BC
    handle = lm.model.register_forward_pre_hook(
        lambda _, args, inputs: shapes.append(tuple(inputs["input_ids"].shape)), with_kwargs=True
    )
    chunked = likelihoods(lm, batch, titles, memory=memory).score_BC
    handle.remove()
    torch.testing.assert_close(chunked, whole, atol=1e-5, rtol=1e-5)
    if family == "lfm2":
        assert all(rows * ((17 + 30) * token_bytes(lm.model) + 30 * VOCABULARY * 8) <= memory or rows == 1 for rows, _ in shapes)
        return
    prompt, *after = shapes
    assert prompt == (1, sum(LENGTHS))
    room = Room(width=32, heads=4, kept=2 * (2 if family == "llama" else 4) * 8, head_width=8, vocabulary=VOCABULARY, number=4)
    # At least what its own tokens and their logits take; at most one title is over it.
    longest = max(len(title) for row in TITLES for title in row) - 1
    assert all(room.bytes(0, 0, 0, 0, 0, tokens, tokens) <= memory or tokens <= longest for _, tokens in after)
    assert memory > 1 or len(after) == sum(len(title) > 1 for row in TITLES for title in row)
    assert memory < 200_000 or len(after) < 8


@pytest.mark.parametrize("max_tokens", [1, 50, 100, 200, 400, 1 << 15])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_written_together_has_room(family, max_tokens):
    """Rows, each with copies of its prompt and an answer, in tokens; one at a time where not even that has room."""
    lm, batch, reader = asked_lm(family), batch_of(prompts_of(ROWS)), Reader(Letters())
    shapes: list[tuple[int, int]] = []
    whole = write(lm, batch, reader, beams=2, limit=6).lines
    handle = lm.model.register_forward_pre_hook(
        lambda _, args, inputs: shapes.append(tuple(inputs["attention_mask"].shape)), with_kwargs=True
    )
    assert write(lm, batch, reader, beams=2, limit=6, max_tokens=max_tokens).lines == whole
    handle.remove()
    prompt, *after = shapes
    assert prompt == (B, max(LENGTHS))
    assert after
    assert all(rows * tokens <= max_tokens or rows == 2 for rows, tokens in after)
    if max_tokens == 200:  # and they are not written one by one
        assert max(rows for rows, _ in after) > 2


def test_the_users_soft_token_is_read_in_the_prompt():
    lm, titles, prompts = asked_lm(soft=True, users=True), titles_of(TITLES), prompts_of(ROWS)
    soft_BL = torch.full_like(prompts.tokens_BL, -1)
    soft_BL[:, -1], soft_BL[0, -3], soft_BL[2, -9] = USER, 3, 5
    user_BX = torch.randn(B, X, generator=torch_generator(7, "taste"))
    batch = replace(batch_of(replace(prompts, soft_BL=soft_BL)), soft_user_BX=user_BX)
    score_BC = likelihoods(lm, batch, titles, memory=30_000).score_BC
    for row, column in itertools.product(range(B), range(len(TITLES[0]))):
        expected = surprise(lm, batch, row, TITLES[row][column]).sum()
        torch.testing.assert_close(score_BC[row, column].double(), expected, atol=1e-5, rtol=1e-5)
    other = likelihoods(lm, replace(batch, soft_user_BX=user_BX.flip(0)), titles).score_BC
    assert (other - score_BC).abs().amax(dim=1).min() > 1e-4


def named(result):
    return [row.nonzero()[:, 0].tolist() for row in result.named_BC]


@everywhere
@pytest.mark.parametrize("length_normalised", [False, True])
def test_as_many_beams_as_titles_find_the_most_likely(family, coupling, length_normalised):
    lm, batch, titles = asked_lm(family, COUPLINGS[coupling]), batch_of(prompts_of(ROWS)), titles_of(TITLES)
    score_BC = likelihoods(lm, batch, titles, length_normalised=length_normalised).score_BC
    best = [{0, 3} if best in (0, 3) else {best} for best in score_BC.argmax(dim=1).tolist()]
    chosen = choose(lm, batch, titles, beams=len(TITLES[0]), length_normalised=length_normalised)
    assert [set(row) for row in named(chosen)] == best


def greedy(lm, batch, row, titles):
    """By hand: one token after another, each the likeliest of those that continue a title; no cache and no batch."""
    written = []
    while True:
        left = [title for title in titles if title[: len(written)] == written]
        if any(title == written for title in left):
            return [column for column, title in enumerate(titles) if title == written]
        allowed = {title[len(written)] for title in left}
        written.append(max(allowed, key=lambda token: surprise(lm, batch, row, [*written, token])[-1].item()))


@everywhere
def test_greedy_is_greedy_by_hand(family, coupling):
    lm, batch, titles = asked_lm(family, COUPLINGS[coupling]), batch_of(prompts_of(ROWS)), titles_of(TITLES)
    together = named(choose(lm, batch, titles))
    assert together == [greedy(lm, batch, row, TITLES[row]) for row in range(B)]
    for row in range(B):  # a batch is its rows, and left padding is none
        assert named(choose(lm, row_of(batch, row), titles_at(titles, row))) == [together[row]]


@pytest.mark.parametrize("beams", [1, 2, 3, 8])
def test_a_search_among_titles_asks_the_model_nothing(beams):
    """Of what was read for their scores it makes the same as alone."""
    lm, batch, titles = asked_lm(), batch_of(prompts_of(ROWS)), titles_of(TITLES)
    found, alone = likelihoods(lm, batch, titles), choose(lm, batch, titles, beams=beams)
    with lm.model.register_forward_pre_hook(lambda *_: pytest.fail("the model was asked")):
        assert torch.equal(chosen(found, titles, beams=beams).named_BC, alone.named_BC)


@everywhere
@pytest.mark.parametrize("beams", [2, 3])
def test_beams_of_a_batch_are_the_beams_of_its_rows(family, coupling, beams):
    """iLoRA's gates were not repeated with the beams, and the error was caught and made into zeros."""
    lm, batch, titles = asked_lm(family, COUPLINGS[coupling]), batch_of(prompts_of(ROWS)), titles_of(TITLES)
    together = named(choose(lm, batch, titles, beams=beams))
    assert all(together)
    assert [named(choose(lm, row_of(batch, row), titles_at(titles, row), beams=beams))[0] for row in range(B)] == together


class Letters:
    """A tokenizer of VOCABULARY tokens: token 1 is the newline, others a letter of their own."""

    def __init__(self):
        letters = [chr(0x4E00 + token) for token in range(VOCABULARY)]
        letters[END] = "\n"
        self.backend_tokenizer = Tokenizer(models.BPE(vocab={letter: i for i, letter in enumerate(letters)}, merges=[]))
        self.backend_tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
        self.backend_tokenizer.decoder = Fuse()


def free_greedy(lm, batch, row, limit):
    written = []
    while len(written) < limit and END not in written:
        written.append(max(range(VOCABULARY), key=lambda token: surprise(lm, batch, row, [*written, token])[-1].item()))
    return written


@pytest.mark.parametrize("family", FAMILIES)
def test_free_writing_is_greedy_to_the_end_of_the_line(family):
    """Also where a prompt is shorter than its neighbour: padding at the right made iLoRA go on from padding."""
    lm, batch, reader = asked_lm(family), batch_of(prompts_of(ROWS)), Reader(Letters())
    assert reader.ends == [END]
    lines = write(lm, batch, reader, limit=6).lines
    assert lines == [reader.line(free_greedy(lm, batch, row, 6)) for row in range(B)]
    assert [write(lm, row_of(batch, row), reader, limit=6).lines[0] for row in range(B)] == lines


def test_free_beams_find_what_all_texts_would():
    """V³ texts of up to three tokens: as many beams as make the search whole find the likeliest."""
    lm, batch, reader = asked_lm(), batch_of(prompts_of(ROWS[:1])), Reader(Letters())
    with torch.no_grad():
        found = write(lm, batch, reader, beams=VOCABULARY, limit=2).lines[0]
    texts = [[END], *([a, b] for a in range(VOCABULARY) if a != END for b in range(VOCABULARY))]
    titles = titles_of([texts])
    score_BC = likelihoods(lm, batch, titles).score_BC
    assert found == reader.line(texts[int(score_BC.argmax())])


def test_free_writing_ends_at_the_context():
    lm, batch, reader = asked_lm("gpt2"), batch_of(prompts_of(ROWS)), Reader(Letters())
    assert len(write(lm, batch, reader, limit=48 - 17 + 1).lines) == B
    with pytest.raises(ConfigError, match="a prompt of 17 tokens and an answer of up to 33 do not fit into the 48 tokens"):
        write(lm, batch, reader, limit=48 - 17 + 2)


def test_what_an_answer_names_by_both_rules():
    titles = [["Alien", "Aliens", "Heat", "Heat"]] * 6
    lines = ["Aliens", "Alien", "alien", "It is Heat", "Heat", "Nothing"]
    ours, published = exact(lines, titles), contained(lines, titles)
    assert [row.nonzero()[:, 0].tolist() for row in ours] == [[1], [0], [], [], [2, 3], []]
    # "Aliens" holds two titles, and a title that two have is never one.
    assert [row.nonzero()[:, 0].tolist() for row in published] == [[], [0], [0], [], [], []]
    target_B = torch.tensor([1, 0, 0, 2, 3, 2])
    assert hits(ours, target_B).tolist() == [1, 1, 0, 0, 0.5, 0]
    assert hits(published, target_B).tolist() == [0, 1, 1, 0, 0, 0]  # of all rows, not of the valid ones
    assert [hits(rule, torch.full((6,), 1)).mean().item() for rule in (ours, published)] == pytest.approx([1 / 6, 0])


def test_the_reader_reads_titles_back():
    reader = Reader(Letters())
    titles = reader.titles(titles_of([[[5, 6, END], [7, END]]]))
    assert titles == [[chr(0x4E05) + chr(0x4E06), chr(0x4E07)]]
    assert exact([chr(0x4E07)], titles).tolist() == [[False, True]]


class BrokenError(Exception):
    pass


@pytest.mark.parametrize(
    "answer",
    [
        lambda lm, batch, titles: likelihoods(lm, batch, titles),
        lambda lm, batch, titles: choose(lm, batch, titles, beams=2),
        lambda lm, batch, titles: write(lm, batch, Reader(Letters()), limit=4),
    ],
)
@pytest.mark.parametrize("at", [1, 2])
def test_an_exception_in_a_layer_comes_out(answer, at):
    """Never zeros; and nobody is left in scope."""
    lm, batch, titles = asked_lm(), batch_of(prompts_of(ROWS)), titles_of(TITLES)
    calls = itertools.count(1)

    def fail(*_):
        if next(calls) == at:
            raise BrokenError

    lm.adapters.layers[0][1].register_forward_hook(fail)
    with pytest.raises(BrokenError):
        answer(lm, batch, titles)
    with pytest.raises(ScopeError):
        lm.run(batch)


def test_questions_only_and_at_least_one_beam():
    lm, titles = asked_lm(), titles_of(TITLES)
    with pytest.raises(ConfigError, match="already have their answers"):
        likelihoods(lm, batch_of(prompts_of(ROWS, [row[0] for row in TITLES])), titles)
    with pytest.raises(ConfigError, match="beams = 0"):
        choose(lm, batch_of(prompts_of(ROWS)), titles, beams=0)
