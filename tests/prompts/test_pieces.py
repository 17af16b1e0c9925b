"""A prompt in pieces has the very tokens of the prompt that a run builds, is cut as that is, and says what was cut."""

from itertools import pairwise
from typing import Any, get_args

import numpy as np
import pytest

from lifelora.data.dataset import Dataset
from lifelora.errors import ConfigError
from lifelora.prompts.lines.base import table_texts
from lifelora.prompts.pieces import SOFT, Pieces, of_titles, of_towers, of_yes_no
from lifelora.prompts.slots import ITEM, USER, Place
from lifelora.prompts.titles import TitleBuilder
from lifelora.prompts.towers import TowerBuilder
from lifelora.prompts.wording.titles import PHRASINGS, Form, TitleTemplate
from lifelora.prompts.wording.yes_no import Plain, Rella
from lifelora.prompts.yes_no import YesNoBuilder
from tiny_bert import word_piece

SHOWN = 6
SOFTS: list[tuple[Place, ...]] = [(), ("behaviours", "target"), ("user",), get_args(Place)]


def asked(dataset: Dataset, number: int) -> tuple[Any, Any, Any]:
    targets = dataset.targets(np.array(range(3, len(dataset), 11)))
    return targets, *dataset.history(targets, number)


def ids(pieces: Pieces) -> list[int]:
    return [token for piece in pieces.pieces for token in piece.ids]


def codes(tokens_L: Any, mask_L: Any, soft_L: Any) -> list[int]:
    """Token ids with ITEM and USER in their places."""
    if soft_L is None:
        return tokens_L[mask_L].tolist()
    pairs = zip(tokens_L[mask_L].tolist(), soft_L[mask_L].tolist(), strict=True)
    return [token if soft == -1 else USER if soft == USER else ITEM for token, soft in pairs]


@pytest.mark.parametrize("soft", SOFTS, ids=lambda soft: "-".join(soft) or "none")
@pytest.mark.parametrize("template", [Plain(), Rella()], ids=["plain", "rella"])
def test_yes_or_no(dataset: Dataset, tokenizer: Any, template: Plain | Rella, soft: tuple[Place, ...]):
    builder = YesNoBuilder.make(dataset, template, tokenizer, 4096, soft)
    targets, rows_BK, mask_BK = asked(dataset, SHOWN)
    items, users, words = table_texts(dataset.catalogue), table_texts(dataset.profiles), dataset.words.model_dump()
    room = int(np.median(builder.lengths(targets, rows_BK, mask_BK)))
    cut = 0
    for limit in (4096, room):
        tight = YesNoBuilder(dataset, builder.lines, builder.answers, limit, soft) if limit != 4096 else builder
        for place in range(0, len(targets), 3):
            rows = rows_BK[place, mask_BK[place]]
            shown = [(int(dataset.item_N[r]), items[dataset.item_N[r]], dataset.rating_levels[dataset.rating_N[r]]) for r in rows]
            user, target = int(targets.user_B[place]), int(targets.item_B[place])
            made = of_yes_no(
                template, tokenizer, words, users[user], shown, (target, items[target]), limit, soft, builder.answers.shared
            )
            some = slice(place, place + 1)
            if not made.fits:
                with pytest.raises(ConfigError, match=f"needs {made.tokens()} tokens"):
                    tight.build(targets.at(some), rows_BK[some], mask_BK[some])
                continue
            due = tight.build(targets.at(some), rows_BK[some], mask_BK[some])
            soft_L = None if due.soft_BL is None else due.soft_BL[0]
            assert ids(made) == codes(due.tokens_BL[0], due.mask_BL[0], soft_L)
            assert (made.chosen, made.shown, made.tokens()) == (len(rows), int(due.shown_B[0]), int(due.mask_BL.sum()))
            cut += made.shown < made.chosen
            text = "".join(piece.shown for piece in made.pieces)
            assert text.replace(f" {SOFT}", "").replace(SOFT, "").count("\n") == text.count("\n")
            assert text.count(SOFT) == sum(token in (ITEM, USER) for token in ids(made))
    assert cut


