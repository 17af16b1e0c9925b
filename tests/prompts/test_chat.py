"""Prompts in the chat templates of several families have the very ids that transformers gives the whole chat."""

from typing import Any

import numpy as np
import pytest
from branches_world import branch, growing

from chat_world import CHATML, FAMILIES, Family, by_transformers, chatting
from lifelora.errors import ConfigError
from lifelora.prompts.chat import around
from lifelora.prompts.lines.base import table_texts
from lifelora.prompts.lines.yes_no import YesNoLines
from lifelora.prompts.pieces import of_titles, of_yes_no
from lifelora.prompts.titles import TitleBuilder
from lifelora.prompts.wording.titles import PHRASINGS, TitleTemplate
from lifelora.prompts.wording.yes_no import Plain, Rella
from lifelora.prompts.yes_no import YesNoBuilder, find_answers

PLAIN, SYSTEM = Plain(chat=True), "You know films. Be <brief>."


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: pytest.FixtureRequest) -> Family:
    return FAMILIES[request.param]


@pytest.fixture(scope="module")
def chat(family: Family, fresh: Any) -> Any:
    return chatting(fresh(family.kind), family)


def asked(dataset: Any, count: int, step: int = 9) -> tuple[Any, Any, Any]:
    targets = dataset.targets(np.arange(3, len(dataset), step))
    return targets, *dataset.history(targets, count)


def real(batch: Any, place: int) -> list[int]:
    return batch.tokens_BL[place][batch.mask_BL[place]].tolist()


def message(template: Any, dataset: Any, targets: Any, rows: Any, place: int) -> str:
    """The prompt as text, without a chat."""
    items, users = table_texts(dataset.catalogue), table_texts(dataset.profiles)
    shown = [(items[dataset.item_N[row]], dataset.levels[dataset.rating_N[row]]) for row in rows]
    user, item = users[targets.user_B[place]], items[targets.item_B[place]]
    words = template.model_copy(update={"chat": False, "system": None})
    return words.render(dataset.words.model_dump(), user, shown, item)


def asks(chat: Any, family: Family, text: str, system: str | None = None) -> list[int]:
    """Up to where the answer begins, by transformers."""
    if family is not FAMILIES["closed"]:
        return by_transformers(chat, text, system)
    ids = by_transformers(chat, text, system, answer="A")  # it opens an answer where there is one
    return ids[: len(ids) - len(chat("A<|end|>\n", add_special_tokens=False)["input_ids"])]


HELLO = Plain(chat=True, opening=("Hello,", "you"), answer="Yes or no?")


@pytest.mark.parametrize(("template", "system"), [(PLAIN, None), (HELLO, SYSTEM), (Rella(chat=True), None)])
def test_a_question_has_the_ids_of_its_chat(dataset: Any, family: Family, chat: Any, template: Any, system: str | None):
    template = template.model_copy(update={"system": system})
    if system is not None and not family.system:
        with pytest.raises(ConfigError, match=r"refuses .*System role not supported.*template.system"):
            YesNoBuilder.make(dataset, template, chat, 4096)
        return
    builder = YesNoBuilder.make(dataset, template, chat, 4096)
    targets, rows_BK, mask_BK = asked(dataset, 5)
    batch = builder.build(targets, rows_BK, mask_BK)
    for place in range(len(targets)):
        text = message(template, dataset, targets, rows_BK[place, mask_BK[place]], place)
        ids = real(batch, place)
        assert ids[: len(ids) - len(builder.answers.shared)] == asks(chat, family, text, system)


