"""Whole prompts with soft tokens: where each recipe has them, and the same tokens as by an added special token.

The authors add tokens to the tokenizer (``[hist]`` and ``[target]``, ``[HistoryEmb]`` and ``[CansEmb]``), write them into the
text, and put vectors in their place. So does ``by_added_tokens``, without anything of lifelora's.
"""

import copy
import re
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer
from tokenizers.decoders import ByteLevel

from lifelora.data.dataset import Dataset
from lifelora.errors import ConfigError
from lifelora.llm.item_form import forms_of
from lifelora.prompts.fill import Prompts
from lifelora.prompts.lines.titles import TitleLines
from lifelora.prompts.lines.yes_no import YesNoLines
from lifelora.prompts.slots import ITEM_SLOT, USER, USER_SLOT, Place, SlotTokenizer
from lifelora.prompts.titles import TitleBuilder
from lifelora.prompts.wording.fields import marked
from lifelora.prompts.wording.titles import PHRASINGS, Form, Phrasing, TitleTemplate
from lifelora.prompts.wording.yes_no import Plain, Rella
from lifelora.prompts.yes_no import YesNoBuilder
from lifelora.recipe.files import load

USER_INDEX, ROW, SHOWN, C = 3, 12, 2, 3
TITLE = {"title": "Heat", "genre": "Crime"}
WORDS = {"item": "film", "items": "films", "did": "watched", "star": "star", "stars": "stars", "rated": "rated"}


def layout(batch: Prompts | Prompts, place: int, tokenizer: Tokenizer) -> str:
    """A prompt's text, read back from its token ids, with ``[soft:item]`` and ``[soft:user]`` where soft tokens are."""
    real = batch.mask_BL[place]
    tokens = batch.tokens_BL[place][real].tolist()
    soft = [-1] * len(tokens) if batch.soft_BL is None else batch.soft_BL[place][real].tolist()
    tokenizer.decoder = ByteLevel()
    text, words = "", list[int]()
    for token, item in [*zip(tokens, soft, strict=True), (0, None)]:
        if item == -1:
            words.append(token)
            continue
        text += tokenizer.decode(words, skip_special_tokens=False)
        words = []
        if item is not None:
            text += "[soft:user]" if item == USER else f"[soft:{item}]"
    return text


def by_added_tokens(tokenizer: Any, text: str, marks: Mapping[str, int]) -> list[int]:
    """The ids of a text in which ``marks`` are added special tokens, with the marks' numbers in their place; no end token."""
    backend = copy.deepcopy(getattr(tokenizer, "backend_tokenizer", tokenizer))
    backend.add_special_tokens([AddedToken(mark, special=True, normalized=False) for mark in marks])
    codes = {backend.token_to_id(mark): code for mark, code in marks.items()}
    ids, bare = (backend.encode(text, add_special_tokens=added).ids for added in (True, False))
    start = ids[: next(at for at in range(len(ids)) if ids[at : at + len(bare)] == bare)]
    return [codes.get(token, token) for token in [*start, *bare]]


@pytest.fixture(scope="module")
def titled(dataset: Dataset) -> Dataset:
    """The data set as a paper's: its prompts say titles alone, where no line names more."""
    other = copy.copy(dataset)
    other.left_out = ("genre", "description")
    return other


def asked(dataset: Dataset, row: int, shown: int) -> tuple[Any, Any, Any]:
    targets = dataset.targets(np.array([int(dataset.log.offsets[USER_INDEX]) + row]))
    return targets, *dataset.history(targets, shown)


def lines_of(dataset: Dataset, targets: Any, rows_BK: Any, mask_BK: Any) -> tuple[list[tuple[int, str, float]], int, str]:
    """(item, title, rating) of each behaviour, the target and its title, as plain values."""

    def said(item: int) -> str:
        return " ".join(dataset.titles[item].split()) or "unknown film"

    rows = rows_BK[0][mask_BK[0]]
    shown = [(int(dataset.item_N[row]), said(dataset.item_N[row]), dataset.rating_levels[dataset.rating_N[row]]) for row in rows]
    return shown, int(targets.item_B[0]), said(targets.item_B[0])


