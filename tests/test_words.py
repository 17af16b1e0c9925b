"""What a user reads is in the field's words and in short sentences: help, errors, docstrings, comments, pages, documents.

docs/glossary.md has the words. Names of random streams and the words of a prompt are not looked at: others would draw other
samples, or give other scores.
"""

import argparse
import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

from lifelora.commands import parser

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    *sorted((ROOT / "src").rglob("*.j2")),
    *sorted((ROOT / "src").rglob("*.toml")),
]
RIGHT = {
    r"persons?|people": "user, or reader, author, process: who it is",
    r"(some|any|every)(body|one)|who(m|so)?ever": "user, or reader, author, process: who it is",
    r"shots?": "training samples",
    r"chances": "probabilities",
    r"courses?": "what it is: the form of items, a learning curve",
    r"met": "seen",
    r"account(ed|s)?": "summary",
    r"adaptors?": "knowledge experts",
    r"leav(e|es|ing)\b[^.;:]{0,60} away|left away": "remove, omit",
    r"is nothing that": "what can be done, and what cannot",
    r"(test|training|validation) rows?": "samples",
}
"What is not said, and what is said in its place."
ALLOWED = (
    r"(few|zero)-shot|hybrid-expert adaptor|A person who wants to know talks|Describe the [^\n]*|"
    r"\{\w+\}[^\n]*|[^\n]*\{\w+\}"
)
"The field's own words; and words of a prompt, which have {fields}."


STREAMS = ("test rows",)
"Names of random streams that are two words."


def wrong_words(text: str) -> list[str]:
    """Each word that is not the field's, with what surrounds it and the right one."""
    return [
        f"{found[0]!r} in '{text[max(0, found.start() - 40) : found.end() + 40]}': say {right}"
        for wrong, right in RIGHT.items()
        for found in re.finditer(rf"\b({wrong})\b", text, re.IGNORECASE)
    ]


def sentences_in(source: str) -> Iterator[str]:
    """Strings of more than one word, docstrings, and comments."""
    for node in ast.walk(ast.parse(source)):
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if " " in text.strip() and text not in STREAMS:
            yield re.sub(ALLOWED, "", text)
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.string


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT / "src/lifelora").as_posix())
def test_the_source_has_the_fields_words(path: Path):
    assert [wrong for text in sentences_in(path.read_text()) for wrong in wrong_words(text)] == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_documents_pages_and_recipes_have_the_fields_words(path: Path):
    assert wrong_words(re.sub(ALLOWED if path.suffix == ".toml" else r"(few|zero)-shot", "", path.read_text())) == []


def parsers(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


@pytest.mark.parametrize("parser", list(parsers(parser())), ids=lambda parser: parser.prog)
def test_help_is_short_sentences(parser: argparse.ArgumentParser):
    """Each has at most 20 words (a list of values is one), and the last ends with a full stop."""
    said = [parser.description, parser.epilog, *(action.help for action in parser._actions[1:])]
    if parser._subparsers is not None:
        said += [choice.help for action in parser._subparsers._group_actions for choice in action._get_subactions()]
    assert parser.description
    for text in filter(None, said):
        assert wrong_words(text) == []
        assert text.endswith("."), text
        for sentence in re.split(r"(?<=[\w)`])\. ", text):
            assert len(sentence.split()) <= 20, sentence


def test_wrong_words_are_found():
    assert len(wrong_words("leave it away: shots for a person, whoever was met in test rows")) == 6
    assert wrong_words("a personal system, accounting for the method, away from home") == []
