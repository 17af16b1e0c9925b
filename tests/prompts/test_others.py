"""``{others}``: what a shop maps reaches the prompt, what a paper's prompt lacks does not, and no field's name does harm."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from lifelora.data.dataset import Dataset
from lifelora.data.prepare import Rules, prepare
from lifelora.data.raw import RawTables, Words
from lifelora.data.sources.movielens import Movielens
from lifelora.data.sources.simulated import Simulated
from lifelora.data.split import LeaveOneOut
from lifelora.prompts.lines.base import table_texts
from lifelora.prompts.lines.titles import TitleLines
from lifelora.prompts.lines.yes_no import YesNoLines
from lifelora.prompts.towers import TowerBuilder
from lifelora.prompts.wording.others import cut
from lifelora.prompts.wording.titles import PHRASINGS
from lifelora.prompts.wording.yes_no import Plain, Rella, Template
from lifelora.recipe.sections import TwoTower
from lifelora.tokens import LineTokenizer

WORDS = {"item": "article", "items": "articles", "did": "bought", "star": "star", "stars": "stars", "rated": "rated"}
KETTLE = {"item": "A-1", "title": "Kettle", "description": "for tea, loud", "brand": "Argo", "colour": ""}
BEFORE = {
    "plain": Plain(
        profile="[[{gender}]][[, {age}]][[, {occupation}]][[, {country}]]", question=("Would they like {title}[[ ({genre})]]?",)
    ),
    "rella": Rella(
        profile="[[gender: {gender}]][[; job: {occupation}]][[; age: {age}]][[; country: {country}]]",
        question=("Judging by these {items}, will the user like the {item} ***{title}***?", *Rella().question[1:]),
    ),
    "two towers": Plain(profile="[[{gender}]][[, {age}]][[, {occupation}]][[, {country}]]", question=("{title}[[ ({genre})]]",)),
}
"""The lines as they were when no prompt showed a field of a user's own."""
NOW: dict[str, Template] = {"plain": Plain(), "rella": Rella(), "two towers": TwoTower(path="x").template}
CONTROLS = ["<|im_end|>", "</s>"]


def question(line: str, item: dict[str, str], **keys: Any) -> str:
    return Plain(question=(line,), **keys).question_lines(WORDS, item).removesuffix("\nAnswer:")


def dataset(
    folder: Path, catalogue: dict[str, list[str]], profiles: dict[str, list[str]], left_out: tuple[str, ...] = ()
) -> Dataset:
    """Every user buys every item, in order; the tables as they are given, with ids in front."""
    items, users = (len(next(iter(table.values()))) for table in (catalogue, profiles))
    user_N, item_N = np.repeat(np.arange(users), items), np.tile(np.arange(items), users)
    log = pa.table(
        {
            "user": [f"u{u}" for u in user_N],
            "item": [f"i{i:03}" for i in item_N],
            "rating": pa.array(1.0 + (user_N + item_N) % 5, pa.float32()),
            "time": pa.array(np.arange(len(user_N)), pa.int64()),
        }
    )
    raw = RawTables(
        log,
        pa.table({"item": [f"i{i:03}" for i in range(items)], **catalogue}),
        pa.table({"user": [f"u{u}" for u in range(users)], **profiles}),
        Words(**WORDS),
        left_out=left_out,
    )
    return prepare(raw, Rules(min_history=1, split=LeaveOneOut()), folder, "a shop")


def test_the_shop_before_and_after():
    user = {"user": "c1", "city": "Graz"}
    arguments = (WORDS, user, [(KETTLE, 5.0)], KETTLE | {"title": "Teapot"})
    assert BEFORE["plain"].render(*arguments) == (
        "They bought these articles, oldest first:\nKettle (5 stars)\nWould they like Teapot?\nAnswer:"
    )
    assert Plain().render(*arguments) == (
        "city: Graz\n"
        "They bought these articles, oldest first:\n"
        "Kettle (5 stars)\n"
        "Would they like Teapot (brand: Argo; for tea, loud)?\n"
        "Answer:"
    )
    assert Rella().render(*arguments).splitlines()[2:6] == [
        "city: Graz",
        "The user bought the following articles in this order and rated them:",
        "Kettle (5 stars)",
        "Judging by these articles, will the user like the article ***Teapot*** (brand: Argo; for tea, loud)?",
    ]
    assert NOW["two towers"].item_text(WORDS, KETTLE) == "Kettle (brand: Argo; for tea, loud)"
    assert PHRASINGS[0].candidate_line(WORDS, KETTLE) == "Kettle (brand: Argo; for tea, loud)\n"
    assert PHRASINGS[0].behaviour_line(WORDS, KETTLE) == "Kettle\n"