def star(rating: float) -> str:
    return f"({rating:g} star{'' if rating == 1 else 's'})"


def ctr_layout(recipe: str, system: str, dataset: Dataset, tokenizer: Tokenizer) -> tuple[list[str], Any]:
    config = load(recipe).systems[system]
    builder = YesNoBuilder.make(dataset, config.template, tokenizer, 1024, config.soft.at if config.soft else ())
    question = asked(dataset, ROW, SHOWN)
    return layout(builder.build(*question), 0, tokenizer).splitlines(), lines_of(dataset, *question)


def test_rellax_stands_inside_its_lines(titled, fresh):
    """``Title (3 stars) [hist]`` and, after the target, ``[target]`` before the mark that ends the sentence: ReLLaX's
    insert_placeholder."""
    lines, (shown, target, title) = ctr_layout("rellax", "rellax", titled, fresh("byte-level"))
    assert lines[4:] == [
        *(f"{seen} {star(rating)} [soft:{item}]" for item, seen, rating in shown),
        f"Judging by these films, will the user like the film ***{title}*** [soft:{target}]?",
        "More stars mean that the user liked it better.",
        "Reply with yes or no and nothing else.",
        "ASSISTANT:",
    ]


def test_collm_has_the_user_after_the_history(dataset, fresh):
    """``… movies: <ItemTitleList>. … in the feature <UserID>. … titled <TargetItemTitle> with the feature <TargetItemID>?``"""
    lines, (shown, target, title) = ctr_layout("collm", "collm", dataset, fresh("byte-level"))
    assert lines == [
        "The user gave these films high ratings, oldest first:",
        *(seen for _, seen, _ in shown),
        "Their taste: [soft:user]",
        f"Will the user enjoy the film {title} [soft:{target}]?",
        "Answer:",
    ]
    words, _ = ctr_layout("collm", "lora", dataset, fresh("byte-level"))
    assert words == [line.replace(f" [soft:{target}]", "") for line in lines if "[soft:user]" not in line]


@pytest.mark.parametrize(("recipe", "system"), [("llara", "llara-sasrec"), ("ilora", "ilora"), ("llara", "ids")])
def test_llara_and_ilora_have_them_beside_titles_of_behaviours_and_candidates(titled, fresh, recipe, system):
    """``Title [HistoryEmb], Title [HistoryEmb] … Title [CansEmb], …``: our separator is the end of the line."""
    config, tokenizer = load(recipe).systems[system], fresh("byte-level")
    builder = TitleBuilder.make(titled, TitleTemplate(phrasings=config.phrasings), tokenizer, 1024, 0, forms_of(config.item_form))
    question = asked(titled, ROW, SHOWN)
    shown, target, _ = lines_of(titled, *question)
    others = [(target + 1 + number) % titled.n_items for number in range(C - 1)]
    names = {item: " ".join(titled.titles[item].split()) or "unknown film" for item in (*others, target)}
    for form in forms_of(config.item_form):
        lines = layout(builder.question(*question, np.array([[*others, target]]), form), 0, tokenizer).splitlines()

        def line(name, item, form=form):
            return {"text": name, "hybrid": f"{name} [soft:{item}]", "ids": f"[soft:{item}]"}[form]

        assert lines == [
            "They watched these films, oldest first:",
            *(line(seen, item) for item, seen, _ in shown),
            "The films to choose from:",
            *(line(name, item) for item, name in names.items()),
            "Name the film that came next.",
            "Answer:",
        ]


