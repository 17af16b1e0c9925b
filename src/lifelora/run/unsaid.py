"""Fields that no prompt of a recipe says, and fields that its lines name in vain, as notes for a reader. Knows no tokenizer.

What was mapped for nothing should be found before anything is trained.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from lifelora.data.dataset import Dataset
from lifelora.data.fields import as_texts
from lifelora.errors import on_one_line
from lifelora.prompts.lines.base import table_texts
from lifelora.prompts.wording.fields import FIELD, lacking
from lifelora.prompts.wording.others import ITEM_COLUMNS, OTHERS, USER_COLUMNS, Telling
from lifelora.prompts.wording.titles import PHRASINGS, Phrasing
from lifelora.prompts.wording.yes_no import Plain, Rella, Template
from lifelora.recipe.recipe import Recipe
from lifelora.recipe.sections import TwoTower

LOOKED_AT = 1000
"""Rows with a field that are looked at to see whether there is ever room for it."""
LISTED = 20
"""Fields that a note names."""
OF_BEHAVIOURS = frozenset({"rating", "units", "level"})
"""What a behaviour's line means by these is the user's."""


@dataclass(frozen=True)
class Line:
    """A line of a template, and the names that it has of something else than a field: words of the domain, a rating."""

    telling: Telling
    text: str
    beside: frozenset[str]

    def says(self, field: str) -> bool:
        """Whether it is about a field, by its name or as one of the others."""
        return self._names(field) or (OTHERS in FIELD.findall(self.text) and field not in self.telling.leave_out)

    def has_room(self, field: str, table: pa.Table, without: Sequence[str]) -> bool:
        """Whether a field ever appears in it, as far as the first rows that have it say; yes where none has."""
        if self._names(field):
            return True
        known = table.filter(pc.not_equal(as_texts(table.select([field])).column(field), "")).slice(0, LOOKED_AT)
        rows = (self.telling.parts(self.text, row, dict.fromkeys(self.beside, ""), without) for row in table_texts(known))
        return not len(known) or any(part.field == field and bool(part.text) for parts in rows for part in parts)

    def _names(self, field: str) -> bool:
        return field in FIELD.findall(self.text) and field not in self.beside and field != OTHERS


@dataclass(frozen=True)
class Written:
    """A template where a recipe has it: its place, and its lines about users and about items."""

    place: str
    template: Template | Phrasing
    of_users: tuple[Line, ...]
    of_items: tuple[Line, ...]


def notes(recipe: Recipe, dataset: Dataset) -> list[str]:
    """What a reader should know before training; nothing where no prompt is asked."""
    found = list(_written(recipe, dataset))
    return [*_unsaid(found, dataset), *_in_vain(found, dataset)] if found else []


def _written(recipe: Recipe, dataset: Dataset) -> Iterator[Written]:
    words = frozenset(dataset.words.model_dump())
    for kind, named in (("two_towers", recipe.two_towers), ("systems", recipe.systems)):
        for name, config in named.items():
            if isinstance(config, TwoTower) or recipe.task == "ctr":
                template = config.template.leaving_out(dataset.left_out)
                yield Written(
                    f"{kind}.{name}.template",
                    template,
                    (Line(template, template.profile, words),),
                    (
                        Line(template, template.behaviour, words | OF_BEHAVIOURS),
                        *(Line(template, line, words) for line in template.question),
                    ),
                )
                continue
            for number, phrasing in enumerate(config.phrasings):
                phrasing = phrasing.leaving_out(dataset.left_out)
                lines = (phrasing.behaviour, phrasing.candidate)[: 1 + config.candidates_in_prompt]
                yield Written(
                    f"{kind}.{name}.phrasings[{number}]", phrasing, (), tuple(Line(phrasing, line, words) for line in lines)
                )


def _unsaid(found: Sequence[Written], dataset: Dataset) -> Iterator[str]:
    place = found[0].place
    for name, table, without, lines in (
        ("catalogue", dataset.catalogue, ITEM_COLUMNS, [line for one in found for line in one.of_items]),
        ("profiles", dataset.profiles, USER_COLUMNS, [line for one in found for line in one.of_users]),
    ):
        fields = [column for column in table.column_names if column not in without]
        said = {field: [line for line in lines if line.says(field)] for field in fields}
        if unsaid := [field for field in fields if not said[field] and field not in dataset.left_out]:
            mend = f"name them in a line, or put {{others}} into it ({place})" if lines else "those of next items tell of no user"
            yield f"no prompt says these fields of the {name}: {_listed(unsaid)}; {mend}."
        if left := [field for field in fields if not said[field] and field in dataset.left_out]:
            yield f"prompts of this data set leave out {_listed(left)} of the {name}, unless a line names it ({place})."
        if cramped := [f for f in fields if said[f] and not any(line.has_room(f, table, without) for line in said[f])]:
            yield (
                f"{{others}} has no room for these fields of the {name}: {_listed(cramped)}; raise {place}.other_words, "
                "name them in a line, or map fewer."
            )


def _in_vain(found: Sequence[Written], dataset: Dataset) -> Iterator[str]:
    """Of the lines that a recipe writes itself: the default ones name fields that many data sets lack."""
    catalogue, words = dataset.catalogue.column_names, dataset.words.model_dump()
    for one in found:
        template = one.template
        allowed = (
            template.allowed(catalogue, words)
            if isinstance(template, Phrasing)
            else template.allowed(catalogue, dataset.profiles.column_names, words, dataset.levels)
        )
        for part, line, name in dict.fromkeys(lacking(template, allowed)):
            if line not in DEFAULTS:
                yield (
                    f"{one.place}.{part} names {{{on_one_line(name)}}} in [[ … ]], and this data set has no such field there: "
                    "the words are always left out."
                )


def _listed(fields: Sequence[str]) -> str:
    rest = f" and {len(fields) - LISTED:,} more" if len(fields) > LISTED else ""
    return ", ".join(map(on_one_line, fields[:LISTED])) + rest


def _lines(template: Template | Phrasing) -> Iterator[str]:
    for name in type(template).model_fields:
        value = getattr(template, name)
        yield from (value,) if isinstance(value, str) else value if isinstance(value, tuple) else ()


DEFAULTS = frozenset(
    line for template in (Plain(), Rella(), TwoTower(path="any").template, *PHRASINGS) for line in _lines(template)
)
"""Lines that no recipe has to write."""