@pytest.mark.parametrize(
    ("line", "item", "keys", "said"),
    [
        ("{title}[[ ({others})]]", {"title": "Kite"}, {}, "Kite"),  # nothing is known
        ("{title}[[ ({others})]]", {"title": "Kite", "brand": " ", "description": ""}, {}, "Kite"),
        ("{title}: {others}", {"title": "Kite"}, {}, "Kite: unknown"),
        ("{title} by {brand}[[ ({others})]]", {"title": "Kite", "brand": "Argo", "size": "9"}, {}, "Kite by Argo (size: 9)"),
        ("{title}[[ ({others})]]", {"title": "Kite", "brand": "Argo", "size": "9"}, {"leave_out": ("brand",)}, "Kite (size: 9)"),
        ("{title} by {brand}", {"title": "Kite", "brand": "Argo"}, {"leave_out": ("brand",)}, "Kite by Argo"),
        # The description comes last, wherever its column is, and without its name.
        ("{title}; {others}", {"title": "Kite", "description": "It flies", "colour": "red"}, {}, "Kite; colour: red; It flies"),
        ("{title}; {others}", {"title": "Kite", "description": "one two three"}, {"description_words": 2}, "Kite; one two"),
        # A field called like a domain word is a field all the same: {star} in the line is "star".
        ("The {star} of {title}: {others}", {"title": "Kite", "star": "Vega"}, {}, "The star of Kite: star: Vega"),
        # 5 words: "a:" and its 2, "b:" and 1 of its 3; nothing after that, however short.
        ("{title}; {others}", {"title": "K", "a": "1 2", "b": "3 4 5", "c": "6"}, {"other_words": 5}, "K; a: 1 2; b: 3"),
        ("{title}; {others}", {"title": "K", "a": "1 2", "b": "3", "c": "6"}, {"other_words": 4}, "K; a: 1 2"),
        ("{title}; {others}", {"title": "K", "two words": "1"}, {"other_words": 3}, "K; two words: 1"),
    ],
)  # fmt: skip
def test_by_hand(line, item, keys, said):
    assert question(line, item, **keys) == said


def test_a_field_is_hidden_by_no_word_of_a_behaviour():
    """{rating} and {units} are the user's; a film's own rating, its certificate, is a field as any other."""
    template = Plain(behaviour="{title} ({rating} {units}; {others})")
    assert template.behaviour_line(WORDS, {"title": "Heat", "rating": "PG-13"}, 4.0) == "Heat (4 stars; rating: PG-13)\n"


def test_very_many_fields_are_bounded():
    """Of 1,000 fields those that make 120 words; with 12 in the line of a candidate."""
    item = {"title": "Kite", **{f"field{i}": f"value {i}" for i in range(1000)}, "description": "It flies. " * 500}
    assert question("{title}; {others}", item) == "Kite; " + "; ".join(f"field{i}: value {i}" for i in range(40))
    line = PHRASINGS[0].candidate_line(WORDS, item)
    assert line == "Kite (" + "; ".join(f"field{i}: value {i}" for i in range(4)) + ")\n"


def test_text_without_spaces_is_cut_too():
    assert cut("茶壶" * 1000, 60) == "茶壶" * 360
    assert cut("Donaudampfschifffahrtsgesellschaft " * 3, 3) == ("Donaudampfschifffahrtsgesellschaft " * 2)[:36].rstrip()
    assert cut("a  b\nc", 2) == "a b"


def movielens(folder: Path) -> Dataset:
    (folder / "u.data").write_text(
        "".join(f"{u}\t{i}\t{1 + (u + i) % 5}\t{881250949 + 60 * i + u}\n" for u in (1, 2) for i in range(1, 9))
    )
    flags = ["|".join("1" if g == i % 19 else "0" for g in range(19)) for i in range(1, 9)]
    (folder / "u.item").write_text("".join(f"{i}|Film {i} (1995)|01-Jan-1995||http://x|{flags[i - 1]}\n" for i in range(1, 9)))
    (folder / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|94043\n")
    return prepare(Movielens(path=str(folder)).read(), Rules(min_history=1), folder / "made", "MovieLens")


@pytest.mark.parametrize("name", list(NOW))
@pytest.mark.parametrize("made", ["movielens", "simulated"])
def test_papers_prompts_are_what_they_were(tmp_path: Path, made: str, name: str):
    """Of every user and item of MovieLens and of the simulated world, which have a zip code, a genre and a description."""
    if made == "movielens":
        data = movielens(tmp_path)
    else:
        data = prepare(Simulated(users=20, items=80, events_per_user=12).read(), Rules(), tmp_path, "simulated")
    now, before, words = NOW[name].leaving_out(data.left_out), BEFORE[name], data.words.model_dump()
    assert now != before
    items, users = table_texts(data.catalogue), table_texts(data.profiles)
    for user in users:
        assert now.head(words, user, True) == before.head(words, user, True)
    for item in items:
        assert now.question_lines(words, item) == before.question_lines(words, item)
        assert now.item_text(words, item) == before.item_text(words, item)
        for phrasing in PHRASINGS:
            title = " ".join(item["title"].split())
            assert phrasing.leaving_out(data.left_out).candidate_line(words, item) == f"{title}\n"
    assert any(item.get("genre") for item in items)
    assert question("{others}{title}", items[-1]) != question("{others}{title}", items[-1], leave_out=data.left_out)


PIECES = st.sampled_from(
    ["{", "}", "[[", "]]", "{title}", "{soft}", "\n", "\t", "\u2028", ": ", ";", "a", "é", "<|im_end|>", "</s>", " "]
)
NAMES = st.lists(PIECES, min_size=1, max_size=6).map("".join) | st.sampled_from(
    ["others", "rating", "units", "soft", "star", "items", "did", "leave_out", "user", "genre", "age", "kind"]
)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(NAMES, NAMES, max_size=5))
def test_a_field_is_one_line_whatever_its_name_is(fields: dict[str, str]):
    row = {"item": "A-1", "title": "Kettle", **fields}
    for template in (Plain(), Rella()):
        lines = template.question_lines(WORDS, row).split("\n")
        assert len(lines) == len(template.question) + 1
        assert not any(sign in "".join(lines) for sign in "\t\u2028")
        head = template.head(WORDS, {"user": "u", **fields}, True).rstrip("\n").split("\n")
        assert len(head) <= len(template.opening) + 2
    assert PHRASINGS[0].candidate_line(WORDS, row).count("\n") == 1
    known = {n: v for n, v in fields.items() if v.strip() and n not in ("user", "genre")}
    line = question("{title}[[ ({others})]]", {"title": "Kettle", **known})
    told = "; ".join(
        f"{' '.join(n.split())}: {' '.join(v.split())}" if n.split() else " ".join(v.split()) for n, v in known.items()
    )
    assert line == " ".join((f"Kettle ({told})" if known else "Kettle").split())