@pytest.mark.parametrize(
    "template",
    [Plain(), Rella(), Plain(question=("Do they like {title}?", "[[It is about {genre}]]."))],
    ids=["plain", "rella", "more"],
)
@pytest.mark.parametrize("soft", [("behaviours", "target"), ("user", "target"), ("user",), get_args(Place)], ids="-".join)
def test_tokens_are_those_by_added_special_tokens(dataset, tokenizer, template, soft):
    """ReLLaX's own regular expressions on the text without soft tokens, for every family of tokenizers."""
    segments, words = YesNoLines.build(dataset, template, tokenizer, soft), dataset.words.model_dump()
    rng, marks = np.random.default_rng(5), {"[hist]": -1, "[target]": -1, "[user]": USER}
    for number in range(40):
        user, target = int(rng.integers(dataset.n_users)), int(rng.integers(dataset.n_items))
        rows = rng.choice(len(dataset), size=number % 7, replace=False)
        items, ratings = dataset.item_N[rows].tolist(), dataset.rating_N[rows].tolist()
        texts = [dataset.catalogue.slice(item, 1).to_pylist()[0] for item in (*items, target)]
        profile = dataset.profiles.slice(user, 1).to_pylist()[0]
        shown = [(text, dataset.rating_levels[rating]) for text, rating in zip(texts[:-1], ratings, strict=True)]
        text = template.render(words, profile, shown, texts[-1])
        head = template.head(words, profile, bool(shown))
        question = template.question_lines(words, texts[-1])
        assert text.startswith(head)
        assert text.endswith(question)
        behaviours = text[len(head) : len(text) - len(question)]
        if "behaviours" in soft:
            behaviours = re.sub(r"(\(\d+(\.\d+)? stars?\))\n", "\\1 [hist]\n", behaviours)
        if "target" in soft:
            first, end, rest = question.partition("?\n")
            question = f"{first} [target]{end}{rest}"
        if "user" in soft:
            question = f"{template.soft_user.replace('{soft}', '[user]')}\n{question}"
        assert segments.prompt(user, items, ratings, target) == by_added_tokens(tokenizer, head + behaviours + question, marks)


SOFT = [("behaviours", "target"), ("behaviours",), ("target",), ("user",), get_args(Place)]


@pytest.mark.parametrize("soft", SOFT, ids="-".join)
@pytest.mark.parametrize("form", ["hybrid", "ids"])
def test_what_comes_next_has_the_tokens_by_added_special_tokens(titled, tokenizer, form, soft):
    """LLaRA's replacement of lists by ``Title [HistoryEmb]`` and ``Title [CansEmb]``, and CoLLM's of the user after them."""
    builder = TitleBuilder.make(titled, TitleTemplate(), tokenizer, 1024, 0, (form,), soft)
    words, rng = titled.words.model_dump(), np.random.default_rng(4)
    names = [" ".join(title.split()) or "unknown film" for title in titled.titles]
    marks = {"[HistoryEmb]": -1, "[CansEmb]": -1, "[UserEmb]": USER}

    def line(item: int, place: str, mark: str) -> str:
        if place not in soft:
            return f"{names[item]}\n"
        return f"{names[item]} {mark}\n" if form == "hybrid" else f"{mark}\n"

    for number in range(40):
        seen, phrasing = rng.integers(0, titled.n_items, number % 5).tolist(), PHRASINGS[number % 3]
        listed = None if number % 4 == 0 else rng.integers(0, titled.n_items, number % 9).tolist()
        target = int(rng.integers(titled.n_items))
        text = phrasing.head(words, bool(seen)) + "".join(line(item, "behaviours", "[HistoryEmb]") for item in seen)
        if "user" in soft:
            text += "Their taste: [UserEmb]\n"
        if listed is not None:
            text += phrasing.announcement_line(words) + "".join(line(item, "target", "[CansEmb]") for item in listed)
        text += f"{phrasing.question_lines(words)} {names[target]}\n"
        assert builder.lines.prompt(number % 3, seen, listed, target, form) == by_added_tokens(tokenizer, text, marks)


