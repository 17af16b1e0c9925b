import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models

from lifelora.errors import ConfigError
from lifelora.prompts.lines.yes_no import YesNoLines
from lifelora.prompts.wording.yes_no import Plain, Rella
from lifelora.tokens import LineTokenizer

TEMPLATES = {
    "plain": Plain(),
    "rella": Rella(),
    "described": Plain(question=("Would they like {title}?", "[[It is about this: {description}]]."), profile=""),
}


def texts_of(dataset, item):
    return {name: dataset.catalogue.column(name)[item].as_py() for name in dataset.catalogue.column_names}


@pytest.mark.parametrize("template", TEMPLATES.values(), ids=TEMPLATES)
def test_lines_put_together_are_the_whole_text(dataset, tokenizer, template):
    segments, line_tokenizer = YesNoLines.build(dataset, template, tokenizer), LineTokenizer(tokenizer)
    words, rng = dataset.words.model_dump(), np.random.default_rng(3)
    for _ in range(60):
        user, target = int(rng.integers(dataset.n_users)), int(rng.integers(dataset.n_items))
        rows = rng.choice(len(dataset), size=int(rng.integers(0, 12)), replace=False)
        items, ratings = dataset.item_N[rows].tolist(), dataset.rating_N[rows].tolist()
        shown = [(texts_of(dataset, i), dataset.rating_levels[r]) for i, r in zip(items, ratings, strict=True)]
        profile = dataset.profiles.slice(user, 1).to_pylist()[0]
        whole = line_tokenizer.whole(template.render(words, profile, shown, texts_of(dataset, target)))
        assert segments.prompt(user, items, ratings, target) == whole


@pytest.mark.parametrize("name", ["byte-level", "llama-3", "sentencepiece-bpe"])
@settings(max_examples=60)
@given(titles=st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), min_size=1, max_size=6))
def test_any_titles(line_tokenizers, name, titles):
    """The same with whatever hypothesis can think of, for the tokenizers that know every byte."""
    words = {"item": "film", "items": "films", "did": "watched", "star": "star", "stars": "stars"}
    template, line_tokenizer = Plain(), line_tokenizers(name)
    items = [{"title": title, "genre": titles[0]} for title in titles]
    neighbour = template.behaviour_line(words, {"title": "A"}, 5.0)
    head = template.head(words, {"gender": titles[-1]}, shown=True)
    parts = [
        *line_tokenizer.lines([head], "", neighbour),
        *line_tokenizer.lines([template.behaviour_line(words, item, 1.0) for item in items], neighbour, neighbour),
        *line_tokenizer.lines([template.question_lines(words, items[0])], neighbour, ""),
    ]
    text = template.render(words, {"gender": titles[-1]}, [(item, 1.0) for item in items], items[0])
    assert line_tokenizer.start + np.concatenate(parts).tolist() == line_tokenizer.whole(text)


def test_the_start_is_kept_and_the_end_token_is_not(dataset, fresh):
    line_tokenizer = LineTokenizer(fresh("sentencepiece-bpe"))
    assert line_tokenizer.start == [1]  # <s>; </s> would stand between the question and its answer
    assert LineTokenizer(fresh("byte-level")).start == []
    segments = YesNoLines.build(dataset, Plain(), fresh("sentencepiece-bpe"))
    prompt = segments.prompt(0, [], [], 0)
    assert prompt[0] == 1
    assert 1 not in prompt[1:]
    assert 2 not in prompt


def test_truncation_and_padding_of_the_tokenizer_do_not_matter_and_stay(dataset, fresh):
    tokenizer = fresh("byte-level")
    plain = YesNoLines.build(dataset, Plain(), tokenizer)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=50)
    np.testing.assert_array_equal(YesNoLines.build(dataset, Plain(), tokenizer).tokens_T, plain.tokens_T)
    assert tokenizer.truncation["max_length"] == 4
    assert tokenizer.padding["length"] == 50


@pytest.mark.parametrize(
    "merges",
    [
        [("\n", "A")],  # the film "A": seen when its line is tokenised
        [(":", "\n"), *((":\n", c) for c in "(2S'\"[{¡C🙂!8…WM")],  # behind the head only: seen in whole prompts
    ],
)
def test_a_tokenizer_that_joins_lines_is_refused(dataset, merges):
    alphabet = sorted(set("".join(dataset.titles)) | set(map(chr, range(32, 127))) | {"\n"})
    vocab = {token: i for i, token in enumerate([*alphabet, *(a + b for a, b in merges)])}
    with pytest.raises(ConfigError, match="one token out of the end of one line and the start of the next"):
        YesNoLines.build(dataset, Plain(), Tokenizer(models.BPE(vocab=vocab, merges=merges)))


def test_every_distinct_line_is_tokenised_once(dataset, fresh):
    segments = YesNoLines.build(dataset, Plain(), fresh("byte-level"))
    pairs = len({(int(i), int(r)) for i, r in zip(dataset.item_N, dataset.rating_N, strict=True)})
    heads = 2 * 3  # nobody, male, female
    assert len(segments.offsets_N) - 1 == heads + pairs + dataset.n_items
    assert (segments.behaviour_MR >= 0).sum() == pairs
    assert segments.tokens_T.dtype == np.int32
    assert pa.array(segments.head_U2[:, 0]).value_counts().field("counts").to_pylist() == [1, 6, 5]


def test_unknown_fields_stop_the_build(dataset, fresh):
    with pytest.raises(ConfigError, match="director"):
        YesNoLines.build(dataset, Plain(question=("Would they like {title} by {director}?",)), fresh("byte-level"))
