"""How the words of a template and the texts of the data become lines. Knows no tokenizer, no data set and no question.

``{name}`` stands for a column or a domain word, and ``[[ … ]]`` for words that are left out where a field in them is
missing. Texts are squeezed into one line: whatever a title holds, it cannot begin a new line of the prompt.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any, TypeVar

from lifelora.errors import ConfigError
from lifelora.prompts.slots import without_mark
from lifelora.types import Frozen

FIELD = re.compile(r"\{([^{}]+)\}")
OPTIONAL = re.compile(r"\[\[(.*?)\]\]")

NO_LINES = ("kind", "leave_out", "system")
"""Keys of a template with words that no prompt says."""

AnyFrozen = TypeVar("AnyFrozen", bound=Frozen)
Texts = Mapping[str, str]
"""Column → text of one item or user; an empty text is a missing one."""


def whole_lines(value: str | tuple[str, ...]) -> str | tuple[str, ...]:
    """The value of a field as it came; ValueError unless each line is one and its brackets have partners."""
    for line in (value,) if isinstance(value, str) else value:
        if "\n" in line or line != line.strip():
            raise ValueError(f"{line!r} must be one line without space at its ends; give several lines as a list")
        rest = FIELD.sub("", OPTIONAL.sub(r"\1", line))
        wrong = next((sign for sign in ("{", "}", "[[", "]]") if sign in rest), None)
        if wrong:
            raise ValueError(f"{line!r}: '{wrong}' has no partner; fields are {{name}}, optional words [[ … ]]")
    return value


def marked(template: AnyFrozen, mark: Callable[[str], str]) -> AnyFrozen:
    """The template with its own words, which stand around its fields, as ``mark`` gives them (``LineTokenizer.marked``)."""

    def of(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(of, value))
        if not isinstance(value, str):
            return value
        ends = [0, *(place for match in FIELD.finditer(value) for place in match.span()), len(value)]
        return "".join(value[a:b] if number % 2 else mark(value[a:b]) for number, (a, b) in enumerate(pairwise(ends)))

    return template.model_copy(
        update={name: of(getattr(template, name)) for name in type(template).model_fields if name not in NO_LINES}
    )


def check_fields(template: Frozen, allowed: Mapping[str, set[str]]) -> None:
    """Raise ConfigError where a part of ``template`` names a field that it is not allowed; optional words may."""
    for part, names in allowed.items():
        lines = getattr(template, part)
        for line in (lines,) if isinstance(lines, str) else lines:
            unknown = [name for name in FIELD.findall(OPTIONAL.sub("", line)) if name not in names]
            if unknown:
                raise ConfigError(
                    f"template.{part} uses {{{unknown[0]}}}, which this data set does not have; allowed there: "
                    f"{', '.join(sorted(names))}. Words in [[ … ]] are omitted if a field is missing."
                )


def level_texts(words: Texts, level: float | str) -> dict[str, str]:
    """What a behaviour's line may say of its level: of a number with its units, of a name, or of neither."""
    if isinstance(level, str):
        return {"level": level}
    rating, units = f"{level:g}", words["star"] if level == 1 else words["stars"]
    return {"rating": rating, "units": units, "level": f"{rating} {units}"}


def lacking(template: Frozen, allowed: Mapping[str, set[str]]) -> Iterator[tuple[str, str, str]]:
    """(part, line, field) for each field in optional words that is not allowed there, so that the words never appear."""
    for part, names in allowed.items():
        lines = getattr(template, part)
        for line in (lines,) if isinstance(lines, str) else lines:
            yield from (
                (part, line, name) for some in OPTIONAL.findall(line) for name in FIELD.findall(some) if name not in names
            )


def fill(line: str, texts: Texts) -> str:
    """The line with its fields' texts in it, squeezed into one line."""
    # Optional words are settled before any text goes in, so brackets in a title mean nothing.
    line = OPTIONAL.sub(lambda match: match[1] if all(map(texts.get, FIELD.findall(match[1]))) else "", without_mark(line))
    return " ".join(FIELD.sub(lambda match: texts.get(match[1]) or "unknown", line).split())