def test_whose_soft_tokens_stand_before_the_title(titled, fresh):
    """Every form and choice of places: items in the lines that have theirs, the user's between behaviours and candidates."""
    tokenizer, forms = fresh("byte-level"), get_args(Form)
    phrasing = PHRASINGS[0].model_copy(update={"soft_user": "{soft} is who asks."})
    question = asked(titled, ROW, SHOWN)
    shown, target, _ = lines_of(titled, *question)
    names = {item: " ".join(titled.titles[item].split()) for item in (target, (target + 1) % titled.n_items)}
    for soft in SOFT:
        builder = TitleBuilder.make(titled, TitleTemplate(phrasings=(phrasing,)), tokenizer, 1024, 0, forms, soft)
        for form in forms:
            for listed_BC in (np.array([list(names)]), None):
                prompts = builder.question(*question, listed_BC, form)

                def line(name, item, place, form=form, soft=soft):
                    beside = {"text": name, "hybrid": f"{name} [soft:{item}]", "ids": f"[soft:{item}]"}[form]
                    return beside if place in soft else name

                candidates = (
                    []
                    if listed_BC is None
                    else ["The films to choose from:", *(line(name, item, "target") for item, name in names.items())]
                )
                assert layout(prompts, 0, tokenizer).splitlines() == [
                    "They watched these films, oldest first:",
                    *(line(seen, item, "behaviours") for item, seen, _ in shown),
                    *["[soft:user] is who asks."] * ("user" in soft and form != "text"),
                    *candidates,
                    "Name the film that came next.",
                    "Answer:",
                ]
                assert (prompts.soft_BL is None) == (form == "text")
                assert builder.lengths(*question, listed_BC, form).tolist() == prompts.mask_BL.sum(dim=1).tolist()


def test_the_users_line_is_never_cut_off(dataset, fresh):
    """What is too long loses its oldest behaviours; the soft token of the user stays, with and without the answer."""
    builder = TitleBuilder.make(dataset, TitleTemplate(), fresh("byte-level"), 1024, 0, ("hybrid",), get_args(Place))
    targets = dataset.targets(np.arange(60))
    listed_BC = (targets.item_B[:, None] + np.arange(C)) % dataset.n_items
    longest = int(builder.answered(targets, *dataset.history(targets, 0), listed_BC, "hybrid").mask_BL.sum(1).max())
    cut = TitleBuilder(dataset, builder.lines, longest + 30, 0)
    rows_BK, mask_BK = dataset.history(targets, 8)
    for make in (cut.question, cut.answered):
        prompts = make(targets, rows_BK, mask_BK, listed_BC, "hybrid")
        assert 0 < int(prompts.shown_B.sum()) < int(mask_BK.sum())
        for row in range(60):
            left = int(prompts.shown_B[row])
            seen = dataset.item_N[rows_BK[row][mask_BK[row]]].tolist()
            assert prompts.soft_BL[row][prompts.soft_BL[row] != -1].tolist() == [
                *seen[len(seen) - left :],
                USER,
                *listed_BC[row].tolist(),
            ]


@pytest.mark.parametrize(
    ("behaviour", "with_soft", "without"),
    [
        ("{title} ({rating} {units})", "Heat (4 stars) [soft:9]", "Heat (4 stars)"),
        ("{title}: {rating}.", "Heat: 4 [soft:9].", "Heat: 4."),
        ("{title} {soft} ({rating} {units})", "Heat [soft:9] (4 stars)", "Heat (4 stars)"),
        ("{soft} {title}", "[soft:9] Heat", "Heat"),
        ("{title}[[ by {author}]]!?", "Heat [soft:9]!?", "Heat!?"),
    ],
)
def test_a_template_says_where(behaviour, with_soft, without):
    for template in (Plain(behaviour=behaviour), PHRASINGS[0].model_copy(update={"behaviour": behaviour})):
        if isinstance(template, Phrasing):
            if "{rating}" in behaviour:
                continue
            made = [template.slotted(form).behaviour_line(WORDS, TITLE) for form in ("hybrid", "text")]
        else:
            made = [template.slotted(soft).behaviour_line(WORDS, TITLE, 4.0) for soft in (("behaviours",), ("user", "target"))]
        assert [line.replace(ITEM_SLOT, "[soft:9]") for line in made] == [f"{with_soft}\n", f"{without}\n"]


