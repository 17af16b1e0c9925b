"""What a user reads is written in the field's words and in short sentences: help, errors, docstrings, comments, pages, documents.

``docs/glossary.md`` has the words. Names of random streams are single words in code and are not looked at: a stream that got
another name would draw other samples.
"""

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifelora.cli import _parser

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "src").rglob("*.j2")),
         *sorted((ROOT / "src").rglob("*.toml"))]
FORBIDDEN = {
    r"persons?|people|some(body|one)|any(body|one)|every(body|one)|who(m|so)?ever": "user (or reader, author, process: who it is)",
    r"shots?": "training samples",
    r"chances": "probabilities",
    r"courses?": "say what it is: the form of items over training, a learning curve",
    r"met": "seen",
    r"account(ed|s)?": "summary",
    r"adaptors?": "knowledge experts",
    r"(leav(e|es|ing)\b[^.;:]{0,60}|left )\baway": "remove, omit",
    r"is nothing that": "say what can be done, and what cannot",
}
WORDS = re.compile("|".join(rf"(?P<w{number}>\b(?:{pattern})\b)" for number, pattern in enumerate(FORBIDDEN)), re.IGNORECASE)
ALLOWED = {
    "shot": r"(few|zero)-shot",
    "person": r"\[\[A person, \{profile\}\.\]\]",
}
"What stands here is the field's own, or text of a published prompt."


def wrong_words(text: str) -> list[str]:
    """Each forbidden word with what surrounds it, and the right one."""
    for allowed in ALLOWED.values():
        text = re.sub(allowed, "", text)
    return [f"…{text[max(0, found.start() - 30) : found.end() + 30]}… {found[0]!r}: {list(FORBIDDEN.values())[int(found.lastgroup[1:])]}"
            for found in WORDS.finditer(text) if found.lastgroup]


def sentences_in(source: str) -> Iterator[str]:
    """Strings of more than one word, docstrings, and comments."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value.strip():
            yield node.value
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT / "src/lifelora").as_posix())
def test_the_source_speaks_the_fields_words(path: Path):
    assert [wrong for text in sentences_in(path.read_text()) for wrong in wrong_words(text)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_pages_and_recipes_speak_the_fields_words(path: Path):
    assert wrong_words(path.read_text()) == []


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


@pytest.mark.parametrize("parser", list(parsers(_parser())), ids=lambda parser: parser.prog)
def test_help_is_short_sentences_in_the_fields_words(parser: argparse.ArgumentParser):
    """Each begins with a capital letter (or a value that is allowed), ends with a full stop, and has at most 20 words."""
    said = [parser.description or "", parser.epilog or "", *(action.help or "" for action in parser._actions[1:])]
    if parser._subparsers is not None:
        said += [choice.help or "" for action in parser._subparsers._group_actions for choice in action._choices_actions]
    for text in filter(None, said):
        assert wrong_words(text) == []
        assert text.endswith("."), text
        for sentence in re.split(r"(?<=[a-z0-9)`])\. ", text):
            assert len(sentence.split()) <= 20, sentence


def test_a_forbidden_word_is_found():
    assert len(wrong_words("leave shots away for a person; everybody was met")) == 5
    assert wrong_words("a few-shot recommender, personal, accounting, of the method") == []