def test_the_answer_begins_the_assistants_message(dataset: Any, family: Family, chat: Any):
    """As transformers gives a chat in which the assistant has said yes, up to what comes after it."""
    answers = find_answers(chat, PLAIN)
    builder = YesNoBuilder.make(dataset, PLAIN, chat, 4096)
    targets, rows_BK, mask_BK = asked(dataset, 3, 40)
    batch = builder.build(targets, rows_BK, mask_BK)
    assert around(chat).lead == family.lead
    for place in range(len(targets)):
        text = message(PLAIN, dataset, targets, rows_BK[place, mask_BK[place]], place)
        if family is FAMILIES["thinking"]:  # of an answer that is there it writes no place to think
            assert answers.yes == chat("Yes", add_special_tokens=False)["input_ids"][0]
            continue
        for word, token in (("Yes", answers.yes), ("No", answers.no)):
            prompt = [*real(batch, place), token]
            assert by_transformers(chat, text, answer=word)[: len(prompt)] == prompt


def test_trees_are_their_prompts(dataset: Any, family: Family, chat: Any):
    builder = YesNoBuilder.make(dataset, PLAIN, chat, 400)
    targets, chosen_BK, mask_BK, trunk_B, _ = growing(dataset, range(4, len(dataset), 3), 4)
    trees, alone = builder.trees(targets, chosen_BK, mask_BK, trunk_B), 0
    assert len(trees.trunk_R) < len(targets)
    for number in range(len(targets)):
        shown = int(trees.shown_G[number])
        text = message(PLAIN, dataset, targets, chosen_BK[number, mask_BK[number]][-shown or len(mask_BK[number]) :], number)
        ids, _, _ = branch(trees, number)
        assert ids[: len(ids) - len(builder.answers.shared)] == asks(chat, family, text)
        alone += shown < mask_BK[number].sum()
    assert alone < len(targets)


def test_what_has_no_room_goes_and_the_chat_stays(dataset: Any, family: Family, chat: Any):
    """The oldest behaviours go, never a word of what opens and ends the messages."""
    builder = YesNoBuilder.make(dataset, PLAIN, chat, 4096)
    targets, rows_BK, mask_BK = asked(dataset, 6, 20)
    lengths_B = builder.lengths(targets, rows_BK, mask_BK)
    limit = int(lengths_B.max()) - 12
    tight = YesNoBuilder.make(dataset, PLAIN, chat, limit)
    batch = tight.build(targets, rows_BK, mask_BK)
    assert (batch.shown_B.numpy() < mask_BK.sum(axis=1)).sum() > 0
    for place in range(len(targets)):
        rows = rows_BK[place, mask_BK[place]]
        text = message(PLAIN, dataset, targets, rows[len(rows) - int(batch.shown_B[place]) :], place)
        ids = real(batch, place)
        assert len(ids) <= limit
        assert ids[: len(ids) - len(tight.answers.shared)] == asks(chat, family, text)


@pytest.mark.parametrize("soft", [("behaviours", "target"), ("user", "behaviours")])
def test_soft_tokens_stand_in_a_chat_as_without(dataset: Any, chat: Any, soft: Any):
    """Without the slots, the tokens between what opens the chat and what ends it are those of the prompt alone."""
    plain = YesNoBuilder.make(dataset, Plain(), chat, 4096, soft)
    builder = YesNoBuilder.make(dataset, PLAIN, chat, 4096, soft)
    assert builder.lines.slotted.sum() == plain.lines.slotted.sum() > 0
    targets, rows_BK, mask_BK = asked(dataset, 4, 30)
    in_chat, alone = builder.build(targets, rows_BK, mask_BK), plain.build(targets, rows_BK, mask_BK)
    for place in range(len(targets)):
        one, other = (b.soft_BL[place][b.soft_BL[place] != -1].tolist() for b in (in_chat, alone))
        assert one == other