@pytest.mark.parametrize(
    ("question", "with_soft"),
    [
        (
            ("Is it good?", "Is {title} a film for them?", "Say so."),
            ("Is it good?", "Is Heat a film for them [soft]?", "Say so."),
        ),
        (("Is {title} {soft} a film for them?",), ("Is Heat [soft] a film for them?",)),
        (("Is {title} a film for them?", "Its feature: {soft}."), ("Is Heat a film for them?", "Its feature: [soft].")),
    ],
)
def test_a_question_says_where(question, with_soft):
    template = Plain(question=question, soft_user="{soft} is the user.")
    made = template.slotted(("target", "user")).question_lines(WORDS, TITLE)
    made = made.replace(ITEM_SLOT, "[soft]").replace(USER_SLOT, "[soft]")
    assert made.splitlines() == ["[soft] is the user.", *with_soft, "Answer:"]
    assert template.item_text(WORDS, TITLE) == re.sub(r" \[soft\]", "", "\n".join(with_soft))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"behaviour": "{soft} {title} {soft}"}, "behaviour has {soft} 2 times"),
        ({"question": ("Is it {title} {soft}?", "{soft}")}, "question has {soft} 2 times"),
        ({"question": ("Is it {title}[[ of {genre} {soft}]]?",)}, r"question has {soft} in \[\[ … \]\]"),
        ({"soft_user": "{soft}{soft}"}, "soft_user has {soft} 2 times"),
        ({"soft_user": "two\nlines"}, "must be one line"),
    ],
)
def test_a_place_that_is_none_is_refused(change: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        Plain(**change)
    if "soft_user" in change:
        with pytest.raises(ValueError, match=message):
            Phrasing(**(PHRASINGS[0].model_dump() | change))


def test_only_lines_about_a_user_have_one(dataset, fresh):
    with pytest.raises(ConfigError, match=r"template\.history uses \{soft\}"):
        YesNoLines.build(dataset, Plain(history="These {soft}:"), fresh("byte-level"), ("behaviours",))


def test_the_users_line_of_a_phrasing_knows_no_item(dataset, fresh):
    with pytest.raises(ConfigError, match=r"template\.soft_user uses \{title\}"):
        TitleLines.build(dataset, [PHRASINGS[0].model_copy(update={"soft_user": "{title} {soft}"})], fresh("byte-level"))


def test_no_title_makes_a_slot(dataset, tokenizer):
    """A title that spells ours gives the tokens of its characters, beside the one slot that its line has."""
    template = Plain().slotted(("behaviours", "target", "user"))
    line_tokenizer = SlotTokenizer(tokenizer)
    own = marked(template, line_tokenizer.marked)
    item = {"title": f"He{ITEM_SLOT}at {{soft}}{USER_SLOT}", "genre": ITEM_SLOT}
    line, question = own.behaviour_line(WORDS, item, 4.0), own.question_lines(WORDS, item)
    assert [token for token in line_tokenizer.whole(line) if token < 0] == [-1]
    assert [token for token in line_tokenizer.whole(question) if token < 0] == [USER, -1]
    assert [token for token in next(line_tokenizer.lines([line], line, line)).tolist() if token < 0] == [-1]


def test_each_form_has_its_own_lines(dataset, fresh: Callable[[str], Tokenizer]):
    """In turn, as the curriculum draws them: words alone are what they were, whatever else has lines."""
    tokenizer = fresh("sentencepiece-bpe")
    all_forms: tuple[Form, ...] = ("hybrid", "text", "ids")
    both, alone = (TitleBuilder.make(dataset, TitleTemplate(), tokenizer, 1024, 0, forms) for forms in (all_forms, ("text",)))
    for row in range(1, 12):
        question = asked(dataset, row, 5)
        listed_BC = (question[0].item_B[:, None] + np.arange(C)) % dataset.n_items
        ours, theirs = (builder.question(*question, listed_BC) for builder in (both, alone))
        assert ours.tokens_BL.tolist() == theirs.tokens_BL.tolist()