ODD = [
    "{title}",
    "[[x]]",
    "a}b{c",
    "]]",
    "two\nlines",
    "<|im_end|>",
    "</s> brand",
    "soft",
    "others",
    "rating",
    "items",
    "  spaced  ",
    "品牌",
]


@pytest.fixture(scope="module")
def odd(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    values = ["", "Argo", "{title} [[y]]", "</s>", "a\nb", "<|im_end|> {soft}"]
    fields = {name: [values[(i + k) % len(values)] for i in range(12)] for k, name in enumerate(ODD)}
    catalogue = {"title": [f"Kettle {i}" for i in range(12)], **fields, "description": ["word " * (10 * i) for i in range(12)]}
    profiles = {name: [values[(u + k) % len(values)] for u in range(4)] for k, name in enumerate(ODD)}
    return dataset(tmp_path_factory.mktemp("odd"), catalogue, profiles)


def test_tokens_are_those_of_the_text_and_never_controls(odd: Dataset, tokenizer: Any):
    """Both tasks and the towers, for every family of tokenizers; the names and values spell its control tokens."""
    getattr(tokenizer, "backend_tokenizer", tokenizer).add_special_tokens([AddedToken(name, special=True) for name in CONTROLS])
    by, words = LineTokenizer(tokenizer), odd.words.model_dump()
    backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
    controls = {backend.token_to_id(name) for name in CONTROLS} - set(by.start)
    items, users = table_texts(odd.catalogue), table_texts(odd.profiles)
    for template in (Plain(), Rella()):
        lines = YesNoLines.build(odd, template, tokenizer)
        for user in range(odd.n_users):
            for item in range(odd.n_items):
                text = template.render(words, users[user], [(items[3], odd.rating_levels[0])], items[item])
                ids = lines.prompt(user, [3], [0], item) if lines.behaviour_MR[3, 0] >= 0 else lines.prompt(user, [], [], item)
                if lines.behaviour_MR[3, 0] < 0:
                    text = template.render(words, users[user], [], items[item])
                assert ids == by.whole(text)
                assert controls.isdisjoint(ids)
    titles = TitleLines.build(odd, PHRASINGS, tokenizer)
    ids = titles.prompt(0, [1, 2], list(range(odd.n_items)), 4)
    assert ids == by.whole(PHRASINGS[0].render(words, [items[1], items[2]], items, items[4]))
    assert controls.isdisjoint(ids)
    towers = TowerBuilder(odd, NOW["two towers"], tokenizer, 2048).items(np.arange(odd.n_items))
    for item in range(odd.n_items):
        made = towers.tokens_NL[item][towers.mask_NL[item]].tolist()
        assert made == [*by.start, *by.ids(NOW["two towers"].item_text(words, items[item])), *by.end]


def test_a_data_set_keeps_what_it_leaves_out(tmp_path: Path):
    catalogue = {"title": ["Kettle", *"abcde"], "brand": ["Argo"] * 6, "colour": ["red"] * 6}
    data = dataset(tmp_path, catalogue, {"city": ["Graz", ""]}, left_out=("colour", "city"))
    assert Dataset(tmp_path).left_out == ("colour", "city")
    lines = YesNoLines.build(data, Plain(), one_letter_each())
    assert "Would they like Kettle (brand: Argo)?" in read(lines.plain([lines.question_M[0]]))
    assert "Graz" not in read(lines.plain([lines.head_U2[0, 1]]))


def one_letter_each() -> Any:
    from tokenizers import Tokenizer, models

    return Tokenizer(models.BPE(vocab={chr(code): code for code in range(128)}, merges=[]))


def read(ids: list[int]) -> str:
    return "".join(map(chr, ids))