@pytest.mark.parametrize("system", [None, SYSTEM])
def test_a_question_for_a_title_and_its_answer_have_the_ids_of_their_chat(
    dataset: Any, family: Family, chat: Any, system: str | None
):
    if system is not None and not family.system:
        return
    template = TitleTemplate(chat=True, system=system)
    builder = TitleBuilder.make(dataset, template, chat, 4096, seed=5, forms=("text", "hybrid"))
    items, words = table_texts(dataset.catalogue), dataset.words.model_dump()
    rng = np.random.default_rng(3)
    for number in range(40):
        seen = rng.integers(0, dataset.n_items, number % 5).tolist()
        candidates = None if number % 4 == 0 else rng.integers(0, dataset.n_items, number % 9).tolist()
        listed = None if candidates is None else [items[item] for item in candidates]
        text = PHRASINGS[number % 3].render(words, [items[item] for item in seen], listed)
        prompt = builder.lines.prompt(number % 3, seen, candidates)
        assert prompt == asks(chat, family, text, system)
        target = int(rng.integers(dataset.n_items))
        answered = builder.lines.prompt(number % 3, seen, candidates, target)
        assert answered[: len(prompt)] == prompt
        if family.controls:
            assert answered[-1] in chat.added_tokens_decoder
        if system is None and family is not FAMILIES["thinking"]:  # of an answer that is there it writes no place to think
            title = " ".join((items[target]["title"] or f"unknown {words['item']}").split())
            whole = by_transformers(chat, text, answer=title)
            assert answered == whole[: len(answered)]
            assert len(whole) - len(answered) <= 2  # the end of a line, at most


def test_titles_of_trees_and_of_blocks(dataset: Any, chat: Any):
    builder = TitleBuilder.make(dataset, TitleTemplate(chat=True), chat, 4096, seed=5)
    targets, chosen_BK, mask_BK, trunk_B, start_B = growing(dataset, range(4, len(dataset), 3), 4)
    trees = builder.answered_trees(targets, chosen_BK, mask_BK, trunk_B, start_B=start_B)
    batch = builder.answered(targets, chosen_BK, mask_BK, start_B=start_B)
    for number in range(len(targets)):
        assert branch(trees, number)[0] == real(batch, number)


def test_pieces_are_the_prompt_and_show_its_control_tokens(dataset: Any, family: Family, chat: Any):
    builder, items = YesNoBuilder.make(dataset, PLAIN, chat, 4096), table_texts(dataset.catalogue)
    users, words = table_texts(dataset.profiles), dataset.words.model_dump()
    targets, rows_BK, mask_BK = asked(dataset, 4, 50)
    batch = builder.build(targets, rows_BK, mask_BK)
    for place in range(len(targets)):
        rows = rows_BK[place, mask_BK[place]]
        shown = [(int(dataset.item_N[r]), items[dataset.item_N[r]], dataset.levels[dataset.rating_N[r]]) for r in rows]
        user, item = users[targets.user_B[place]], int(targets.item_B[place])
        made = of_yes_no(PLAIN, chat, words, user, shown, (item, items[item]), 4096, (), builder.answers.shared)
        assert [token for piece in made.pieces for token in piece.ids] == real(batch, place)
    head, *_, question = made.pieces
    for control in family.controls[:1]:
        assert f"⟦{control}⟧" in head.controls + question.controls
        assert "⟦" not in head.shown + question.shown
    titles = TitleTemplate(chat=True)
    lines = TitleBuilder.make(dataset, titles, chat, 4096, seed=5).lines
    made = of_titles(PHRASINGS[0], chat, words, [(3, items[3])], [(5, items[5])], [items[5]], 4096, chat=titles)
    assert [token for piece in made.pieces for token in piece.ids] == lines.prompt(0, [3], [5])
    assert made.kept == len(lines.prompt(0, [3], [5], 5)) - len(lines.prompt(0, [3], [5]))


def test_a_tokenizer_without_chat_template(dataset: Any, fresh: Any):
    for tokenizer in (fresh("byte-level"), chatting(fresh("byte-level"), FAMILIES["chatml"])):
        if hasattr(tokenizer, "chat_template"):
            tokenizer.chat_template = None
        with pytest.raises(ConfigError, match=r"no chat template .*template.chat = false"):
            YesNoLines.build(dataset, PLAIN, tokenizer)
        with pytest.raises(ConfigError, match=r"no chat template .*template.chat = false"):
            TitleBuilder.make(dataset, TitleTemplate(chat=True), tokenizer, 100, 0)