@pytest.mark.parametrize("soft", SOFTS[1:], ids="-".join)
@pytest.mark.parametrize("form", get_args(Form))
@pytest.mark.parametrize("listed", [True, False], ids=["listed", "unlisted"])
def test_titles(dataset: Dataset, fresh: Any, form: Form, soft: tuple[Place, ...], listed: bool):
    tokenizer = fresh("sentencepiece-bpe")
    builder = TitleBuilder.make(dataset, TitleTemplate(), tokenizer, 4096, 0, (form,), soft)
    targets, rows_BK, mask_BK = asked(dataset, SHOWN)
    lists_BC = (targets.item_B[:, None] + np.arange(5)) % dataset.n_items if listed else None
    items, words = table_texts(dataset.catalogue), dataset.words.model_dump()
    room = int(np.median(builder.lengths(targets, rows_BK, mask_BK, lists_BC, form))) + 8
    for limit in (4096, room):
        tight = TitleBuilder(dataset, builder.lines, limit, 0)
        for place in range(0, len(targets), 4):
            some = slice(place, place + 1)
            own = None if lists_BC is None else [(int(item), items[item]) for item in lists_BC[place]]
            shown = [(int(dataset.item_N[r]), items[dataset.item_N[r]]) for r in rows_BK[place, mask_BK[place]]]
            answers = items if own is None else [texts for _, texts in own]
            made = of_titles(PHRASINGS[0], tokenizer, words, shown, own, answers, limit, form, soft)
            question = (targets.at(some), rows_BK[some], mask_BK[some], None if lists_BC is None else lists_BC[some], form)
            if not made.fits:
                with pytest.raises(ConfigError, match=f"needs {made.tokens() + made.kept} tokens"):
                    tight.question(*question)
                continue
            due = tight.question(*question)
            assert ids(made) == codes(due.tokens_BL[0], due.mask_BL[0], None if due.soft_BL is None else due.soft_BL[0])
            assert made.shown == int(due.shown_B[0])


@pytest.mark.parametrize("most", [512, 60])
def test_towers(dataset: Dataset, most: int):
    tokenizer = word_piece(dataset.titles)
    template = Plain(question=("{title}[[ ({others})]]",), description_words=70)
    builder = TowerBuilder(dataset, template, tokenizer, most)
    targets, rows_BK, mask_BK = asked(dataset, 12)
    items, users, words = table_texts(dataset.catalogue), table_texts(dataset.profiles), dataset.words.model_dump()
    texts, user_B = builder.users(targets, rows_BK, mask_BK)
    item_texts = builder.items(targets.item_B)
    for place in range(len(targets)):
        rows = rows_BK[place, mask_BK[place]]
        shown = [(int(dataset.item_N[r]), items[dataset.item_N[r]], dataset.rating_levels[dataset.rating_N[r]]) for r in rows]
        user, target = int(targets.user_B[place]), int(targets.item_B[place])
        of_user, of_item = of_towers(template, tokenizer, words, users[user], shown, (target, items[target]), most)
        assert ids(of_user) == texts.tokens_NL[user_B[place]][texts.mask_NL[user_B[place]]].tolist()
        assert ids(of_item) == item_texts.tokens_NL[place][item_texts.mask_NL[place]].tolist()


def test_what_was_cut_is_told(fresh: Any):
    """A description of 100 words in a line of 60; of 3 further fields the last has no room; a user's and a behaviour's, too."""
    words = {"item": "film", "items": "films", "did": "watched", "star": "star", "stars": "stars"}
    item = {"title": "Heat", "a": "1 2 3", "b": "4 5", "c": "6", "description": "word " * 100}
    template = Plain(behaviour="{title}: {description}", description_words=60, other_words=6)
    made = of_yes_no(template, fresh("byte-level"), words, {"user": "u", "bio": "x " * 9}, [(0, item, 4.0)], (0, item), 4096)
    head, behaviour, question = made.pieces
    assert [(part.field, part.text, part.whole) for part in question.shortened] == [
        ("b", "4", "4 5"),
        ("c", "", "6"),
        ("description", "", " ".join(["word"] * 100)),
    ]
    assert [(part.field, len(part.text.split()), len(part.whole.split())) for part in behaviour.shortened] == [
        ("description", 60, 100)
    ]
    assert [(part.field, len(part.text.split())) for part in head.shortened] == [("bio", 5)]
    assert question.text == "Would they like Heat (a: 1 2 3; b: 4)?\nAnswer:"
    assert not any(left is right for left, right in pairwise(made.pieces))