@pytest.mark.parametrize(
    ("template", "said"),
    [
        (CHATML.replace("m['content']", "m['content'] | upper"), "leaves out or changes what the user says"),
        (CHATML.replace("m['content']", "m['content'] | e"), "leaves out or changes what the user says"),
        (CHATML.replace("m['content']", "m['content'].split() | join(' ')"), "leaves out or changes what the user says"),
        (CHATML.replace("m['content']", "m['content'] * 2"), "repeats what the user says"),
        (CHATML.replace("m['content']", "''"), "leaves out or changes what the user says"),
        (CHATML + "{% if not add_generation_prompt %}{{ 'y' * 100000 }}{% endif %}", "writes 100,.* characters"),
        ("{% for m in messages if m['role'] != 'assistant' %}{{ m['content'] }}{% endfor %}", "leaves out what the assistant"),
        ("{{ messages[0]['content'].nothing.at_all }}", r"refuses a chat of user \(UndefinedError"),
        ("{% for m in range(999999) %}x{% endfor %}", r"refuses a chat of user \(OverflowError: .*template.chat = false"),
        ("{{ ''.__class__.__mro__ }}", r"refuses a chat of user \(SecurityError"),
        ("{% broken", r"refuses a chat of user \(TemplateSyntaxError"),
        ("{{ raise_exception('no\x1b[2J\nway') }}", r"refuses a chat of user \(TemplateError: no.u001b.2J.nway\)"),
    ],
)
def test_templates_that_cannot_be_used(dataset: Any, fresh: Any, template: str, said: str):
    tokenizer = chatting(fresh("byte-level"), FAMILIES["chatml"])
    tokenizer.chat_template = template
    with pytest.raises(ConfigError, match=said):
        YesNoLines.build(dataset, PLAIN, tokenizer)


def test_a_system_that_is_left_out(dataset: Any, fresh: Any):
    tokenizer = chatting(fresh("byte-level"), FAMILIES["chatml"])
    tokenizer.chat_template = CHATML.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
    assert YesNoLines.build(dataset, PLAIN, tokenizer)
    with pytest.raises(ConfigError, match=r"leaves out or changes the system's message; leave out template.system"):
        YesNoLines.build(dataset, Plain(chat=True, system="Be brief."), tokenizer)


def test_the_space_before_an_answer_is_the_chats(family: Family, chat: Any):
    """Words begin the assistant's message as the template has it, whatever space they are given with."""
    spaces = ("", " ", "  ")
    found = {find_answers(chat, Plain(chat=True, yes=f"{space}like", no=f"{space}dislike")) for space in spaces}
    assert len(found) == 1
    assert found != {find_answers(chat, PLAIN)}


def test_a_chat_is_told_how_to_answer_and_has_one_wrapper():
    """A message has no cue that waits for a word; Vicuna's wrapper gives way to the chat template. What is written stands."""
    assert PLAIN.answer == "Answer yes or no."
    in_chat = Rella(chat=True)
    assert (in_chat.opening, in_chat.answer) == ((), "Reply with yes or no and nothing else.")
    assert (*in_chat.question, in_chat.answer) == Rella().question
    own = Rella(chat=True, opening=("Hello.",), answer="So?")
    assert (own.opening, own.answer, Plain(chat=True, answer="Answer:").answer) == (("Hello.",), "So?", "Answer:")
    for template in (in_chat, PLAIN, own, Plain(), Rella()):
        assert type(template).model_validate(template.model_dump(mode="json")) == template


def test_a_system_needs_a_chat():
    with pytest.raises(ValueError, match="chat = false; set chat = true"):
        Plain(system="Be brief.")
    with pytest.raises(ValueError, match="without space at their ends"):
        Plain(chat=True, system="Be brief. ")
